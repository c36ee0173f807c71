package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

// endInterval is how often it is tried to end the syncs whose end could not be
// recorded.
const endInterval = 15 * time.Second

// unended is how a sync of this worker ends, which could not be recorded.
type unended struct {
	sync   string
	ending *ending
	err    error
}

func (u *unended) Error() string {
	return "the end of the sync could not be recorded: " + u.err.Error()
}
func (u *unended) Unwrap() error { return u.err }

// endRest ends the syncs whose end could not be recorded, as soon as it can be: until
// then their tenants are locked. Nobody else can end them as this process does, which
// knows what became of them: while it lives they are its own.
func (e *Engine) endRest(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.rest:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(endInterval):
		}
		e.mu.Lock()
		rest := maps.Clone(e.unended)
		e.mu.Unlock()
		for _, name := range slices.Sorted(maps.Keys(rest)) {
			if ctx.Err() != nil {
				return // each may take as long as the journal is waited for; the next start ends them
			}
			err := recovering(func() error { return e.endAgain(ctx, rest[name]) })
			if err != nil {
				e.logger.Warn("a sync could still not be ended", "sync", name, "error", err)
				signal(e.rest)
				continue
			}
			e.mu.Lock()
			delete(e.unended, name)
			e.idleLocked()
			e.mu.Unlock()
			signal(e.wake)
		}
	}
}

// endAgain tries to end a sync as it ended here, unless it is another worker's by now.
// The log is opened anew: that finds out what became of events that nobody answered.
func (e *Engine) endAgain(ctx context.Context, u *unended) error {
	log, err := e.syncs.Open(ctx, u.sync)
	if err == nil {
		if worker := log.Sync().GetWorker(); worker != "" && worker != e.syncs.Worker() {
			return nil
		}
		err = e.end(ctx, log, u.ending)
	}
	fenced, gone := (*port.FencedError)(nil), (*port.NotFoundError)(nil)
	if errors.As(err, &fenced) || errors.As(err, &gone) {
		return nil
	}
	return err
}

// ending is how a sync ends that committed and whose worker died then. All its results
// are in its log: they are stored before a commit begins.
func (p *past) ending(snapshot *understudyv1.Snapshot) *ending {
	results := sortedResults(p.results)
	how := &ending{snapshot: snapshot, identities: settledIdentities(p.identities, results)}
	how.state, how.causes = endingOf(course{
		results:              results,
		userFailed:           how.identities[1].GetFailure() != nil,
		servicePrincipalLost: how.identities[0].GetFailure() != nil,
		snapshot:             snapshot,
	})
	return how
}

// settledIdentities returns how both identities stood when a sync began to commit:
// one of which its log says nothing was not needed.
func settledIdentities(
	known []*understudyv1.IdentityOutcome, results []*understudyv1.ConfigurationResult,
) []*understudyv1.IdentityOutcome {
	outcomes := make([]*understudyv1.IdentityOutcome, 0, 2)
	for _, identity := range []understudyv1.Identity{
		understudyv1.Identity_IDENTITY_SERVICE_PRINCIPAL, understudyv1.Identity_IDENTITY_USER,
	} {
		outcome := &understudyv1.IdentityOutcome{Identity: identity, State: understudyv1.IdentityState_IDENTITY_STATE_NOT_NEEDED}
		for _, o := range known {
			if o.GetIdentity() == identity {
				outcome = o
			}
		}
		if outcome.GetFailure() != nil {
			affected := notBackedUpBy(identity, results)
			slices.Sort(affected)
			outcome.Failure = withAffected(outcome.GetFailure(), affected)
		}
		outcomes = append(outcomes, outcome)
	}
	return outcomes
}

// notBackedUpBy returns the types that ended NOT_BACKED_UP for want of an
// identity.
func notBackedUpBy(identity understudyv1.Identity, results []*understudyv1.ConfigurationResult) []string {
	var ids []string
	for _, result := range results {
		if result.GetIdentity() == identity &&
			result.GetOutcome() == understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_NOT_BACKED_UP {
			ids = append(ids, result.GetConfigurationType())
		}
	}
	return ids
}

// exhaustedStatus is the error of a sync that its workers do not survive, or that do
// not live long enough for it.
func exhaustedStatus(name string) *rpcstatus.Status {
	return newStatus(code.Code_ABORTED, understudyv1.ErrorReason_ERROR_REASON_SYNC_INTERRUPTED,
		fmt.Sprintf("The sync was taken up %d times, and its worker died or was stopped each time: see the logs of these workers, "+
			"which the events name. The previous backup is unchanged.", maxAttempts), map[string]string{"sync": name})
}

// changedStatus is the error of a sync that was taken over by a worker whose
// definition of the tenant is another one.
func changedStatus(err error) *rpcstatus.Status {
	return newStatus(code.Code_FAILED_PRECONDITION, understudyv1.ErrorReason_ERROR_REASON_REQUEST_INVALID,
		"The tenant's definition changed while the sync was interrupted: "+err.Error()+". Sync again.", nil)
}

// unknownStatus is the error of an interrupted sync whose tenant or repository
// cannot say whether it committed.
func unknownStatus(name string) *rpcstatus.Status {
	return newStatus(code.Code_ABORTED, understudyv1.ErrorReason_ERROR_REASON_SYNC_INTERRUPTED,
		"The server stopped while the sync ran, and the tenant's repository cannot be asked whether it committed. Sync again.",
		map[string]string{"sync": name})
}

// unrecordedStatus is the error of a sync whose events could not be stored.
func unrecordedStatus(name string) *rpcstatus.Status {
	return newStatus(code.Code_UNAVAILABLE, understudyv1.ErrorReason_ERROR_REASON_STORAGE_UNAVAILABLE,
		"The server could not store what happened in the sync: see its log, mend its storage, and sync again. "+
			"The previous backup is unchanged.", map[string]string{"sync": name},
		&errdetails.RetryInfo{RetryDelay: durationpb.New(endInterval)})
}

// cancelledStatus is the error of a sync that was cancelled.
func cancelledStatus(name string) *rpcstatus.Status {
	return newStatus(code.Code_CANCELLED, understudyv1.ErrorReason_ERROR_REASON_SYNC_CANCELLED,
		"The sync was cancelled. The previous backup is unchanged.", map[string]string{"sync": name})
}
