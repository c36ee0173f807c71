package vault

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"

	"understudy.internal/internal/port"
)

// maxUnpushed is how many commits are built again at most. More are no accident.
const maxUnpushed = 1000

// rebuild makes our commits that the remote does not have again, on top of its tip,
// durably, and returns the last one. The branch still names the old ones. It fails
// with a [*RemoteError] DIVERGED when that cannot be done.
func (v *Vault) rebuild(ctx context.Context, storage *store, ours *object.Commit, theirs plumbing.Hash) (_ plumbing.Hash, err error) {
	commits, err := unpushed(ctx, storage, ours, theirs)
	if err != nil {
		return plumbing.ZeroHash, err
	}
	changes, err := changesOf(ctx, storage, ours.Hash, theirs)
	if err != nil {
		return plumbing.ZeroHash, err
	}
	tip, err := object.GetCommit(storage, theirs)
	if err != nil {
		return plumbing.ZeroHash, fmt.Errorf("reading the remote's commit: %w", err)
	}
	pack, err := newPackWriter(v.packDirectory())
	if err != nil {
		return plumbing.ZeroHash, &port.StorageError{Err: err}
	}
	m := &merger{storage: storage, pack: pack, made: map[plumbing.Hash][]treeEntry{}, blobs: map[plumbing.Hash][]byte{}}
	last := theirs
	tree := tip.TreeHash
	for _, commit := range commits {
		base := plumbing.ZeroHash
		if commit.NumParents() > 0 {
			parent, err := commit.Parent(0)
			if err != nil {
				pack.abort()
				return plumbing.ZeroHash, fmt.Errorf("reading a commit: %w", err)
			}
			base = parent.TreeHash
		}
		m.later, m.laterFiles = notBefore(changes, commit.Committer.When)
		merged, err := m.merge("", base, commit.TreeHash, tree)
		if err != nil {
			pack.abort()
			return plumbing.ZeroHash, err
		}
		if merged == tree {
			continue // the remote has all of it
		}
		tree = merged
		content := commitOn(commit, tree, last)
		last = objectID(plumbing.CommitObject, content)
		if err := pack.put(plumbing.CommitObject, last, content); err != nil {
			pack.abort()
			return plumbing.ZeroHash, &port.StorageError{Err: err}
		}
	}
	if last == theirs {
		pack.abort()
		return theirs, nil
	}
	if _, err := pack.finish(); err != nil {
		return plumbing.ZeroHash, &port.StorageError{Err: err}
	}
	return last, nil
}

// unpushed returns our commits that are not below the remote's, oldest first.
func unpushed(ctx context.Context, storage *store, ours *object.Commit, theirs plumbing.Hash) ([]*object.Commit, error) {
	below, err := ancestorsOf(ctx, storage, theirs, plumbing.ZeroHash)
	if err != nil {
		return nil, err
	}
	var commits []*object.Commit
	for commit := ours; ; {
		if _, shared := below[commit.Hash]; shared {
			break
		}
		if commit.NumParents() > 1 || len(commits) == maxUnpushed {
			return nil, &RemoteError{Reason: RemoteDiverged}
		}
		commits = append(commits, commit)
		if commit.NumParents() == 0 {
			break
		}
		if commit, err = commit.Parent(0); err != nil {
			return nil, fmt.Errorf("reading a commit: %w", err)
		}
	}
	slices.Reverse(commits)
	return commits, nil
}

// commitOn returns a commit object with what a commit says, on other parents.
func commitOn(commit *object.Commit, tree plumbing.Hash, parents ...plumbing.Hash) []byte {
	who := func(s object.Signature) string {
		return fmt.Sprintf("%s <%s> %d %s", s.Name, s.Email, s.When.Unix(), s.When.Format("-0700"))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "tree %s\n", tree)
	for _, parent := range parents {
		fmt.Fprintf(&b, "parent %s\n", parent)
	}
	fmt.Fprintf(&b, "author %s\ncommitter %s\n\n%s", who(commit.Author), who(commit.Committer), commit.Message)
	return []byte(b.String())
}
