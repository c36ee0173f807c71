package vault

import (
	"fmt"
	"maps"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"

	"understudy.internal/internal/port"
)

// merger brings what one of our commits changed into a tree of the remote. Where both
// changed a type, and the remote's was read completely since, that counts whole: ours
// is older, and would take items back to what they were, or bring removed ones back.
// Else it is put together file by file: what the remote did to a file since counts, also
// where the end is what there was before; else where both changed a file, the later one
// counts; a file that one side removed and the other changed stays. So nothing is
// removed that somebody wrote since, and nothing comes back that a sync removed since.
type merger struct {
	storage *store
	pack    *packWriter
	// made and blobs have what was written and cannot be read from the disk yet.
	made  map[plumbing.Hash][]treeEntry
	blobs map[plumbing.Hash][]byte
	// later are the types that the remote's commits changed since ours was made; true:
	// one of them read the type completely. laterFiles are the files.
	later      map[string]bool
	laterFiles map[string]struct{}
}

// merge returns the tree that has the changes from base to ours, and those from
// base to theirs. Zero stands for no tree.
func (m *merger) merge(path string, base, ours, theirs plumbing.Hash) (plumbing.Hash, error) {
	if ours == base || ours == theirs {
		return theirs, nil
	}
	if theirs == base && !m.laterIn(path) {
		return ours, nil
	}
	from, err := m.entries(base)
	if err != nil {
		return plumbing.ZeroHash, err
	}
	a, err := m.entries(ours)
	if err != nil {
		return plumbing.ZeroHash, err
	}
	b, err := m.entries(theirs)
	if err != nil {
		return plumbing.ZeroHash, err
	}
	merged := map[string]treeEntry{}
	for _, name := range names(a, b) {
		entry, err := m.entry(path+name, from[name], a[name], b[name])
		if err != nil {
			return plumbing.ZeroHash, err
		}
		if !entry.id.IsZero() {
			merged[name] = entry
		}
	}
	if strings.Count(path, "/") == typeDepth {
		if err := m.index(merged, a, b); err != nil {
			return plumbing.ZeroHash, err
		}
	}
	id, err := m.pack.putTree(values(merged), theirs)
	m.made[id] = values(merged)
	return id, err
}

// typeDepth is how deep the folders of types are: `<workload>/<type>/`.
const typeDepth = 2

func (m *merger) entry(path string, base, ours, theirs treeEntry) (treeEntry, error) {
	switch {
	case ours == base, ours == theirs:
		return theirs, nil
	case m.isLater(path, theirs):
		return theirs, nil
	case theirs == base && (!theirs.isFolder() || !m.laterIn(path+"/")):
		return ours, nil
	case ours.id.IsZero():
		return theirs, nil
	case theirs.id.IsZero():
		return ours, nil
	case ours.isFolder() && theirs.isFolder():
		if !base.isFolder() {
			base.id = plumbing.ZeroHash
		}
		id, err := m.merge(path+"/", base.id, ours.id, theirs.id)
		return treeEntry{name: ours.name, mode: modeFolder, id: id}, err
	case ours.isFolder() || theirs.isFolder():
		return treeEntry{}, &RemoteError{Reason: RemoteDiverged, Detail: "a file here is a folder there"}
	case path == coverageFile:
		return m.coverage(base, ours, theirs)
	case m.theirsIsLater(path):
		return theirs, nil
	}
	return ours, nil
}

// isLater says whether an entry of the remote counts whatever ours is: the folder of a
// type that was read completely since, or a file that was written or removed since.
func (m *merger) isLater(path string, theirs treeEntry) bool {
	if _, ok := m.laterFiles[path]; ok {
		return true
	}
	return m.later[path] && theirs.isFolder()
}

// laterIn says whether the remote changed a type since that is in a folder (the empty
// path is the root), or that the folder is of. That the folder is what it was then says
// nothing: what was added may have been removed again.
func (m *merger) laterIn(folder string) bool {
	for id := range m.later {
		if strings.HasPrefix(id+"/", folder) || strings.HasPrefix(folder, id+"/") {
			return true
		}
	}
	return false
}

// theirsIsLater says whether the remote changed the type that a file is of since.
func (m *merger) theirsIsLater(path string) bool {
	workload, rest, _ := strings.Cut(path, "/")
	name, _, _ := strings.Cut(rest, "/")
	_, later := m.later[workload+"/"+name]
	return later
}

// entries returns the entries of a tree.
func (m *merger) entries(id plumbing.Hash) (map[string]treeEntry, error) {
	if id.IsZero() {
		return map[string]treeEntry{}, nil
	}
	if made, ok := m.made[id]; ok {
		entries := make(map[string]treeEntry, len(made))
		for _, e := range made {
			entries[e.name] = e
		}
		return entries, nil
	}
	tree, err := object.GetTree(m.storage, id)
	if err != nil {
		return nil, fmt.Errorf("reading the tree %s: %w", id, err)
	}
	return entriesOf(tree), nil
}

func (m *merger) read(entry treeEntry) ([]byte, error) {
	if content, ok := m.blobs[entry.id]; ok || entry.id.IsZero() {
		return content, nil
	}
	return readBlob(m.storage, entry.id)
}

func (m *merger) write(name string, content []byte) (treeEntry, error) {
	id := objectID(plumbing.BlobObject, content)
	m.blobs[id] = content
	if err := m.pack.put(plumbing.BlobObject, id, content); err != nil {
		return treeEntry{}, &port.StorageError{Err: err}
	}
	return treeEntry{name: name, mode: modeFile, id: id}, nil
}

// index writes the index of a merged folder: for each file what the side says whose
// content it has.
func (m *merger) index(merged, ours, theirs map[string]treeEntry) error {
	a, err := m.read(ours[indexFile])
	if err != nil {
		return err
	}
	b, err := m.read(theirs[indexFile])
	if err != nil {
		return err
	}
	ourNames, theirNames := decodeIndex(a), decodeIndex(b)
	items := map[string]indexed{}
	for name, entry := range merged {
		if name == indexFile || name == namesFile || entry.mode != modeFile || !strings.HasSuffix(name, fileEnding) {
			continue
		}
		item, ok := ourNames[name]
		if known, theirsToo := theirNames[name]; theirsToo && (!ok || entry != ours[name]) {
			item = known
		}
		items[name] = item
	}
	merged[indexFile], err = m.write(indexFile, encodeIndex(sortedKeys(items), items))
	return err
}

// coverage merges `coverage.json` by types: what the remote says of a type that it
// changed since counts, else what ours changed.
func (m *merger) coverage(base, ours, theirs treeEntry) (treeEntry, error) {
	var sides [3]coverage
	for i, entry := range []treeEntry{base, ours, theirs} {
		content, err := m.read(entry)
		if err != nil {
			return treeEntry{}, err
		}
		if sides[i], err = decodeCoverage(content); err != nil {
			sides[i] = coverage{} // broken by hand: it says nothing
		}
	}
	merged := coverage{}
	maps.Copy(merged, sides[2])
	for id, a := range sides[1] {
		_, later := m.later[id]
		if b := sides[2][id]; b == nil || (!later && !a.equal(sides[0][id])) {
			merged[id] = a
		}
	}
	content, err := merged.encode()
	if err != nil {
		return treeEntry{}, err
	}
	return m.write(coverageFile, content)
}
