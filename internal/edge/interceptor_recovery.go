package edge

import (
	"context"
	"runtime/debug"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
)

// recoveryLink turns a panic into an error, and so into INTERNAL with an error
// id. What it said, and where, is logged and never sent.
func recoveryLink() link {
	handler := recovery.WithRecoveryHandlerContext(func(_ context.Context, value any) error {
		return &panicError{value: value, stack: debug.Stack()}
	})
	return link{
		name:   "recovery",
		unary:  recovery.UnaryServerInterceptor(handler),
		stream: recovery.StreamServerInterceptor(handler),
	}
}

// recovered calls f in a goroutine that no interceptor is around.
func recovered(f func() error) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = &panicError{value: value, stack: debug.Stack()}
		}
	}()
	return f()
}
