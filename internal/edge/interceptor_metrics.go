package edge

import (
	"context"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors"
	"google.golang.org/grpc/status"
)

// metricsLink tells an observer about every call that ended. Without an observer
// it is empty.
func metricsLink(observe func(context.Context, Call)) link {
	l := link{name: "metrics"}
	if observe == nil {
		return l
	}
	report := interceptors.CommonReportableFunc(
		func(ctx context.Context, call interceptors.CallMeta) (interceptors.Reporter, context.Context) {
			return &observer{ctx: ctx, method: call.FullMethod(), observe: observe}, ctx
		})
	l.unary = interceptors.UnaryServerInterceptor(report)
	l.stream = interceptors.StreamServerInterceptor(report)
	return l
}

// observer is told about one call.
type observer struct {
	interceptors.NoopReporter
	ctx     context.Context
	method  string
	observe func(context.Context, Call)
}

// PostCall implements [interceptors.Reporter].
func (o *observer) PostCall(err error, duration time.Duration) {
	o.observe(o.ctx, Call{Method: o.method, Code: status.Code(err), Duration: duration})
}
