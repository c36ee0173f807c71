package edge

import (
	"time"

	"google.golang.org/grpc"
)

// The end of a server, in this order: health says NOT_SERVING; calls are taken
// for the drain delay, until discovery has followed; watches end with
// SERVER_DRAINING and new calls are refused with it; calls that run may end
// within the drain timeout; what is left is cut off.

// announce says NOT_SERVING, waits for the drain delay, or until the listener is
// over, and ends the watches.
func (s *Server) announce(over <-chan struct{}) {
	s.config.Logger.Info("draining", "delay", s.config.DrainDelay, "watchers", s.watchers.Load())
	s.health.Shutdown()
	delay := time.NewTimer(s.config.DrainDelay)
	defer delay.Stop()
	select {
	case <-delay.C:
	case <-over:
	}
	close(s.ending)
}

// stop lets calls that run end, within the drain timeout, and closes everything.
func (s *Server) stop() {
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		s.grpc.GracefulStop()
	}()
	timeout := time.NewTimer(s.config.DrainTimeout)
	defer timeout.Stop()
	select {
	case <-stopped:
	case <-timeout.C:
		s.config.Logger.Warn("closing connections whose calls did not end in time", "timeout", s.config.DrainTimeout)
		s.grpc.Stop()
		<-stopped
	}
}

// isEnding says whether watches have to end.
func (s *Server) isEnding() bool {
	select {
	case <-s.ending:
		return true
	default:
		return false
	}
}

// endable runs a stream's handler so that it ends when the server does, also
// where it waits for its client: a health watch, or a reflection stream that a
// tool keeps open. The handler's goroutine ends with the stream.
func (s *Server) endable(srv any, stream grpc.ServerStream, handler grpc.StreamHandler) error {
	done := make(chan error, 1)
	s.streams.Go(func() {
		done <- recovered(func() error { return handler(srv, stream) })
	})
	select {
	case err := <-done:
		return err
	case <-s.ending:
		return &drainingError{}
	}
}
