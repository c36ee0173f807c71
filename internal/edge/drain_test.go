package edge

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	understudyv1 "understudy.internal/gen/understudy/v1"
)

// servingNow asks the health service, on every name.
func servingNow(t testing.TB, f *fixture) bool {
	t.Helper()
	states := map[healthpb.HealthCheckResponse_ServingStatus]bool{}
	for _, name := range []string{"", "understudy.v1.SyncService"} {
		response, err := healthpb.NewHealthClient(f.conn).Check(t.Context(), &healthpb.HealthCheckRequest{Service: name})
		if err != nil {
			t.Fatal(err)
		}
		states[response.GetStatus()] = true
	}
	if len(states) != 1 {
		t.Fatalf("the services do not agree: %v", states)
	}
	return states[healthpb.HealthCheckResponse_SERVING]
}

func TestHealth(t *testing.T) {
	f := serve(t)
	if servingNow(t, f) {
		t.Error("serving before SetServing")
	}
	f.server.SetServing(true)
	if !servingNow(t, f) {
		t.Error("not serving after SetServing")
	}
	_, err := healthpb.NewHealthClient(f.conn).Check(t.Context(), &healthpb.HealthCheckRequest{Service: "x"})
	if status.Code(err) != codes.NotFound {
		t.Errorf("unknown service: %v", err)
	}
}

func TestReflection(t *testing.T) {
	f := serve(t)
	v1, err := reflectionv1.NewServerReflectionClient(f.conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := v1.Send(&reflectionv1.ServerReflectionRequest{
		MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{},
	}); err != nil {
		t.Fatal(err)
	}
	answer, err := v1.Recv()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range answer.GetListServicesResponse().GetService() {
		names = append(names, s.GetName())
	}
	if !slices.Contains(names, "understudy.v1.SyncService") || !slices.Contains(names, "grpc.health.v1.Health") {
		t.Errorf("services %v", names)
	}
	// The older version has the same messages under another name.
	alpha, err := f.conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true},
		reflectionv1alpha.ServerReflection_ServerReflectionInfo_FullMethodName)
	if err != nil {
		t.Fatal(err)
	}
	if err := alpha.SendMsg(&reflectionv1.ServerReflectionRequest{
		MessageRequest: &reflectionv1.ServerReflectionRequest_FileContainingSymbol{
			FileContainingSymbol: "understudy.v1.SyncService",
		},
	}); err != nil {
		t.Fatal(err)
	}
	answer = &reflectionv1.ServerReflectionResponse{}
	if err := alpha.RecvMsg(answer); err != nil || len(answer.GetFileDescriptorResponse().GetFileDescriptorProto()) == 0 {
		t.Errorf("%v %v", answer, err)
	}
}

// NOT_SERVING first; then for the drain delay everything goes on; then the
// watches end, so that they can be resumed elsewhere; then the rest.
func TestDrainOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := serve(t, func(c *Config) { c.DrainDelay = time.Minute })
		f.server.SetServing(true)
		f.journal.append(durable("a/b"))
		stream, err := f.client.WatchSync(t.Context(), &understudyv1.WatchSyncRequest{Name: syncA})
		if err != nil {
			t.Fatal(err)
		}
		health, err := healthpb.NewHealthClient(f.conn).Watch(t.Context(), &healthpb.HealthCheckRequest{})
		if err != nil {
			t.Fatal(err)
		}
		reflection, err := reflectionv1.NewServerReflectionClient(f.conn).ServerReflectionInfo(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := stream.Recv(); err != nil {
				t.Fatal(err)
			}
		}
		if state, err := health.Recv(); err != nil || state.GetStatus() != healthpb.HealthCheckResponse_SERVING {
			t.Fatal(state, err)
		}
		// A call that takes longer than the watches, but less than the drain timeout.
		slow := make(chan error, 1)
		f.engine.cancel = func(context.Context, string) (*understudyv1.Sync, error) {
			<-time.After(64 * time.Second)
			return &understudyv1.Sync{Name: syncA}, nil
		}
		f.server.config.UnaryTimeout = time.Hour
		go func() {
			_, err := f.client.CancelSync(t.Context(), &understudyv1.CancelSyncRequest{Name: syncA})
			slow <- err
		}()
		synctest.Wait()
		start := time.Now()
		f.stop()
		if state, err := health.Recv(); err != nil || state.GetStatus() != healthpb.HealthCheckResponse_NOT_SERVING ||
			time.Since(start) != 0 {
			t.Fatal(state, err, time.Since(start))
		}
		// Calls, and the watch, go on.
		if _, err := f.client.StartSync(t.Context(), &understudyv1.StartSyncRequest{Parent: contoso}); err != nil {
			t.Errorf("within the delay: %v", err)
		}
		f.server.SetServing(true)
		if servingNow(t, f) {
			t.Error("serving again while draining")
		}
		f.journal.append(durable("a/c"))
		if response, err := stream.Recv(); err != nil || response.GetEvent().GetSequence() != 2 {
			t.Errorf("within the delay: %v %v", response, err)
		}
		last := int64(2)
		for {
			response, err := stream.Recv()
			if err == nil && response.GetEvent().GetHeartbeat() != nil && response.GetEvent().GetSequence() == last {
				continue
			}
			if status.Code(err) != codes.Unavailable || detail[*errdetails.RetryInfo](err) == nil ||
				reason(err) != understudyv1.ErrorReason_ERROR_REASON_SERVER_DRAINING.String() || time.Since(start) != time.Minute {
				t.Errorf("after %s: %v %v", time.Since(start), response, err)
			}
			break
		}
		if _, err := health.Recv(); status.Code(err) != codes.Unavailable {
			t.Errorf("the health watch ended with %v", err)
		}
		if _, err := reflection.Recv(); status.Code(err) != codes.Unavailable {
			t.Errorf("the reflection stream ended with %v", err)
		}
		if err := <-slow; err != nil {
			t.Errorf("a call that ran: %v", err)
		}
		if err := f.wait(); err != nil || time.Since(start) != 64*time.Second {
			t.Errorf("Serve returned %v after %s", err, time.Since(start))
		}
		f.conn.Close()
	})
}

// What does not end within the drain timeout is cut off.
func TestDrainTimeout(t *testing.T) {
	f := serve(t, func(c *Config) { c.DrainTimeout = 20 * time.Millisecond })
	running, result := make(chan struct{}), make(chan error, 1)
	f.engine.cancel = func(ctx context.Context, _ string) (*understudyv1.Sync, error) {
		close(running)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	go func() {
		_, err := f.client.CancelSync(t.Context(), &understudyv1.CancelSyncRequest{Name: syncA})
		result <- err
	}()
	<-running
	f.stop()
	if err := f.wait(); err != nil {
		t.Error(err)
	}
	if err := <-result; status.Code(err) != codes.Unavailable {
		t.Error(err)
	}
}

// Once watches end, a call that still comes in is refused with a reason. Nobody has to
// be warned of it: that is how a server ends.
func TestCallsAreRefusedWhileDraining(t *testing.T) {
	log := &lockedBuffer{}
	f := serve(t, func(c *Config) { c.Logger = slog.New(slog.NewJSONHandler(log, nil)) })
	link := f.server.drainingLink(methods())
	close(f.server.ending)
	t.Cleanup(func() { f.server.ending = make(chan struct{}) }) // for Serve to close
	for _, rpc := range calls() {
		err := rpc.do(t.Context(), f)
		if status.Code(err) != codes.Unavailable || reason(err) != understudyv1.ErrorReason_ERROR_REASON_SERVER_DRAINING.String() {
			t.Errorf("%s: %v", rpc.name, err)
		}
	}
	if servingNow(t, f) || link.name != "draining" {
		t.Error("health is not answered")
	}
	if said := log.String(); !strings.Contains(said, `"level":"INFO","msg":"cannot serve"`) || strings.Contains(said, `"level":"WARN","msg":"cannot serve"`) {
		t.Errorf("the log says:\n%s", said)
	}
}

// brokenListener fails.
type brokenListener struct{ *bufconn.Listener }

func (brokenListener) Accept() (net.Conn, error) { return nil, errors.New("no more files") }

func TestAListenerThatFails(t *testing.T) {
	f := serve(t)
	server, err := New(f.server.config)
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Serve(t.Context(), brokenListener{bufconn.Listen(1)}); err == nil || !strings.Contains(err.Error(), "no more files") {
		t.Error(err)
	}
	if err := server.Serve(t.Context(), bufconn.Listen(1)); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("a server serves twice: %v", err)
	}
}

// A server that is told to stop before it began has nothing to complain about.
func TestStopBeforeStart(t *testing.T) {
	f := serve(t)
	for range 20 {
		server, err := New(f.server.config)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		listener := bufconn.Listen(1)
		if err := server.Serve(ctx, listener); err != nil {
			t.Fatal(err)
		}
		if _, err := listener.Dial(); err == nil {
			t.Fatal("the listener is still open")
		}
	}
}

func TestConfiguration(t *testing.T) {
	_, err := New(Config{SendTimeout: -1, MaxWatchers: -1, HelpBaseURL: "help"})
	for _, want := range []string{"Engine", "Syncs", "Watches", "Catalog", "SendTimeout", "MaxWatchers", "HelpBaseURL"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
}
