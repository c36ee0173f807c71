package engine

import (
	"context"
	"fmt"
	"slices"
	"time"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

const timedOut = understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_SIGN_IN_TIMED_OUT

// signIn obtains the first token of an identity. It returns an error when the
// sync cannot go on without it.
func (r *run) signIn(who *actor, options port.SignInOptions) error {
	method, signInErr := who.port.SignIn(r.readCtx, options)
	if who == r.user {
		if err := r.promptAnswered(); err != nil {
			return err
		}
	}
	failure := authFailure(signInErr)
	state, _ := who.current()
	again := state == understudyv1.IdentityState_IDENTITY_STATE_AUTHENTICATED // by an earlier attempt
	switch {
	case signInErr == nil && again:
		who.authenticated()
		return nil
	case signInErr == nil:
		// The event comes before everything that the identity makes possible.
		err := r.events.record(&understudyv1.SyncEvent{
			Event: &understudyv1.SyncEvent_AuthenticationSucceeded{
				AuthenticationSucceeded: &understudyv1.AuthenticationSucceeded{Identity: who.identity, Method: method},
			},
		})
		who.authenticated()
		return err
	case r.ctx.Err() != nil:
		return context.Cause(r.ctx) // is over already: the first cause stays
	case r.readCtx.Err() != nil && (failure == nil || failure.GetReason() == timedOut) && again:
		who.authenticated() // nothing is lost but the time: its types end INTERRUPTED
		return nil
	case r.readCtx.Err() != nil && (failure == nil || failure.GetReason() == timedOut):
		// The sync has no more time to wait for this identity.
		r.mu.Lock()
		r.outlasted = true
		r.mu.Unlock()
		failure = authFailure(who.port.Fail(timedOut))
	case failure == nil:
		return fmt.Errorf("signing in: %w", signInErr)
	}
	return r.lose(who, failure)
}

func (r *run) signInUser() error {
	return r.signIn(r.user, port.SignInOptions{AllowPrompt: r.plan.allowPrompt, Prompt: r.prompt})
}

// lose records that an identity failed or was lost, and lets the sync go on
// without it where that is allowed. It returns an error when it is not.
func (r *run) lose(who *actor, failure *understudyv1.AuthFailure) error {
	started, _ := who.current()
	whole := withAffected(failure, r.affected(who))
	failure = withoutList(whole) // what the details of statuses repeat
	if !who.fail(failure) {
		return nil
	}
	fatal := r.fatal(who, started)
	event := &understudyv1.AuthenticationFailed{Failure: whole}
	if !fatal {
		event.ContinuesWith = r.other(who)
	}
	err := r.events.record(&understudyv1.SyncEvent{
		Event: &understudyv1.SyncEvent_AuthenticationFailed{AuthenticationFailed: event},
	})
	cause := &identityError{failure}
	if err == nil && fatal {
		err = cause
		r.cancel(cause)
	}
	who.release(cause)
	return err
}

// other returns the identity that the sync goes on with when it goes on without
// one; UNSPECIFIED when that is gone too or was never needed, and only the commit of
// what is complete is left to do.
func (r *run) other(who *actor) understudyv1.Identity {
	other := r.servicePrincipal
	if who == r.servicePrincipal {
		other = r.user
	}
	state, failure := other.current()
	if failure != nil || state == understudyv1.IdentityState_IDENTITY_STATE_NOT_NEEDED {
		return understudyv1.Identity_IDENTITY_UNSPECIFIED
	}
	return other.identity
}

// fatal says whether the sync ends when an identity fails: the service principal
// at the start, and the user where the policy requires it.
func (r *run) fatal(who *actor, was understudyv1.IdentityState) bool {
	if who == r.servicePrincipal {
		return was == understudyv1.IdentityState_IDENTITY_STATE_PENDING
	}
	return r.plan.policy == understudyv1.AuthenticationPolicy_AUTHENTICATION_POLICY_REQUIRE_USER
}

// affected returns the types that stay without a backup when an identity is gone:
// those that it reads and that are not read yet, ordered by id.
func (r *run) affected(who *actor) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var ids []string
	for id, reader := range r.unread {
		if reader == who.identity {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// notBackedUpFor returns the types that ended NOT_BACKED_UP for want of an
// identity, ordered by id; those without a result too.
func (r *run) notBackedUpFor(who *actor) []string {
	ids := append(r.affected(who), notBackedUpBy(who.identity, r.sortedResults())...)
	slices.Sort(ids)
	return slices.Compact(ids)
}

// promptDelay is how long a prompt waits until it is stored that the sync waits for a
// person, which a caller hears first as a rule.
const promptDelay = time.Second

// prompt shows a person what to do to sign in, unless the sync is over. A journal that
// cannot store does not keep it back, nor the sign-in: its code expires.
func (r *run) prompt(prompt *understudyv1.AuthenticationPrompt) {
	if r.ctx.Err() != nil {
		return
	}
	stored := make(chan struct{})
	r.events.asking.Add(1)
	r.do(func() error {
		defer r.events.asking.Done()
		defer close(stored)
		// A failure is kept by the recorder and ends the sync.
		_ = r.events.state(&understudyv1.StateChanged{
			State:            understudyv1.SyncState_SYNC_STATE_PENDING_AUTHENTICATION,
			SignInExpireTime: prompt.GetExpireTime(),
		})
		return nil
	})
	select {
	case <-stored:
	case <-time.After(promptDelay):
	}
	r.log.Publish(&understudyv1.SyncEvent{
		Event: &understudyv1.SyncEvent_AuthenticationPrompt{AuthenticationPrompt: prompt},
	})
}

// promptAnswered takes the prompt back, if there was one.
func (r *run) promptAnswered() error {
	if r.owned.Err() != nil {
		return errLost // what is shown now is another worker's
	}
	r.log.Publish(&understudyv1.SyncEvent{
		Event: &understudyv1.SyncEvent_AuthenticationPrompt{AuthenticationPrompt: &understudyv1.AuthenticationPrompt{}},
	})
	r.events.asking.Wait()
	if r.log.Sync().GetState() != understudyv1.SyncState_SYNC_STATE_PENDING_AUTHENTICATION {
		return nil
	}
	return r.events.state(&understudyv1.StateChanged{State: understudyv1.SyncState_SYNC_STATE_RUNNING})
}
