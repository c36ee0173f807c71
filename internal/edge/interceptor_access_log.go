package edge

import (
	"context"
	"log/slog"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/logging"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/selector"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
)

// accessLogLink writes one record per call when it ends: method, code, duration,
// peer, request id, and the tenant or sync that it was about. Never what was sent
// or received.
func accessLogLink(logger *slog.Logger, table map[string]method) link {
	// Of all records of the library only that of the end of a call is asked for.
	write := logging.LoggerFunc(func(ctx context.Context, level logging.Level, _ string, fields ...any) {
		logger.Log(ctx, slog.Level(level), "call", fields...)
	})
	options := []logging.Option{
		logging.WithLogOnEvents(logging.FinishCall),
		logging.WithDurationField(func(d time.Duration) logging.Fields { return logging.Fields{"duration", d} }),
		logging.WithFieldsFromContext(func(ctx context.Context) logging.Fields {
			return logging.Fields{"request_id", requestID(ctx)}
		}),
		logging.WithDisableLoggingFields(logging.SystemTag[0], logging.ComponentFieldKey),
	}
	calls := append([]logging.Option{logging.WithLevels(levelOf)}, options...)
	probes := append([]logging.Option{
		logging.WithLevels(func(codes.Code) logging.Level { return logging.LevelDebug }),
	}, options...)
	isProbe := selector.MatchFunc(func(_ context.Context, call interceptors.CallMeta) bool {
		return table[call.FullMethod()].class == classProbe
	})
	isCall := selector.MatchFunc(func(_ context.Context, call interceptors.CallMeta) bool {
		return table[call.FullMethod()].class != classProbe
	})
	return link{
		name: "access_log",
		unary: unaryPair(
			selector.UnaryServerInterceptor(logging.UnaryServerInterceptor(write, probes...), isProbe),
			selector.UnaryServerInterceptor(logging.UnaryServerInterceptor(write, calls...), isCall),
		),
		stream: streamPair(
			selector.StreamServerInterceptor(logging.StreamServerInterceptor(write, probes...), isProbe),
			selector.StreamServerInterceptor(logging.StreamServerInterceptor(write, calls...), isCall),
		),
	}
}

// levelOf is the level of a call by its code. What a caller did wrong is its own
// matter; what the server could not do is a warning; a bug is an error.
func levelOf(code codes.Code) logging.Level {
	switch code {
	case codes.Internal, codes.Unknown, codes.DataLoss:
		return logging.LevelError
	case codes.Unavailable, codes.ResourceExhausted, codes.DeadlineExceeded:
		return logging.LevelWarn
	default:
		return logging.LevelInfo
	}
}

// unaryPair puts one unary interceptor around another.
func unaryPair(outer, inner grpc.UnaryServerInterceptor) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		return outer(ctx, req, info, func(ctx context.Context, req any) (any, error) {
			return inner(ctx, req, info, handler)
		})
	}
}

// streamPair puts one stream interceptor around another.
func streamPair(outer, inner grpc.StreamServerInterceptor) grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		return outer(srv, stream, info, func(srv any, stream grpc.ServerStream) error {
			return inner(srv, stream, info, handler)
		})
	}
}
