package edge

import (
	"cmp"
	"slices"

	understudyv1 "understudy.internal/gen/understudy/v1"
)

// anonymous is who starts a sync, as long as callers are not authenticated.
const anonymous = "anonymous"

// service implements the contract. A method that the contract gets and the
// service does not have breaks the build.
type service struct {
	understudyv1.UnsafeSyncServiceServer
	*Server
	pages pager
	// types are the configuration types, ordered by id.
	types []*understudyv1.ConfigurationType
}

var _ understudyv1.SyncServiceServer = (*service)(nil)

// newService returns the service of a server.
func newService(s *Server) *service {
	svc := &service{Server: s, pages: pager{key: s.config.PageTokenKey}}
	for _, t := range s.config.Catalog.Types() {
		svc.types = append(svc.types, t.Proto())
	}
	slices.SortFunc(svc.types, func(a, b *understudyv1.ConfigurationType) int { return cmp.Compare(a.GetId(), b.GetId()) })
	return svc
}
