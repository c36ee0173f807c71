package edge

import (
	"context"

	"google.golang.org/grpc"
)

// drainingLink refuses calls once the watches are being ended: a call that came
// in later would be cut off. Probes are answered, but their streams end.
func (s *Server) drainingLink(table map[string]method) link {
	return link{
		name: "draining",
		unary: func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			if s.isEnding() && table[info.FullMethod].class != classProbe {
				return nil, &drainingError{}
			}
			return handler(ctx, req)
		},
		stream: func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			if s.isEnding() {
				return &drainingError{}
			}
			if table[info.FullMethod].class == classProbe {
				return s.endable(srv, stream, handler)
			}
			return handler(srv, stream)
		},
	}
}
