package edge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

// watch receives at most limit events after a sequence, and the end.
func watch(ctx context.Context, t interface{ Fatal(...any) }, f *fixture, after int64, limit int) ([]*understudyv1.SyncEvent, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := f.client.WatchSync(ctx, &understudyv1.WatchSyncRequest{Name: syncA, AfterSequence: after})
	if err != nil {
		t.Fatal(err)
	}
	var events []*understudyv1.SyncEvent
	for len(events) < limit {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return events, nil
		}
		if err != nil {
			return events, err
		}
		events = append(events, response.GetEvent())
	}
	return events, nil
}

// A finished log of five durable events.
func finishedLog(f *fixture) {
	for i := range 4 {
		f.journal.append(durable(fmt.Sprintf("entra/t%d", i)))
	}
	f.journal.append(finished(understudyv1.SyncState_SYNC_STATE_SUCCEEDED))
}

// A client that has `finished` and asks again is told that it is over, and OK.
func TestAfterFinished(t *testing.T) {
	f := serve(t)
	finishedLog(f)
	events, err := watch(t.Context(), t, f, 5, 10)
	if err != nil || len(events) != 1 || events[0].GetSequence() != 5 ||
		events[0].GetCurrentState().GetSync().GetState() != understudyv1.SyncState_SYNC_STATE_SUCCEEDED {
		t.Errorf("%v %v", events, err)
	}
	_, err = watch(t.Context(), t, f, 6, 10)
	if status.Code(err) != codes.OutOfRange || detail[*errdetails.ErrorInfo](err).GetMetadata()["lastSequence"] != "5" {
		t.Error(err)
	}
}

// Ephemeral events carry the sequence of the durable event before them on this
// stream; the shared event is not changed.
func TestEphemeralEvents(t *testing.T) {
	f := serve(t)
	prompt := &understudyv1.SyncEvent{
		EventTime: timestamppb.Now(),
		Event: &understudyv1.SyncEvent_AuthenticationPrompt{AuthenticationPrompt: &understudyv1.AuthenticationPrompt{
			UserCode: "ABCD", VerificationUri: "https://login.example",
		}},
	}
	original := proto.CloneOf(prompt)
	stream, err := f.client.WatchSync(t.Context(), &understudyv1.WatchSyncRequest{Name: syncA})
	if err != nil {
		t.Fatal(err)
	}
	next := func() *understudyv1.SyncEvent {
		response, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return response.GetEvent()
	}
	if first := next(); first.GetCurrentState() == nil || first.GetSequence() != 0 {
		t.Fatal(first)
	}
	for i := range int64(3) {
		f.journal.append(durable("entra/a"))
		if event := next(); event.GetSequence() != i+1 {
			t.Fatal(event)
		}
		f.journal.publish(prompt)
		got := next()
		if got.GetSequence() != i+1 {
			t.Fatalf("sequence %d of an ephemeral event after %d", got.GetSequence(), i+1)
		}
		got.Sequence = 0
		if d := diff(original, got); d != "" {
			t.Error(d)
		}
	}
	if d := diff(original, prompt); d != "" {
		t.Errorf("the shared event was changed: %s", d)
	}
}

// A heartbeat comes when nothing else did for the interval, never later, at most
// a tenth earlier, and with the sequence that the client has.
func TestHeartbeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := serve(t)
		stream, err := f.client.WatchSync(t.Context(), &understudyv1.WatchSyncRequest{
			Name: syncA, HeartbeatInterval: durationpb.New(20 * time.Second),
		})
		if err != nil {
			t.Fatal(err)
		}
		receive := func() (*understudyv1.SyncEvent, time.Duration) {
			start := time.Now()
			response, err := stream.Recv()
			if err != nil {
				t.Fatal(err)
			}
			return response.GetEvent(), time.Since(start)
		}
		receive() // current_state
		beats := make(map[time.Duration]bool)
		for i := range 10 {
			event, took := receive()
			if event.GetHeartbeat() == nil || event.GetSequence() != 0 || event.GetEventTime() == nil ||
				took > 20*time.Second || took < 18*time.Second {
				t.Fatalf("beat %d after %s: %v", i, took, event)
			}
			beats[took] = true
		}
		if len(beats) < 3 {
			t.Errorf("no jitter: %v", beats)
		}
		// Something else puts the heartbeat off.
		for range 5 {
			time.AfterFunc(17*time.Second, func() { f.journal.append(durable("entra/a")) })
			if event, took := receive(); event.GetHeartbeat() != nil || took != 17*time.Second {
				t.Fatalf("after %s: %v", took, event)
			}
		}
		if event, took := receive(); event.GetHeartbeat() == nil || event.GetSequence() != 5 || took < 18*time.Second {
			t.Errorf("after %s: %v", took, event)
		}
		// The default, on a second stream.
		other, err := f.client.WatchSync(t.Context(), &understudyv1.WatchSyncRequest{Name: syncA, AfterSequence: 5})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := other.Recv(); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if _, err := other.Recv(); err != nil || time.Since(start) > 15*time.Second || time.Since(start) < 13500*time.Millisecond {
			t.Errorf("default heartbeat after %s: %v", time.Since(start), err)
		}
		f.conn.Close()
		f.stop()
		if err := f.wait(); err != nil {
			t.Error(err)
		}
	})
}

// A client that does not read is let go, is told where to resume once it reads
// again, and loses nothing by it.
func TestStalledClient(t *testing.T) {
	f := serve(t, func(c *Config) { c.SendTimeout = 50 * time.Millisecond })
	conn := f.dial(t, grpc.WithStaticStreamWindowSize(64<<10), grpc.WithStaticConnWindowSize(64<<10))
	defer conn.Close()
	stream, err := understudyv1.NewSyncServiceClient(conn).WatchSync(t.Context(), &understudyv1.WatchSyncRequest{Name: syncA})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil { // the watch has begun
		t.Fatal(err)
	}
	const events = 4000
	for range events {
		f.journal.append(durable("entra/" + string(make([]byte, 100))))
	}
	until(t, "the server lets go", func() bool { return f.server.watchers.Load() == 0 && f.journal.watchers() == 0 })
	last := int64(0)
	for {
		response, err := stream.Recv()
		if err == nil {
			last = response.GetEvent().GetSequence()
			continue
		}
		info := detail[*errdetails.ErrorInfo](err)
		said, _ := strconv.ParseInt(info.GetMetadata()["lastSequence"], 10, 64)
		if status.Code(err) != codes.ResourceExhausted || detail[*errdetails.RetryInfo](err) == nil ||
			info.GetReason() != understudyv1.ErrorReason_ERROR_REASON_WATCHER_TOO_SLOW.String() {
			t.Fatalf("%v %v", err, info)
		}
		// The message that was waiting may have gone out after the server gave up.
		if said > last || said < last-1 || last == events {
			t.Fatalf("the server says %d, the client has %d", said, last)
		}
		break
	}
	if resumed, err := watch(t.Context(), t, f, last, 2); err != nil || resumed[1].GetSequence() != last+1 {
		t.Errorf("resumed with %v, %v", resumed, err)
	}
}

// What the watcher fails with ends the stream with the right status.
func TestWatcherErrors(t *testing.T) {
	for _, c := range []struct {
		name   string
		err    error
		code   codes.Code
		reason understudyv1.ErrorReason
		last   string
	}{
		{
			"slow", &port.SlowWatcherError{Last: 99}, codes.ResourceExhausted,
			understudyv1.ErrorReason_ERROR_REASON_WATCHER_TOO_SLOW, "2",
		},
		{
			"storage", &port.StorageError{Err: io.ErrUnexpectedEOF}, codes.Unavailable,
			understudyv1.ErrorReason_ERROR_REASON_STORAGE_UNAVAILABLE, "",
		},
		{"too early an end", io.EOF, codes.Internal, understudyv1.ErrorReason_ERROR_REASON_INTERNAL, ""},
		{"closed", io.ErrClosedPipe, codes.Internal, understudyv1.ErrorReason_ERROR_REASON_INTERNAL, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := serve(t)
			f.journal.append(durable("a/b"), durable("a/c"))
			f.journal.failNext = c.err
			events, err := watch(t.Context(), t, f, 2, 10)
			if len(events) != 1 || status.Code(err) != c.code || reason(err) != c.reason.String() ||
				detail[*errdetails.ErrorInfo](err).GetMetadata()["lastSequence"] != c.last {
				t.Errorf("%v %v %v", events, err, reason(err))
			}
		})
	}
}

// An event out of order is a bug behind the edge, and does not reach a client.
func TestGapsAndRepetitionsAreNotSent(t *testing.T) {
	for _, sequence := range []int64{1, 2, 4} {
		f := serve(t)
		f.journal.append(durable("a/b"), durable("a/c"), durable("a/d"))
		f.journal.events[2].Sequence = sequence
		events, err := watch(t.Context(), t, f, 0, 10)
		if len(events) != 3 || status.Code(err) != codes.Internal {
			t.Errorf("sequence %d: %d events, %v", sequence, len(events), err)
		}
	}
}

func TestWatcherLimit(t *testing.T) {
	f := serve(t, func(c *Config) { c.MaxWatchers = 2 })
	ctx, cancel := context.WithCancel(t.Context())
	for range 2 {
		stream, err := f.client.WatchSync(ctx, &understudyv1.WatchSyncRequest{Name: syncA})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	f.engine.start = nil // RunSync must not start a sync that it cannot show
	for _, rpc := range calls() {
		if rpc.name != "RunSync" && rpc.name != "WatchSync" {
			continue
		}
		err := rpc.do(t.Context(), f)
		if status.Code(err) != codes.ResourceExhausted || detail[*errdetails.RetryInfo](err) == nil ||
			reason(err) != understudyv1.ErrorReason_ERROR_REASON_LIMIT_REACHED.String() ||
			detail[*errdetails.QuotaFailure](err).GetViolations()[0].GetSubject() != "watchers" {
			t.Errorf("%s: %v", rpc.name, err)
		}
	}
	cancel()
	until(t, "places are free", func() bool { return f.server.watchers.Load() == 0 })
	if _, err := watch(t.Context(), t, f, 0, 1); err != nil {
		t.Error(err)
	}
}
