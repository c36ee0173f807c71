package vault

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// reach finds the objects that one commit needs and another does not.
type reach struct {
	ctx     context.Context
	storage *store
	seen    map[plumbing.Hash]struct{}
	objects []plumbing.Hash
}

// newObjects returns the objects of the commits from want down to have, which may
// be zero: each commit, and what its tree has that the tree of its first parent has
// not. It fails when one of them is not there.
func newObjects(ctx context.Context, storage *store, want, have plumbing.Hash) ([]plumbing.Hash, error) {
	r := &reach{ctx: ctx, storage: storage, seen: map[plumbing.Hash]struct{}{have: {}}}
	for next := []plumbing.Hash{want}; len(next) > 0; {
		id := next[len(next)-1]
		next = next[:len(next)-1]
		if !r.add(id) {
			continue
		}
		commit, err := object.GetCommit(storage, id)
		if err != nil {
			return nil, fmt.Errorf("reading the commit %s: %w", id, err)
		}
		before := plumbing.ZeroHash
		if commit.NumParents() > 0 {
			parent, err := commit.Parent(0)
			if err != nil {
				return nil, fmt.Errorf("reading the commit %s: %w", commit.ParentHashes[0], err)
			}
			before = parent.TreeHash
		}
		if err := r.trees(commit.TreeHash, before); err != nil {
			return nil, err
		}
		next = append(next, commit.ParentHashes...)
	}
	return r.objects, nil
}

// add notes an object, and says whether it is new.
func (r *reach) add(id plumbing.Hash) bool {
	if _, ok := r.seen[id]; ok {
		return false
	}
	r.seen[id] = struct{}{}
	r.objects = append(r.objects, id)
	return true
}

// trees adds what a tree has and the one before it has not, under the same name.
func (r *reach) trees(now, before plumbing.Hash) error {
	if now == before || !r.add(now) {
		return nil
	}
	if err := context.Cause(r.ctx); err != nil {
		return err
	}
	tree, err := object.GetTree(r.storage, now)
	if err != nil {
		return fmt.Errorf("reading the tree %s: %w", now, err)
	}
	old := map[string]treeEntry{}
	if !before.IsZero() {
		tree, err := object.GetTree(r.storage, before)
		if err != nil {
			return fmt.Errorf("reading the tree %s: %w", before, err)
		}
		old = entriesOf(tree)
	}
	for _, entry := range tree.Entries {
		was := old[entry.Name]
		if was.id == entry.Hash || entry.Mode == filemode.Submodule {
			continue
		}
		if entry.Mode == filemode.Dir {
			if !was.isFolder() {
				was.id = plumbing.ZeroHash
			}
			if err := r.trees(entry.Hash, was.id); err != nil {
				return err
			}
			continue
		}
		if r.add(entry.Hash) {
			if err := r.storage.HasEncodedObject(entry.Hash); err != nil {
				return fmt.Errorf("looking for %s: %w", entry.Hash, err)
			}
		}
	}
	return nil
}

// isAncestor says whether a commit is another, or below it.
func isAncestor(ctx context.Context, storage *store, below, above plumbing.Hash) (bool, error) {
	ancestors, err := ancestorsOf(ctx, storage, above, below)
	_, ok := ancestors[below]
	return ok, err
}

// ancestorsOf returns a commit and those below it, or as many as it takes to find
// one of them.
func ancestorsOf(ctx context.Context, storage *store, of, find plumbing.Hash) (map[plumbing.Hash]struct{}, error) {
	ancestors := map[plumbing.Hash]struct{}{of: {}}
	for next := []plumbing.Hash{of}; len(next) > 0; {
		if _, found := ancestors[find]; found {
			break
		}
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		commit, err := object.GetCommit(storage, next[0])
		if err != nil {
			return nil, fmt.Errorf("reading the commit %s: %w", next[0], err)
		}
		next = next[1:]
		for _, parent := range commit.ParentHashes {
			if _, known := ancestors[parent]; !known {
				ancestors[parent] = struct{}{}
				next = append(next, parent)
			}
		}
	}
	return ancestors, nil
}

// hasCommit says whether a commit is in the repository.
func hasCommit(storage *store, id plumbing.Hash) (bool, error) {
	_, err := object.GetCommit(storage, id)
	if errors.Is(err, plumbing.ErrObjectNotFound) {
		return false, nil
	}
	return err == nil, err
}
