package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
)

// Why a sync ends before everything was tried.
var (
	errTimeLimit = errors.New("the time limit of the sync was reached")
	errCancelled = errors.New("the sync was cancelled")
	errShutdown  = errors.New("the server stopped")
	// errLost ends a run without a word: the sync is another worker's.
	errLost = errors.New("the sync is another worker's now")
)

// identityError ends a sync that cannot go on without an identity.
type identityError struct {
	failure *understudyv1.AuthFailure
}

func (e *identityError) Error() string { return e.failure.GetMessage() }

// AuthFailure implements port.AuthError.
func (e *identityError) AuthFailure() *understudyv1.AuthFailure { return proto.CloneOf(e.failure) }

// commitError ends a sync that cannot store its backup.
type commitError struct{ err error }

func (e *commitError) Error() string { return "storing the backup: " + e.err.Error() }
func (e *commitError) Unwrap() error { return e.err }

// run is one sync while this worker has it.
type run struct {
	engine *Engine
	tenant *Tenant
	name   string
	log    port.Log
	plan   *plan
	spec   *understudyv1.SyncSpec
	logger *slog.Logger
	events *recorder

	// worker and attemptNumber are those of the sync while it is ours, start is when its
	// first attempt began, limit when its time is over.
	worker        string
	attemptNumber int32
	start, limit  time.Time
	// earlier is what the attempts before this one left.
	earlier past

	// owned ends, with errLost, when the sync is another worker's: from then on
	// nothing is stored, committed or pushed. ctx ends with it, and with the sync:
	// cancelled, failed, or the server stops. readCtx ends with that, and at the time
	// limit.
	owned   context.Context
	disown  context.CancelCauseFunc
	ctx     context.Context
	cancel  context.CancelCauseFunc
	readCtx context.Context
	// serving ends when the server stops.
	serving context.Context
	// detach ends the tie between the server's end and the sync, giveUp the patience of
	// events.
	detach func() bool
	giveUp context.CancelFunc

	servicePrincipal, user *actor
	// do carries a task out beside the others of the reading; its error ends the sync.
	do func(task func() error)

	session port.Session
	staging port.Staging
	// snapshot is what was committed, and found says that an earlier attempt did it.
	snapshot *understudyv1.Snapshot
	found    bool
	// left is what an earlier attempt committed and may not have pushed; nil: nothing.
	left *understudyv1.Snapshot

	mu sync.Mutex
	// outlasted says that the time limit ended the user's sign-in.
	outlasted bool
	// unread are the selected types that are still to be read, and who reads them.
	unread map[string]understudyv1.Identity
	// results are those of all attempts, by type.
	results map[string]*understudyv1.ConfigurationResult
	reading map[string]bool
	// records are kept once what they build on is committed.
	records []*record
	// lessons are what the sync learned for later ones.
	lessons map[string]port.Lesson
}

// perform carries the sync out, up to and including `finished`, unless another worker
// has it or the server stops. Its error is an [*unended].
func (r *run) perform() error {
	defer r.close()
	stopWatch := r.watch()
	err := recovering(r.backUp)
	stopWatch()
	if r.owned.Err() != nil {
		return r.unrecorded(nil, errLost)
	}
	how := r.outcome(err)
	if how == nil {
		r.logger.Info("the server stops; another worker, or the next start, goes on with the sync")
		if err := r.events.flush(); err != nil { // what is announced need not be read again
			r.logger.Warn("what the sync announced last is not stored, and is read again", "error", err)
		}
		return nil
	}
	r.remember()
	if err := r.unrecorded(how, r.events.end(how)); err != nil || r.owned.Err() != nil {
		return err
	}
	r.report(how)
	return nil
}

// close frees what the run holds.
func (r *run) close() {
	r.detach()
	r.giveUp()
	r.disown(nil)
}

// fail ends the run when its log cannot be written.
func (r *run) fail(err error) {
	if errors.Is(err, errLost) {
		r.disown(err)
		return
	}
	r.cancel(err)
}

// unrecorded says what follows from an error of recording how a sync ends.
func (r *run) unrecorded(how *ending, err error) error {
	if r.owned.Err() != nil || errors.Is(err, errLost) {
		r.logger.Warn("another worker has the sync, or may have it; nothing more is stored of this attempt",
			"attempt", r.attemptNumber, "worker", r.log.Sync().GetWorker())
		err = nil
	}
	if err != nil && how != nil {
		err = &unended{sync: r.name, ending: how, err: err}
	}
	return err
}

// outcome returns how the sync ends after backUp; nil: not here. A cancellation that
// was recorded wins, whatever else happened: whoever asked for it was told so.
func (r *run) outcome(err error) *ending {
	bug := (*panicError)(nil)
	switch {
	case r.snapshot != nil && errors.Is(err, errNotAsked):
		return nil // it is committed and not pushed; whoever goes on finds it
	case r.found:
		return r.earlier.ending(r.snapshot)
	case r.snapshot != nil:
		return r.committedEnding()
	case r.log.Sync().GetState() == understudyv1.SyncState_SYNC_STATE_CANCELLING:
		if late := r.lateCommit(); late != nil {
			return r.earlier.ending(late)
		}
		err = errCancelled
	case err == nil: // a dry run
		return r.committedEnding()
	case !errors.As(err, &bug) && errors.Is(context.Cause(r.ctx), errShutdown):
		return nil
	case r.left != nil:
		r.logger.Warn("what was committed could not be pushed", "cause", err)
		return r.earlier.ending(r.left)
	}
	r.logger.Warn("sync ends without a commit", "cause", err)
	return r.failedEnding(err)
}

// backUp reads and commits. Its error is the reason why nothing was committed.
func (r *run) backUp() error {
	if err := context.Cause(r.ctx); err != nil {
		return err
	}
	// The time of a sync goes on when another worker takes it over.
	var stop context.CancelFunc
	r.readCtx, stop = context.WithDeadlineCause(r.ctx, r.limit, errTimeLimit)
	defer stop()
	var err error
	if r.staging, err = r.tenant.Vault.Begin(r.ctx, r.turn()); err != nil {
		return &commitError{err}
	}
	defer func() {
		if err := r.staging.Close(); err != nil {
			r.logger.Warn("closing the staging area failed", "error", err)
		}
	}()
	if r.snapshot = r.staging.Committed(); r.snapshot != nil {
		return r.pushFound()
	}
	if err := r.leftOut(); err != nil {
		return err
	}
	r.session = r.tenant.Source.Open()
	defer r.session.Close()

	if err := r.read(); err != nil {
		return err
	}
	return r.commit()
}

// commitTimeout bounds the commit and the push together.
const commitTimeout = 30 * time.Minute

// read signs in with both identities side by side, and reads every selected type
// as soon as its identity is there. It returns nil when every type has a result.
func (r *run) read() error {
	left, err := r.pickUp()
	if err != nil {
		return err
	}
	needsServicePrincipal := len(left) > 0 && r.plan.needs(understudyv1.Identity_IDENTITY_SERVICE_PRINCIPAL)
	needsUser := slices.ContainsFunc(left, func(t *catalog.Type) bool {
		return r.plan.reader(t) == understudyv1.Identity_IDENTITY_USER
	})
	r.servicePrincipal = newActor(r.readCtx, understudyv1.Identity_IDENTITY_SERVICE_PRINCIPAL, r.tenant.ServicePrincipal,
		needsServicePrincipal, r.earlier.identities)
	r.user = newActor(r.readCtx, understudyv1.Identity_IDENTITY_USER, r.tenant.User, needsUser, r.earlier.identities)
	defer r.servicePrincipal.cancel(nil)
	defer r.user.cancel(nil)
	if err := r.foreclosed(); err != nil {
		return err
	}

	var work sync.WaitGroup
	r.do = func(task func() error) {
		work.Go(func() {
			if err := recovering(task); err != nil {
				r.cancel(err) // the first cause stays
			}
		})
	}
	if r.servicePrincipal.signing {
		r.do(func() error { return r.signIn(r.servicePrincipal, port.SignInOptions{}) })
	}
	if r.user.signing {
		r.do(r.signInUser)
	}
	for _, t := range left {
		r.do(func() error { return r.readType(t) })
	}
	var progress sync.WaitGroup
	done := make(chan struct{})
	progress.Go(func() {
		if err := recovering(func() error { r.showProgress(done); return nil }); err != nil {
			r.cancel(err)
		}
	})
	work.Wait()
	close(done)
	progress.Wait()
	return context.Cause(r.ctx)
}

// commit makes the commit and pushes it. Once the log has taken that it begins a
// cancellation changes nothing, and the end of the server waits for it.
func (r *run) commit() error {
	if err := context.Cause(r.ctx); err != nil {
		return err
	}
	r.publish(&understudyv1.Progress{Phase: understudyv1.SyncPhase_SYNC_PHASE_COMMITTING})
	if err := r.events.flush(); err != nil {
		return err
	}
	if !r.spec.GetDryRun() {
		err := r.events.commit()
		if cancelled := (*port.SyncStateError)(nil); errors.As(err, &cancelled) {
			return errCancelled
		}
		if err != nil {
			return err
		}
	}
	ctx, stop := context.WithTimeout(r.owned, commitTimeout)
	defer stop()
	state, _ := r.ending(nil)
	snapshot, err := r.staging.Commit(ctx, port.CommitInfo{
		Sync:    r.name,
		State:   state,
		Counts:  r.log.Sync().GetCounts(),
		Results: r.sortedResults(),
		Time:    time.Now(),
		DryRun:  r.spec.GetDryRun(),
	})
	if err != nil {
		return &commitError{err}
	}
	if snapshot == nil {
		return nil
	}
	r.snapshot = snapshot
	if r.owned.Err() != nil || !r.owns(r.log.Sync()) {
		r.disown(errLost) // and nothing is pushed
		return errLost
	}
	r.saveRecords()
	if err := r.push(ctx); err != nil {
		return err
	}
	return r.events.record(snapshotCommitted(snapshot))
}

// push brings the commit to the remote. That it fails, or is a bug, does not undo the
// commit. It returns errNotAsked when the server stops before it was tried.
func (r *run) push(ctx context.Context) error {
	r.snapshot.PushState = understudyv1.PushState_PUSH_STATE_FAILED
	err := recovering(func() (err error) {
		r.snapshot.PushState, err = r.staging.Push(ctx)
		return err
	})
	if err != nil {
		r.logger.Warn("push failed", "error", err)
		r.snapshot.PushError = pushStatus(err)
	}
	if errors.Is(err, errNotAsked) && r.serving.Err() != nil {
		return err
	}
	return nil
}

// completed keeps the result of a type, and records it unless an earlier attempt
// announced the same.
func (r *run) completed(t *catalog.Type, result *understudyv1.ConfigurationResult) {
	announced := r.earlier.results[t.ID]
	again := announced != nil && sameResult(announced, result)
	if again {
		result = announced
	}
	r.mu.Lock()
	delete(r.unread, t.ID)
	r.results[t.ID] = result
	r.mu.Unlock()
	if !again {
		r.events.result(result)
	}
}

func (r *run) actorOf(identity understudyv1.Identity) *actor {
	if identity == understudyv1.Identity_IDENTITY_USER {
		return r.user
	}
	return r.servicePrincipal
}

// recovering runs a task and turns a panic into an error: a bug ends one sync and
// not the server.
func recovering(task func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &panicError{value: p, stack: debug.Stack()}
		}
	}()
	return task()
}

// panicError is a bug.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }
