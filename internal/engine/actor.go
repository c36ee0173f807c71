package engine

import (
	"context"
	"errors"
	"sync"

	"google.golang.org/protobuf/proto"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

// actor is one identity in one sync: not needed, pending, authenticated, failed,
// or lost.
type actor struct {
	identity understudyv1.Identity
	port     port.Identity
	// settled is closed when the first sign-in succeeded or failed.
	settled chan struct{}
	// ctx is done when the identity failed or was lost; its cause says why.
	ctx    context.Context
	cancel context.CancelCauseFunc

	mu      sync.Mutex
	state   understudyv1.IdentityState
	failure *understudyv1.AuthFailure
	// signing says that it is signed in in this attempt, or will be; over that
	// settled is closed.
	signing, over bool
}

// newActor makes an actor. What an earlier attempt recorded of the identity stands:
// one that failed is not tried again, and one that was authenticated is signed in
// once more, and lost when that fails.
func newActor(
	ctx context.Context, identity understudyv1.Identity, p port.Identity, needed bool, recorded []*understudyv1.IdentityOutcome,
) *actor {
	a := &actor{
		identity: identity,
		port:     p,
		settled:  make(chan struct{}),
		state:    understudyv1.IdentityState_IDENTITY_STATE_NOT_NEEDED,
	}
	a.ctx, a.cancel = context.WithCancelCause(ctx)
	if needed {
		a.state, a.signing = understudyv1.IdentityState_IDENTITY_STATE_PENDING, true
	}
	for _, outcome := range recorded {
		if outcome.GetIdentity() != identity {
			continue
		}
		a.state, a.failure = outcome.GetState(), outcome.GetFailure()
		if a.failure != nil {
			a.signing = false
			a.cancel(&identityError{a.failure})
			a.settleLocked()
		}
	}
	return a
}

// settleLocked closes settled, once.
func (a *actor) settleLocked() {
	if !a.over {
		a.over = true
		close(a.settled)
	}
}

// need makes an identity needed in the middle of a sync. It returns false when it was
// needed before, or is gone.
func (a *actor) need() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.signing || a.failure != nil {
		return false
	}
	a.signing = true
	if a.state == understudyv1.IdentityState_IDENTITY_STATE_NOT_NEEDED {
		a.state = understudyv1.IdentityState_IDENTITY_STATE_PENDING
	}
	return true
}

// authenticated marks the first sign-in as successful.
func (a *actor) authenticated() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.state = understudyv1.IdentityState_IDENTITY_STATE_AUTHENTICATED
	a.settleLocked()
}

// fail marks the identity as failed or, when it was authenticated, as lost. It
// returns false when it was so already. What waits for the identity or reads with
// it goes on only when release is called: the event comes before its effects.
func (a *actor) fail(failure *understudyv1.AuthFailure) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch a.state {
	case understudyv1.IdentityState_IDENTITY_STATE_PENDING:
		a.state = understudyv1.IdentityState_IDENTITY_STATE_FAILED
	case understudyv1.IdentityState_IDENTITY_STATE_AUTHENTICATED:
		a.state = understudyv1.IdentityState_IDENTITY_STATE_LOST
	default:
		return false
	}
	a.failure = failure
	return true
}

// release lets everything go on that waits for the identity or reads with it,
// after fail.
func (a *actor) release(cause error) {
	a.cancel(cause)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.settleLocked()
}

// wait blocks until the identity holds a token (nil) or does not get one, or
// until ctx is done. A time limit for reading does not end it: the sign-in has
// its own deadline, and answers at the time limit too.
func (a *actor) wait(ctx context.Context) error {
	select {
	case <-a.settled:
		return context.Cause(a.ctx)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// outcome returns how the identity stands, with the types that its failure
// affects.
func (a *actor) outcome(affected []string) *understudyv1.IdentityOutcome {
	a.mu.Lock()
	defer a.mu.Unlock()
	outcome := &understudyv1.IdentityOutcome{Identity: a.identity, State: a.state}
	if a.failure != nil {
		outcome.Failure = withAffected(a.failure, affected)
	}
	return outcome
}

// current returns the state and, if there is one, the failure.
func (a *actor) current() (understudyv1.IdentityState, *understudyv1.AuthFailure) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.state, a.failure
}

func withAffected(failure *understudyv1.AuthFailure, affected []string) *understudyv1.AuthFailure {
	f := proto.CloneOf(failure)
	f.AffectedConfigurationTypes = affected
	f.AffectedCount = int32(len(affected))
	return f
}

// withoutList returns a failure with the number of types that it affects, and not their
// list: the details of a status must stay small.
func withoutList(failure *understudyv1.AuthFailure) *understudyv1.AuthFailure {
	f := proto.CloneOf(failure)
	f.AffectedConfigurationTypes = nil
	return f
}

// authFailure returns the failure in an error, or nil.
func authFailure(err error) *understudyv1.AuthFailure {
	var authError port.AuthError
	if errors.As(err, &authError) {
		return authError.AuthFailure()
	}
	return nil
}
