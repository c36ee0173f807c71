package engine

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

// The results of a sync are many and small: they are stored in batches of at
// most this many, at most this long after the first of them.
const (
	resultBatchSize  = 64
	resultBatchDelay = 50 * time.Millisecond
)

// recorder writes the events of one sync. Events are stored in the order in
// which they were given; a result may wait for others, any other event is stored,
// with all results before it, when the call returns.
type recorder struct {
	log port.Log
	// fail ends the sync when the log cannot be written.
	fail func(error)

	mu      sync.Mutex
	pending []*understudyv1.SyncEvent
	timer   *time.Timer
	err     error
}

// record stores an event and waits for it.
func (r *recorder) record(ctx context.Context, event *understudyv1.SyncEvent) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.append(ctx, event)
}

// state records a change of state, unless the sync is being cancelled: nothing
// leads back from there.
func (r *recorder) state(ctx context.Context, change *understudyv1.StateChanged) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	state := r.log.Sync().GetState()
	if state == change.GetState() || state == understudyv1.SyncState_SYNC_STATE_CANCELLING || terminal(state) {
		return r.err
	}
	return r.append(ctx, &understudyv1.SyncEvent{Event: &understudyv1.SyncEvent_StateChanged{StateChanged: change}})
}

// finish stores what is pending and then `finished`, with the sync as it then
// stands, completed by conclude.
func (r *recorder) finish(ctx context.Context, conclude func(*understudyv1.Sync)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.append(ctx); err != nil {
		return err
	}
	now := timestamppb.Now()
	sync := r.log.Sync()
	conclude(sync)
	sync.EndTime = now
	sync.LastSequence++
	return r.append(ctx, &understudyv1.SyncEvent{
		EventTime: now,
		Event:     &understudyv1.SyncEvent_Finished{Finished: &understudyv1.SyncFinished{Sync: sync}},
	})
}

// result stores the result of a type soon.
func (r *recorder) result(ctx context.Context, result *understudyv1.ConfigurationResult) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pending = append(r.pending, &understudyv1.SyncEvent{
		Event: &understudyv1.SyncEvent_ConfigurationCompleted{
			ConfigurationCompleted: &understudyv1.ConfigurationCompleted{Result: result},
		},
	})
	if len(r.pending) >= resultBatchSize {
		_ = r.append(ctx) // kept in r.err, and the sync ends
		return
	}
	if r.timer == nil {
		r.timer = time.AfterFunc(resultBatchDelay, func() { _ = r.flush(ctx) })
	}
}

// flush stores what is pending.
func (r *recorder) flush(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.append(ctx)
}

// append stores what is pending, then events. The first failure is final: an
// event after one that is missing would make a gap.
func (r *recorder) append(ctx context.Context, events ...*understudyv1.SyncEvent) error {
	if r.timer != nil {
		r.timer.Stop()
		r.timer = nil
	}
	all := append(r.pending, events...)
	r.pending = nil
	if r.err != nil || len(all) == 0 {
		return r.err
	}
	// A sync that is being cancelled still says so.
	if err := r.log.Append(context.WithoutCancel(ctx), all...); err != nil {
		r.err = fmt.Errorf("recording events: %w", err)
		r.fail(r.err)
	}
	return r.err
}
