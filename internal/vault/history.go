package vault

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// change is what a commit of the remote did to the types.
type change struct {
	at time.Time
	// types are those whose folder or coverage it changed; true: a sync read the type
	// completely.
	types map[string]bool
}

// changesOf returns what the commits of the remote did that are not below ours.
func changesOf(ctx context.Context, storage *store, ours, theirs plumbing.Hash) ([]change, error) {
	shared, err := ancestorsOf(ctx, storage, ours, plumbing.ZeroHash)
	if err != nil {
		return nil, err
	}
	var changes []change
	for id := theirs; !id.IsZero(); {
		if _, ok := shared[id]; ok {
			break
		}
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		commit, err := object.GetCommit(storage, id)
		if err != nil {
			return nil, fmt.Errorf("reading the commit %s: %w", id, err)
		}
		var before *object.Commit
		if id = plumbing.ZeroHash; commit.NumParents() > 0 {
			id = commit.ParentHashes[0]
			if before, err = object.GetCommit(storage, id); err != nil {
				return nil, fmt.Errorf("reading the commit %s: %w", id, err)
			}
		}
		types, err := typesChanged(storage, before, commit)
		if err != nil {
			return nil, err
		}
		changes = append(changes, change{at: commit.Committer.When, types: types})
	}
	return changes, nil
}

// typesChanged returns the types that a commit changed, against the one before it,
// which may be nil.
func typesChanged(storage *store, before, after *object.Commit) (map[string]bool, error) {
	old, oldCoverage, err := foldersOf(storage, before)
	if err != nil {
		return nil, err
	}
	now, nowCoverage, err := foldersOf(storage, after)
	if err != nil {
		return nil, err
	}
	bySync := isSync(after)
	types := map[string]bool{}
	note := func(id string) {
		entry := nowCoverage[id]
		types[id] = bySync && entry != nil && entry.State == stateComplete
	}
	for _, id := range names(now, old) {
		same, err := sameItems(storage, now[id], old[id])
		if err != nil {
			return nil, err
		}
		if !same {
			note(id)
		}
	}
	for id, entry := range nowCoverage {
		if !entry.equal(oldCoverage[id]) {
			note(id)
		}
	}
	return types, nil
}

// sameItems says whether two folders of a type, which may be zero, are the same but for
// the names of other types' items.
func sameItems(storage *store, a, b plumbing.Hash) (bool, error) {
	if a == b || a.IsZero() || b.IsZero() {
		return a == b, nil
	}
	var folders [2]map[string]treeEntry
	for i, id := range []plumbing.Hash{a, b} {
		tree, err := object.GetTree(storage, id)
		if err != nil {
			return false, fmt.Errorf("reading the tree %s: %w", id, err)
		}
		folders[i] = entriesOf(tree)
		delete(folders[i], namesFile)
	}
	return maps.Equal(folders[0], folders[1]), nil
}

// isSync says whether a sync made a commit.
func isSync(commit *object.Commit) bool { return strings.Contains(commit.Message, "\n"+syncTrailer) }

// foldersOf returns the folders of types in a commit, by type, and its coverage.
func foldersOf(storage *store, commit *object.Commit) (map[string]plumbing.Hash, coverage, error) {
	folders := map[string]plumbing.Hash{}
	if commit == nil {
		return folders, nil, nil
	}
	root, err := object.GetTree(storage, commit.TreeHash)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the tree %s: %w", commit.TreeHash, err)
	}
	covered := coverage{}
	for name, entry := range entriesOf(root) {
		switch {
		case name == coverageFile && entry.isFile():
			content, err := readBlob(storage, entry.id)
			if err != nil {
				return nil, nil, fmt.Errorf("reading %s: %w", coverageFile, err)
			}
			if read, err := decodeCoverage(content); err == nil { // else broken by hand: it says nothing
				covered = read
			}
		case entry.isFolder():
			workload, err := object.GetTree(storage, entry.id)
			if err != nil {
				return nil, nil, fmt.Errorf("reading the tree %s: %w", entry.id, err)
			}
			for below, entry := range entriesOf(workload) {
				if entry.isFolder() {
					folders[name+"/"+below] = entry.id
				}
			}
		}
	}
	return folders, covered, nil
}

// notBefore returns the types that were changed at a time or later, and whether one of
// these changes was a complete reading.
func notBefore(changes []change, at time.Time) map[string]bool {
	later := map[string]bool{}
	for _, c := range changes {
		if c.at.Before(at) {
			continue
		}
		for id, complete := range c.types {
			later[id] = later[id] || complete
		}
	}
	return later
}
