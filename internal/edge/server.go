package edge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"buf.build/go/protovalidate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	understudyv1 "understudy.internal/gen/understudy/v1"
)

// maxRequest is the largest request in bytes. A spec with 1,000 types and 1,000
// accepted collapses has less than 300 KiB.
const maxRequest = 1 << 20

// Server serves the contract. Make it with [New]; all methods may be called at
// the same time.
type Server struct {
	config Config
	grpc   *grpc.Server
	health *health.Server

	// served says that Serve was called.
	served atomic.Bool
	// ending is closed when watches have to end and no new call is taken.
	ending chan struct{}
	// watchers counts open streams of RunSync and WatchSync.
	watchers atomic.Int64
	// slow counts those of them that were ended because their client did not read.
	slow atomic.Int64
	// streams are the goroutines that belong to a stream, and may outlive its
	// handler until gRPC lets go of them.
	streams sync.WaitGroup
}

// New returns a server that answers health with NOT_SERVING until
// [Server.SetServing] is called. It fails with all that is wrong with the
// configuration.
func New(config Config) (*Server, error) {
	config, err := config.complete()
	if err != nil {
		return nil, fmt.Errorf("configuring the edge: %w", err)
	}
	validator, err := protovalidate.New(protovalidate.WithMessageDescriptors(requests()...))
	if err != nil {
		return nil, fmt.Errorf("compiling the rules of the contract: %w", err)
	}
	s := &Server{config: config, health: health.NewServer(), ending: make(chan struct{})}
	m := &mapper{logger: config.Logger, helpBaseURL: config.HelpBaseURL, ending: s.ending}
	table := methods()
	links := s.chain(m, validator, table)
	options := []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(unaryOf(links)...),
		grpc.ChainStreamInterceptor(streamOf(links)...),
		grpc.MaxRecvMsgSize(maxRequest),
		grpc.MaxConcurrentStreams(config.MaxConcurrentStreams),
		// A client that vanished is noticed within 40 s, and cancel_on_disconnect
		// with it. There is no MaxConnectionAge: it would end streams of clients
		// that did nothing wrong, and look like a lost connection.
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionIdle: 15 * time.Minute, Time: 30 * time.Second, Timeout: 10 * time.Second,
		}),
		// grpc-go clients ping every 10 s at most.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.ConnectionTimeout(20 * time.Second),
		grpc.MaxHeaderListSize(16 << 10),
		grpc.WaitForHandlers(true),
	}
	if config.TLS != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(config.TLS)))
	}
	s.grpc = grpc.NewServer(options...)
	understudyv1.RegisterSyncServiceServer(s.grpc, newService(s))
	healthpb.RegisterHealthServer(s.grpc, s.health)
	reflection.Register(s.grpc)
	s.SetServing(false)
	if err := unlisted(s.grpc.GetServiceInfo(), table); err != nil {
		return nil, err
	}
	return s, nil
}

// SetServing says through the health service whether the server wants calls. It
// has no effect once the server drains.
func (s *Server) SetServing(serving bool) {
	state := healthpb.HealthCheckResponse_NOT_SERVING
	if serving {
		state = healthpb.HealthCheckResponse_SERVING
	}
	s.health.SetServingStatus("", state)
	s.health.SetServingStatus(understudyv1.SyncService_ServiceDesc.ServiceName, state)
}

// Watchers returns how many streams of RunSync and WatchSync are open, and how many
// were ended so far because their client did not read.
func (s *Server) Watchers() (open, slow int64) { return s.watchers.Load(), s.slow.Load() }

// Serve serves on a listener, which it closes, until ctx ends; then it drains
// (see drain.go) and returns nil when every call has ended. It fails when the
// listener does. A server serves once.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	if !s.served.CompareAndSwap(false, true) {
		return errors.New("serving: this server has served already")
	}
	var err error
	over := make(chan struct{})
	go func() {
		defer close(over)
		// Stopped before it began: nothing was lost.
		if err = s.grpc.Serve(listener); errors.Is(err, grpc.ErrServerStopped) {
			err = nil
		}
	}()
	select {
	case <-over:
	case <-ctx.Done():
	}
	s.announce(over)
	s.stop()
	<-over
	s.streams.Wait()
	if err != nil {
		return fmt.Errorf("serving: %w", err)
	}
	return nil
}
