package engine

import (
	"context"
	"errors"

	"github.com/cenkalti/backoff/v5"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

// turn says to the vault for whom it is opened.
func (r *run) turn() port.Turn {
	return port.Turn{Sync: r.name, Attempt: int(r.attemptNumber), Stands: r.engine.stands, Owned: r.stillOurs}
}

// stands says whether a commit that was not pushed is part of the backup: the end of its
// sync tells of it, be it under an id that it had before it was built again. A sync that
// was taken over may have ended with another commit, or with none: then its worker
// before, who made this one, said nothing of it to anybody. What nobody remembers, or
// is not over, stands.
func (e *Engine) stands(ctx context.Context, name, commit string) (bool, error) {
	sync, err := e.syncs.Get(ctx, name)
	if gone := (*port.NotFoundError)(nil); errors.As(err, &gone) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	snapshot := sync.GetSnapshot()
	switch {
	case !terminal(sync.GetState()):
		return true, nil
	case snapshot.GetPushState() == understudyv1.PushState_PUSH_STATE_PUSHED:
		return snapshot.GetCommit() == commit, nil
	}
	return snapshot.GetCreated(), nil
}

// stillOurs fails with errLost when another worker has the sync, by the log as it is
// now: this worker may not have heard of it yet. While the log cannot be read nobody
// knows, and it is waited for, unless the server stops: whoever goes on pushes.
func (r *run) stillOurs(ctx context.Context) error {
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		log, err := r.engine.syncs.Open(ctx, r.name)
		fenced, gone := (*port.FencedError)(nil), (*port.NotFoundError)(nil)
		if errors.As(err, &fenced) || errors.As(err, &gone) || (err == nil && !r.owns(log.Sync())) {
			r.disown(errLost)
			err = backoff.Permanent(errLost)
		} else if err != nil && errors.Is(context.Cause(r.ctx), errShutdown) {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(outagePauses()), backoff.WithMaxElapsedTime(0))
	return err
}

// pushFound pushes what an earlier attempt committed. Where the branch has it no more,
// the remote has it all, or does not go together with it: left says what is known.
func (r *run) pushFound() {
	if r.snapshot == nil {
		return
	}
	r.found = true
	ctx, stop := context.WithTimeout(r.owned, commitTimeout)
	defer stop()
	r.push(ctx)
}

// lateCommit returns what an attempt before this one committed, nil if nothing: asked
// when the sync is cancelled, because its push may have arrived after this attempt began.
func (r *run) lateCommit() *understudyv1.Snapshot {
	if r.attemptNumber == 1 {
		return nil
	}
	snapshot, err := committed(r.owned, r.tenant, r.name)
	if err != nil {
		r.logger.Warn("whether an earlier attempt of a cancelled sync committed cannot be asked; by its log it did not", "error", err)
		return nil
	}
	if snapshot == nil {
		return nil
	}
	return unconfirmed(snapshot)
}
