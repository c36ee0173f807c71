package engine

import (
	"context"
	"errors"
	"maps"
	"time"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
)

// What one probe may cost.
const (
	maxProbeItems    = 200
	maxProbeRequests = 100
	probeTimeout     = 30 * time.Second
)

// probeAgainAfter is how long an answer other than EQUAL holds: somebody may grant
// the permission, and Microsoft may let applications in.
const probeAgainAfter = 24 * time.Hour

var (
	errProbeLimit     = errors.New("the probe took more items, requests or time than it may")
	errProbeDifferent = errors.New("the service principal sees something else than the user")
)

// probed says whether a reading of a type by the user is followed by a probe, should
// it be complete.
func (r *run) probed(t *catalog.Type) bool {
	switch {
	case r.tenant.Knowledge == nil, r.tenant.Digester == nil, r.tenant.Readers.ServicePrincipal == "",
		r.spec.GetDryRun(), len(t.Probe) == 0:
		return false
	case r.plan.reader(t) != understudyv1.Identity_IDENTITY_USER: // the policy may exclude it
		return false
	}
	if state, _ := r.servicePrincipal.current(); state == understudyv1.IdentityState_IDENTITY_STATE_NOT_NEEDED {
		return false // nobody is signed in only to be probed
	}
	lesson, known := r.plan.lesson(t)
	age := time.Since(lesson.Time)
	return !known || age >= probeAgainAfter || age < 0 // a clock that was set back
}

// content is what the user read of a type that is probed: the digests of its items.
type content map[string]port.Digest

// note keeps the digest of an item that was staged. What is too large for a probe is
// not kept.
func (tr *typeReader) note(item port.Item) {
	if tr.content == nil {
		return
	}
	digest, err := tr.run.tenant.Digester.Digest(tr.t, item)
	_, repeated := tr.content[item.ID]
	if err != nil || !repeated && len(tr.content) >= maxProbeItems {
		tr.content = nil
		return
	}
	tr.content[item.ID] = digest
}

// probe asks the service principal for what the user has just read completely, and
// remembers for later syncs how the answers compare. Whatever comes of it changes
// nothing in this one. An empty answer is equal to every other empty one, and
// proves nothing: it is not asked for.
func (r *run) probe(tr *typeReader, outcome understudyv1.ConfigurationOutcome) {
	switch outcome {
	case understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_CHANGED,
		understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_UNCHANGED:
	default:
		return
	}
	if len(tr.content) == 0 {
		return
	}
	var answer port.ProbeAnswer
	err := recovering(func() (err error) {
		answer, err = r.ask(tr.t, tr.content)
		return err
	})
	r.logger.Debug("probed", "configuration_type", tr.t.ID, "answer", string(answer), "error", err)
	if answer != "" {
		r.learn(tr.t, answer)
	}
}

// ask reads a type with the service principal and compares. The answer is empty
// when the reading says nothing about the type; the error says why.
func (r *run) ask(t *catalog.Type, want content) (port.ProbeAnswer, error) {
	who := r.servicePrincipal
	if err := who.wait(r.readCtx); err != nil {
		return "", err
	}
	ctx, stop := context.WithTimeoutCause(who.ctx, probeTimeout, errProbeLimit)
	defer stop()
	// A session of its own: what goes wrong in it does not concern the sync's.
	session := r.tenant.Source.Open()
	defer session.Close()
	missing := maps.Clone(want)
	err := session.Read(ctx, t, who.port, func(item port.Item) error {
		if session.Stats().Requests > maxProbeRequests {
			return errProbeLimit
		}
		digest, err := r.tenant.Digester.Digest(t, item)
		if other, ok := want[item.ID]; err != nil || !ok || other != digest {
			return errProbeDifferent
		}
		delete(missing, item.ID) // a list that moves while it is read may repeat it
		return nil
	})
	if err == nil && len(missing) > 0 {
		err = errProbeDifferent
	}
	return answerOf(err), err
}

// answerOf is what the end of a probe's reading says about the type; empty: nothing.
func answerOf(err error) port.ProbeAnswer {
	var readError *port.ReadError
	switch {
	case err == nil:
		return port.ProbeEqual
	case errors.Is(err, errProbeDifferent):
		return port.ProbeDifferent
	case !errors.As(err, &readError):
		return ""
	case readError.NeedsUser,
		readError.Reason == understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_PERMISSION_MISSING:
		return port.ProbeRefused
	case readError.Reason == understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_FEATURE_NOT_AVAILABLE:
		return port.ProbeDifferent
	}
	return ""
}

// learn keeps a lesson for the syncs after this one.
func (r *run) learn(t *catalog.Type, answer port.ProbeAnswer) {
	r.mu.Lock()
	if r.lessons == nil {
		r.lessons = make(map[string]port.Lesson)
	}
	r.lessons[t.ID] = port.Lesson{
		Answer: answer, Filter: t.TenantFilter, Readers: r.plan.readers, Time: time.Now(),
	}
	r.mu.Unlock()
	switch {
	case r.plan.learned(t):
		r.logger.Info("the service principal does not read this like the user any more; the user reads it from now on",
			"configuration_type", t.ID, "answer", string(answer))
	case answer == port.ProbeEqual:
		r.logger.Info("the service principal reads this like the user, and does so from the next sync on", "configuration_type", t.ID)
	}
}

// remember stores the lessons of the sync. That it cannot is no failure of the sync.
func (r *run) remember() {
	r.mu.Lock()
	lessons := maps.Clone(r.lessons)
	r.mu.Unlock()
	if len(lessons) == 0 {
		return
	}
	err := recovering(func() error { return r.tenant.Knowledge.Learn(r.engine.catalogOf(r.tenant).Version(), lessons) })
	if err != nil {
		r.logger.Warn("what probes learned could not be stored, and is learned again", "error", err)
	}
}
