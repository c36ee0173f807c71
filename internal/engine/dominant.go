package engine

import (
	"time"

	understudyv1 "understudy.internal/gen/understudy/v1"
)

// dominantTime is how long a type must have been read to dominate a sync: what is
// shorter is nobody's trouble.
const dominantTime = time.Minute

// Dominant returns the result of the configuration type that a sync spent its time
// on: its reading took more than a minute, and more than half of the time from the
// sync's start to its end. It returns nil when there is none, and for a sync of one
// type. Types are read side by side: of several such types it is the longest.
func Dominant(results []*understudyv1.ConfigurationResult, start, end time.Time) *understudyv1.ConfigurationResult {
	if len(results) < 2 {
		return nil
	}
	longest := results[0]
	for _, result := range results {
		if result.GetDuration().AsDuration() > longest.GetDuration().AsDuration() {
			longest = result
		}
	}
	if took := longest.GetDuration().AsDuration(); took <= dominantTime || took <= end.Sub(start)/2 {
		return nil
	}
	return longest
}

// warnOfDominant logs which type a sync spent its time on.
func (r *run) warnOfDominant(start, end time.Time) {
	result := Dominant(r.sortedResults(), start, end)
	if result == nil {
		return
	}
	r.logger.Warn("one configuration type took most of the time of a sync",
		"configuration_type", result.GetConfigurationType(), "items", result.GetItemCount(),
		"duration", result.GetDuration().AsDuration().Round(time.Second), "sync_duration", end.Sub(start).Round(time.Second),
		"advice", "If that is too long, exclude the type or narrow it by a filter in the tenant's definition, "+
			"or give it a definition and a schedule of its own: see Large tenants in docs/deployment.md.")
}
