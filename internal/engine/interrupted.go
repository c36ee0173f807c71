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

// Recover takes up every sync that an earlier process left in the queue, and ends
// every one that it left in the middle. Call it once, before Run: afterwards no
// tenant is locked by a sync that nobody runs.
//
// A sync that cannot be ended keeps neither the others nor the server from
// starting: it is logged, and Run tries again until it is ended. Recover fails
// when the journal cannot say which syncs there are, and when ctx is done.
func (e *Engine) Recover(ctx context.Context) error {
	syncs, err := e.syncs.Unfinished(ctx)
	if err != nil {
		return fmt.Errorf("finding unfinished syncs: %w", err)
	}
	for _, s := range syncs {
		name := s.Sync
		if s.State == understudyv1.SyncState_SYNC_STATE_PENDING {
			e.queue.restore(name)
			continue
		}
		e.logger.Warn("a sync was interrupted by the end of the process and is ended", "sync", name)
		err := e.endInterrupted(ctx, name, interruptedStatus(name))
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			e.logger.Error("an interrupted sync could not be ended, and will be tried again", "sync", name, "error", err)
			e.endLater(name, interruptedStatus(name))
		}
	}
	return nil
}

// endLater leaves a sync that nobody runs to endRest.
func (e *Engine) endLater(name string, status *rpcstatus.Status) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.unended[name] = status
}

// endRest ends the syncs whose end could not be recorded, as soon as it can be:
// until then their tenants are locked.
func (e *Engine) endRest(ctx context.Context) {
	ticker := time.NewTicker(endInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		e.mu.Lock()
		unended := maps.Clone(e.unended)
		e.mu.Unlock()
		for _, name := range slices.Sorted(maps.Keys(unended)) {
			err := recovering(func() error { return e.endInterrupted(ctx, name, unended[name]) })
			if err != nil {
				e.logger.Warn("a sync could still not be ended", "sync", name, "error", err)
				continue
			}
			e.mu.Lock()
			delete(e.unended, name)
			delete(e.cancelled, name)
			e.mu.Unlock()
		}
	}
}

// end finishes a sync that does not run.
func (e *Engine) end(ctx context.Context, log port.Log, state understudyv1.SyncState, status *rpcstatus.Status) error {
	events := &recorder{log: log, fail: func(error) {}}
	return events.finish(ctx, func(sync *understudyv1.Sync) {
		sync.State, sync.Error = state, status
	})
}

// endInterrupted ends a sync that nobody runs any more, by what it left behind:
// what it read is gone; what it recorded and what it committed are not. The
// status is its error when it committed nothing.
func (e *Engine) endInterrupted(ctx context.Context, name string, status *rpcstatus.Status) error {
	log, err := e.syncs.Open(ctx, name)
	if over := (*port.FencedError)(nil); errors.As(err, &over) {
		return nil
	}
	if gone := (*port.NotFoundError)(nil); errors.As(err, &gone) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("opening %s: %w", name, err)
	}
	sync := log.Sync()
	snapshot, recorded := sync.GetSnapshot(), sync.GetSnapshot() != nil
	if !recorded {
		if snapshot, err = e.committed(ctx, name); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			e.logger.Error("whether an interrupted sync committed cannot be found out", "sync", name, "error", err)
			status = unknownStatus(name)
		}
	}
	switch {
	case snapshot != nil:
		return e.endCommitted(ctx, log, snapshot, recorded)
	case sync.GetState() == understudyv1.SyncState_SYNC_STATE_CANCELLING && err == nil:
		return e.end(ctx, log, understudyv1.SyncState_SYNC_STATE_CANCELLED, cancelledStatus(name))
	default:
		return e.end(ctx, log, understudyv1.SyncState_SYNC_STATE_FAILED, status)
	}
}

// committed returns the snapshot that a sync committed, or nil.
func (e *Engine) committed(ctx context.Context, name string) (*understudyv1.Snapshot, error) {
	tenant, err := e.tenants.Tenant(TenantOf(name))
	if err != nil {
		return nil, err
	}
	snapshot, err := tenant.Vault.Committed(ctx, name)
	if err != nil || snapshot == nil {
		return nil, err
	}
	if snapshot.GetPushState() == understudyv1.PushState_PUSH_STATE_UNSPECIFIED {
		snapshot.PushState = understudyv1.PushState_PUSH_STATE_FAILED
		snapshot.PushError = newStatus(code.Code_UNAVAILABLE, understudyv1.ErrorReason_ERROR_REASON_BACKUP_FAILED,
			"The server stopped before the push was confirmed. The commit is kept, and the next sync pushes it too.", nil)
	}
	return snapshot, nil
}

// endCommitted ends a sync that came to its commit. All its results are in its
// log: they are stored before a commit begins.
func (e *Engine) endCommitted(ctx context.Context, log port.Log, snapshot *understudyv1.Snapshot, recorded bool) error {
	name := log.Sync().GetName()
	var results []*understudyv1.ConfigurationResult
	for event, err := range e.syncs.Events(ctx, name, 0) {
		if err != nil {
			return fmt.Errorf("reading the results of %s: %w", name, err)
		}
		if result := event.GetConfigurationCompleted().GetResult(); result != nil {
			results = append(results, result)
		}
	}
	events := &recorder{log: log, fail: func(error) {}}
	if !recorded {
		err := events.record(ctx, &understudyv1.SyncEvent{Event: &understudyv1.SyncEvent_SnapshotCommitted{
			SnapshotCommitted: &understudyv1.SnapshotCommitted{Snapshot: snapshot},
		}})
		if err != nil {
			return err
		}
	}
	return events.finish(ctx, func(sync *understudyv1.Sync) {
		sync.Identities = settledIdentities(sync.GetIdentities(), results)
		sync.State, sync.PartialCauses = endingOf(course{
			results:              results,
			userFailed:           sync.GetIdentities()[1].GetFailure() != nil,
			servicePrincipalLost: sync.GetIdentities()[0].GetFailure() != nil,
			snapshot:             snapshot,
		})
	})
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

// interruptedStatus is the error of a sync whose server stopped.
func interruptedStatus(name string) *rpcstatus.Status {
	return newStatus(code.Code_ABORTED, understudyv1.ErrorReason_ERROR_REASON_SYNC_INTERRUPTED,
		"The server stopped while the sync ran. Sync again. The previous backup is unchanged.", map[string]string{"sync": name})
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
