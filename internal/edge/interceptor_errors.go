package edge

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
)

// errorsLink turns the errors of handlers into statuses. It is the only place
// that does. Probes make their own statuses, by gRPC's contracts; and what is not
// a message of the method, or larger than 1 MiB, is refused by gRPC itself, with
// a status that is on its way before the handler hears of it.
func errorsLink(m *mapper, table map[string]method) link {
	answer := func(ctx context.Context, method string, err error) error {
		if _, has := status.FromError(err); has && table[method].class == classProbe {
			return err
		}
		return m.statusOf(ctx, err).Err()
	}
	return link{
		name: "errors",
		unary: func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			response, err := handler(ctx, req)
			if err != nil {
				return nil, answer(ctx, info.FullMethod, err)
			}
			return response, nil
		},
		stream: func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			if table[info.FullMethod].class != classProbe {
				stream = &receivingStream{stream}
			}
			if err := handler(srv, stream); err != nil {
				return answer(stream.Context(), info.FullMethod, err)
			}
			return nil
		},
	}
}

// receivingStream marks the statuses that gRPC made of what it received.
type receivingStream struct{ grpc.ServerStream }

// RecvMsg implements [grpc.ServerStream].
func (s *receivingStream) RecvMsg(message any) error {
	err := s.ServerStream.RecvMsg(message)
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return &receiveError{status.Convert(err)}
}
