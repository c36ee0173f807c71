package vault

import (
	"maps"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"

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

// putTree writes a folder, unless it is the one that there was, and returns its
// id; zero for an empty one, which Git does not have.
func (s *staging) putTree(entries []treeEntry, before plumbing.Hash) (plumbing.Hash, error) {
	if len(entries) == 0 {
		return plumbing.ZeroHash, nil
	}
	// Git sorts folders as if their names ended with a slash.
	key := func(e treeEntry) string {
		if e.mode == modeFolder {
			return e.name + "/"
		}
		return e.name
	}
	slices.SortFunc(entries, func(a, b treeEntry) int { return strings.Compare(key(a), key(b)) })
	content := make([]byte, 0, len(entries)*64)
	for _, e := range entries {
		content = append(content, e.mode...)
		content = append(content, ' ')
		content = append(content, e.name...)
		content = append(content, 0)
		content = append(content, e.id[:]...)
	}
	id := objectID(plumbing.TreeObject, content)
	if id == before {
		return id, nil
	}
	if err := s.pack.put(plumbing.TreeObject, id, content); err != nil {
		return id, &port.StorageError{Err: err}
	}
	return id, nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
