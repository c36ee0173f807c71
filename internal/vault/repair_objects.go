package vault

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

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
	trees   map[plumbing.Hash]*treeState
}

// treeState is what is wrong in a tree.
type treeState struct {
	// bad are the paths below it that cannot be read; an empty one is the tree itself.
	bad []string
}

func newWalk(ctx context.Context, storage *store) *walk {
	return &walk{ctx: ctx, storage: storage, read: map[plumbing.Hash]bool{}, trees: map[plumbing.Hash]*treeState{}}
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

// tree reads a tree and everything in it.
func (w *walk) tree(id plumbing.Hash) *treeState {
	if known := w.trees[id]; known != nil {
		return known
	}
	state := &treeState{}
	w.trees[id] = state
	var tree *object.Tree
	if w.has(id) {
		tree, _ = object.GetTree(w.storage, id)
	}
	if tree == nil {
		w.read[id] = false
		state.bad = []string{""}
		return state
	}
	for _, entry := range tree.Entries {
		switch {
		case entry.Mode == filemode.Submodule:
		case entry.Mode == filemode.Dir:
			for _, path := range w.tree(entry.Hash).bad {
				state.bad = append(state.bad, strings.TrimSuffix(entry.Name+"/"+path, "/"))
			}
		case !w.has(entry.Hash):
			state.bad = append(state.bad, entry.Name)
		}
	}
	return state
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
		var commit *object.Commit
		if w.has(id) {
			commit, _ = object.GetCommit(w.storage, id)
		}
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

func (w *walk) unreadable() int {
	n := 0
	for _, ok := range w.read {
		if !ok {
			n++
		}
	}
	return n
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

// leaver makes commits again without what cannot be read.
type leaver struct {
	walk *walk
	pack *packWriter
	// trees and commits are what became of those that there were.
	trees, commits map[plumbing.Hash]plumbing.Hash
}

// tree returns a tree without what cannot be read; zero: nothing is left.
func (l *leaver) tree(id plumbing.Hash) (plumbing.Hash, error) {
	if state := l.walk.trees[id]; state != nil && len(state.bad) == 0 {
		return id, nil
	}
	if done, ok := l.trees[id]; ok {
		return done, nil
	}
	l.trees[id] = plumbing.ZeroHash
	if !l.walk.read[id] {
		return plumbing.ZeroHash, nil
	}
	tree, err := object.GetTree(l.walk.storage, id)
	if err != nil {
		return plumbing.ZeroHash, err
	}
	var kept []treeEntry
	for _, entry := range tree.Entries {
		e := treeEntry{name: entry.Name, mode: modeOf(entry.Mode), id: entry.Hash}
		switch {
		case entry.Mode == filemode.Submodule:
		case entry.Mode == filemode.Dir:
			if e.id, err = l.tree(entry.Hash); err != nil {
				return plumbing.ZeroHash, err
			}
		case !l.walk.read[entry.Hash]:
			e.id = plumbing.ZeroHash
		}
		if !e.id.IsZero() {
			kept = append(kept, e)
		}
	}
	l.trees[id], err = l.pack.putTree(kept, plumbing.ZeroHash)
	return l.trees[id], err
}

// commit makes a commit again, if it has to be.
func (l *leaver) commit(commit *object.Commit, gone map[plumbing.Hash]bool) error {
	tree, err := l.tree(commit.TreeHash)
	if err != nil {
		return err
	}
	same := tree == commit.TreeHash
	if tree.IsZero() { // nothing of it is left: an empty tree
		tree = objectID(plumbing.TreeObject, nil)
		if err := l.pack.put(plumbing.TreeObject, tree, nil); err != nil {
			return err
		}
	}
	l.trees[commit.TreeHash] = tree
	var parents []plumbing.Hash
	for _, id := range commit.ParentHashes {
		if gone[id] {
			same = false
			continue
		}
		parents = append(parents, l.commits[id])
		same = same && l.commits[id] == id
	}
	if same {
		l.commits[commit.Hash] = commit.Hash
		return nil
	}
	content := commitOn(commit, tree, parents...)
	id := objectID(plumbing.CommitObject, content)
	l.commits[commit.Hash] = id
	return l.pack.put(plumbing.CommitObject, id, content)
}

// confess makes a commit that says what was lost, and a coverage that does not call a
// type complete that is not.
func (l *leaver) confess(v *Vault, parent, root plumbing.Hash, lost []string, now time.Time) (plumbing.Hash, error) {
	entries, err := l.entries(root)
	if err != nil {
		return plumbing.ZeroHash, err
	}
	if file := entries[coverageFile]; file.isFile() {
		content, err := readBlob(l.walk.storage, file.id)
		if err != nil {
			return plumbing.ZeroHash, fmt.Errorf("reading %s: %w", coverageFile, err)
		}
		if covered, err := decodeCoverage(content); err == nil {
			if content, err = covered.without(lost, now); err != nil {
				return plumbing.ZeroHash, err
			}
			file.id = objectID(plumbing.BlobObject, content)
			if err := l.pack.put(plumbing.BlobObject, file.id, content); err != nil {
				return plumbing.ZeroHash, &port.StorageError{Err: err}
			}
			entries[coverageFile] = file
		}
	}
	tree := root
	if len(entries) > 0 {
		if tree, err = l.pack.putTree(values(entries), root); err != nil {
			return plumbing.ZeroHash, err
		}
	}
	who := fmt.Sprintf("%s <%s> %d +0000", v.config.AuthorName, v.config.AuthorEmail, now.Unix())
	listed := lost
	if len(listed) > maxListed {
		listed = append(slices.Clone(listed[:maxListed]), fmt.Sprintf("and %d more", len(lost)-maxListed))
	}
	content := fmt.Appendf(nil, "tree %s\nparent %s\nauthor %s\ncommitter %s\n\nRepair: %s left out\n\n%s\n",
		tree, parent, who, who, counted(len(lost), "file could not be read and is", "files could not be read and are"), strings.Join(listed, "\n"))
	id := objectID(plumbing.CommitObject, content)
	if err := l.pack.put(plumbing.CommitObject, id, content); err != nil {
		return plumbing.ZeroHash, &port.StorageError{Err: err}
	}
	return id, nil
}

// entries returns the entries of a tree that was made again.
func (l *leaver) entries(root plumbing.Hash) (map[string]treeEntry, error) {
	entries := map[string]treeEntry{}
	if !l.pack.has(root) {
		tree, err := object.GetTree(l.walk.storage, root)
		if err != nil {
			return nil, err
		}
		return entriesOf(tree), nil
	}
	err := l.pack.eachTreeEntry(root, func(name []byte, mode filemode.FileMode, id plumbing.Hash) error {
		entries[string(name)] = treeEntry{name: string(name), mode: modeOf(mode), id: id}
		return nil
	})
	return entries, err
}

// damagedReason is the reason of a type that lost files.
const damagedReason = "damaged"

// without returns the coverage when files are lost: their types are not complete.
func (c coverage) without(lost []string, now time.Time) ([]byte, error) {
	for _, path := range lost {
		for id, entry := range c {
			if entry.State != stateComplete || (path != id && !strings.HasPrefix(path, id+"/") && !strings.HasPrefix(id, path+"/")) {
				continue
			}
			if entry.LastComplete == nil {
				since := entry.Since
				entry.LastComplete = &since
			}
			entry.State, entry.Reason, entry.Since = stateStale, damagedReason, now.UTC().Truncate(time.Second)
		}
	}
	return c.encode()
}
