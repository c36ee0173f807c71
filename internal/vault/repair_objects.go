package vault

import (
	"cmp"
	"context"
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
		return len(missing) > 0 || slices.ContainsFunc(commits, func(c *object.Commit) bool { return len(w.trees[c.TreeHash].bad) > 0 })
	}
	if damaged() {
		before := w
		if r.fetch(ctx) {
			commits, missing, w = r.walk(ctx)
			if n := before.unreadable() - w.unreadable(); n > 0 {
				r.fault("fetch them from the remote", "%s missing or damaged here", counted(n, "object that the backup needs is", "objects that the backup needs are"))
			}
		}
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if damaged() {
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

// maxListed is how many lost files are named.
const maxListed = 50

// leaveOut makes the commits again that need something that is lost.
func (r *repairer) leaveOut(w *walk, commits []*object.Commit, missing []plumbing.Hash) error {
	pack, err := newPackWriter(r.view.packDirectory())
	if err != nil {
		return &port.StorageError{Err: err}
	}
	l := &leaver{walk: w, pack: pack, trees: map[plumbing.Hash]plumbing.Hash{}, commits: map[plumbing.Hash]plumbing.Hash{}}
	gone := map[plumbing.Hash]bool{}
	for _, id := range missing {
		gone[id] = true
		r.loss("let the history begin after it", "the commit %s cannot be read, and no copy was found: what was before it is lost", short(id))
	}
	older := 0
	for _, commit := range commits {
		if err := l.commit(commit, gone); err != nil {
			pack.abort()
			return &port.StorageError{Err: err}
		}
		if len(w.trees[commit.TreeHash].bad) > 0 && commit.Hash != r.tip {
			older++
		}
	}
	tip := commits[len(commits)-1] // it comes after all that it builds on
	lost := slices.Clone(w.trees[tip.TreeHash].bad)
	slices.Sort(lost)
	for i, path := range lost {
		if i == maxListed {
			r.loss("leave them out", "%s lost", counted(len(lost)-maxListed, "more file of the backup is", "more files of the backup are"))
			break
		}
		r.loss("leave it out; the next complete reading of its type brings it back, if the tenant has it", "%s cannot be read, and no copy was found", cmp.Or(path, "the whole tree"))
	}
	if older > 0 {
		r.loss("leave them out", "files of %s cannot be read, and no copy was found", counted(older, "older commit", "older commits"))
	}
	last := l.commits[tip.Hash]
	if len(lost) > 0 {
		if last, err = l.confess(r.vault, last, l.trees[tip.TreeHash], lost, r.vault.now()); err != nil {
			pack.abort()
			return err
		}
	}
	if _, err := pack.finish(); err != nil {
		return &port.StorageError{Err: err}
	}
	r.moved = r.moved || last != r.tip
	r.tip = last
	return nil
}
