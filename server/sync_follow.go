package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cenkalti/backoff/v5"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	understudyv1 "understudy.internal/gen/understudy/v1"
)

// How often a broken stream is opened again without anything new in between:
// before the sync is known a person waits for an error, later a server may be
// starting anew.
const (
	startAttempts  = 3
	resumeAttempts = 10
	// maxRetryDelay is the longest wait that a server can ask for.
	maxRetryDelay = time.Minute
)

// syncEvents returns the next event of a stream.
type syncEvents func() (*understudyv1.SyncEvent, error)

// eventsOf takes the events out of the messages of a stream.
func eventsOf[M interface {
	GetEvent() *understudyv1.SyncEvent
}](receive func() (M, error),
) syncEvents {
	return func() (*understudyv1.SyncEvent, error) {
		message, err := receive()
		if err != nil {
			return nil, err
		}
		return message.GetEvent(), nil
	}
}

// syncFollower shows the events of one sync to a view, each once, however often
// the stream breaks.
type syncFollower struct {
	client understudyv1.SyncServiceClient
	view   syncView
	// start starts the sync, and returns its events or its name.
	start func(context.Context) (syncEvents, string, error)

	// name is the sync's, once it is known.
	name string
	// answered says that the server has told of the sync.
	answered bool
	// cursor is the greatest sequence received.
	cursor int64
	// fresh says that the last stream brought something new.
	fresh bool
	// final is the sync once it is over.
	final *understudyv1.Sync
}

// errEndedEarly is a stream that ended with OK before its sync did.
var errEndedEarly = status.Error(codes.Unavailable, "the stream ended before the sync did")

// follow shows events until the sync is over. Otherwise it fails with the status
// that cannot be mended by resuming, or the error of the context.
func (f *syncFollower) follow(ctx context.Context) error {
	delays := backoff.NewExponentialBackOff()
	delays.InitialInterval, delays.MaxInterval = 500*time.Millisecond, 15*time.Second
	for attempt := 1; ; attempt++ {
		err := f.stream(ctx)
		if f.final != nil {
			return nil
		}
		if f.fresh {
			delays.Reset()
			attempt = 1
		}
		if ctx.Err() != nil || !f.canResume(err) || attempt >= f.attempts() {
			return err
		}
		delay := max(delays.NextBackOff(), min(retryDelay(err), maxRetryDelay))
		f.view.note(fmt.Sprintf("%s Trying again in %s.", f.lost(err), delay.Round(100*time.Millisecond)))
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// lost says what became of the stream.
func (f *syncFollower) lost(err error) string {
	if !f.answered {
		return "The server cannot be called now (" + statusName(status.Code(err)) + ")."
	}
	return "The stream was lost (" + statusName(status.Code(err)) + ")."
}

// attempts is how often a stream may break with nothing new in between.
func (f *syncFollower) attempts() int {
	if !f.answered {
		return startAttempts
	}
	return resumeAttempts
}

// stream opens a stream, and shows its events until it ends.
func (f *syncFollower) stream(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f.fresh = false
	next, err := f.open(ctx)
	for err == nil {
		var event *understudyv1.SyncEvent
		if event, err = next(); err != nil {
			break
		}
		if err = f.take(event); err == nil && f.final != nil {
			// The status repeats what `finished` said; the server gets to send it.
			defer time.AfterFunc(time.Second, cancel).Stop()
			_, _ = next()
			return nil
		}
	}
	if errors.Is(err, io.EOF) {
		return errEndedEarly
	}
	return err
}

// open starts the sync, or resumes it once its name is known.
func (f *syncFollower) open(ctx context.Context) (syncEvents, error) {
	if f.name == "" {
		next, name, err := f.start(ctx)
		if err != nil || next != nil {
			return next, err
		}
		f.name, f.answered = name, true
	}
	stream, err := f.client.WatchSync(ctx, &understudyv1.WatchSyncRequest{Name: f.name, AfterSequence: f.cursor})
	if err != nil {
		return nil, err
	}
	return eventsOf(stream.Recv), nil
}

// take shows one event.
func (f *syncFollower) take(event *understudyv1.SyncEvent) error {
	switch e := event.GetEvent().(type) {
	case *understudyv1.SyncEvent_CurrentState:
		sync := e.CurrentState.GetSync()
		f.name, f.answered = sync.GetName(), true
		if syncIsOver(sync.GetState()) && sync.GetLastSequence() == f.cursor {
			f.final = sync
		}
	case *understudyv1.SyncEvent_Finished:
		f.final = e.Finished.GetSync()
		f.fresh = true
	default:
		f.fresh = true
	}
	f.cursor = max(f.cursor, event.GetSequence())
	return f.view.event(event)
}

// syncIsOver says whether a state is terminal.
func syncIsOver(state understudyv1.SyncState) bool {
	switch state {
	case understudyv1.SyncState_SYNC_STATE_SUCCEEDED, understudyv1.SyncState_SYNC_STATE_PARTIALLY_SUCCEEDED,
		understudyv1.SyncState_SYNC_STATE_FAILED, understudyv1.SyncState_SYNC_STATE_CANCELLED:
		return true
	default:
		return false
	}
}

// canResume says whether a stream that ended with an error may be opened again. An
// error without a reason did not come from the service, but from what is between.
func (f *syncFollower) canResume(err error) bool {
	var s interface{ GRPCStatus() *status.Status }
	if !errors.As(err, &s) {
		return false
	}
	switch status.Code(err) {
	case codes.Unavailable, codes.ResourceExhausted:
		return true
	case codes.Internal, codes.Unknown, codes.Canceled:
		return f.answered && detailOf[*errdetails.ErrorInfo](status.Convert(err)).GetReason() == ""
	default:
		return false
	}
}

// retryDelay is how long a status asks to wait.
func retryDelay(err error) time.Duration {
	return detailOf[*errdetails.RetryInfo](status.Convert(err)).GetRetryDelay().AsDuration()
}

// detailOf returns the first detail of a type in a status, or nil.
func detailOf[T proto.Message](s *status.Status) T {
	var none T
	for _, d := range s.Details() {
		if found, ok := d.(T); ok {
			return found
		}
	}
	return none
}
