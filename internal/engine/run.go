package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
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

// run is one sync while it runs.
type run struct {
	engine *Engine
	tenant *Tenant
	name   string
	log    port.Log
	plan   *plan
	spec   *understudyv1.SyncSpec
	logger *slog.Logger
	events *recorder

	// ctx ends with the sync: cancelled, failed, or the server stops. readCtx
	// ends with it, and at the time limit.
	ctx     context.Context
	cancel  context.CancelCauseFunc
	readCtx context.Context
	// detach ends the tie between the server's end and the sync.
	detach func() bool

	servicePrincipal, user *actor
	// do carries a task out beside the others of the reading; its error ends the sync.
	do func(task func() error)

	session port.Session
	staging port.Staging

	mu sync.Mutex
	// cancelled is set before committing, or never.
	cancelled, committing bool
	// outlasted says that the time limit ended the user's sign-in.
	outlasted bool
	// unread are the selected types without a result, and who reads them.
	unread  map[string]understudyv1.Identity
	results []*understudyv1.ConfigurationResult
	reading map[string]bool
	// records are kept once what they build on is committed.
	records []*record
	// lessons are what the sync learned for later ones.
	lessons map[string]port.Lesson
}

// perform carries the sync out, up to and including `finished`. It returns an
// error when the end could not be recorded: the journal knows the sync as
// unfinished, and the next start of the server ends it.
func (r *run) perform() error {
	defer r.cancel(nil)
	defer r.detach()
	var snapshot *understudyv1.Snapshot
	err := recovering(func() (err error) {
		snapshot, err = r.backUp()
		return err
	})
	r.remember()
	r.mu.Lock()
	r.committing = true // what is over cannot be cancelled
	cancelled := r.cancelled
	r.mu.Unlock()
	if err != nil {
		r.logger.Warn("sync ends without a commit", "cause", err)
		if cancelled {
			err = errCancelled // whoever cancelled it was told so, whatever else happened
		}
	}
	return r.events.finish(r.ctx, func(sync *understudyv1.Sync) { r.conclude(sync, snapshot, err) })
}

// backUp reads and commits. Its error is the reason why nothing was committed.
func (r *run) backUp() (*understudyv1.Snapshot, error) {
	if err := context.Cause(r.ctx); err != nil {
		return nil, err
	}
	var stop context.CancelFunc
	r.readCtx, stop = context.WithTimeoutCause(r.ctx, r.plan.timeout, errTimeLimit)
	defer stop()

	err := r.events.record(r.ctx, &understudyv1.SyncEvent{Event: &understudyv1.SyncEvent_Started{
		Started: &understudyv1.SyncStarted{
			ConfigurationTypes: r.plan.typeIDs(),
			CatalogVersion:     r.engine.catalog.Version(),
		},
	}})
	if err != nil {
		return nil, err
	}
	if r.staging, err = r.tenant.Vault.Begin(r.ctx, r.name); err != nil {
		return nil, &commitError{err}
	}
	defer func() {
		if err := r.staging.Close(); err != nil {
			r.logger.Warn("closing the staging area failed", "error", err)
		}
	}()
	r.session = r.tenant.Source.Open()
	defer r.session.Close()

	if err := r.read(); err != nil {
		return nil, err
	}
	return r.commit()
}

// commitTimeout bounds the commit and the push together.
const commitTimeout = 30 * time.Minute

// read signs in with both identities side by side, and reads every selected type
// as soon as its identity is there. It returns nil when every type has a result.
func (r *run) read() error {
	needsUser := r.plan.needs(understudyv1.Identity_IDENTITY_USER)
	needsServicePrincipal := r.plan.needs(understudyv1.Identity_IDENTITY_SERVICE_PRINCIPAL)
	r.servicePrincipal = newActor(r.readCtx, understudyv1.Identity_IDENTITY_SERVICE_PRINCIPAL, r.tenant.ServicePrincipal, needsServicePrincipal)
	r.user = newActor(r.readCtx, understudyv1.Identity_IDENTITY_USER, r.tenant.User, needsUser)
	defer r.servicePrincipal.cancel(nil)
	defer r.user.cancel(nil)

	var work sync.WaitGroup
	r.do = func(task func() error) {
		work.Go(func() {
			if err := recovering(task); err != nil {
				r.cancel(err) // the first cause stays
			}
		})
	}
	if needsServicePrincipal {
		r.do(func() error { return r.signIn(r.servicePrincipal, port.SignInOptions{}) })
	}
	if needsUser {
		r.do(r.signInUser)
	}
	for _, t := range r.plan.types {
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

// commit makes the commit and pushes it. From here on a cancellation changes
// nothing.
func (r *run) commit() (*understudyv1.Snapshot, error) {
	r.mu.Lock()
	err := context.Cause(r.ctx)
	if r.cancelled {
		err = errCancelled
	}
	r.committing = err == nil
	r.mu.Unlock()
	if err != nil {
		return nil, err
	}

	r.publish(&understudyv1.Progress{Phase: understudyv1.SyncPhase_SYNC_PHASE_COMMITTING})
	if err := r.events.flush(r.ctx); err != nil {
		return nil, err
	}
	ctx, stop := context.WithTimeout(context.WithoutCancel(r.ctx), commitTimeout)
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
		return nil, &commitError{err}
	}
	if snapshot == nil {
		return nil, nil
	}
	r.saveRecords()
	pushed, err := r.staging.Push(ctx)
	snapshot.PushState = pushed
	if err != nil {
		r.logger.Warn("push failed", "error", err)
		snapshot.PushError = pushStatus(err)
	}
	err = r.events.record(r.ctx, &understudyv1.SyncEvent{
		Event: &understudyv1.SyncEvent_SnapshotCommitted{SnapshotCommitted: &understudyv1.SnapshotCommitted{Snapshot: snapshot}},
	})
	return snapshot, err
}

// requestCancel asks the sync to stop. It returns false when the commit began.
func (r *run) requestCancel() (bool, error) {
	r.mu.Lock()
	if r.committing {
		r.mu.Unlock()
		return false, nil
	}
	r.cancelled = true
	r.mu.Unlock()
	err := r.events.state(r.ctx, &understudyv1.StateChanged{State: understudyv1.SyncState_SYNC_STATE_CANCELLING})
	r.cancel(errCancelled)
	return true, err
}

// completed keeps and records the result of a type.
func (r *run) completed(t *catalog.Type, result *understudyv1.ConfigurationResult) {
	r.mu.Lock()
	delete(r.unread, t.ID)
	r.results = append(r.results, result)
	r.mu.Unlock()
	r.events.result(r.ctx, result)
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
