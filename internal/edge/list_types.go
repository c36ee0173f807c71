package edge

import (
	"cmp"
	"context"
	"slices"

	understudyv1 "understudy.internal/gen/understudy/v1"
)

// ListConfigurationTypes implements the contract. A page token holds the last id
// of its page.
func (s *service) ListConfigurationTypes(
	_ context.Context, request *understudyv1.ListConfigurationTypesRequest,
) (*understudyv1.ListConfigurationTypesResponse, error) {
	after, err := s.pages.decode(request)
	if err != nil {
		return nil, err
	}
	first, found := slices.BinarySearchFunc(s.types, after, func(t *understudyv1.ConfigurationType, id string) int {
		return cmp.Compare(t.GetId(), id)
	})
	if found {
		first++
	}
	types := page[*understudyv1.ConfigurationType]{limit: pageSize(request.GetPageSize(), 100)}
	for _, t := range s.types[first:] {
		if !types.add(t) {
			break
		}
	}
	response := &understudyv1.ListConfigurationTypesResponse{ConfigurationTypes: types.elements}
	if types.more {
		response.NextPageToken, err = s.pages.encode(request, types.last().GetId())
	}
	return response, err
}
