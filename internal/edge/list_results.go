package edge

import (
	"context"
	"slices"
	"strconv"

	understudyv1 "understudy.internal/gen/understudy/v1"
)

// ListConfigurationResults implements the contract. A page token holds the
// sequence of the last event of its page. Of a type that was completed again, because
// another worker took the sync over, the last result is listed.
func (s *service) ListConfigurationResults(
	ctx context.Context, request *understudyv1.ListConfigurationResultsRequest,
) (*understudyv1.ListConfigurationResultsResponse, error) {
	after, err := s.number(request)
	if err != nil {
		return nil, err
	}
	last, err := s.lastResults(ctx, request.GetParent())
	if err != nil {
		return nil, err
	}
	results := page[*understudyv1.ConfigurationResult]{limit: pageSize(request.GetPageSize(), 100)}
	position := after
	for event, err := range s.config.Syncs.Events(ctx, request.GetParent(), after) {
		if err != nil {
			return nil, err
		}
		result := event.GetConfigurationCompleted().GetResult()
		if result == nil || (len(request.GetOutcomes()) > 0 && !slices.Contains(request.GetOutcomes(), result.GetOutcome())) {
			continue
		}
		if last != nil && last[result.GetConfigurationType()] > event.GetSequence() {
			continue
		}
		if !results.add(result) {
			break
		}
		position = event.GetSequence()
	}
	response := &understudyv1.ListConfigurationResultsResponse{Results: results.elements}
	if results.more {
		response.NextPageToken, err = s.pages.encode(request, strconv.FormatInt(position, 10))
	}
	return response, err
}

// lastResults returns the sequence of the last result of each type of a sync, or nil
// for one that nobody took over: it has each type once.
func (s *service) lastResults(ctx context.Context, name string) (map[string]int64, error) {
	sync, err := s.config.Syncs.Get(ctx, name)
	if err != nil || sync.GetAttempt() <= 1 {
		return nil, err
	}
	last := map[string]int64{}
	for event, err := range s.config.Syncs.Events(ctx, name, 0) {
		if err != nil {
			return nil, err
		}
		if result := event.GetConfigurationCompleted().GetResult(); result != nil {
			last[result.GetConfigurationType()] = event.GetSequence()
		}
	}
	return last, nil
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
