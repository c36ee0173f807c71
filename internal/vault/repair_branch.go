package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"syscall"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"

	"understudy.internal/internal/port"
)

// branch looks at the branch, and finds where it is to begin when it cannot be read.
func (r *repairer) branch(ctx context.Context) error {
	now, damage := r.vault.branch(newWatchedStore(r.vault.config.Directory, false, r.trouble))
	if !errors.Is(damage, syscall.EISDIR) { // a folder in its place gives way
		_ = r.trouble.note(damage)
	}
	what := "the branch " + r.vault.config.Branch
	switch {
	case damage != nil:
		what += " is empty or damaged"
	case now.IsZero():
		what += " is missing"
	default:
		found, err := r.find(ctx, now)
		if err != nil {
			return err
		}
		if found {
			r.tip = now
			return r.compare(ctx)
		}
		what += fmt.Sprintf(" names the commit %s, which cannot be read", short(now))
	}
	known := r.lastKnown(now)
	skipped, err := r.choose(ctx, known)
	if err == nil && (r.tip.IsZero() || len(skipped) > 0 || len(known) == 0 || now.IsZero() && r.mayLackCommits()) {
		var fetched bool
		if fetched, err = r.fetch(ctx); fetched {
			skipped, err = r.choose(ctx, known)
		}
	}
	if err != nil {
		return err
	}
	if r.found.Held {
		r.tip = plumbing.ZeroHash
		r.fault(waitRemedy, "%s", what)
		return nil
	}
	if now.IsZero() && damage == nil && r.tip.IsZero() && (!r.hasPacks || r.vault.isBeginning()) {
		return nil // nothing was ever committed
	}
	return r.begin(now, what, skipped)
}

// begin lets the branch begin at the tip, and says what is not below it.
func (r *repairer) begin(now plumbing.Hash, what string, skipped []plumbing.Hash) error {
	r.moved = !r.tip.IsZero()
	if !r.moved {
		r.loss("", "%s, and no commit is left that can be read. To begin a new backup, remove the repository", what)
		return nil
	}
	commit, err := object.GetCommit(r.storage(), r.tip)
	if err != nil {
		return err
	}
	r.fault(fmt.Sprintf("let it begin at %s of %s, the newest commit that can be read", short(r.tip), minute(commit.Committer.When)), "%s", what)
	for _, id := range skipped {
		r.loss("leave it out; the next sync reads anew what the tenant has", "the commit %s, or its tree, cannot be read, and no copy was found", short(id))
	}
	if now.IsZero() && r.mayLackCommits() {
		r.loss("", "objects of a pack are lost, and the branch does not say what the last commit was: later commits than %s may be lost", short(r.tip))
	}
	return nil
}

// find says whether a commit can be read, here or from the remote.
func (r *repairer) find(ctx context.Context, id plumbing.Hash) (bool, error) {
	if newWalk(ctx, r.storage()).commit(id) != nil {
		return true, nil
	}
	fetched, err := r.fetch(ctx)
	if err != nil || !fetched || newWalk(ctx, r.storage()).commit(id) == nil {
		return false, err
	}
	r.fault("fetch it from the remote", "the commit %s cannot be read here", short(id))
	return true, nil
}

// compare compares the branch, which can be read, with the last commit that this machine
// noted. When that is a later one, something took the branch back: a disk, or a hand that
// left only an old reference. A push or a remote never does: what they put in the place of
// our commits is not below them.
func (r *repairer) compare(ctx context.Context) error {
	known := r.lastKnown(r.tip)[1:]
	if len(known) == 0 {
		return nil
	}
	noted, what := known[0], "the branch "+r.vault.config.Branch
	found, err := r.find(ctx, noted)
	switch {
	case err != nil:
		return err
	case !found && r.found.Held:
		r.fault(waitRemedy, "the last commit that this machine noted, %s, is not there", short(noted))
		return nil
	case !found:
		r.moved = true // so that the notes are written
		r.loss("let "+notesFile+" name the commit of the branch", "the last commit that this machine noted, %s, is not there; %s is at %s, and later commits may be lost", short(noted), what, short(r.tip))
		return nil
	}
	if below, err := isAncestor(ctx, r.storage(), noted, r.tip); err == nil && below {
		return nil
	}
	later, err := isAncestor(ctx, r.storage(), r.tip, noted)
	if err != nil {
		if _, failed := r.fetch(ctx); failed != nil || r.found.Held {
			return failed
		}
		later, err = isAncestor(ctx, r.storage(), r.tip, noted)
	}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		r.moved = true
		r.loss("stay with the branch, and let "+notesFile+" name its commit", "commits below %s, the last one that this machine noted, cannot be read: whether it is later than %s, where %s is, nobody knows", short(noted), short(r.tip), what)
	case later:
		r.fault("let it go forward to that commit. If somebody took it back on purpose, remove "+notesFile+" first", "%s is at %s, which is older than the last commit that this machine noted, %s", what, short(r.tip), short(noted))
		r.tip, r.moved = noted, true
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
	all, err := commitsIn(storage)
	if err != nil {
		return nil, err
	}
	r.tip = plumbing.ZeroHash
	w := newWalk(ctx, storage)
	commits := slices.DeleteFunc(all, func(c *object.Commit) bool { return !w.has(c.Hash) })
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

// memory looks at the notes. What they name is compared with the branch.
func (r *repairer) memory(context.Context) error {
	content, err := r.readFile(notesFile)
	var n notes
	switch {
	case isMissing(err):
		return nil
	case err != nil:
		return &port.StorageError{Err: err}
	case json.Unmarshal(content, &n) != nil:
		r.aside = append(r.aside, r.vault.path(notesFile))
		r.fault("put it aside; the next sync writes it anew", "%s cannot be read: when each type was last read completely is forgotten where the backup does not say it", notesFile)
	}
	return nil
}

// heldRemedy is what is done when the remote cannot be asked.
const heldRemedy = "make the remote reachable, and repeat this: it may have a copy. " +
	"If it is gone for ever, take `repository.remote` of this tenant out of the configuration first; what has no other copy is then left out"

// waitRemedy is what is done meanwhile about what it may have.
const waitRemedy = "nothing, before the remote can be asked"

// fetch brings all that the remote has into the view, once. It returns whether it did.
// When the remote cannot be asked nothing is mended: it may have what is left out else.
func (r *repairer) fetch(ctx context.Context) (bool, error) {
	if r.asked || r.vault.remote == nil {
		return false, nil
	}
	r.asked = true
	theirs, err := r.view.fetchAll(ctx)
	var failed *RemoteError
	switch {
	case ctx.Err() != nil:
		return false, context.Cause(ctx)
	case errors.As(err, &failed):
		r.vault.logger.Warn("the remote cannot be asked for what is missing", "error", err)
		r.found.Held = true
		r.fault(heldRemedy, "the remote repository, which may have what is missing here, cannot be asked (%s)", failed.Reason)
		return false, nil
	}
	return err == nil && !theirs.IsZero(), err
}

// fetchAll fetches the branch of the remote, as if nothing was here. It may take as long
// as it needs, while the remote sends something.
func (v *Vault) fetchAll(ctx context.Context) (plumbing.Hash, error) {
	ctx, cancel := context.WithCancel(ctx)
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
	return theirs, v.fetch(ctx, e.watched(v.remote.Timeout, cancel), theirs, plumbing.ZeroHash)
}
