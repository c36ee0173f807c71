package edge

import (
	"buf.build/go/protovalidate"
	"google.golang.org/grpc"
)

// link is one named interceptor of the chain. An interceptor that has nothing to
// do for one of the two kinds leaves it nil.
type link struct {
	name   string
	unary  grpc.UnaryServerInterceptor
	stream grpc.StreamServerInterceptor
}

// chain returns the interceptors, the outermost first. The order matters:
//
//   - request_id is first: everything after it can name the call.
//   - access_log and metrics are outside errors: they see what the client sees.
//   - errors is outside recovery: a panic becomes a status as any other error.
//   - recovery is outside all that looks at requests: nothing that a client sends
//     ends the process.
//   - draining is before the work, and after the log: a refusal is logged.
//   - timeout bounds validation too.
//   - validation is before resource: only well-formed names are logged.
func (s *Server) chain(m *mapper, validator protovalidate.Validator, table map[string]method) []link {
	return []link{
		requestIDLink(),
		accessLogLink(s.config.Logger, table),
		metricsLink(s.config.Observe),
		errorsLink(m, table),
		recoveryLink(),
		s.drainingLink(table),
		timeoutLink(s.config.UnaryTimeout),
		validationLink(validator),
		resourceLink(),
	}
}

// unaryOf returns the unary interceptors of a chain.
func unaryOf(links []link) []grpc.UnaryServerInterceptor {
	var interceptors []grpc.UnaryServerInterceptor
	for _, l := range links {
		if l.unary != nil {
			interceptors = append(interceptors, l.unary)
		}
	}
	return interceptors
}

// streamOf returns the stream interceptors of a chain.
func streamOf(links []link) []grpc.StreamServerInterceptor {
	var interceptors []grpc.StreamServerInterceptor
	for _, l := range links {
		if l.stream != nil {
			interceptors = append(interceptors, l.stream)
		}
	}
	return interceptors
}
