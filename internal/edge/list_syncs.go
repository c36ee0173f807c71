package edge

import (
	"context"

	understudyv1 "understudy.internal/gen/understudy/v1"
)

// ListSyncs implements the contract. A page token holds the name of the last sync
// of its page: syncs that are started meanwhile do not move the pages.
func (s *service) ListSyncs(
	ctx context.Context, request *understudyv1.ListSyncsRequest,
) (*understudyv1.ListSyncsResponse, error) {
	before, err := s.pages.decode(request)
	if err != nil {
		return nil, err
	}
	syncs := page[*understudyv1.Sync]{limit: pageSize(request.GetPageSize(), 50)}
	for !syncs.more {
		// A short answer is no sign of the end: records without events are left out.
		found, err := s.config.Watches.List(ctx, request.GetParent(), before, syncs.limit+1-len(syncs.elements))
		if err != nil {
			return nil, err
		}
		if len(found) == 0 {
			break
		}
		for _, sync := range found {
			if !syncs.add(sync) {
				break
			}
			before = sync.GetName()
		}
	}
	response := &understudyv1.ListSyncsResponse{Syncs: syncs.elements}
	if syncs.more {
		response.NextPageToken, err = s.pages.encode(request, syncs.last().GetName())
	}
	return response, err
}
