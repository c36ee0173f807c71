package edge

import (
	"context"
	"slices"
	"strconv"

	understudyv1 "understudy.internal/gen/understudy/v1"
)

// ListConfigurationResults implements the contract. A page token holds the
// sequence of the last event of its page.
func (s *service) ListConfigurationResults(
	ctx context.Context, request *understudyv1.ListConfigurationResultsRequest,
) (*understudyv1.ListConfigurationResultsResponse, error) {
	after, err := s.number(request)
	if err != nil {
		return nil, err
	}
	results := page[*understudyv1.ConfigurationResult]{limit: pageSize(request.GetPageSize(), 100)}
	last := after
	for event, err := range s.config.Syncs.Events(ctx, request.GetParent(), after) {
		if err != nil {
			return nil, err
		}
		result := event.GetConfigurationCompleted().GetResult()
		if result == nil || (len(request.GetOutcomes()) > 0 && !slices.Contains(request.GetOutcomes(), result.GetOutcome())) {
			continue
		}
		if !results.add(result) {
			break
		}
		last = event.GetSequence()
	}
	response := &understudyv1.ListConfigurationResultsResponse{Results: results.elements}
	if results.more {
		response.NextPageToken, err = s.pages.encode(request, strconv.FormatInt(last, 10))
	}
	return response, err
}

// number returns the position in the token of a request whose positions are
// numbers; 0 for the first page.
func (s *service) number(request pageRequest) (int64, error) {
	position, err := s.pages.decode(request)
	if err != nil || position == "" {
		return 0, err
	}
	number, err := strconv.ParseInt(position, 10, 64)
	if err != nil || number < 0 {
		return 0, invalidField("page_token", "holds no position; leave it empty to begin again")
	}
	return number, nil
}
