package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/engine"
)

// slowToStop is a service that runs in this process, and that takes calls for long after
// it was told to stop.
type slowToStop struct {
	*storageStory
	own *service
	// stop tells it to stop; done has how it ended.
	stop context.CancelFunc
	done chan error
	// cut ends what it waits for.
	cut func() error
}

func newSlowToStop(ctx context.Context, t *testing.T, change func(*service)) *slowToStop {
	t.Helper()
	l := newStorageLab(ctx, t, filepath.Join(t.TempDir(), "data"))
	cfg, err := loadConfig(l.configFile())
	if err != nil {
		t.Fatal(err)
	}
	cfg.GRPC.DrainDelay = harnessTimeout
	own, err := newService(ctx, cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(own.close)
	change(own)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serving, stop := context.WithCancel(ctx)
	s := &slowToStop{own: own, stop: stop, done: make(chan error, 1), cut: listener.Close}
	go func() { s.done <- own.run(serving, listener) }()
	connection, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { connection.Close() })
	s.storageStory = &storageStory{T: t, client: understudyv1.NewSyncServiceClient(connection), connection: connection}
	return s
}

// leaves demands that the service is NOT_SERVING and says that it leaves, while it goes on
// with the calls that it has. It returns how the service ends.
func (s *slowToStop) leaves(ctx context.Context) error {
	s.Helper()
	eventually(s.T, 20*time.Second, "the service leaves", func() bool { return len(s.own.journal.Alive()) == 0 })
	eventually(s.T, 20*time.Second, "health says NOT_SERVING", func() bool {
		return s.health(ctx) == healthpb.HealthCheckResponse_NOT_SERVING
	})
	if _, err := s.client.ListSyncs(ctx, &understudyv1.ListSyncsRequest{Parent: "tenants/-"}); err != nil {
		s.Errorf("it takes no calls any more: %v", err)
	}
	select {
	case err := <-s.done:
		s.Fatalf("it ended before its time: %v", err)
	default:
	}
	s.cut()
	return <-s.done
}

// A service that is told to stop, and runs no sync, tells the others so at once, though it
// still takes calls.
func TestStopLeavesAtOnce(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), harnessTimeout)
	defer cancel()
	s := newSlowToStop(ctx, t, func(*service) {})
	s.recoversTenant(ctx, "tenants/t00") // it can
	if got := s.own.journal.Alive(); len(got) != 1 {
		t.Fatalf("alive are %q: the test is wrong", got)
	}
	s.stop()
	_ = s.leaves(ctx) // that its listener was closed
}

// A part of the service that fails ends it, and says so before it waits for the others: a
// sync that hangs then does not hold up the end of the process.
func TestFailedPartEnds(t *testing.T) {
	t.Parallel()
	for _, part := range []string{"edge", "metrics"} {
		t.Run(part, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), harnessTimeout)
			defer cancel()
			hangs, gaveUp := make(chan error), make(chan error, 2)
			var metrics net.Listener
			s := newSlowToStop(ctx, t, func(own *service) {
				own.watchHung = func(context.Context) error { return <-hangs }
				own.giveUp = func(err error) { gaveUp <- err }
				var err error
				if metrics, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
					t.Fatal(err)
				}
				own.metricsListener, own.last = metrics, newLastSyncs(own.journal, nil, own.logger)
			})
			s.recoversTenant(ctx, "tenants/t00")
			if part == "edge" {
				s.cut()
			} else {
				metrics.Close()
			}
			var err error
			select {
			case err = <-gaveUp:
			case <-time.After(20 * time.Second):
			}
			if !errors.Is(err, net.ErrClosed) {
				t.Errorf("it gave up with %v", err)
			}
			s.cut()
			hangs <- nil // nothing ends before
			if ended := <-s.done; !errors.Is(ended, err) {
				t.Errorf("it ended with %v, and gave up with %v", ended, err)
			}
			s.stop()
		})
	}
}

// A service with a sync that hangs is NOT_SERVING, leaves, and ends with an error that says
// why; and it says so in time for the process to be ended by force.
func TestHungServiceEnds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), harnessTimeout)
	defer cancel()
	hangs, gaveUp := make(chan error, 1), make(chan error, 1)
	s := newSlowToStop(ctx, t, func(own *service) {
		own.watchHung = func(context.Context) error { return <-hangs }
		own.giveUp = func(err error) { gaveUp <- err }
	})
	s.recoversTenant(ctx, "tenants/t00")
	hung := &engine.HungError{Sync: "tenants/t00/syncs/1"}
	hangs <- hung
	if err := <-gaveUp; !errors.Is(err, hung) {
		t.Errorf("it gave up with %v", err)
	}
	if err := s.leaves(ctx); !errors.Is(err, hung) {
		t.Errorf("it ended with %v", err)
	}
	s.stop()
}
