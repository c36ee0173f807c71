package vault

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

// Push implements [port.Staging]. Its error is a [*RemoteError], or that of
// [port.Turn.Owned]. It never forces:
// the remote moves from the commit that it had, which is one of ours, or not at
// all. When somebody else moved it meanwhile, our commits are built again on top, and
// it is tried again. Commits of earlier syncs that were not pushed go with it.
func (s *staging) Push(ctx context.Context) (understudyv1.PushState, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.vault.remote == nil {
		return understudyv1.PushState_PUSH_STATE_NO_REMOTE, nil
	}
	if s.previous != nil {
		if err := s.pushAgain(ctx); err != nil {
			if failed := (*RemoteError)(nil); errors.As(err, &failed) {
				failed.replicated = s.vault.config.Replicated
			}
			return understudyv1.PushState_PUSH_STATE_FAILED, err
		}
	}
	return understudyv1.PushState_PUSH_STATE_PUSHED, nil
}

// How often a push is tried that others are faster than, and how long is waited in
// between, at most: longer each time.
const (
	maxPushes = 5
	pushWait  = 400 * time.Millisecond
)

// pushAgain pushes until nobody else was faster.
func (s *staging) pushAgain(ctx context.Context) error {
	for try := 1; ; try++ {
		if s.turn.Owned != nil {
			if err := s.turn.Owned(ctx); err != nil {
				return err
			}
		}
		err := s.push(ctx)
		var failed *RemoteError
		if err == nil || !errors.As(err, &failed) || failed.Reason != RemoteMoved || try == maxPushes {
			return err
		}
		timer := time.NewTimer(rand.N(time.Duration(try) * pushWait))
		select {
		case <-ctx.Done():
			timer.Stop()
			return err
		case <-timer.C:
		}
		if err := s.buildAgain(ctx); err != nil {
			return s.vault.unreadable(err)
		}
	}
}

// buildAgain builds our commits again on the remote's, and lets the snapshot say so.
func (s *staging) buildAgain(ctx context.Context) error {
	if err := s.vault.catchUp(ctx, s.held, port.Turn{}); err != nil {
		return err
	}
	tip, err := s.vault.tip(s.vault.storage())
	if err != nil {
		return err
	}
	s.previous = tip
	if s.snapshot != nil {
		own, err := s.vault.findSync(ctx, s.vault.storage(), tip.Hash, s.turn.Sync)
		if err != nil {
			return err
		}
		s.snapshot.Commit, s.snapshot.Tree = tip.Hash.String(), tip.TreeHash.String()
		if own != nil { // an earlier worker's may have later ones on top
			s.snapshot.Commit, s.snapshot.Tree = own.GetCommit(), own.GetTree()
		}
		s.notes.Commit = s.snapshot.GetCommit()
		if s.held.check() == nil {
			s.vault.writeNotes(s.notes)
		}
	}
	return nil
}

func (s *staging) push(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.vault.remote.Timeout)
	defer cancel()
	e, err := s.vault.remote.open(ctx, receivePack)
	if err != nil {
		return err
	}
	defer e.close()
	ours, theirs := s.previous.Hash, e.tip(s.vault.ref())
	if theirs == ours {
		return nil
	}
	storage := s.vault.keptOpen() // with the new commit
	defer storage.Close()
	if !theirs.IsZero() {
		contained, err := s.forward(ctx, storage, theirs)
		if err != nil || contained {
			return err
		}
	}
	pack, err := s.packFor(ctx, storage, theirs)
	if err != nil {
		return s.vault.unreadable(err)
	}
	defer pack.abort()
	return s.send(ctx, e, theirs, pack)
}

// forward makes sure that the remote's commit is below ours. It returns true when
// it is the other way round: the remote has ours already.
func (s *staging) forward(ctx context.Context, storage *store, theirs plumbing.Hash) (contained bool, err error) {
	known, err := hasCommit(storage, theirs)
	if err != nil {
		return false, s.vault.unreadable(err)
	}
	if known {
		below, err := isAncestor(ctx, storage, theirs, s.previous.Hash)
		if err != nil || below {
			return false, s.vault.unreadable(err)
		}
		// It was not there, or could not be built on, when the sync began. Whether it can
		// be built on is found out by trying.
		return false, &RemoteError{Reason: RemoteMoved}
	}
	if _, err := s.vault.remoteTip(ctx, storage, s.previous.Hash); err != nil {
		return false, err
	}
	contained, err = isAncestor(ctx, s.vault.storage(), s.previous.Hash, theirs)
	if err == nil && !contained {
		err = &RemoteError{Reason: RemoteMoved}
	}
	return contained, s.vault.unreadable(err)
}

// packFor makes the pack that the remote needs: what is new since its commit,
// copied as it is stored. The caller aborts it.
func (s *staging) packFor(ctx context.Context, storage *store, theirs plumbing.Hash) (_ *packWriter, err error) {
	objects, err := newObjects(ctx, storage, s.previous.Hash, theirs)
	if err != nil {
		return nil, err
	}
	packs, err := openPacks(s.vault.packDirectory())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closePacks(packs)) }()
	w, err := newPackWriter(s.vault.packDirectory())
	if err != nil {
		return nil, err
	}
	for _, id := range objects {
		if err := copyObject(w, packs, storage, id); err != nil {
			w.abort()
			return nil, err
		}
	}
	if _, err := w.seal(); err != nil {
		w.abort()
		return nil, err
	}
	return w, nil
}

// send streams the pack, and reads what became of it.
func (s *staging) send(ctx context.Context, e *exchange, theirs plumbing.Hash, pack *packWriter) error {
	update := packp.NewReferenceUpdateRequestFromCapabilities(e.refs.Capabilities)
	update.Commands = []*packp.Command{{Name: s.vault.ref(), Old: theirs, New: s.previous.Hash}}
	var head bytes.Buffer
	size, err := pack.file.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = pack.file.Seek(0, io.SeekStart)
	}
	if err := errors.Join(err, update.Encode(&head)); err != nil {
		return s.vault.unreadable(err)
	}
	size += int64(head.Len())
	got, err := e.send(request{body: io.MultiReader(&head, onlyReader{pack.file}), size: size})
	if err != nil {
		return remoteError(ctx, err)
	}
	defer got.Close()
	if !update.Capabilities.Supports(capability.ReportStatus) {
		return &RemoteError{Reason: RemoteBroken, Detail: "it does not report what became of a push"}
	}
	report := packp.NewReportStatus()
	if err := report.Decode(got); err != nil {
		return fetchError(ctx, err)
	}
	return reported(report, s.vault.ref())
}

// reported turns the report of a push into an error without its text.
func reported(report *packp.ReportStatus, ref plumbing.ReferenceName) error {
	if report.UnpackStatus != "ok" {
		return &RemoteError{Reason: RemoteRejected, Detail: "it could not store the objects"}
	}
	for _, command := range report.CommandStatuses {
		if command.ReferenceName == ref {
			if command.Status == "ok" {
				return nil
			}
			return &RemoteError{Reason: refusalOf(command.Status)}
		}
	}
	return &RemoteError{Reason: RemoteBroken, Detail: "it does not say what became of the branch"}
}

// refusalOf tells a race from a rejection: somebody else moved the branch, or has it
// locked at this moment, for example what is left of the push of a worker that was
// killed. The words are those of git, builtin/receive-pack.c and refs.c, by its versions;
// GitHub and others say what the lock was refused for.
func refusalOf(status string) RemoteReason {
	switch status {
	case "failed to update ref", "failed to lock", "fetch first", "non-fast-forward", "stale info",
		"incorrect old value provided", "reference already exists", "reference does not exist":
		return RemoteMoved
	}
	if strings.HasPrefix(status, "cannot lock ref") {
		return RemoteMoved
	}
	return RemoteRejected
}
