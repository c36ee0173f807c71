package edge

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"
)

// timeoutLink bounds unary calls, also those of clients that set no deadline.
// Streams are bounded message by message.
func timeoutLink(bound time.Duration) link {
	reached := &slowCallError{bound: bound}
	return link{
		name: "timeout",
		unary: func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			bounded, cancel := context.WithTimeoutCause(ctx, bound, reached)
			defer cancel()
			response, err := handler(bounded, req)
			if errors.Is(err, context.DeadlineExceeded) && errors.Is(context.Cause(bounded), reached) {
				return nil, reached
			}
			return response, err
		},
	}
}
