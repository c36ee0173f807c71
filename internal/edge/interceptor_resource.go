package edge

import (
	"context"
	"strings"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/logging"
	"google.golang.org/grpc"
)

// resourceLink adds the tenant and the sync that a call is about to its record in
// the access log.
func resourceLink() link {
	return link{
		name: "resource",
		unary: func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			noteResource(ctx, req)
			return handler(ctx, req)
		},
		stream: func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			return handler(srv, &notingStream{stream})
		},
	}
}

// notingStream notes the resource of what it receives.
type notingStream struct{ grpc.ServerStream }

// RecvMsg implements [grpc.ServerStream].
func (s *notingStream) RecvMsg(message any) error {
	err := s.ServerStream.RecvMsg(message)
	if err == nil {
		noteResource(s.Context(), message)
	}
	return err
}

// noteResource notes the resource that a request names.
func noteResource(ctx context.Context, request any) {
	var name string
	switch r := request.(type) {
	case interface{ GetParent() string }:
		name = r.GetParent()
	case interface{ GetName() string }:
		name = r.GetName()
	default:
		return
	}
	tenant, _, isSync := strings.Cut(name, "/syncs/")
	fields := logging.Fields{"tenant", tenant}
	if isSync {
		fields = append(fields, "sync", name)
	}
	logging.AddFields(ctx, fields)
}
