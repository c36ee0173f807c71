package vault

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/storer"
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
	return changesSince(ctx, storage, shared, theirs)
}

// changesSince returns what the commits did from one down to the first that is among
// others. Each is compared with the one before it, which is read once for both.
func changesSince(ctx context.Context, storage storer.EncodedObjectStorer, others map[plumbing.Hash]struct{}, id plumbing.Hash) ([]change, error) {
	var changes []change
	var after *revision
	for !id.IsZero() {
		if _, ok := others[id]; ok {
			break
		}
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		if after == nil {
			var err error
			if after, err = revisionOf(storage, id); err != nil {
				return nil, err
			}
		}
		if id = plumbing.ZeroHash; after.commit.NumParents() > 0 {
			id = after.commit.ParentHashes[0]
		}
		before, err := revisionOf(storage, id)
		if err != nil {
			return nil, err
		}
		made, err := changeOf(storage, before, after)
		if err != nil {
			return nil, err
		}
		changes = append(changes, made)
		after = before
	}
	return changes, nil
}

// changeOf returns what a commit did, against the one before it.
func changeOf(storage storer.EncodedObjectStorer, before, after *revision) (change, error) {
	made := change{at: after.commit.Committer.When, types: map[string]bool{}, files: map[string]struct{}{}}
	bySync := isSync(after.commit)
	note := func(id string) {
		entry := after.coverage[id]
		made.types[id] = bySync && entry != nil && entry.State == stateComplete
	}
	for _, id := range names(after.folders, before.folders) {
		if before.folders[id] == after.folders[id] {
			before.files[id] = after.files[id] // for the commit before
			continue
		}
		old, now, err := both(func(r *revision) (map[string]treeEntry, error) { return r.filesOf(storage, id) }, before, after)
		if err != nil {
			return made, err
		}
		written, removed := filesChanged(old, now)
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
	for id, entry := range after.coverage {
		if !entry.equal(before.coverage[id]) {
			note(id)
		}
	}
	return made, nil
}

// filesChanged returns the files of a folder of a type that are others than before, or
// gone.
func filesChanged(before, after map[string]treeEntry) (written, removed []string) {
	for name, entry := range after {
		if entry != before[name] {
			written = append(written, name)
		}
	}
	for name := range before {
		if _, ok := after[name]; !ok {
			removed = append(removed, name)
		}
	}
	return written, removed
}

// isSync says whether a sync made a commit.
func isSync(commit *object.Commit) bool { return strings.Contains(commit.Message, "\n"+syncTrailer) }

// revision is what a commit has of the types.
type revision struct {
	commit *object.Commit
	// folders are those of types, by type.
	folders  map[string]plumbing.Hash
	coverage coverage
	// files are those of the folders that were asked for.
	files map[string]map[string]treeEntry
}

// revisionOf reads a commit. Zero stands for none, which has nothing.
func revisionOf(storage storer.EncodedObjectStorer, id plumbing.Hash) (*revision, error) {
	r := &revision{folders: map[string]plumbing.Hash{}, coverage: coverage{}, files: map[string]map[string]treeEntry{}}
	if id.IsZero() {
		return r, nil
	}
	var err error
	if r.commit, err = object.GetCommit(storage, id); err != nil {
		return nil, fmt.Errorf("reading the commit %s: %w", id, err)
	}
	root, err := object.GetTree(storage, r.commit.TreeHash)
	if err != nil {
		return nil, fmt.Errorf("reading the tree %s: %w", r.commit.TreeHash, err)
	}
	for name, entry := range entriesOf(root) {
		switch {
		case name == coverageFile && entry.isFile():
			content, err := readBlob(storage, entry.id)
			if err != nil {
				return nil, fmt.Errorf("reading %s: %w", coverageFile, err)
			}
			if read, err := decodeCoverage(content); err == nil { // else broken by hand: it says nothing
				r.coverage = read
			}
		case entry.isFolder():
			workload, err := object.GetTree(storage, entry.id)
			if err != nil {
				return nil, fmt.Errorf("reading the tree %s: %w", entry.id, err)
			}
			for below, entry := range entriesOf(workload) {
				if entry.isFolder() {
					r.folders[name+"/"+below] = entry.id
				}
			}
		}
	}
	return r, nil
}

// filesOf returns what is in the folder of a type, but for the names of other types'
// items, which do not count.
func (r *revision) filesOf(storage storer.EncodedObjectStorer, id string) (map[string]treeEntry, error) {
	folder := r.folders[id]
	if known := r.files[id]; known != nil || folder.IsZero() {
		return known, nil
	}
	tree, err := object.GetTree(storage, folder)
	if err != nil {
		return nil, fmt.Errorf("reading the tree %s: %w", folder, err)
	}
	entries := entriesOf(tree)
	delete(entries, namesFile)
	r.files[id] = entries
	return entries, nil
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
