package vault

import (
	"bufio"
	"errors"
	"io"
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
	sortEntries(entries)
	content := make([]byte, 0, len(entries)*80)
	for _, e := range entries {
		content = appendEntry(content, e.mode, e.name, e.id)
	}
	return content
}

func sortEntries(entries []treeEntry) {
	slices.SortFunc(entries, func(a, b treeEntry) int {
		if a.isFolder() || b.isFolder() {
			return strings.Compare(a.key(), b.key())
		}
		return strings.Compare(a.name, b.name)
	})
}

// key is what a tree is sorted by.
func (e treeEntry) key() string {
	if e.isFolder() {
		return e.name + "/"
	}
	return e.name
}

func appendEntry[T string | []byte](content []byte, mode string, name T, id plumbing.Hash) []byte {
	content = append(append(content, mode...), ' ')
	content = append(append(content, name...), 0)
	return append(content, id[:]...)
}

// folderSize is how long the tree of a table and of others is, and writeFolder
// writes it. The others are sorted, and have other names.
func folderSize(items *table, others []treeEntry) int64 {
	const around = int64(len(modeFile) + len(" ") + 1 + len(plumbing.ZeroHash))
	size := items.nameBytes + int64(items.len())*around
	for _, e := range others {
		size += int64(len(e.mode)+len(e.name)) + around - int64(len(modeFile))
	}
	return size
}

func writeFolder(w io.Writer, items *table, others []treeEntry) error {
	var out []byte
	err := items.each(func(name []byte, id plumbing.Hash) error {
		out = out[:0]
		for len(others) > 0 && others[0].key() < string(name) {
			out = appendEntry(out, others[0].mode, others[0].name, others[0].id)
			others = others[1:]
		}
		_, err := w.Write(appendEntry(out, modeFile, name, id))
		return err
	})
	out = out[:0]
	for _, e := range others {
		out = appendEntry(out, e.mode, e.name, e.id)
	}
	if err == nil {
		_, err = w.Write(out)
	}
	return err
}

// eachEntry gives the entries of a tree to visit, as they come; the name is valid
// for the call only.
func eachEntry(storage *store, id plumbing.Hash, visit func(name []byte, mode filemode.FileMode, id plumbing.Hash) error) (err error) {
	tree, err := storage.EncodedObject(plumbing.TreeObject, id)
	if err != nil {
		return err
	}
	reader, err := tree.Reader()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, reader.Close()) }()
	return entriesIn(reader, visit)
}

// entriesIn gives the entries of the content of a tree to visit.
func entriesIn(content io.Reader, visit func(name []byte, mode filemode.FileMode, id plumbing.Hash) error) error {
	in := bufio.NewReader(content)
	var name []byte
	for {
		text, err := in.ReadString(' ')
		if errors.Is(err, io.EOF) && text == "" {
			return nil
		}
		if err != nil {
			return err
		}
		mode, err := filemode.New(strings.TrimSuffix(text, " "))
		if err != nil {
			return err
		}
		name = name[:0]
		for {
			piece, err := in.ReadSlice(0)
			name = append(name, piece...)
			if err == nil {
				break
			}
			if !errors.Is(err, bufio.ErrBufferFull) {
				return err
			}
		}
		var entry plumbing.Hash
		if _, err := io.ReadFull(in, entry[:]); err != nil {
			return err
		}
		if err := visit(name[:len(name)-1], mode, entry); err != nil {
			return err
		}
	}
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
