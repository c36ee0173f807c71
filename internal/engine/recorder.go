package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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

// recordError says that the events of a sync could not be stored.
type recordError struct{ err error }

func (e *recordError) Error() string { return "recording events: " + e.err.Error() }
func (e *recordError) Unwrap() error { return e.err }

// recorder writes the events of one sync. Events are stored in the order in
// which they were given; a result may wait for others, any other event is stored,
// with all results before it, when the call returns.
type recorder struct {
	log   port.Log
	syncs port.Syncs
	// owned is done when the sync is somebody else's: nothing is stored any more. A
	// sync that is being cancelled still says so.
	owned context.Context
	// stopping is done when the server stops, or who asked goes away: from then on an
	// attempt to store something is short.
	stopping context.Context
	// patience is done when the journal is no longer waited for that cannot store; nil:
	// it is not waited for. owns says whether a sync is still ours.
	patience context.Context
	owns     func(*understudyv1.Sync) bool
	// fail ends the sync when the log cannot be written, with errLost where it is
	// somebody else's.
	fail   func(error)
	logger *slog.Logger

	// asking are the changes of state that are stored beside the sign-in of a person.
	asking sync.WaitGroup

	// writing holds a token while events are stored, which may take as long as the
	// journal is waited for. It guards log and what follows.
	writing chan struct{}
	pending []*understudyv1.SyncEvent
	timer   *time.Timer
	err     error
}

// newRecorder returns a recorder that tries once to store something, until it has
// patience, and whose failures end nothing.
func newRecorder(owned, stopping context.Context, log port.Log) *recorder {
	return &recorder{log: log, owned: owned, stopping: stopping, fail: func(error) {}, writing: make(chan struct{}, 1)}
}

// lock keeps others from writing until the function that it returns is called.
func (r *recorder) lock() (unlock func()) {
	r.writing <- struct{}{}
	return func() { <-r.writing }
}

// record stores an event and waits for it.
func (r *recorder) record(event *understudyv1.SyncEvent) error {
	defer r.lock()()
	return r.append(event)
}

// state records a change of state, unless the sync is being cancelled: nothing
// leads back from there.
func (r *recorder) state(change *understudyv1.StateChanged) error {
	defer r.lock()()
	state := r.log.Sync().GetState()
	if state == change.GetState() || state == understudyv1.SyncState_SYNC_STATE_CANCELLING || terminal(state) {
		return r.err
	}
	err := r.change(change)
	if cancelling := (*port.SyncStateError)(nil); errors.As(err, &cancelling) {
		return nil // somebody cancelled it at the same moment
	}
	return err
}

// commit records that the commit begins. A [*port.SyncStateError] says that a
// cancellation came first.
func (r *recorder) commit() error {
	defer r.lock()()
	return r.change(&understudyv1.StateChanged{State: understudyv1.SyncState_SYNC_STATE_COMMITTING})
}

// change stores what is pending, then a change of state, which may be refused.
func (r *recorder) change(change *understudyv1.StateChanged) error {
	if err := r.append(); err != nil {
		return err
	}
	return r.append(stateChanged(change))
}

// end stores what is pending, the snapshot if the log does not have it, and then
// `finished`.
func (r *recorder) end(how *ending) error {
	defer r.lock()()
	if err := r.append(); err != nil {
		return err
	}
	if how.snapshot != nil && r.log.Sync().GetSnapshot() == nil {
		if err := r.append(snapshotCommitted(how.snapshot)); err != nil {
			return err
		}
	}
	sync := r.log.Sync()
	how.apply(sync)
	sync.EndTime = timestamppb.Now()
	return r.append(&understudyv1.SyncEvent{
		EventTime: sync.GetEndTime(),
		Event:     &understudyv1.SyncEvent_Finished{Finished: &understudyv1.SyncFinished{Sync: sync}},
	})
}

// result stores the result of a type soon.
func (r *recorder) result(result *understudyv1.ConfigurationResult) {
	defer r.lock()()
	r.pending = append(r.pending, &understudyv1.SyncEvent{
		Event: &understudyv1.SyncEvent_ConfigurationCompleted{
			ConfigurationCompleted: &understudyv1.ConfigurationCompleted{Result: result},
		},
	})
	if len(r.pending) >= resultBatchSize {
		_ = r.append() // kept in r.err, and the sync ends
		return
	}
	if r.timer == nil {
		r.timer = time.AfterFunc(resultBatchDelay, func() { _ = r.flush() })
	}
}

// flush stores what is pending.
func (r *recorder) flush() error {
	defer r.lock()()
	return r.append()
}

// append stores what is pending, then events. A failure is final: an event after one
// that is missing would make a gap.
func (r *recorder) append(events ...*understudyv1.SyncEvent) error {
	if r.timer != nil {
		r.timer.Stop()
		r.timer = nil
	}
	all := append(r.pending, events...)
	r.pending = nil
	if r.err != nil || len(all) == 0 {
		return r.err
	}
	err := context.Cause(r.owned)
	if err == nil {
		err = r.store(all)
	}
	refused, fenced := (*port.SyncStateError)(nil), (*port.FencedError)(nil)
	switch {
	case err == nil:
		return nil
	case r.owned.Err() != nil:
		r.err = context.Cause(r.owned)
	case errors.As(err, &refused):
		return err // it is no failure of the log
	case errors.As(err, &fenced):
		r.err = fmt.Errorf("%w: %w", errLost, err)
	default:
		r.err = &recordError{err}
	}
	r.fail(r.err)
	return r.err
}

// store stores events, and waits for a journal that cannot.
func (r *recorder) store(events []*understudyv1.SyncEvent) error {
	after := r.log.Sync().GetLastSequence()
	ctx, done := r.attempt()
	err := r.log.Append(ctx, events...)
	done()
	if !errors.As(err, new(*port.StorageError)) || r.patience == nil || r.patience.Err() != nil {
		return err
	}
	return r.outlast(after, events, err)
}

// lastAttempt is how long an attempt to store something lasts when the server stops: a
// journal that stores answers in less, and what is not stored is left to whoever goes on.
const lastAttempt = 5 * time.Second

// errHurried says that the journal was not waited for.
var errHurried = errors.New("the journal did not store it at once, and it was not waited for any longer")

// attempt returns the context of one attempt to store something, and what ends it.
func (r *recorder) attempt() (context.Context, func()) { return hurried(r.owned, r.stopping) }

// hurried returns a context that ends lastAttempt after the server stops, and what ends it
// before.
func hurried(parent, stopping context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	over := make(chan struct{})
	detach := context.AfterFunc(stopping, func() {
		select {
		case <-time.After(lastAttempt):
			cancel(&port.StorageError{Err: errHurried})
		case <-over:
		}
	})
	return ctx, func() {
		detach()
		close(over)
		cancel(nil)
	}
}

// stateChanged returns the event of a change of state.
func stateChanged(change *understudyv1.StateChanged) *understudyv1.SyncEvent {
	return &understudyv1.SyncEvent{Event: &understudyv1.SyncEvent_StateChanged{StateChanged: change}}
}

// snapshotCommitted returns the event of a commit.
func snapshotCommitted(snapshot *understudyv1.Snapshot) *understudyv1.SyncEvent {
	return &understudyv1.SyncEvent{Event: &understudyv1.SyncEvent_SnapshotCommitted{
		SnapshotCommitted: &understudyv1.SnapshotCommitted{Snapshot: snapshot},
	}}
}
