package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/cenkalti/backoff/v5"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

// turn says to the vault for whom it is opened.
func (r *run) turn() port.Turn {
	return port.Turn{Sync: r.name, Attempt: int(r.attemptNumber), Fate: r.fate, Owned: r.stillOurs}
}

// fate says what became of the commit of another sync of the tenant, which was over before
// this one was accepted. A sync that was taken over may have ended with another commit
// than the one that its worker before made, or with none. Where this process does not
// know of its end yet, or cannot ask, it is waited for.
func (r *run) fate(ctx context.Context, name string) (port.Fate, error) {
	ctx, stop := context.WithDeadlineCause(ctx, r.limit, errTimeLimit)
	defer stop()
	return backoff.Retry(ctx, func() (port.Fate, error) {
		sync, err := r.engine.syncs.Get(ctx, name)
		switch {
		case errors.As(err, new(*port.NotFoundError)):
			return port.Fate{Forgotten: true}, nil
		case err != nil:
			return port.Fate{}, err
		case !terminal(sync.GetState()):
			return port.Fate{}, fmt.Errorf("the end of %s is not known here yet", name)
		}
		snapshot := sync.GetSnapshot()
		fate := port.Fate{Committed: snapshot.GetCreated()}
		if snapshot.GetPushState() == understudyv1.PushState_PUSH_STATE_PUSHED {
			fate.Pushed = snapshot.GetCommit()
		}
		return fate, nil
	}, backoff.WithBackOff(outagePauses()), backoff.WithMaxElapsedTime(0))
}

// errNotAsked says that nothing was pushed, because nobody could be asked whose the sync
// is.
var errNotAsked = errors.New("whether the sync is still this worker's could not be asked")

// stillOurs fails with errLost when another worker has the sync, by the log as it is
// now: this worker may not have heard of it yet. While the log cannot be read nobody
// knows, and it is waited for, unless the server stops: whoever goes on pushes.
func (r *run) stillOurs(ctx context.Context) error {
	ctx, done := hurried(ctx, r.serving)
	defer done()
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		log, err := r.engine.syncs.Open(ctx, r.name)
		fenced, gone := (*port.FencedError)(nil), (*port.NotFoundError)(nil)
		if errors.As(err, &fenced) || errors.As(err, &gone) || (err == nil && !r.owns(log.Sync())) {
			r.disown(errLost)
			err = backoff.Permanent(errLost)
		} else if err != nil && r.serving.Err() != nil {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(outagePauses()), backoff.WithMaxElapsedTime(0))
	if err != nil && !errors.Is(err, errLost) {
		return fmt.Errorf("%w: %w", errNotAsked, err)
	}
	return err
}

// pushFound pushes what an earlier attempt committed.
func (r *run) pushFound() error {
	r.found = true
	ctx, stop := context.WithTimeout(r.owned, commitTimeout)
	defer stop()
	return r.push(ctx)
}

// leftOut lets the sync be read on when what an earlier attempt committed is not on the
// branch any more: it did not go together with the remote, or the remote has all of it.
func (r *run) leftOut() error {
	if r.left == nil {
		return nil
	}
	r.left = nil
	if r.log.Sync().GetState() != understudyv1.SyncState_SYNC_STATE_COMMITTING {
		return nil
	}
	return r.events.state(&understudyv1.StateChanged{State: understudyv1.SyncState_SYNC_STATE_RUNNING})
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
