package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
)

// past is what the log of a sync says of it so far.
type past struct {
	// types are the configuration types that were selected; nil: it did not begin.
	types []string
	// results are what was announced, by type: the later one stands.
	results map[string]*understudyv1.ConfigurationResult
	// identities are how those stand of which the log says something.
	identities []*understudyv1.IdentityOutcome
}

// past reads what the log of a sync says.
func (e *Engine) past(ctx context.Context, log port.Log) (past, error) {
	sync := log.Sync()
	p := past{identities: sync.GetIdentities(), results: make(map[string]*understudyv1.ConfigurationResult)}
	for event, err := range e.syncs.Events(ctx, sync.GetName(), 0) {
		if err != nil {
			return past{}, fmt.Errorf("reading the log of %s: %w", sync.GetName(), err)
		}
		p.add(event)
	}
	return p, nil
}

// add takes an event in.
func (p *past) add(event *understudyv1.SyncEvent) {
	if started := event.GetStarted(); started != nil {
		p.types = started.GetConfigurationTypes()
	}
	if result := event.GetConfigurationCompleted().GetResult(); result != nil {
		p.results[result.GetConfigurationType()] = result
	}
}

// incomplete returns the types that were not backed up completely, ordered by id.
func (p *past) incomplete() []string {
	var ids []string
	for _, result := range sortedResults(p.results) {
		switch result.GetOutcome() {
		case understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_INCOMPLETE,
			understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_FAILED,
			understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_NOT_BACKED_UP:
			ids = append(ids, result.GetConfigurationType())
		}
	}
	return ids
}

// narrow restricts a plan to what the first attempt selected: a sync is of the same
// types from its start to its end. It fails when this worker cannot read one of them.
func (p *plan) narrow(ids []string) error {
	types := slices.DeleteFunc(slices.Clone(p.types), func(t *catalog.Type) bool { return !slices.Contains(ids, t.ID) })
	for _, id := range ids {
		if !slices.ContainsFunc(types, func(t *catalog.Type) bool { return t.ID == id }) {
			return fmt.Errorf("%s is not part of it any more", id)
		}
	}
	p.types = types
	return nil
}

// resume lets a run begin with what the attempts before it left.
func (r *run) resume(earlier past) {
	r.earlier = earlier
	r.unread = readers(r.plan)
	r.results = maps.Clone(earlier.results)
}

// pickUp returns the types that have to be read: all but those that were announced
// and whose items are still in the staging area. One that is there and was not
// announced is read again: of how it was read nothing is known any more.
func (r *run) pickUp() ([]*catalog.Type, error) {
	var left []*catalog.Type
	for _, t := range r.plan.types {
		announced := r.earlier.results[t.ID]
		if announced == nil {
			left = append(left, t)
			continue
		}
		settlement, ok := r.staging.Resumed(t)
		if !ok {
			left = append(left, t)
			continue
		}
		r.completed(t, resettled(announced, settlement))
	}
	if r.attemptNumber > 1 {
		r.logger.Info("going on with a sync", "attempt", r.attemptNumber, "announced", len(r.earlier.results),
			"to_read", len(left), "of", len(r.plan.types))
	}
	return left, context.Cause(r.ctx)
}

// resettled is what was announced of a type, with how the vault settles the same items
// now: the backup may be another one than then.
func resettled(announced *understudyv1.ConfigurationResult, s port.Settlement) *understudyv1.ConfigurationResult {
	result := resultOf(announced.GetConfigurationType(), s)
	result.Identity, result.Filter, result.IdentityLearned = announced.GetIdentity(), announced.GetFilter(), announced.GetIdentityLearned()
	result.Duration, result.ReadMode = announced.GetDuration(), announced.GetReadMode()
	result.Error = failureStatus(s.Reason, "", nil, nil)
	if announced.GetReason() == s.Reason {
		result.Error = announced.GetError()
	}
	return result
}

// sameResult says whether two results of a type tell the same of the backup. How long
// the reading took and by which way it went may differ.
func sameResult(a, b *understudyv1.ConfigurationResult) bool {
	return a.GetOutcome() == b.GetOutcome() && a.GetReason() == b.GetReason() && a.GetIdentity() == b.GetIdentity() &&
		a.GetItemCount() == b.GetItemCount() && a.GetAddedCount() == b.GetAddedCount() &&
		a.GetModifiedCount() == b.GetModifiedCount() && a.GetRemovedCount() == b.GetRemovedCount()
}

// foreclosed returns the reason when the sync cannot go on by what the log says of its
// identities.
func (r *run) foreclosed() error {
	for _, who := range []*actor{r.servicePrincipal, r.user} {
		state, failure := who.current()
		was := understudyv1.IdentityState_IDENTITY_STATE_PENDING
		if state == understudyv1.IdentityState_IDENTITY_STATE_LOST {
			was = understudyv1.IdentityState_IDENTITY_STATE_AUTHENTICATED
		}
		if failure != nil && r.fatal(who, was) {
			return &identityError{failure}
		}
	}
	return nil
}
