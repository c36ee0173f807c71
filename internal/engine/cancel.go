package engine

import (
	"context"
	"errors"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

// How often, and how often at most, a cancellation is tried again that somebody came
// before with the sync.
const (
	cancelInterval = 100 * time.Millisecond
	cancelAttempts = 50
)

// Cancel implements [Service]. It is an event like any other: the worker of the sync,
// wherever it is, hears of it.
func (e *Engine) Cancel(ctx context.Context, name string) (*understudyv1.Sync, error) {
	for range cancelAttempts {
		sync, err := e.syncs.Get(ctx, name)
		if err != nil {
			return nil, err
		}
		switch state := sync.GetState(); {
		case state == understudyv1.SyncState_SYNC_STATE_CANCELLED, state == understudyv1.SyncState_SYNC_STATE_CANCELLING:
			return sync, nil
		case terminal(state), state == understudyv1.SyncState_SYNC_STATE_COMMITTING:
			return nil, &port.SyncFinishedError{Sync: name, State: state}
		}
		// A call that cannot be heeded must not keep the worker from its log.
		if err = e.syncs.Reachable(); err != nil {
			return nil, err
		}
		err = e.cancel(ctx, name)
		if err == nil {
			return e.syncs.Get(ctx, name)
		}
		committing, fenced := (*port.SyncStateError)(nil), (*port.FencedError)(nil)
		if !errors.As(err, &committing) && !errors.As(err, &fenced) {
			return nil, err
		}
		// It was taken, ended, or began to commit meanwhile: look again.
		select {
		case <-time.After(cancelInterval):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return nil, &port.StorageError{Err: errors.New("the sync changes all the time; cancel it again")}
}

// cancel appends a cancellation: the end of a sync that did not begin, and else the
// request to its worker. When ctx ends before it begins to record, nothing is recorded.
func (e *Engine) cancel(ctx context.Context, name string) error {
	log, err := e.syncs.Open(ctx, name)
	if err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx) // who goes away now has asked for it all the same
	if log.Sync().GetState() != understudyv1.SyncState_SYNC_STATE_PENDING {
		return log.Append(ctx, stateChanged(&understudyv1.StateChanged{State: understudyv1.SyncState_SYNC_STATE_CANCELLING}))
	}
	return e.end(ctx, log, &ending{state: understudyv1.SyncState_SYNC_STATE_CANCELLED, status: newStatus(
		code.Code_CANCELLED, understudyv1.ErrorReason_ERROR_REASON_SYNC_CANCELLED,
		"The sync was cancelled before it began. The previous backup is unchanged.", map[string]string{"sync": name})})
}
