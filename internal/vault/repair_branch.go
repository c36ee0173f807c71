package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"

	"understudy.internal/internal/port"
)

// branch looks at the branch, and finds where it is to begin when it cannot be read.
func (r *repairer) branch(ctx context.Context) error {
	now, err := r.vault.branch(newWatchedStore(r.vault.config.Directory, false, r.trouble))
	if !errors.Is(err, syscall.EISDIR) { // a folder in its place gives way
		err = r.trouble.note(err)
	}
	what := "the branch " + r.vault.config.Branch
	switch {
	case err != nil:
		what += " is empty or damaged"
	case now.IsZero():
		what += " is missing"
	default:
		if _, err := object.GetCommit(r.storage(), now); err == nil {
			r.tip = now
			return nil
		}
		if r.fetch(ctx) {
			if _, err := object.GetCommit(r.storage(), now); err == nil {
				r.tip = now
				r.fault("fetch it from the remote", "%s names the commit %s, which cannot be read here", what, short(now))
				return nil
			}
		}
		what += fmt.Sprintf(" names the commit %s, which cannot be read", short(now))
	}
	known := r.lastKnown(now)
	skipped, err2 := r.choose(ctx, known)
	if err2 == nil && (r.tip.IsZero() || len(skipped) > 0 || len(known) == 0) && r.fetch(ctx) {
		skipped, err2 = r.choose(ctx, known)
	}
	if err2 != nil {
		return err2
	}
	r.moved = !r.tip.IsZero()
	switch {
	case r.moved:
		commit, err := object.GetCommit(r.storage(), r.tip)
		if err != nil {
			return err
		}
		r.fault(fmt.Sprintf("let it begin at %s of %s, the newest commit that can be read", short(r.tip), commit.Committer.When.UTC().Format("2006-01-02 15:04")), "%s", what)
		for _, id := range skipped {
			r.loss("leave it out; the next sync reads anew what the tenant has", "the commit %s, or its tree, cannot be read, and no copy was found", short(id))
		}
		if len(known) == 0 && r.mayLackCommits() {
			r.loss("", "a pack is damaged, and nothing here says what the last commit was: later commits than %s may be lost", short(r.tip))
		}
	case now.IsZero() && err == nil && !r.hasPacks:
		// Nothing was ever committed.
	default:
		r.loss("", "%s, and no commit is left that can be read. To begin a new backup, remove the repository", what)
	}
	return nil
}

// lastKnown returns the commits that were the last one, as far as it is known here: that
// of the branch, and that of the notes.
func (r *repairer) lastKnown(now plumbing.Hash) (known []plumbing.Hash) {
	if !now.IsZero() {
		known = append(known, now)
	}
	if notes, err := r.vault.readNotes(); r.trouble.note(err) == nil {
		if id, ok := parseID(notes.Commit); ok && id != now && !id.IsZero() {
			known = append(known, id)
		}
	}
	return known
}

// mayLackCommits says whether there may have been commits that are not in the view.
func (r *repairer) mayLackCommits() bool {
	storage := r.storage()
	return r.unindexed || slices.ContainsFunc(r.unread, func(id plumbing.Hash) bool { return storage.HasEncodedObject(id) != nil })
}

func short(id plumbing.Hash) string { return id.String()[:12] }

// choose lets the tip be the commit that the branch is to begin at: one that was the last
// as far as it is known, or a later one on top of it; else the newest. It is one whose
// tree can be read: files and folders in it that cannot are left out of it later, which
// loses less than to go back. It returns the commits that are left out.
func (r *repairer) choose(ctx context.Context, known []plumbing.Hash) (skipped []plumbing.Hash, err error) {
	storage := r.storage()
	commits, err := commitsIn(storage)
	if err != nil {
		return nil, err
	}
	r.tip = plumbing.ZeroHash
	w := newWalk(ctx, storage)
	readable := func(c *object.Commit) bool {
		_, err := object.GetTree(storage, c.TreeHash)
		return err == nil && w.has(c.TreeHash)
	}
	for _, last := range known {
		if !slices.ContainsFunc(commits, func(c *object.Commit) bool { return c.Hash == last }) {
			continue
		}
		i := slices.IndexFunc(commits, func(c *object.Commit) bool {
			above, err := isAncestor(ctx, storage, last, c.Hash)
			return err == nil && above && readable(c)
		})
		if i >= 0 {
			r.tip = commits[i].Hash
			break
		}
	}
	candidates := slices.Clone(known)
	for _, c := range commits {
		if !r.tip.IsZero() {
			break
		}
		if readable(c) {
			r.tip = c.Hash
		} else {
			candidates = append(candidates, c.Hash)
		}
	}
	if r.tip.IsZero() && len(commits) > 0 {
		r.tip = commits[0].Hash
	}
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	for _, id := range candidates {
		if below, err := isAncestor(ctx, storage, id, r.tip); (err != nil || !below) && !slices.Contains(skipped, id) {
			skipped = append(skipped, id)
		}
	}
	return skipped, nil
}

// memory looks at the notes: they may name a commit that is not there any more.
func (r *repairer) memory(context.Context) error {
	content, err := r.readFile(notesFile)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return &port.StorageError{Err: err}
	}
	var n notes
	id, named := plumbing.ZeroHash, false
	if json.Unmarshal(content, &n) == nil {
		id, named = parseID(n.Commit)
	} else {
		r.aside = append(r.aside, r.vault.path(notesFile))
		r.fault("put it aside; the next sync writes it anew", "%s cannot be read: when each type was last read completely is forgotten where the backup does not say it", notesFile)
	}
	if named && !r.tip.IsZero() {
		if known, err := hasCommit(r.storage(), id); err != nil || !known {
			r.moved = true // so that it is written
			r.fault("let it name the last commit", "%s names a commit that is not there", notesFile)
		}
	}
	return nil
}

// fetch brings all that the remote has into the view, once. It returns whether it did.
func (r *repairer) fetch(ctx context.Context) bool {
	if r.asked || r.vault.remote == nil {
		return false
	}
	r.asked = true
	theirs, err := r.view.fetchAll(ctx)
	if err != nil {
		r.vault.logger.Warn("the remote cannot be asked for what is missing", "error", err)
		r.fault("", "the remote repository, which may have what is missing, cannot be asked (%v)", err)
		return false
	}
	return !theirs.IsZero()
}

// fetchAll fetches the branch of the remote, as if nothing was here.
func (v *Vault) fetchAll(ctx context.Context) (plumbing.Hash, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchFactor*v.remote.Timeout)
	defer cancel()
	e, err := v.remote.openSoon(ctx, uploadPack)
	if err != nil {
		return plumbing.ZeroHash, err
	}
	defer e.close()
	theirs := e.tip(v.ref())
	if theirs.IsZero() {
		return theirs, nil
	}
	return theirs, v.fetch(ctx, e, theirs, plumbing.ZeroHash)
}
