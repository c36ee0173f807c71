package edge

import (
	"context"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/logging"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/engine"
	"understudy.internal/internal/port"
)

// abandonTimeout is how long the cancellation of an abandoned sync is tried again while the
// storage fails.
const abandonTimeout = 10 * time.Second

// RunSync implements the contract.
func (s *service) RunSync(
	request *understudyv1.RunSyncRequest, stream grpc.ServerStreamingServer[understudyv1.RunSyncResponse],
) error {
	leave, err := s.enter()
	if err != nil {
		return err
	}
	defer leave()
	ctx := stream.Context()
	sync, err := s.config.Engine.Start(ctx, engine.StartRequest{
		Tenant:    request.GetParent(),
		Spec:      request.GetSpec(),
		RequestID: request.GetRequestId(),
		Creator:   anonymous,
	})
	if err != nil {
		return err
	}
	logging.AddFields(ctx, logging.Fields{"sync", sync.GetName()})
	final, err := s.follow(ctx, sync.GetName(), 0, s.heartbeat(request.GetHeartbeatInterval()), func(event *understudyv1.SyncEvent) error {
		return stream.Send(&understudyv1.RunSyncResponse{Event: event})
	})
	if request.GetCancelOnDisconnect() && final == nil && s.clientLeft(ctx, err) {
		s.abandon(ctx, sync.GetName())
	}
	if err != nil {
		return err
	}
	return endOf(final)
}

// WatchSync implements the contract.
func (s *service) WatchSync(
	request *understudyv1.WatchSyncRequest, stream grpc.ServerStreamingServer[understudyv1.WatchSyncResponse],
) error {
	leave, err := s.enter()
	if err != nil {
		return err
	}
	defer leave()
	_, err = s.follow(stream.Context(), request.GetName(), request.GetAfterSequence(),
		s.heartbeat(request.GetHeartbeatInterval()), func(event *understudyv1.SyncEvent) error {
			return stream.Send(&understudyv1.WatchSyncResponse{Event: event})
		})
	return err
}

// enter takes the place of one watcher, or fails with an [*engine.LimitError].
func (s *Server) enter() (leave func(), err error) {
	leave = func() { s.watchers.Add(-1) }
	if s.watchers.Add(1) > int64(s.config.MaxWatchers) {
		leave()
		return nil, &engine.LimitError{Subject: "watchers", Limit: s.config.MaxWatchers}
	}
	return leave, nil
}

// heartbeat is the interval that a request asks for.
func (s *Server) heartbeat(requested *durationpb.Duration) time.Duration {
	if requested == nil {
		return s.config.HeartbeatDefault
	}
	return requested.AsDuration()
}

// clientLeft says whether a stream that ended with an error ended because of its
// client: it cancelled, its deadline passed, its connection was lost. A stream
// that the server ends has a context that is alive, until the handler returns.
func (s *Server) clientLeft(ctx context.Context, err error) bool {
	var lost *lostError
	return err != nil && !s.isEnding() && (ctx.Err() != nil || errors.As(err, &lost))
}

// abandon cancels a sync whose client left.
func (s *service) abandon(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abandonTimeout)
	defer cancel()
	_, err := backoff.Retry(ctx, func() (*understudyv1.Sync, error) {
		sync, err := s.config.Engine.Cancel(ctx, name)
		var storage *port.StorageError
		if err != nil && !errors.As(err, &storage) {
			return nil, backoff.Permanent(err)
		}
		return sync, err
	}, backoff.WithMaxElapsedTime(abandonTimeout))
	var finished *port.SyncFinishedError
	switch {
	case err == nil:
		s.config.Logger.InfoContext(ctx, "sync cancelled because its client left", "sync", name, "request_id", requestID(ctx))
	case !errors.As(err, &finished):
		s.config.Logger.ErrorContext(ctx, "the sync of a client that left could not be cancelled",
			"sync", name, "request_id", requestID(ctx), "error", redacted(err.Error()))
	}
}

// endOf is how RunSync ends when its sync did.
func endOf(sync *understudyv1.Sync) error {
	switch sync.GetState() {
	case understudyv1.SyncState_SYNC_STATE_FAILED:
		return &syncError{status: sync.GetError()}
	case understudyv1.SyncState_SYNC_STATE_CANCELLED:
		if sync.GetError() != nil {
			return &syncError{status: sync.GetError()}
		}
		return &syncError{status: cancelledStatus(sync.GetName())}
	default:
		return nil
	}
}

// cancelledStatus is the error of a cancelled sync that carries none.
func cancelledStatus(name string) *rpcstatus.Status {
	s := &rpcstatus.Status{Code: int32(codes.Canceled), Message: "The sync was cancelled. The previous backup is unchanged."}
	// An ErrorInfo of this program always marshals.
	if info, err := anypb.New(&errdetails.ErrorInfo{
		Reason:   understudyv1.ErrorReason_ERROR_REASON_SYNC_CANCELLED.String(),
		Domain:   errorDomain,
		Metadata: map[string]string{"sync": name},
	}); err == nil {
		s.Details = append(s.Details, info)
	}
	return s
}
