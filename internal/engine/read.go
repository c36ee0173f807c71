package engine

import (
	"context"
	"errors"
	"net/http"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
)

// attempt is how the reading of one type ended, before the vault decided what
// the backup holds.
type attempt struct {
	outcome  understudyv1.ConfigurationOutcome
	reason   understudyv1.ConfigurationFailureReason
	identity understudyv1.Identity
	// detail says more, in this service's own words.
	detail string
	// refused is what the source said, if that is the reason.
	refused *port.ReadError
	// failure is the authentication failure that is the reason, if one is.
	failure *understudyv1.AuthFailure
}

// complete is the attempt of a type that was read completely. Whether it changed
// is for the vault to say.
const complete = understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_CHANGED

// readType reads and settles one type, and records its result. It returns an
// error only when the whole sync has to end.
func (r *run) readType(t *catalog.Type) error {
	a, reader, err := r.attempt(t)
	if err != nil {
		return err
	}
	if err := context.Cause(r.ctx); err != nil {
		// Cancelled or failed: nothing will be committed, and nothing is said of
		// types that were not read.
		return err
	}
	ended := time.Now()
	settlement, err := r.staging.Settle(t, port.Reading{
		Outcome:        a.outcome,
		Reason:         a.reason,
		Identity:       a.identity,
		AcceptCollapse: r.plan.acceptCollapse[t.ID],
		Time:           ended,
		Since:          reader.sinceOf(a),
		Removed:        reader.removed,
		Without:        reader.without,
	})
	if err != nil {
		return &commitError{err}
	}
	collapsed := settlement.Reason == understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_COUNT_COLLAPSED
	vanished := settlement.Outcome == understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_INCOMPLETE &&
		settlement.Reason == understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_FEATURE_NOT_AVAILABLE
	byLesson := r.plan.learned(t) && a.identity == understudyv1.Identity_IDENTITY_SERVICE_PRINCIPAL
	if (collapsed || vanished) && byLesson {
		r.learn(t, port.ProbeDifferent) // the user shall say what there is
	}
	if settlement.Reason != a.reason {
		a.reason, a.detail, a.refused, a.failure = settlement.Reason, "", nil, nil
	}
	if vanished {
		a.outcome, a.detail = settlement.Outcome, vanishedDetail
		r.logger.Warn("the tenant says that it does not have what was backed up before; the backup keeps it",
			"configuration_type", t.ID, "parents", len(reader.without))
	}
	r.logRefusal(t, a)
	result := resultOf(t.ID, settlement)
	result.Error = failureStatus(settlement.Reason, a.detail, a.refused, a.failure)
	result.Identity, result.Filter, result.IdentityLearned = a.identity, t.TenantFilter, byLesson
	result.Duration, result.ReadMode = durationpb.New(reader.duration), reader.mode
	r.keepRecord(reader.next, settlement)
	r.completed(t, result)
	r.probe(reader, settlement.Outcome)
	return nil
}

// resultOf returns what the vault says of a type.
func resultOf(id string, s port.Settlement) *understudyv1.ConfigurationResult {
	result := &understudyv1.ConfigurationResult{
		ConfigurationType: id,
		Outcome:           s.Outcome,
		Reason:            s.Reason,
		Path:              s.Path,
		ItemCount:         int32(s.Items),
		AddedCount:        int32(s.Added),
		ModifiedCount:     int32(s.Modified),
		RemovedCount:      int32(s.Removed),
	}
	if !s.LastComplete.IsZero() {
		result.LastCompleteTime = timestamppb.New(s.LastComplete)
	}
	return result
}

// typeReader reads one type into the staging.
type typeReader struct {
	run      *run
	t        *catalog.Type
	staged   int
	rejected string // why an item could not be stored; empty if none
	duration time.Duration

	// mode is how it was read; UNSPECIFIED before. basis is what a reading by delta
	// builds on, removed what that one found to be gone. without are parents that say
	// that they do not have the type.
	mode    understudyv1.ReadMode
	basis   string
	removed []string
	without []string
	// next is the record for the next reading; nil if there is none.
	next *record
	// content is kept for a probe; nil: none follows.
	content content
}

// attempt waits for the identity that the type is read with and reads it.
func (r *run) attempt(t *catalog.Type) (attempt, *typeReader, error) {
	reader := &typeReader{run: r, t: t}
	if r.probed(t) {
		reader.content = make(content)
	}
	who := r.actorOf(r.plan.reader(t))
	for {
		a, next, err := reader.read(who)
		if next == nil || err != nil {
			return a, reader, err
		}
		who = next
	}
}

// read reads the type with one identity. The second result is set when another
// identity has to read it.
func (tr *typeReader) read(who *actor) (attempt, *actor, error) {
	r := tr.run
	a := attempt{identity: who.identity}
	if err := who.wait(r.ctx); err != nil {
		return r.notRead(a, who, err), nil, nil
	}
	r.active(tr.t.ID, true)
	defer r.active(tr.t.ID, false)
	start := time.Now()
	err := tr.incremental(who)
	tr.duration += time.Since(start)

	var readError *port.ReadError
	switch failure := authFailure(err); {
	case err == nil && tr.rejected == "":
		a.outcome = complete
	case err == nil:
		a.outcome = tr.partial()
		a.reason = understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_RESPONSE_INVALID
		a.detail = tr.rejected
	case r.readCtx.Err() != nil:
		a = r.notRead(a, who, context.Cause(r.readCtx))
		if a.reason == understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_INTERRUPTED {
			a.outcome = tr.partial()
		}
	case failure != nil:
		if err := r.lose(who, failure); err != nil {
			return a, nil, err
		}
		<-who.ctx.Done() // whoever saw it first has recorded it by then
		return r.notRead(a, who, err), nil, nil
	case errors.As(err, &readError):
		if next := r.instead(readError, who, tr); next != nil {
			return a, next, nil
		}
		tr.refused(&a, readError, who)
	default:
		// Neither the tenant nor the network: the staging could not store, or a bug.
		return a, nil, err
	}
	return a, nil, nil
}

// sink stages an item. An item that cannot be stored makes the type incomplete,
// and does not keep the others from being stored.
func (tr *typeReader) sink(item port.Item) error {
	err := tr.run.staging.Add(tr.t, item)
	if itemError := (*port.ItemError)(nil); errors.As(err, &itemError) {
		tr.rejected = itemError.Error()
		return nil
	}
	if err != nil {
		return &commitError{err}
	}
	tr.staged++
	tr.note(item)
	return nil
}

// partial is the outcome of a type that was attempted and is not complete.
func (tr *typeReader) partial() understudyv1.ConfigurationOutcome {
	if tr.staged > 0 {
		return understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_INCOMPLETE
	}
	return understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_FAILED
}

// refused turns what the source says into an attempt.
func (tr *typeReader) refused(a *attempt, err *port.ReadError, who *actor) {
	a.outcome, a.reason, a.detail, a.refused = tr.partial(), err.Reason, err.Detail, err
	switch err.Reason {
	case understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_FEATURE_NOT_AVAILABLE:
		a.outcome = understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_NOT_AVAILABLE
	case understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_PERMISSION_MISSING:
		permissions := tr.t.ServicePrincipal
		switch {
		case who.identity == understudyv1.Identity_IDENTITY_USER:
			permissions = tr.t.User
		case tr.run.plan.learned(tr.t):
			permissions = tr.t.Probe
		}
		a.failure = authFailure(who.port.Fail(
			understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_INSUFFICIENT_PERMISSIONS, permissions...))
		if err.NeedsUser && who.identity == understudyv1.Identity_IDENTITY_SERVICE_PRINCIPAL {
			a.detail = userOnlyDetail
		}
	case understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_RESPONSE_INVALID:
		if err.HTTPStatus == http.StatusBadRequest && tr.t.TenantFilter != "" && tr.staged == 0 {
			a.detail = filterRefusedDetail
		}
	}
}

// logRefusal logs which request the source did not answer as it should, with the id
// to quote to Microsoft.
func (r *run) logRefusal(t *catalog.Type, a attempt) {
	if e := a.refused; e != nil && a.outcome != understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_NOT_AVAILABLE {
		r.logger.Warn("a configuration type was not read completely", "configuration_type", t.ID, "reason", e.Reason.String(),
			"operation", e.Operation, "status", e.HTTPStatus, "request_id", e.RequestID)
	}
}

// notRead is the attempt of a type that no identity could read, or that the end
// of the sync interrupted.
func (r *run) notRead(a attempt, who *actor, cause error) attempt {
	if _, failure := who.current(); failure != nil {
		a.outcome = understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_NOT_BACKED_UP
		a.reason = understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_USER_NOT_AUTHENTICATED
		if who.identity == understudyv1.Identity_IDENTITY_SERVICE_PRINCIPAL {
			a.reason = understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_SERVICE_PRINCIPAL_NOT_AUTHENTICATED
		}
		a.failure = failure
		return a
	}
	a.outcome = understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_FAILED
	a.reason = understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_INTERRUPTED
	if errors.Is(cause, errTimeLimit) {
		a.detail = "the time limit of the sync was reached before this was read"
	}
	return a
}

// instead returns the user when the source says that only the user can read a
// type, nothing was read yet, and the sync uses the user anyway. Where the service
// principal reads by what a probe learned, a missing permission says so too: it is
// forgotten, and the user is signed in for it if need be.
func (r *run) instead(err *port.ReadError, who *actor, tr *typeReader) *actor {
	learned := r.plan.learned(tr.t)
	refused := err.NeedsUser || (learned &&
		err.Reason == understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_PERMISSION_MISSING)
	if !refused || who == r.user {
		return nil
	}
	if learned {
		r.learn(tr.t, port.ProbeRefused)
	}
	if tr.staged > 0 || tr.rejected != "" {
		return nil
	}
	mayCall := learned && r.plan.policy != understudyv1.AuthenticationPolicy_AUTHENTICATION_POLICY_SERVICE_PRINCIPAL_ONLY
	if state, _ := r.user.current(); state == understudyv1.IdentityState_IDENTITY_STATE_NOT_NEEDED && !mayCall {
		return nil
	}
	r.mu.Lock()
	r.unread[tr.t.ID] = r.user.identity
	r.mu.Unlock()
	if r.user.need() {
		r.do(r.signInUser)
	}
	return r.user
}
