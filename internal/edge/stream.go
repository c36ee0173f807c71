package edge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

// errQuiet is the cause of a wait that ended without an event.
var errQuiet = errors.New("nothing happened for the heartbeat interval")

// follower brings the events of one watcher to one client.
type follower struct {
	watcher   port.Watcher
	send      func(*understudyv1.SyncEvent) error
	heartbeat time.Duration
	patience  time.Duration
	// stall fires when a message waits for the client longer than patience.
	stall *time.Timer
	// cursor is the sequence of the last durable event that was sent.
	cursor atomic.Int64
	// wait ends at the next heartbeat, since is when it began.
	wait    context.Context
	endWait context.CancelFunc
	since   time.Time
	// final is the sync once it is known to be over.
	final *understudyv1.Sync
	// complete says that every durable event was sent.
	complete bool
}

// follow sends the events of a sync after a sequence until the sync is over, and
// returns the sync as it then is. It fails when the client leaves
// ([*lostError], or the error of its context), does not read
// ([*slowReaderError]), or the server drains ([*drainingError]).
//
// A message that waits for a client cannot be called back: gRPC lets go of it
// when the handler returns. So the events are sent by a goroutine of their own,
// which the handler does not wait for, but Serve does.
func (s *Server) follow(
	ctx context.Context, name string, after int64, heartbeat time.Duration, send func(*understudyv1.SyncEvent) error,
) (*understudyv1.Sync, error) {
	watcher, err := s.config.Watches.Watch(ctx, name, after)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f := &follower{
		watcher: watcher, send: send, heartbeat: heartbeat,
		patience: s.config.SendTimeout, stall: time.NewTimer(s.config.SendTimeout),
	}
	f.stall.Stop()
	f.cursor.Store(after)
	done := make(chan error, 1)
	s.streams.Go(func() {
		defer watcher.Close()
		done <- recovered(func() error { return f.run(ctx) })
	})
	var slow *slowReaderError
	select {
	case err := <-done:
		if errors.As(err, &slow) {
			s.slow.Add(1)
		}
		return f.final, err
	case <-s.ending:
		return nil, &drainingError{}
	case <-f.stall.C:
		s.slow.Add(1)
		return nil, &slowReaderError{last: f.cursor.Load()}
	}
}

// run sends events until the sync is over.
func (f *follower) run(ctx context.Context) error {
	defer f.stopWaiting()
	for {
		event, err := f.next(ctx)
		switch {
		case errors.Is(err, io.EOF) && !f.complete:
			return errors.New("the watch ended before its sync did")
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if err := f.deliver(ctx, event); err != nil {
			return err
		}
	}
}

// next returns the next event, or a heartbeat when there is none for the interval.
// The interval is up to a tenth shorter, so that the heartbeats of many streams do
// not fall together, and none is late.
func (f *follower) next(ctx context.Context) (*understudyv1.SyncEvent, error) {
	wait := f.quiet(ctx)
	event, err := f.watcher.Next(wait)
	if ctx.Err() == nil && isQuiet(wait, err) {
		return &understudyv1.SyncEvent{
			EventTime: timestamppb.Now(),
			Event:     &understudyv1.SyncEvent_Heartbeat{Heartbeat: &understudyv1.Heartbeat{}},
		}, nil
	}
	var slow *port.SlowWatcherError
	if errors.As(err, &slow) {
		// What was sent counts, not what the watcher has.
		return nil, &slowReaderError{last: f.cursor.Load()}
	}
	return event, err
}

// isQuiet says whether a wait ended because nothing happened.
func isQuiet(wait context.Context, err error) bool {
	return errors.Is(err, errQuiet) || errors.Is(err, context.DeadlineExceeded) && wait.Err() != nil
}

// quiet returns a context that ends when it is time for a heartbeat. Where events come
// fast one serves many of them: half of the tenth is for that, half is by chance.
func (f *follower) quiet(ctx context.Context) context.Context {
	if now := time.Now(); f.wait == nil || f.wait.Err() != nil || now.Sub(f.since) > f.heartbeat/20 {
		f.stopWaiting()
		f.wait, f.endWait = context.WithTimeoutCause(ctx, f.heartbeat-rand.N(f.heartbeat/20+1), errQuiet)
		f.since = now
	}
	return f.wait
}

func (f *follower) stopWaiting() {
	if f.endWait != nil {
		f.endWait()
	}
}

// deliver sends one event, with its sequence.
func (f *follower) deliver(ctx context.Context, event *understudyv1.SyncEvent) error {
	cursor := f.cursor.Load()
	switch e := event.GetEvent().(type) {
	case *understudyv1.SyncEvent_CurrentState:
		if sync := e.CurrentState.GetSync(); terminal(sync.GetState()) {
			f.final, f.complete = sync, sync.GetLastSequence() == cursor
		}
		event = numbered(event, cursor)
	case *understudyv1.SyncEvent_AuthenticationPrompt, *understudyv1.SyncEvent_Progress, *understudyv1.SyncEvent_Heartbeat:
		event = numbered(event, cursor)
	default:
		if next := event.GetSequence(); next != cursor+1 {
			return &gapError{last: cursor, next: next}
		}
		cursor++
		if finished := event.GetFinished(); finished != nil {
			f.final, f.complete = finished.GetSync(), true
		}
	}
	f.stall.Reset(f.patience)
	err := f.send(event)
	f.stall.Stop()
	if err != nil {
		return sendError(ctx, err)
	}
	f.cursor.Store(cursor)
	return nil
}

// numbered returns an ephemeral event with its sequence. The event belongs to
// other watchers too, and is not changed.
func numbered(event *understudyv1.SyncEvent, sequence int64) *understudyv1.SyncEvent {
	return &understudyv1.SyncEvent{Sequence: sequence, EventTime: event.GetEventTime(), Event: event.GetEvent()}
}

// sendError says why a message could not be sent: mostly because nobody is there.
func sendError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	switch status.Code(err) {
	case codes.Unavailable, codes.Canceled, codes.DeadlineExceeded:
		return &lostError{}
	default:
		return fmt.Errorf("sending an event: %w", err)
	}
}

// terminal says whether a sync in a state is over.
func terminal(state understudyv1.SyncState) bool {
	switch state {
	case understudyv1.SyncState_SYNC_STATE_SUCCEEDED,
		understudyv1.SyncState_SYNC_STATE_PARTIALLY_SUCCEEDED,
		understudyv1.SyncState_SYNC_STATE_FAILED,
		understudyv1.SyncState_SYNC_STATE_CANCELLED:
		return true
	default:
		return false
	}
}
