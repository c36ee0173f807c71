package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/timestamppb"

	understudyv1 "understudy.internal/gen/understudy/v1"
)

const fakeSync = "tenants/contoso/syncs/01a"

// fakeSyncs is a server with one sync, whose events it plays.
type fakeSyncs struct {
	understudyv1.UnimplementedSyncServiceServer
	// events are what happens, without current_state; prompts, progress and
	// heartbeats among them have no sequence.
	events []*understudyv1.SyncEvent
	// cuts has for each stream how many messages it sends before it breaks; a
	// stream beyond the list does not break, and one with a negative number blocks
	// after as many messages until its client leaves.
	cuts []int
	// broken is how a stream breaks.
	broken error
	// fail is how every call fails.
	fail error

	mu       sync.Mutex
	streams  int
	requests []proto.Message
}

// note records a request.
func (f *fakeSyncs) note(request proto.Message) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = append(f.requests, request)
}

// received returns what was asked for.
func (f *fakeSyncs) received() []proto.Message {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.requests)
}

func (f *fakeSyncs) RunSync(
	request *understudyv1.RunSyncRequest, stream grpc.ServerStreamingServer[understudyv1.RunSyncResponse],
) error {
	f.note(request)
	if err := f.play(stream.Context(), 0, func(event *understudyv1.SyncEvent) error {
		return stream.Send(&understudyv1.RunSyncResponse{Event: event})
	}); err != nil {
		return err
	}
	return status.ErrorProto(f.final().GetError())
}

func (f *fakeSyncs) WatchSync(
	request *understudyv1.WatchSyncRequest, stream grpc.ServerStreamingServer[understudyv1.WatchSyncResponse],
) error {
	f.note(request)
	return f.play(stream.Context(), request.GetAfterSequence(), func(event *understudyv1.SyncEvent) error {
		return stream.Send(&understudyv1.WatchSyncResponse{Event: event})
	})
}

func (f *fakeSyncs) RetrySync(_ context.Context, request *understudyv1.RetrySyncRequest) (*understudyv1.RetrySyncResponse, error) {
	f.note(request)
	return &understudyv1.RetrySyncResponse{Sync: &understudyv1.Sync{Name: fakeSync}}, f.fail
}

func (f *fakeSyncs) CancelSync(_ context.Context, request *understudyv1.CancelSyncRequest) (*understudyv1.CancelSyncResponse, error) {
	f.note(request)
	return &understudyv1.CancelSyncResponse{Sync: &understudyv1.Sync{
		Name: fakeSync, State: understudyv1.SyncState_SYNC_STATE_CANCELLING,
	}}, f.fail
}

// play sends current_state and the events after a sequence.
func (f *fakeSyncs) play(ctx context.Context, after int64, send func(*understudyv1.SyncEvent) error) error {
	f.mu.Lock()
	limit, cut := 0, f.streams < len(f.cuts)
	if cut {
		limit = f.cuts[f.streams]
	}
	f.streams++
	f.mu.Unlock()
	if f.fail != nil {
		return f.fail
	}
	sent := 0
	over := func() bool { return cut && sent == max(limit, -limit) }
	emit := func(event *understudyv1.SyncEvent) error { sent++; return send(event) }
	if !over() {
		if err := emit(&understudyv1.SyncEvent{Sequence: after, Event: &understudyv1.SyncEvent_CurrentState{
			CurrentState: &understudyv1.CurrentState{Sync: &understudyv1.Sync{Name: fakeSync}},
		}}); err != nil {
			return err
		}
	}
	sequence := int64(0)
	for _, event := range f.events {
		event = proto.CloneOf(event)
		if !isEphemeral(event) {
			sequence++
		}
		if event.Sequence = sequence; sequence <= after && !isPrompt(event) {
			continue
		}
		if over() {
			break
		}
		event.Sequence = max(sequence, after)
		if err := emit(event); err != nil {
			return err
		}
	}
	switch {
	case !over():
		return nil
	case limit < 0:
		<-ctx.Done()
		return ctx.Err()
	default:
		return f.broken
	}
}

// final is the sync of the `finished` among the events.
func (f *fakeSyncs) final() *understudyv1.Sync {
	if len(f.events) == 0 {
		return nil
	}
	return f.events[len(f.events)-1].GetFinished().GetSync()
}

func isPrompt(event *understudyv1.SyncEvent) bool { return event.GetAuthenticationPrompt() != nil }

func isEphemeral(event *understudyv1.SyncEvent) bool {
	return isPrompt(event) || event.GetProgress() != nil || event.GetHeartbeat() != nil
}

// dialFake serves a fake on bufconn, until the test ends.
func dialFake(t *testing.T, f *fakeSyncs) understudyv1.SyncServiceClient {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer(grpc.WaitForHandlers(true))
	understudyv1.RegisterSyncServiceServer(server, f)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	connection, err := grpc.NewClient("passthrough:///fake",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		connection.Close()
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return understudyv1.NewSyncServiceClient(connection)
}

// syncShown is what a command wrote, and how it ended.
type syncShown struct {
	code     int
	out, err string
	message  string
}

// showSync runs a command against a fake; a width is that of its terminal.
func showSync(ctx context.Context, t *testing.T, c *syncCommand, f *fakeSyncs, width int) syncShown {
	t.Helper()
	c.Connection.Address = []string{defaultAddress}
	if c.Tenant == "" && c.Retry == "" && c.Watch == "" && c.Cancel == "" {
		c.Tenant = "contoso"
	}
	if err := c.check(); err != nil {
		t.Fatal(err)
	}
	var out, stderr bytes.Buffer
	view := c.newView(streams{out: &out, err: &stderr})
	if text, ok := view.(*textView); ok {
		text.location = time.UTC
		if width > 0 {
			text.width = func() int { return width }
		}
	}
	err := c.run(ctx, dialFake(t, f), view)
	var exit *exitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	s := syncShown{out: out.String(), err: stderr.String()}
	if exit != nil {
		s.code, s.message = exit.code, exit.message
	}
	return s
}

// statusWith is a status with details.
func statusWith(t *testing.T, code codes.Code, message string, details ...proto.Message) error {
	t.Helper()
	s := status.New(code, message)
	for _, d := range details {
		var err error
		if s, err = s.WithDetails(protoadapt.MessageV1Of(d)); err != nil {
			t.Fatal(err)
		}
	}
	return s.Err()
}

// errorInfo is the detail that has a reason.
func errorInfo(reason understudyv1.ErrorReason, metadata map[string]string) *errdetails.ErrorInfo {
	return &errdetails.ErrorInfo{Reason: reason.String(), Domain: "understudy.internal", Metadata: metadata}
}

// statusProto is a status with details, as it stands in a message.
func statusProto(t *testing.T, code codes.Code, message string, details ...proto.Message) *rpcstatus.Status {
	t.Helper()
	return status.Convert(statusWith(t, code, message, details...)).Proto()
}

// started, completed, prompted, progressed and finished make events.
func startedEvent(types ...string) *understudyv1.SyncEvent {
	return &understudyv1.SyncEvent{Event: &understudyv1.SyncEvent_Started{
		Started: &understudyv1.SyncStarted{ConfigurationTypes: types, CatalogVersion: "1.2"},
	}}
}

func completedEvent(result *understudyv1.ConfigurationResult) *understudyv1.SyncEvent {
	return &understudyv1.SyncEvent{Event: &understudyv1.SyncEvent_ConfigurationCompleted{
		ConfigurationCompleted: &understudyv1.ConfigurationCompleted{Result: result},
	}}
}

func promptEvent(in time.Duration) *understudyv1.SyncEvent {
	return &understudyv1.SyncEvent{Event: &understudyv1.SyncEvent_AuthenticationPrompt{
		AuthenticationPrompt: &understudyv1.AuthenticationPrompt{
			VerificationUri: "https://microsoft.example/devicelogin", UserCode: "ABCD-EFGH",
			ExpireTime: timestamppb.New(time.Now().Add(in)),
		},
	}}
}

func progressEvent(items int64, active ...string) *understudyv1.SyncEvent {
	return &understudyv1.SyncEvent{Event: &understudyv1.SyncEvent_Progress{Progress: &understudyv1.Progress{
		Phase: understudyv1.SyncPhase_SYNC_PHASE_READING, ItemsRead: items, ActiveConfigurationTypes: active,
	}}}
}

func failedEvent(failure *understudyv1.AuthFailure, with understudyv1.Identity) *understudyv1.SyncEvent {
	return &understudyv1.SyncEvent{Event: &understudyv1.SyncEvent_AuthenticationFailed{
		AuthenticationFailed: &understudyv1.AuthenticationFailed{Failure: failure, ContinuesWith: with},
	}}
}

func finishedEvent(state understudyv1.SyncState, change func(*understudyv1.Sync)) *understudyv1.SyncEvent {
	sync := &understudyv1.Sync{
		Name: fakeSync, State: state,
		CreateTime: &timestamppb.Timestamp{Seconds: 100}, EndTime: &timestamppb.Timestamp{Seconds: 112, Nanos: 340e6},
	}
	if change != nil {
		change(sync)
	}
	return &understudyv1.SyncEvent{Event: &understudyv1.SyncEvent_Finished{Finished: &understudyv1.SyncFinished{Sync: sync}}}
}

// result is a result of a type.
func result(id string, outcome understudyv1.ConfigurationOutcome) *understudyv1.ConfigurationResult {
	return &understudyv1.ConfigurationResult{ConfigurationType: id, Outcome: outcome, ItemCount: 3}
}
