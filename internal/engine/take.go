package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

// maxAttempts is how many workers take a sync up. Another one ends it: a sync that
// kills its workers ends too.
const maxAttempts = 5

// take takes a sync, unless another worker did or it ended, and carries it out. An
// error that is not [*unended] says that nothing was taken.
func (e *Engine) take(ctx context.Context, seen sight, since time.Time) error {
	log, err := e.syncs.Open(ctx, seen.sync)
	if err == nil && log.Sync().GetAttempt() != seen.attempt {
		err = &port.FencedError{Sync: seen.sync} // it was taken since it was seen
	}
	if err == nil {
		err = e.takeFrom(ctx, log, since)
	}
	fenced, gone, refused := (*port.FencedError)(nil), (*port.NotFoundError)(nil), (*port.SyncStateError)(nil)
	if errors.As(err, &fenced) || errors.As(err, &gone) || errors.As(err, &refused) {
		e.logger.Debug("somebody else has a sync, or ended it", "sync", seen.sync)
		return nil
	}
	return err
}

func (e *Engine) takeFrom(ctx context.Context, log port.Log, since time.Time) error {
	s := log.Sync()
	switch {
	case terminal(s.GetState()):
		return nil
	case s.GetState() == understudyv1.SyncState_SYNC_STATE_CANCELLING:
		return e.endCancelled(ctx, log)
	}
	tenant, plan, status := e.prepare(s)
	if until := since.Add(strangerPatience); status != nil && len(e.syncs.Alive()) > 1 && time.Now().Before(until) {
		return &leftError{until}
	}
	crowded, err := e.crowded(ctx)
	if err != nil {
		return err
	}
	if crowded {
		return &leftError{time.Now().Add(preferenceStep)}
	}
	logger := e.logger.With("sync", s.GetName())
	if s.GetState() != understudyv1.SyncState_SYNC_STATE_PENDING {
		return e.takeOver(ctx, log, tenant, plan, status, logger)
	}
	if status != nil {
		return e.end(ctx, log, failed(status))
	}
	r, err := e.newRun(ctx, log, tenant, plan, logger, func(worker string) *understudyv1.SyncEvent {
		return &understudyv1.SyncEvent{Event: &understudyv1.SyncEvent_Started{Started: &understudyv1.SyncStarted{
			ConfigurationTypes: plan.typeIDs(), CatalogVersion: e.catalog.Version(), Worker: worker,
		}}}
	})
	if err != nil {
		return err
	}
	return r.perform()
}

// prepare makes the plan of a sync. The status says why it cannot be carried out:
// the tenant's definition changed since it was accepted.
func (e *Engine) prepare(s *understudyv1.Sync) (*Tenant, *plan, *rpcstatus.Status) {
	tenant, err := e.tenants.Tenant(TenantOf(s.GetName()))
	if err != nil {
		return nil, nil, newStatus(code.Code_NOT_FOUND, understudyv1.ErrorReason_ERROR_REASON_RESOURCE_NOT_FOUND,
			"The tenant is no longer configured on this server, or its definition cannot be used.",
			map[string]string{"resource": TenantOf(s.GetName())})
	}
	plan, err := e.newPlan(tenant, s.GetSpec())
	if err != nil {
		return tenant, nil, newStatus(code.Code_FAILED_PRECONDITION, understudyv1.ErrorReason_ERROR_REASON_REQUEST_INVALID,
			"The tenant's definition changed since the sync was accepted: "+err.Error(), nil)
	}
	return tenant, plan, nil
}

// takeOver takes a sync over whose worker died, and goes on with it or ends it.
func (e *Engine) takeOver(
	ctx context.Context, log port.Log, tenant *Tenant, plan *plan, status *rpcstatus.Status, logger *slog.Logger,
) error {
	before := log.Sync()
	committing := before.GetState() == understudyv1.SyncState_SYNC_STATE_COMMITTING
	state := understudyv1.SyncState_SYNC_STATE_RUNNING
	if committing {
		state = before.GetState() // until it is known whether it did, nobody may cancel it
	}
	r, err := e.newRun(ctx, log, tenant, plan, logger, func(worker string) *understudyv1.SyncEvent {
		return stateChanged(&understudyv1.StateChanged{State: state, Worker: worker})
	})
	if err != nil {
		return err
	}
	logger.Warn("a sync was taken over: its worker died, was cut off or was stopped",
		"worker_before", before.GetWorker(), "attempt", r.attemptNumber, "state", before.GetState().String())
	ending, err := r.settle(status, committing)
	if err == nil && ending == nil {
		return r.perform()
	}
	defer r.close()
	if err == nil {
		err = r.events.end(ending)
	}
	return r.unrecorded(ending, err)
}

// settle finds out what the workers before left of a sync, and returns how it ends
// if there is nothing left to do; nil: it goes on. status says why it cannot.
func (r *run) settle(status *rpcstatus.Status, committing bool) (*ending, error) {
	sync := r.log.Sync()
	past, err := r.engine.past(r.ctx, r.log) // a stop does not wait for it
	if err != nil {
		return nil, err
	}
	snapshot := sync.GetSnapshot()
	if snapshot == nil {
		if snapshot, err = committed(r.owned, r.tenant, r.name); err != nil {
			r.logger.Error("whether the worker before committed cannot be found out", "error", err)
		}
	}
	switch {
	case r.owned.Err() != nil:
		return nil, context.Cause(r.owned)
	case snapshot != nil && snapshot.GetPushState() == understudyv1.PushState_PUSH_STATE_UNSPECIFIED &&
		status == nil && r.attemptNumber <= maxAttempts && r.plan.narrow(past.types) == nil:
		r.resume(past)
		r.left = unconfirmed(snapshot) // unless it can be pushed
		return nil, nil
	case snapshot != nil:
		return past.ending(unconfirmed(snapshot)), nil
	case err != nil && (committing || r.tenant == nil):
		return failed(unknownStatus(r.name)), nil
	case status != nil:
		return failed(status), nil
	case r.attemptNumber > maxAttempts:
		return failed(exhaustedStatus(r.name)), nil
	case committing:
		err = r.events.state(&understudyv1.StateChanged{State: understudyv1.SyncState_SYNC_STATE_RUNNING})
	default:
		err = nil
	}
	if err != nil {
		return nil, err
	}
	if err := r.plan.narrow(past.types); err != nil {
		return failed(changedStatus(err)), nil
	}
	r.resume(past)
	return nil, nil
}

// committed returns the snapshot that a sync committed, or nil. Its push state is unset
// where it is not known. The tenant is nil where it is not known.
func committed(ctx context.Context, tenant *Tenant, name string) (*understudyv1.Snapshot, error) {
	if tenant == nil {
		return nil, &port.NotFoundError{Resource: TenantOf(name)}
	}
	return tenant.Vault.Committed(ctx, name)
}

// unconfirmed lets a snapshot of which nobody knows whether it was pushed say so.
func unconfirmed(snapshot *understudyv1.Snapshot) *understudyv1.Snapshot {
	if snapshot.GetPushState() == understudyv1.PushState_PUSH_STATE_UNSPECIFIED {
		snapshot.PushState = understudyv1.PushState_PUSH_STATE_FAILED
		snapshot.PushError = newStatus(code.Code_UNAVAILABLE, understudyv1.ErrorReason_ERROR_REASON_BACKUP_FAILED,
			"The server stopped before the push was confirmed. The commit is kept, and the next sync pushes it too.", nil)
	}
	return snapshot
}

// endCancelled ends a sync that was being cancelled when its worker died. Its vault is
// asked all the same whether it committed: of the two the log takes only the one that
// comes first, but a worker before may have begun to commit, and died, and its push may
// have arrived late.
func (e *Engine) endCancelled(ctx context.Context, log port.Log) error {
	name := log.Sync().GetName()
	past, err := e.past(ctx, log)
	if err != nil {
		return err
	}
	if tenant, err := e.tenants.Tenant(TenantOf(name)); err == nil {
		snapshot, err := committed(ctx, tenant, name)
		if ctx.Err() != nil {
			return context.Cause(ctx) // the server stops: it was not asked
		}
		if err != nil {
			e.logger.Warn("whether a cancelled sync committed cannot be asked; by its log it did not", "sync", name, "error", err)
		}
		if snapshot != nil {
			return e.end(ctx, log, past.ending(unconfirmed(snapshot)))
		}
	}
	return e.end(ctx, log, &ending{state: understudyv1.SyncState_SYNC_STATE_CANCELLED, status: cancelledStatus(name)})
}

// newRun takes a sync with an event that names the worker, and makes a run of it. The
// plan and the tenant are nil where it cannot be carried out.
func (e *Engine) newRun(
	ctx context.Context, log port.Log, tenant *Tenant, plan *plan, logger *slog.Logger,
	event func(worker string) *understudyv1.SyncEvent,
) (*run, error) {
	worker := e.syncs.Worker()
	if e.isStopping() {
		return nil, &leftError{time.Now()} // it was told so while it looked at the sync
	}
	if err := log.Append(ctx, event(worker)); err != nil {
		return nil, fmt.Errorf("taking the sync: %w", err)
	}
	s := log.Sync()
	r := &run{
		engine: e, tenant: tenant, name: s.GetName(), log: log, plan: plan, spec: s.GetSpec(), logger: logger,
		worker: worker, attemptNumber: s.GetAttempt(), start: s.GetStartTime().AsTime(),
		results: make(map[string]*understudyv1.ConfigurationResult), reading: make(map[string]bool),
	}
	if plan != nil {
		r.unread = readers(plan)
		r.limit = r.start.Add(plan.timeout)
	}
	r.owned, r.disown = context.WithCancelCause(context.WithoutCancel(ctx))
	r.ctx, r.cancel = context.WithCancelCause(r.owned)
	// The server's end interrupts a sync with a cause of its own.
	r.serving = ctx
	r.detach = context.AfterFunc(ctx, func() { r.cancel(errShutdown) })
	left := time.Until(r.limit)
	patience, giveUp := context.WithTimeout(r.ctx, max(0, left)+outageGrace)
	r.giveUp = giveUp
	r.events = newRecorder(r.owned, ctx, log)
	r.events.syncs, r.events.patience, r.events.owns = e.syncs, patience, r.owns
	r.events.fail, r.events.logger = r.fail, logger
	e.mu.Lock()
	e.active[r.name] = &attended{run: r, until: until(left)}
	e.mu.Unlock()
	return r, nil
}

// end finishes a sync that nobody runs. When ctx ends that is tried for a moment only.
func (e *Engine) end(ctx context.Context, log port.Log, how *ending) error {
	return newRecorder(context.WithoutCancel(ctx), ctx, log).end(how)
}
