package edge

import (
	"context"
	"strconv"

	understudyv1 "understudy.internal/gen/understudy/v1"
)

// ListItemChanges implements the contract. A page token holds how many changes
// were before: a commit does not change, and so its changes keep their places.
func (s *service) ListItemChanges(
	ctx context.Context, request *understudyv1.ListItemChangesRequest,
) (*understudyv1.ListItemChangesResponse, error) {
	id := request.GetConfigurationType()
	if _, known := s.config.Catalog.Get(id); id != "" && !known {
		return nil, &unknownTypeError{field: "configuration_type", id: id}
	}
	skip, err := s.number(request)
	if err != nil {
		return nil, err
	}
	changes := page[*understudyv1.ItemChange]{limit: pageSize(request.GetPageSize(), 100)}
	place := int64(0)
	for change, err := range s.config.Engine.Changes(ctx, request.GetParent(), id) {
		if err != nil {
			return nil, err
		}
		if place < skip {
			place++
			continue
		}
		if !changes.add(change) {
			break
		}
		place++
	}
	response := &understudyv1.ListItemChangesResponse{Changes: changes.elements}
	if changes.more {
		response.NextPageToken, err = s.pages.encode(request, strconv.FormatInt(place, 10))
	}
	return response, err
}
