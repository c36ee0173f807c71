package journal

import (
	"google.golang.org/protobuf/proto"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

// Fold is a sync as its events so far leave it. It is [Apply] with a memory: a type
// that is completed a second time (after a takeover) counts once, by its later
// result. It may not be used at the same time.
type Fold struct {
	sync     *understudyv1.Sync
	outcomes map[string]understudyv1.ConfigurationOutcome
}

// NewFold begins with the record of a sync.
func NewFold(record *understudyv1.Sync) *Fold {
	return &Fold{sync: proto.CloneOf(record), outcomes: map[string]understudyv1.ConfigurationOutcome{}}
}

// Sync returns the sync. It is shared: clone it before it is changed or kept.
func (f *Fold) Sync() *understudyv1.Sync { return f.sync }

// Over says whether the last event was there.
func (f *Fold) Over() bool { return f.sync.GetEndTime() != nil }

// Add puts the next event in.
func (f *Fold) Add(event *understudyv1.SyncEvent) {
	f.sync = Apply(f.sync, event)
	if event.GetStarted() != nil {
		clear(f.outcomes) // the counts begin anew, too
	}
	if result := event.GetConfigurationCompleted().GetResult(); result != nil {
		if earlier, ok := f.outcomes[result.GetConfigurationType()]; ok {
			count(f.sync, earlier, -1)
		}
		f.outcomes[result.GetConfigurationType()] = result.GetOutcome()
	}
}

// Refuses returns the [*port.SyncStateError] or [*port.FencedError] of events that
// may not follow, or nil. A log that is over takes nothing; `started` is taken once; of
// CANCELLING and COMMITTING the one that came first stands, and nothing leads back from
// CANCELLING, also no takeover: whoever finds a sync so ends it.
func (f *Fold) Refuses(events []*understudyv1.SyncEvent) error {
	if f.Over() {
		return &port.FencedError{Sync: f.sync.GetName()}
	}
	state := f.sync.GetState()
	for _, event := range events {
		if event.GetStarted() != nil && f.sync.GetAttempt() > 0 {
			return &port.FencedError{Sync: f.sync.GetName()}
		}
		change := event.GetStateChanged()
		if change == nil {
			continue
		}
		switch next := change.GetState(); {
		case next == understudyv1.SyncState_SYNC_STATE_CANCELLING && state == understudyv1.SyncState_SYNC_STATE_COMMITTING:
			return &port.SyncStateError{Sync: f.sync.GetName(), State: understudyv1.SyncState_SYNC_STATE_COMMITTING}
		case next != understudyv1.SyncState_SYNC_STATE_CANCELLING && state == understudyv1.SyncState_SYNC_STATE_CANCELLING:
			return &port.SyncStateError{Sync: f.sync.GetName(), State: state}
		}
		state = change.GetState()
	}
	return nil
}

// IsCancellation says whether events do nothing but ask for a cancellation. Anybody
// may do that at any time: it is bound to no attempt.
func IsCancellation(events []*understudyv1.SyncEvent) bool {
	for _, event := range events {
		change := event.GetStateChanged()
		if change.GetState() != understudyv1.SyncState_SYNC_STATE_CANCELLING || change.GetWorker() != "" {
			return false
		}
	}
	return len(events) > 0
}
