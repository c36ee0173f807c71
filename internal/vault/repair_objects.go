package vault

import (
	"context"
	"fmt"
	"slices"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"

	"understudy.internal/internal/port"
)

// objects reads all that the branch needs. What cannot be read, neither here nor from
// the remote, is left out of the commits that have it, which are made again.
func (r *repairer) objects(ctx context.Context) error {
	if r.tip.IsZero() {
		return nil
	}
	commits, missing, w := r.walk(ctx)
	damaged := func() bool {
		return len(missing) > 0 || slices.ContainsFunc(commits, func(c *object.Commit) bool { return w.trees[c.TreeHash] })
	}
	if damaged() {
		before := w
		fetched, err := r.fetch(ctx)
		if err != nil {
			return err
		}
		if fetched {
			commits, missing, w = r.walk(ctx)
			if n := before.unreadable() - w.unreadable(); n > 0 {
				r.fault("fetch them from the remote", "%s missing or damaged here", counted(n, "object that the backup needs is", "objects that the backup needs are"))
			}
		}
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if damaged() && r.found.Held {
		r.hold(w, commits, missing)
	} else if damaged() {
		if err := r.leaveOut(w, commits, missing); err != nil {
			return err
		}
		commits, _, w = r.walk(ctx)
	}
	r.found.Commit, r.found.Commits = r.tip.String(), len(commits)
	for _, ok := range w.read {
		if ok {
			r.found.Objects++
		}
	}
	return nil
}

func (r *repairer) walk(ctx context.Context) ([]*object.Commit, []plumbing.Hash, *walk) {
	storage := r.keptOpen()
	defer storage.Close()
	w := newWalk(ctx, storage)
	commits, missing := w.all(r.tip)
	w.storage = r.storage()
	return commits, missing, w
}

// hold says what cannot be read, and may have a copy on the remote.
func (r *repairer) hold(w *walk, commits []*object.Commit, missing []plumbing.Hash) {
	for _, id := range missing {
		r.fault(waitRemedy, "the commit %s cannot be read here", short(id))
	}
	older := 0
	for _, commit := range commits {
		switch {
		case !w.trees[commit.TreeHash]:
		case commit.Hash != r.tip:
			older++
		default:
			bad := w.unreadableIn(commit.TreeHash)
			for i, path := range slices.Sorted(slices.Values(bad)) {
				if i == maxListed {
					r.fault(waitRemedy, "%s cannot be read here", counted(len(bad)-maxListed, "more file of the last commit", "more files of the last commit"))
					break
				}
				r.fault(waitRemedy, "%s cannot be read here", fileLoss{path: path})
			}
		}
	}
	if older > 0 {
		r.fault(waitRemedy, "files of %s cannot be read here", counted(older, "older commit", "older commits"))
	}
}

// maxListed is how many lost files are named.
const maxListed = 50

// leaveOut makes the commits again that need something that is lost.
func (r *repairer) leaveOut(w *walk, commits []*object.Commit, missing []plumbing.Hash) error {
	if len(commits) == 0 {
		return &port.StorageError{Err: fmt.Errorf("the commit %s: %w", r.tip, errDamaged)}
	}
	pack, err := newPackWriter(r.view.packDirectory())
	if err != nil {
		return &port.StorageError{Err: err}
	}
	l := newLeaver(w, pack)
	last, err := r.makeAgain(l, commits, missing)
	if err != nil {
		pack.abort()
		return &port.StorageError{Err: err}
	}
	if _, err := pack.finish(); err != nil {
		return &port.StorageError{Err: err}
	}
	r.moved = r.moved || last != r.tip
	r.tip = last
	return nil
}

// makeAgain makes the commits again, and says what is lost.
func (r *repairer) makeAgain(l *leaver, commits []*object.Commit, missing []plumbing.Hash) (plumbing.Hash, error) {
	gone := map[plumbing.Hash]bool{}
	for _, id := range missing {
		gone[id] = true
		r.loss("let the history begin after it", "the commit %s cannot be read, and no copy was found: what was before it is lost", short(id))
	}
	older := 0
	for _, commit := range commits {
		if err := l.remake(commit, gone); err != nil {
			return plumbing.ZeroHash, err
		}
		if l.walk.trees[commit.TreeHash] && commit.Hash != r.tip {
			older++
		}
	}
	tip := commits[len(commits)-1] // it comes after all that it builds on
	last := l.commits[tip.Hash]
	losses := last.losses()
	for i, loss := range losses {
		if i == maxListed {
			r.loss("as those above", "%s of the last commit cannot be read, and no copy was found", counted(len(losses)-maxListed, "more file", "more files"))
			break
		}
		r.loss(loss.remedy(), "%s cannot be read, and no copy was found", loss)
	}
	if older > 0 {
		r.loss("keep them there as they were in the commit before, and leave out those that it has not", "files of %s cannot be read, and no copy was found", counted(older, "older commit", "older commits"))
	}
	if len(losses) == 0 {
		return last.commit, nil
	}
	return l.confess(r.vault, last, r.vault.now())
}

// remedy says what becomes of a file that is lost. Not every file is of a type: what
// somebody else put into the repository no reading brings back.
func (l fileLoss) remedy() string {
	remedy := "leave it out"
	if !l.kept.IsZero() {
		remedy = fmt.Sprintf("keep its version of %s", minute(l.kept))
	}
	switch {
	case l.path != coverageFile:
		remedy += "; what is of a type comes back with the next complete reading of it, if the tenant has it"
	case l.kept.IsZero():
		remedy += "; the next sync begins a new one"
	default:
		remedy += ", and call no type complete; the next syncs bring it up to date"
	}
	return remedy
}
