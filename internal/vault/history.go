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
	// files are those in the folders of types that it wrote, and those that it removed if
	// a sync made it: what somebody removed by hand is no reading.
	files map[string]struct{}
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
		made, err := changeOf(storage, before, commit)
		if err != nil {
			return nil, err
		}
		changes = append(changes, made)
	}
	return changes, nil
}

// changeOf returns what a commit did, against the one before it, which may be nil.
func changeOf(storage *store, before, after *object.Commit) (change, error) {
	made := change{at: after.Committer.When, types: map[string]bool{}, files: map[string]struct{}{}}
	old, oldCoverage, err := foldersOf(storage, before)
	if err != nil {
		return made, err
	}
	now, nowCoverage, err := foldersOf(storage, after)
	if err != nil {
		return made, err
	}
	bySync := isSync(after)
	note := func(id string) {
		entry := nowCoverage[id]
		made.types[id] = bySync && entry != nil && entry.State == stateComplete
	}
	for _, id := range names(now, old) {
		written, removed, err := filesChanged(storage, old[id], now[id])
		if err != nil {
			return made, err
		}
		if bySync {
			written = append(written, removed...)
		}
		for _, name := range written {
			made.files[id+"/"+name] = struct{}{}
		}
		if len(written)+len(removed) > 0 {
			note(id)
		}
	}
	for id, entry := range nowCoverage {
		if !entry.equal(oldCoverage[id]) {
			note(id)
		}
	}
	return made, nil
}

// filesChanged returns the files of a folder of a type that are others than before, or
// gone. Either may be zero. The names of other types' items do not count.
func filesChanged(storage *store, before, after plumbing.Hash) (written, removed []string, err error) {
	if before == after {
		return nil, nil, nil
	}
	var folders [2]map[string]treeEntry
	for i, id := range []plumbing.Hash{before, after} {
		if id.IsZero() {
			continue
		}
		tree, err := object.GetTree(storage, id)
		if err != nil {
			return nil, nil, fmt.Errorf("reading the tree %s: %w", id, err)
		}
		folders[i] = entriesOf(tree)
		delete(folders[i], namesFile)
	}
	for name, entry := range folders[1] {
		if entry != folders[0][name] {
			written = append(written, name)
		}
	}
	for name := range folders[0] {
		if _, ok := folders[1][name]; !ok {
			removed = append(removed, name)
		}
	}
	return written, removed, nil
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
// these changes was a complete reading; and the files. The times are those of several
// machines: what may be later by clocks that differ counts as later.
func notBefore(changes []change, at time.Time) (types map[string]bool, files map[string]struct{}) {
	types, files = map[string]bool{}, map[string]struct{}{}
	for _, c := range changes {
		if c.at.Add(clockDifference).Before(at) {
			continue
		}
		for id, complete := range c.types {
			types[id] = types[id] || complete
		}
		maps.Copy(files, c.files)
	}
	return types, files
}
