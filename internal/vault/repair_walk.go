package vault

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"

	"understudy.internal/internal/port"
)

// commitsIn returns every commit that can be read, the last one first, each before
// those that it builds on.
func commitsIn(storage *store) ([]*object.Commit, error) {
	all, err := storage.IterEncodedObjects(plumbing.CommitObject)
	if err != nil {
		return nil, &port.StorageError{Err: err}
	}
	defer all.Close()
	var commits []*object.Commit
	parents := map[plumbing.Hash]bool{}
	err = all.ForEach(func(found plumbing.EncodedObject) error {
		if commit, err := object.DecodeCommit(storage, found); err == nil { // else nobody can use it
			commits = append(commits, commit)
			for _, id := range commit.ParentHashes {
				parents[id] = true
			}
		}
		return nil
	})
	if err != nil {
		return nil, &port.StorageError{Err: err}
	}
	slices.SortStableFunc(commits, func(a, b *object.Commit) int {
		if c := b.Committer.When.Compare(a.Committer.When); c != 0 {
			return c
		}
		return cmp.Or(compareBool(parents[a.Hash], parents[b.Hash]), strings.Compare(a.Hash.String(), b.Hash.String()))
	})
	return commits, nil
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// walk reads objects, each once, and compares them with their ids.
type walk struct {
	ctx     context.Context
	storage *store
	read    map[plumbing.Hash]bool // true: it can be read
	// trees are those that were read with everything in them; true: something of it cannot
	// be read.
	trees map[plumbing.Hash]bool
}

func newWalk(ctx context.Context, storage *store) *walk {
	return &walk{ctx: ctx, storage: storage, read: map[plumbing.Hash]bool{}, trees: map[plumbing.Hash]bool{}}
}

// has reads an object.
func (w *walk) has(id plumbing.Hash) bool {
	ok, known := w.read[id]
	if !known {
		_, _, err := readObject(w.storage, id)
		ok = err == nil && w.ctx.Err() == nil
		w.read[id] = ok
	}
	return ok
}

// commit reads a commit; nil: it cannot be read.
func (w *walk) commit(id plumbing.Hash) *object.Commit {
	if !w.has(id) {
		return nil
	}
	commit, err := object.GetCommit(w.storage, id)
	if err != nil {
		return nil
	}
	return commit
}

// tree reads a tree and everything in it, and says whether something cannot be read.
func (w *walk) tree(id plumbing.Hash) (damaged bool) {
	if damaged, known := w.trees[id]; known {
		return damaged
	}
	tree := w.entriesOf(id)
	if tree == nil {
		w.read[id] = false
		damaged = true
	} else {
		for _, entry := range tree.Entries {
			switch entry.Mode {
			case filemode.Submodule:
			case filemode.Dir:
				damaged = w.tree(entry.Hash) || damaged
			default:
				damaged = !w.has(entry.Hash) || damaged
			}
		}
	}
	w.trees[id] = damaged
	return damaged
}

// entriesOf reads a tree; nil: it cannot be read.
func (w *walk) entriesOf(id plumbing.Hash) *object.Tree {
	if !w.has(id) {
		return nil
	}
	tree, err := object.GetTree(w.storage, id)
	if err != nil {
		return nil
	}
	return tree
}

// unreadableIn returns the paths below a tree that was read that cannot be read; an empty
// one is the tree itself.
func (w *walk) unreadableIn(id plumbing.Hash) (paths []string) {
	if !w.trees[id] {
		return nil
	}
	tree := w.entriesOf(id)
	if tree == nil {
		return []string{""}
	}
	for _, entry := range tree.Entries {
		switch {
		case entry.Mode == filemode.Submodule:
		case entry.Mode == filemode.Dir:
			for _, path := range w.unreadableIn(entry.Hash) {
				paths = append(paths, strings.TrimSuffix(entry.Name+"/"+path, "/"))
			}
		case !w.has(entry.Hash):
			paths = append(paths, entry.Name)
		}
	}
	return paths
}

// all reads everything that a commit needs, and returns the commits, each after those
// that it builds on, and the ids of commits that cannot be read.
func (w *walk) all(tip plumbing.Hash) (commits []*object.Commit, missing []plumbing.Hash) {
	seen := map[plumbing.Hash]bool{}
	type step struct {
		commit *object.Commit
		next   int
	}
	var open []*step
	visit := func(id plumbing.Hash) {
		if seen[id] {
			return
		}
		seen[id] = true
		commit := w.commit(id)
		if commit == nil {
			missing = append(missing, id)
			return
		}
		w.tree(commit.TreeHash)
		open = append(open, &step{commit: commit})
	}
	visit(tip)
	for len(open) > 0 && w.ctx.Err() == nil {
		top := open[len(open)-1]
		if top.next < len(top.commit.ParentHashes) {
			top.next++
			visit(top.commit.ParentHashes[top.next-1])
			continue
		}
		commits = append(commits, top.commit)
		open = open[:len(open)-1]
	}
	return commits, missing
}

func (w *walk) unreadable() int {
	n := 0
	for _, ok := range w.read {
		if !ok {
			n++
		}
	}
	return n
}
