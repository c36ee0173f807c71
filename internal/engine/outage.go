package engine

import (
	"context"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v5"
	"google.golang.org/protobuf/proto"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

// The pauses between two attempts while the journal does not answer, beside what the
// journal itself waits in each.
const (
	shortestOutagePause = 250 * time.Millisecond
	longestOutagePause  = 5 * time.Second
	// outageGrace is how long after the time limit of a sync the journal is waited for:
	// what was read until then is to be committed.
	outageGrace = 5 * time.Minute
)

// outagePauses are the pauses while the journal is waited for.
func outagePauses() backoff.BackOff {
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval, pauses.MaxInterval = shortestOutagePause, longestOutagePause
	return pauses
}

// outlast stores events of which the journal said that it cannot: it tries again until
// it can, until patience is over, or until the sync is somebody else's. Meanwhile
// whoever has something to record waits for the lock, so that nothing piles up. after
// is the sequence before the events, failure what the first attempt said.
func (r *recorder) outlast(after int64, events []*understudyv1.SyncEvent, failure error) error {
	r.logger.Warn("the journal cannot store what happens in the sync; it waits until it can", "error", failure)
	begin := time.Now()
	_, err := backoff.Retry(r.patience, func() (struct{}, error) {
		return struct{}{}, r.again(after, events)
	}, backoff.WithBackOff(outagePauses()), backoff.WithMaxElapsedTime(0))
	switch cause := context.Cause(r.patience); {
	case err == nil:
		r.logger.Info("the journal stores again, and the sync goes on", "waited", time.Since(begin))
	case cause != nil && errors.Is(err, cause):
		return failure
	}
	return err
}

// again opens the log anew, and stores events unless an earlier attempt stored them,
// though it failed. What trying again does not change is a [*backoff.PermanentError].
func (r *recorder) again(after int64, events []*understudyv1.SyncEvent) error {
	log, err := r.open()
	if err != nil && !errors.As(err, new(*backoff.PermanentError)) {
		return err
	}
	there, lookErr := r.has(after, events[0]) // all or none are
	switch {
	case lookErr != nil:
		return lookErr
	case there && events[len(events)-1].GetFinished() != nil:
		return nil // which is why the log cannot be opened
	case there && err == nil:
		log, err = r.open() // the one before may not know them
	}
	if err != nil {
		return err
	}
	r.log = log
	if there {
		return nil
	}
	err = r.log.Append(r.patience, events...)
	if errors.As(err, new(*port.StorageError)) || errors.As(err, new(*port.FencedError)) {
		return err // fenced perhaps by an earlier attempt that was late: look again
	}
	if err != nil {
		return backoff.Permanent(err)
	}
	return nil
}

// open opens the log anew. It fails for good when the sync is not ours any more: a log
// that was opened after a takeover would append behind it.
func (r *recorder) open() (port.Log, error) {
	name := r.log.Sync().GetName()
	log, err := r.syncs.Open(r.patience, name)
	switch {
	case errors.As(err, new(*port.FencedError)), errors.As(err, new(*port.NotFoundError)):
		return nil, backoff.Permanent(err)
	case err != nil:
		return nil, err
	case !r.owns(log.Sync()):
		return nil, backoff.Permanent(&port.FencedError{Sync: name})
	}
	return log, nil
}

// has says whether the log has an event after a sequence.
func (r *recorder) has(after int64, event *understudyv1.SyncEvent) (bool, error) {
	want := proto.CloneOf(event)
	for stored, err := range r.syncs.Events(r.patience, r.log.Sync().GetName(), after) {
		if err != nil {
			return false, err
		}
		want.Sequence = stored.GetSequence()
		if proto.Equal(want, stored) {
			return true, nil
		}
	}
	return false, nil
}
