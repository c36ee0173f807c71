package edge

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// errorsLink turns the errors of handlers into statuses. It is the only place
// that does, beside [decodingChecked] for what fails before interceptors run.
// Probes make their own statuses, by gRPC's contracts.
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

// receivingStream names what cannot be received.
type receivingStream struct{ grpc.ServerStream }

// RecvMsg implements [grpc.ServerStream].
func (s *receivingStream) RecvMsg(message any) error {
	return receiveError(s.ServerStream.RecvMsg(message))
}

// receiveError turns gRPC's statuses about a request that is missing, that it
// cannot decode, or that is too large, into an [*invalidError]: gRPC says
// INTERNAL and RESOURCE_EXHAUSTED, but it is the request that is wrong.
func receiveError(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, io.EOF) {
		return invalidField("", "the request is missing: send one message")
	}
	switch status.Code(err) {
	case codes.Internal, codes.Unimplemented:
		return invalidField("", "the request cannot be decoded: send one message of the contract that belongs to the method, "+
			"not compressed")
	case codes.ResourceExhausted:
		return invalidField("", "the request is larger than 1 MiB: send fewer or shorter values")
	default:
		return &lostError{}
	}
}

// decodingChecked returns a copy of a service whose unary methods answer what
// cannot be decoded as any other wrong request. gRPC decodes before the
// interceptors run.
func decodingChecked(service *grpc.ServiceDesc, m *mapper) *grpc.ServiceDesc {
	checked := *service
	checked.Methods = make([]grpc.MethodDesc, len(service.Methods))
	for i, original := range service.Methods {
		checked.Methods[i] = grpc.MethodDesc{
			MethodName: original.MethodName,
			Handler: func(srv any, ctx context.Context, decode func(any) error, chain grpc.UnaryServerInterceptor) (any, error) {
				return original.Handler(srv, ctx, func(message any) error {
					if err := receiveError(decode(message)); err != nil {
						return m.statusOf(ctx, err).Err()
					}
					return nil
				}, chain)
			},
		}
	}
	return &checked
}
