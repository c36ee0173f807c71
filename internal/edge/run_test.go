package edge

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/engine"
	"understudy.internal/internal/port"
)

// The arguments of the calls that start and end syncs reach the engine whole.
func TestArguments(t *testing.T) {
	f := serve(t)
	spec := &understudyv1.SyncSpec{ConfigurationTypes: []string{"entra/*"}, Comment: "why"}
	const id = "0f8fad5b-d9cb-469f-a165-70867728950e"
	var started []engine.StartRequest
	f.engine.start = func(_ context.Context, r engine.StartRequest) (*understudyv1.Sync, error) {
		started = append(started, r)
		return &understudyv1.Sync{Name: syncA}, nil
	}
	var retried engine.RetryRequest
	f.engine.retry = func(_ context.Context, r engine.RetryRequest) (*understudyv1.Sync, error) {
		retried = r
		return &understudyv1.Sync{Name: syncA}, nil
	}
	f.journal.append(finished(understudyv1.SyncState_SYNC_STATE_SUCCEEDED))
	if _, err := f.client.StartSync(t.Context(), &understudyv1.StartSyncRequest{Parent: contoso, Spec: spec, RequestId: id}); err != nil {
		t.Fatal(err)
	}
	stream, err := f.client.RunSync(t.Context(), &understudyv1.RunSyncRequest{Parent: contoso, Spec: spec, RequestId: id})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		_, err = stream.Recv()
	}
	if !errors.Is(err, io.EOF) {
		t.Errorf("RunSync ended with %v", err)
	}
	no := false
	if _, err := f.client.RetrySync(t.Context(), &understudyv1.RetrySyncRequest{
		Name: syncA, RequestId: id, AllowPrompt: &no, Comment: "again",
		AuthenticationPolicy: understudyv1.AuthenticationPolicy_AUTHENTICATION_POLICY_REQUIRE_USER,
	}); err != nil {
		t.Fatal(err)
	}
	want := engine.StartRequest{Tenant: contoso, Spec: spec, RequestID: id, Creator: anonymous}
	if d := diff([]engine.StartRequest{want, want}, started); d != "" {
		t.Error(d)
	}
	if d := diff(engine.RetryRequest{
		Sync: syncA, RequestID: id, AllowPrompt: &no, Comment: "again", Creator: anonymous,
		Policy: understudyv1.AuthenticationPolicy_AUTHENTICATION_POLICY_REQUIRE_USER,
	}, retried); d != "" {
		t.Error(d)
	}
}

// statusOfSync is the error of a sync as the engine writes it.
func statusOfSync(
	t testing.TB, code codes.Code, reason understudyv1.ErrorReason, details ...proto.Message,
) *rpcstatus.Status {
	t.Helper()
	s := &rpcstatus.Status{Code: int32(code), Message: "The sync failed. The previous backup is unchanged."}
	info := &errdetails.ErrorInfo{Reason: reason.String(), Domain: errorDomain, Metadata: map[string]string{"sync": syncA}}
	for _, detail := range append([]proto.Message{info}, details...) {
		packed, err := anypb.New(detail)
		if err != nil {
			t.Fatal(err)
		}
		s.Details = append(s.Details, packed)
	}
	return s
}

// RunSync ends as its sync did, after `finished`; WatchSync ends OK.
func TestEndings(t *testing.T) {
	failed := statusOfSync(t, codes.FailedPrecondition, understudyv1.ErrorReason_ERROR_REASON_BACKUP_FAILED)
	cancelled := statusOfSync(t, codes.Canceled, understudyv1.ErrorReason_ERROR_REASON_SYNC_CANCELLED)
	for _, c := range []struct {
		name  string
		state understudyv1.SyncState
		err   *rpcstatus.Status
		code  codes.Code
	}{
		{"succeeded", understudyv1.SyncState_SYNC_STATE_SUCCEEDED, nil, codes.OK},
		{"partially", understudyv1.SyncState_SYNC_STATE_PARTIALLY_SUCCEEDED, nil, codes.OK},
		{"failed", understudyv1.SyncState_SYNC_STATE_FAILED, failed, codes.FailedPrecondition},
		{"failed without an error", understudyv1.SyncState_SYNC_STATE_FAILED, nil, codes.Internal},
		{
			"failed without a reason", understudyv1.SyncState_SYNC_STATE_FAILED,
			&rpcstatus.Status{Code: int32(codes.FailedPrecondition), Message: "no access"}, codes.Internal,
		},
		{"cancelled", understudyv1.SyncState_SYNC_STATE_CANCELLED, cancelled, codes.Canceled},
		{"cancelled without an error", understudyv1.SyncState_SYNC_STATE_CANCELLED, nil, codes.Canceled},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := serve(t)
			f.journal.append(finished(c.state, func(s *understudyv1.Sync) { s.Error = c.err }))
			stream, err := f.client.RunSync(t.Context(), &understudyv1.RunSyncRequest{Parent: contoso})
			if err != nil {
				t.Fatal(err)
			}
			sawFinished := false
			for err == nil {
				var response *understudyv1.RunSyncResponse
				response, err = stream.Recv()
				sawFinished = sawFinished || response.GetEvent().GetFinished() != nil
			}
			if errors.Is(err, io.EOF) {
				err = nil
			}
			if !sawFinished || status.Code(err) != c.code {
				t.Errorf("finished %v, %v", sawFinished, err)
			}
			if c.code != codes.OK && reason(err) == "" {
				t.Error("no reason")
			}
			if c.code == codes.Canceled && c.err == nil && detail[*errdetails.ErrorInfo](err).GetMetadata()["sync"] != syncA {
				t.Errorf("details %v", status.Convert(err).Details())
			}
			if events, err := watch(t.Context(), t, f, 0, 10); err != nil || len(events) != 2 {
				t.Errorf("WatchSync: %v %v", events, err)
			}
		})
	}
}

// cancel_on_disconnect speaks of the client only.
func TestCancelOnDisconnect(t *testing.T) {
	for _, c := range []struct {
		name string
		flag bool
		// leave ends the stream; it has received current_state.
		leave func(t *testing.T, f *fixture, conn *grpc.ClientConn, cancel context.CancelFunc)
		// deadline is that of the call.
		deadline time.Duration
		want     bool
	}{
		{"client cancels", true, func(_ *testing.T, _ *fixture, _ *grpc.ClientConn, cancel context.CancelFunc) { cancel() }, 0, true},
		{"client cancels, not asked for", false, func(_ *testing.T, _ *fixture, _ *grpc.ClientConn, cancel context.CancelFunc) {
			cancel()
		}, 0, false},
		{"deadline", true, func(*testing.T, *fixture, *grpc.ClientConn, context.CancelFunc) {}, 100 * time.Millisecond, true},
		{"deadline, not asked for", false, func(*testing.T, *fixture, *grpc.ClientConn, context.CancelFunc) {}, 100 * time.Millisecond, false},
		{"connection closed", true, func(_ *testing.T, _ *fixture, conn *grpc.ClientConn, _ context.CancelFunc) { conn.Close() }, 0, true},
		{"connection closed while events flow", true, func(_ *testing.T, f *fixture, conn *grpc.ClientConn, _ context.CancelFunc) {
			for i := range 2000 {
				if i == 1000 {
					conn.Close()
				}
				f.journal.append(durable("a/b"))
			}
		}, 0, true},
		{"client cancels within the drain delay", true, func(t *testing.T, f *fixture, _ *grpc.ClientConn, cancel context.CancelFunc) {
			f.server.SetServing(true)
			f.stop()
			synctest.Wait()
			if servingNow(t, f) || f.server.isEnding() {
				t.Error("the server is not within its drain delay")
			}
			cancel()
		}, 0, true},
		{"server drains", true, func(_ *testing.T, f *fixture, _ *grpc.ClientConn, _ context.CancelFunc) { f.stop() }, 0, false},
		{"server ends with an error", true, func(_ *testing.T, f *fixture, _ *grpc.ClientConn, _ context.CancelFunc) {
			f.journal.mu.Lock()
			defer f.journal.mu.Unlock()
			f.journal.failNext = &port.StorageError{Err: io.ErrUnexpectedEOF}
			f.journal.signal()
		}, 0, false},
		{"client is too slow", true, func(_ *testing.T, f *fixture, _ *grpc.ClientConn, _ context.CancelFunc) {
			for range 4000 {
				f.journal.append(durable("entra/" + string(make([]byte, 100))))
			}
		}, 0, false},
		{"finished", true, func(_ *testing.T, f *fixture, _ *grpc.ClientConn, _ context.CancelFunc) {
			f.journal.append(finished(understudyv1.SyncState_SYNC_STATE_SUCCEEDED))
		}, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				over := make(chan struct{}, 1)
				f := serve(t, func(config *Config) {
					config.DrainDelay = time.Minute
					config.Observe = func(_ context.Context, call Call) {
						if call.Method == understudyv1.SyncService_RunSync_FullMethodName {
							over <- struct{}{}
						}
					}
				})
				var cancelled atomic.Int32
				f.engine.cancel = func(ctx context.Context, name string) (*understudyv1.Sync, error) {
					if name != syncA || ctx.Err() != nil {
						t.Errorf("Cancel(%v, %q)", ctx.Err(), name)
					}
					if cancelled.Add(1) == 1 {
						return nil, &port.StorageError{Err: io.ErrUnexpectedEOF} // it is tried again
					}
					return &understudyv1.Sync{Name: syncA}, nil
				}
				conn := f.dial(t, grpc.WithStaticStreamWindowSize(64<<10), grpc.WithStaticConnWindowSize(64<<10))
				defer conn.Close()
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if c.deadline > 0 {
					ctx, cancel = context.WithTimeout(ctx, c.deadline)
					defer cancel()
				}
				stream, err := understudyv1.NewSyncServiceClient(conn).RunSync(ctx, &understudyv1.RunSyncRequest{
					Parent: contoso, CancelOnDisconnect: c.flag,
				})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := stream.Recv(); err != nil {
					t.Fatal(err)
				}
				c.leave(t, f, conn, cancel)
				<-over
				if got := cancelled.Load() == 2; got != c.want || (!c.want && cancelled.Load() != 0) {
					t.Errorf("cancelled %d times, want cancelled: %v", cancelled.Load(), c.want)
				}
			})
		})
	}
}
