package edge

import (
	"context"

	"github.com/google/uuid"
	middleware "github.com/grpc-ecosystem/go-grpc-middleware/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// requestIDHeader carries the id of a call, both ways: a client may choose it.
const requestIDHeader = "x-request-id"

// maxRequestID is the length of the longest id that is taken from a client.
const maxRequestID = 64

// requestIDKey is the context key of the id of a call.
type requestIDKey struct{}

// requestID returns the id of a call, or nothing outside of one.
func requestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}

// requestIDLink gives every call an id, that of the client if it sent a usable
// one, and tells it to the client in the header.
func requestIDLink() link {
	return link{
		name: "request_id",
		unary: func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			ctx = withRequestID(ctx)
			// Setting a header fails only on a call that is over.
			_ = grpc.SetHeader(ctx, metadata.Pairs(requestIDHeader, requestID(ctx)))
			return handler(ctx, req)
		},
		stream: func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			wrapped := middleware.WrapServerStream(stream)
			wrapped.WrappedContext = withRequestID(stream.Context())
			_ = stream.SetHeader(metadata.Pairs(requestIDHeader, requestID(wrapped.WrappedContext)))
			return handler(srv, wrapped)
		},
	}
}

// withRequestID returns a context with the id of its call.
func withRequestID(ctx context.Context) context.Context {
	id := uuid.NewString()
	if values := metadata.ValueFromIncomingContext(ctx, requestIDHeader); len(values) == 1 && usableID(values[0]) {
		id = values[0]
	}
	return context.WithValue(ctx, requestIDKey{}, id)
}

// usableID says whether an id of a client can be logged as it is.
func usableID(id string) bool {
	if id == "" || len(id) > maxRequestID {
		return false
	}
	for _, c := range []byte(id) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return true
}
