package vault

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"

	"understudy.internal/internal/port"
)

// The modes of tree entries.
const (
	modeFile   = "100644"
	modeFolder = "40000"
)

// treeEntry is a file or a folder in a folder.
type treeEntry struct {
	name, mode string
	id         plumbing.Hash
}

func (e treeEntry) isFolder() bool { return e.mode == modeFolder }

// isFile says whether it is a file as this package writes them.
func (e treeEntry) isFile() bool { return e.mode == modeFile || e.mode == modeOf(filemode.Deprecated) }

// modeOf returns a mode as a tree spells it.
func modeOf(mode filemode.FileMode) string { return strconv.FormatUint(uint64(mode), 8) }

// entriesOf returns the entries of a tree by name.
func entriesOf(tree *object.Tree) map[string]treeEntry {
	entries := make(map[string]treeEntry, len(tree.Entries))
	for _, e := range tree.Entries {
		entries[e.Name] = treeEntry{name: e.Name, mode: modeOf(e.Mode), id: e.Hash}
	}
	return entries
}

// encodeTree returns the content of a tree. It sorts the entries as Git does:
// folders as if their names ended with a slash.
func encodeTree(entries []treeEntry) []byte {
	key := func(e treeEntry) string {
		if e.isFolder() {
			return e.name + "/"
		}
		return e.name
	}
	slices.SortFunc(entries, func(a, b treeEntry) int {
		if a.isFolder() || b.isFolder() {
			return strings.Compare(key(a), key(b))
		}
		return strings.Compare(a.name, b.name)
	})
	content := make([]byte, 0, len(entries)*80)
	for _, e := range entries {
		content = append(content, e.mode...)
		content = append(content, ' ')
		content = append(content, e.name...)
		content = append(content, 0)
		content = append(content, e.id[:]...)
	}
	return content
}

// putTree writes a folder, unless it is the one that there was, and returns its
// id; zero for an empty one, which Git does not have.
func (w *packWriter) putTree(entries []treeEntry, before plumbing.Hash) (plumbing.Hash, error) {
	if len(entries) == 0 {
		return plumbing.ZeroHash, nil
	}
	content := encodeTree(entries)
	id := objectID(plumbing.TreeObject, content)
	if id == before {
		return id, nil
	}
	if err := w.put(plumbing.TreeObject, id, content); err != nil {
		return id, &port.StorageError{Err: err}
	}
	return id, nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func values(entries map[string]treeEntry) []treeEntry { return slices.Collect(maps.Values(entries)) }
