package vault

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"

	"understudy.internal/internal/port"
)

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
