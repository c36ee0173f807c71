package vault

import (
	"context"

	understudyv1 "understudy.internal/gen/understudy/v1"
)

// Remote is a repository that is pushed to.
type Remote struct{ URL string }

// follow brings the repository to the remote's branch.
func (v *Vault) follow(context.Context) error { return nil }

// Push implements [port.Staging].
func (s *staging) Push(context.Context) (understudyv1.PushState, error) {
	return understudyv1.PushState_PUSH_STATE_NO_REMOTE, nil
}

// mergePacks keeps the number of packs low.
func (v *Vault) mergePacks() error { return nil }
