package vault

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"

	"understudy.internal/internal/port"
)

// follow brings the branch to that of the remote, so that the next commit can be
// pushed: it moves forward with it, and commits that the remote does not have are
// built again on top. A remote that cannot be followed is logged: reading and
// committing go on, and the push will say it. Where several machines write it is an
// error: see [Vault.followTruth].
func (v *Vault) follow(ctx context.Context, held *hold, whose port.Turn) error {
	if v.remote == nil {
		return nil
	}
	if v.config.Replicated {
		return v.followTruth(ctx, held, whose)
	}
	err := v.catchUp(ctx, held, port.Turn{}) // what is committed here is the truth
	var failed *RemoteError
	if errors.As(err, &failed) {
		v.logger.Warn("the remote repository cannot be followed; the sync goes on without it", "reason", string(failed.Reason), "error", failed)
		return nil
	}
	return err
}

// followTries is how often a remote is asked that is the truth, before the sync fails;
// the wait in between begins at a second and doubles.
const followTries = 5

// followTruth is follow where the remote is the truth and the repository here a cache.
// A cache that may be old is no base: what another machine backed up since is not in
// it, and a commit on it, pushed later, could take back what was confirmed in between.
// So a remote that cannot be read fails the sync, after some tries. What cannot be put
// together with it gives way.
func (v *Vault) followTruth(ctx context.Context, held *hold, whose port.Turn) error {
	wait := v.patience
	for try := 1; ; try++ {
		err := v.catchUp(ctx, held, whose)
		var failed *RemoteError
		switch {
		case !errors.As(err, &failed):
			return err
		case failed.Reason == RemoteDiverged:
			return v.giveWay(ctx, held)
		case failed.Reason != RemoteUnreachable || try == followTries:
			return notFollowed(failed)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-timer.C:
		}
		wait *= 2
	}
}

// notFollowed says that a sync cannot begin because of the remote.
func notFollowed(err *RemoteError) error {
	return &port.StorageError{Err: fmt.Errorf("the remote, which has the backup, cannot be followed. Sync again when it can: %w", err)}
}

// giveWay lets the branch be that of the remote. Our commits stay among the objects.
// That it has none any more is an error: the next sync asks again.
func (v *Vault) giveWay(ctx context.Context, held *hold) error {
	storage := v.storage()
	ours, err := v.branch(storage)
	if err != nil {
		return err
	}
	theirs, err := v.remoteTip(ctx, storage, ours)
	if err != nil {
		return &port.StorageError{Err: err}
	}
	if theirs.IsZero() {
		return notFollowed(&RemoteError{Reason: RemoteMoved, Detail: "its branch is gone"})
	}
	v.logger.Error("commits of this machine that were not pushed do not go together with the remote, and are left out of the branch; "+
		"they are kept in the repository", "before", ours.String(), "now", theirs.String())
	return v.moveBack(held, v.storage(), ours, theirs)
}

func (v *Vault) catchUp(ctx context.Context, held *hold, whose port.Turn) error {
	storage := v.storage()
	ours, err := v.tip(storage)
	if err != nil {
		return err
	}
	tip := plumbing.ZeroHash
	if ours != nil {
		tip = ours.Hash
	}
	theirs, err := v.remoteTip(ctx, storage, tip)
	if err != nil || theirs.IsZero() || theirs == tip {
		return err
	}
	storage = v.storage() // with what was fetched
	if ours, err = v.standing(ctx, storage, ours, theirs, whose); err != nil {
		return v.unreadable(err)
	}
	move := v.move
	if ours == nil && !tip.IsZero() || ours != nil && ours.Hash != tip {
		move = v.moveBack
	}
	if ours == nil {
		return move(held, storage, tip, theirs)
	}
	behind, err := isAncestor(ctx, storage, theirs, ours.Hash)
	if err != nil {
		return v.unreadable(err)
	}
	if behind {
		if ours.Hash == tip {
			return nil
		}
		return move(held, storage, tip, ours.Hash)
	}
	ahead, err := isAncestor(ctx, storage, ours.Hash, theirs)
	if err != nil {
		return v.unreadable(err)
	}
	if ahead {
		return move(held, storage, tip, theirs)
	}
	rebuilt, err := v.rebuild(ctx, storage, ours, theirs)
	if err != nil {
		return v.unreadable(err)
	}
	v.logger.Warn("the remote branch and ours had moved apart; our commits are built on top of it",
		"remote", theirs.String(), "before", tip.String(), "now", rebuilt.String())
	return move(held, v.storage(), tip, rebuilt)
}

// standing returns the last of our commits that is part of the backup, or nil: one that
// the remote has not, and whose sync ended without it, or with another one that the remote
// has, is not. It stays among the objects.
func (v *Vault) standing(
	ctx context.Context, storage *store, ours *object.Commit, theirs plumbing.Hash, whose port.Turn,
) (*object.Commit, error) {
	for ours != nil && whose.Fate != nil {
		sync := madeBy(ours)
		if sync == "" || sync == whose.Sync {
			break
		}
		if below, err := isAncestor(ctx, storage, ours.Hash, theirs); err != nil || below {
			return ours, err
		}
		fate, err := whose.Fate(ctx, sync)
		if err != nil {
			return nil, &port.StorageError{Err: fmt.Errorf("how %s ended, whose commit was not pushed, cannot be asked: %w", sync, err)}
		}
		superseded := false // a remote that was set back to an older commit has it no more
		if fate.Pushed != "" {
			if superseded, err = isAncestor(ctx, storage, plumbing.NewHash(fate.Pushed), theirs); err != nil {
				return nil, err
			}
		}
		if fate.Forgotten || fate.Committed && !superseded {
			break
		}
		v.logger.Warn("a commit that was not pushed is left out of the branch: its sync ended without it; it is kept in the repository",
			"sync", sync, "commit", ours.Hash.String())
		if ours.NumParents() == 0 {
			return nil, nil
		}
		if ours, err = ours.Parent(0); err != nil {
			return nil, fmt.Errorf("reading a commit: %w", err)
		}
	}
	return ours, nil
}

// move sets the branch.
func (v *Vault) move(held *hold, storage *store, from, to plumbing.Hash) error {
	if err := v.setRef(held, storage, from, to); err != nil {
		return &port.StorageError{Err: err}
	}
	return nil
}

// moveBack sets the branch to where commits of ours are not part of it any more. What the
// notes say may be of them: the coverage says enough.
func (v *Vault) moveBack(held *hold, storage *store, from, to plumbing.Hash) error {
	if held.check() == nil {
		v.writeNotes(notes{Commit: to.String(), LastComplete: map[string]time.Time{}})
	}
	return v.move(held, storage, from, to)
}

// unreadable tells damage of our objects apart from what the remote did.
func (v *Vault) unreadable(err error) error {
	var failed *RemoteError
	var stored *port.StorageError
	if err == nil || errors.As(err, &failed) || errors.As(err, &stored) {
		return err
	}
	v.logger.Error("comparing with the remote failed", "error", err)
	return &RemoteError{Reason: RemoteLocal}
}

// remoteTip returns the commit of the remote's branch, zero when it has none. It
// and what it needs are in the repository then.
func (v *Vault) remoteTip(ctx context.Context, storage *store, have plumbing.Hash) (plumbing.Hash, error) {
	look, cancel := context.WithTimeout(ctx, fetchFactor*v.remote.Timeout)
	defer cancel()
	e, err := v.remote.openSoon(look, uploadPack)
	if err != nil {
		return plumbing.ZeroHash, err
	}
	defer e.close()
	theirs := e.tip(v.ref())
	if theirs.IsZero() {
		return theirs, nil
	}
	known, err := hasCommit(storage, theirs)
	if err != nil {
		return theirs, v.unreadable(err)
	}
	if known && v.isWhole(look, storage, theirs, have) {
		return theirs, nil
	}
	if err := v.fetch(look, e, theirs, have); err != nil {
		return plumbing.ZeroHash, err
	}
	return theirs, v.checkFetched(look, theirs, have)
}

// isWhole says whether a commit of the remote that is here came with all that it
// needs: an earlier answer may have been cut short.
func (v *Vault) isWhole(ctx context.Context, storage *store, theirs, have plumbing.Hash) bool {
	if theirs == have {
		return true
	}
	if !have.IsZero() {
		if ours, err := isAncestor(ctx, storage, theirs, have); err == nil && ours {
			return true
		}
	}
	return v.checkFetched(ctx, theirs, have) == nil
}

// checkFetched makes sure that a remote sent all that its commit needs, before the
// branch names it.
func (v *Vault) checkFetched(ctx context.Context, theirs, have plumbing.Hash) error {
	storage := v.storage()
	if _, err := newObjects(ctx, storage, theirs, have); err != nil {
		return &RemoteError{Reason: RemoteBroken, Detail: "it did not send all objects"}
	}
	_, err := object.GetCommit(storage, theirs)
	return err
}
