package vault

import (
	"bytes"
	"crypto/sha1"
	"errors"
	"fmt"
	"io"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-json-experiment/json/jsontext"
)

// `_names.json` says for the ids that the items of a type refer to what is called so in
// the backup. It is made from the indexes of the next commit, so that nothing is asked
// of the tenant for it. It is no item, and what it says is no part of one:
// docs/decisions/names.md.

// How the lines of a file of names are built: one an id, so that a difference is one
// line.
const (
	namedType = `":{"configuration_type":`
	namedName = `,"display_name":`
)

// writeNames makes the files of names of the types that were written, and with them
// their folders.
func (s *staging) writeNames() error {
	written := s.writtenTypes()
	if err := s.lookUp(written); err != nil {
		return err
	}
	for _, staged := range written {
		if err := s.completeFolder(staged); err != nil {
			return err
		}
	}
	return nil
}

// writtenTypes are the staged types whose folders were written.
func (s *staging) writtenTypes() []*stagedType {
	var written []*stagedType
	for _, id := range s.settledTypes() {
		if staged := s.types[id]; staged.written {
			written = append(written, staged)
		}
	}
	return written
}

// lookUp finds the names of what the items of types refer to: one walk through all ids
// that are referred to and all that items have, both in order.
func (s *staging) lookUp(written []*stagedType) error {
	var wanted, known idStreams
	for _, staged := range written {
		staged.names = &spool{scratch: s.scratch}
		for _, run := range staged.references.runs {
			if err := wanted.add(run, idStream{of: staged.id, refersTo: staged}); err != nil {
				return err
			}
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	unread, err := s.eachType(func(id string, run *spool) error { return known.add(run, idStream{of: id, named: true}) })
	if err != nil {
		return err
	}
	if err := s.keepNames(written, unread); err != nil {
		return err
	}
	for len(wanted) > 0 && (len(known) > 0 || len(unread) > 0) {
		id, staged := wanted.first().id, wanted.first().refersTo
		item, err := known.find(id)
		if err != nil {
			return err
		}
		kept, err := staged.keptNames.find(id)
		if err != nil {
			return err
		}
		if kept != nil && (item == nil || kept.of < item.of) {
			item = kept
		}
		if item != nil {
			if err := staged.addName(item); err != nil {
				return err
			}
		}
		if err := wanted.advance(); err != nil {
			return err
		}
	}
	return nil
}

// addName notes the name of an item that the type refers to. Ids come in order, one may
// come again.
func (t *stagedType) addName(item *idStream) error {
	if t.names.size() > 0 && t.lastNamed == item.id {
		return nil
	}
	if kind := jsontext.Value(item.name).Kind(); kind != '"' || !jsontext.Value(item.name).IsValid() {
		return nil // of an index that somebody changed by hand
	}
	begin := ",\n"
	if t.names.size() == 0 {
		begin = "{\n"
	}
	t.lastNamed = item.id
	line := appendGUID(append([]byte(begin), indentation+`"`...), item.id)
	line = appendString(append(line, namedType...), item.of)
	line = append(append(append(line, namedName...), item.name...), '}')
	_, err := t.names.Write(line)
	return err
}

// eachType gives the items of all types of the next commit to visit, of each type as a
// run, and returns those that cannot be read. These stop no commit: names are a
// convenience.
func (s *staging) eachType(visit func(id string, run *spool) error) (unreadTypes, error) {
	unread := unreadTypes{}
	for _, workload := range s.root.Entries {
		if workload.Mode != filemode.Dir {
			continue
		}
		tree, err := object.GetTree(s.storage, workload.Hash)
		if err != nil {
			s.noteUnread(unread, workload.Name, err)
			continue
		}
		for _, entry := range tree.Entries {
			id := workload.Name + "/" + entry.Name
			if staged := s.types[id]; entry.Mode != filemode.Dir || (staged != nil && staged.written) {
				continue
			}
			run, err := s.runOf(&stagedType{treeBefore: entry.Hash})
			if err != nil {
				s.noteUnread(unread, id, err)
				continue
			}
			if err := visit(id, run); err != nil {
				return nil, err
			}
		}
	}
	for _, staged := range s.writtenTypes() {
		if err := visit(staged.id, staged.items); err != nil {
			return nil, err
		}
	}
	return unread, nil
}

// runOf returns the items of a type as a run.
func (s *staging) runOf(staged *stagedType) (*spool, error) {
	run := &spool{scratch: s.scratch}
	var index plumbing.Hash
	err := s.eachEntryOf(staged, plumbing.ZeroHash, func(name []byte, mode filemode.FileMode, id plumbing.Hash) error {
		if string(name) == indexFile && isFile(mode) {
			index = id
		}
		return nil
	})
	if err != nil || index.IsZero() {
		return run, err
	}
	var all *lines
	if s.pack.has(index) {
		content, err := s.pack.content(plumbing.BlobObject, index)
		if err != nil {
			return nil, err
		}
		all = linesIn(content)
	} else if all, err = s.linesOf(&stagedType{index: index}); err != nil {
		return nil, err
	}
	defer all.close()
	if all.scanner == nil && all.known == nil {
		return nil, errBrokenIndex
	}
	if all.scanner != nil {
		for all.next() {
			if err := addToRun(run, all.line); err != nil {
				return nil, err
			}
		}
		return run, all.scanner.Err()
	}
	for _, file := range sortedKeys(all.known) {
		if err := addToRun(run, appendLine(nil, file, all.known[file])); err != nil {
			return nil, err
		}
	}
	return run, nil
}

// addToRun adds an item to a run of names by its line of the index, if its id is a GUID
// and it has a name. Lines come ordered by file, which is the order of such ids.
func addToRun(run *spool, line []byte) error {
	const before, after = len(lineBegin) + 1, len(lineBegin) + 1 + guidText
	if len(line) < after || !bytes.HasPrefix(line, []byte(lineBegin+`"`)) {
		return nil
	}
	id, ok := parseGUID(line[before:after])
	if !ok {
		return nil
	}
	rest, isFile := bytes.CutSuffix(line[after:], fmt.Appendf(nil, `%s"%s%s`, lineFile, line[before:after], fileEnding+lineEnd))
	name, hasName := bytes.CutPrefix(rest, []byte(`"`+namedName))
	if !isFile || !hasName {
		return nil
	}
	_, err := run.Write(appendNamed(nil, id, name))
	return err
}

// completeFolder writes the file of names of a type, if there are any, and the folder
// with it.
func (s *staging) completeFolder(staged *stagedType) error {
	var names plumbing.Hash
	if staged.names.size() > 0 {
		if _, err := io.WriteString(staged.names, "\n}\n"); err != nil {
			return err
		}
		var err error
		names, err = s.pack.putStream(plumbing.BlobObject, staged.names.size(), staged.namesBefore, staged.names.writeTo)
		if err != nil {
			return err
		}
	}
	if staged.bare == staged.bareBefore && names == staged.namesBefore {
		return nil
	}
	var size int64
	err := s.eachEntryOf(staged, names, func(name []byte, mode filemode.FileMode, id plumbing.Hash) error {
		size += int64(len(appendEntry(nil, modeOf(mode), name, id)))
		return nil
	})
	if err != nil {
		return err
	}
	staged.tree, err = s.pack.putStream(plumbing.TreeObject, size, staged.treeBefore, func(w io.Writer) error {
		var out []byte
		return s.eachEntryOf(staged, names, func(name []byte, mode filemode.FileMode, id plumbing.Hash) error {
			out = appendEntry(out[:0], modeOf(mode), name, id)
			_, err := w.Write(out)
			return err
		})
	})
	return err
}

// eachEntryOf gives the entries of the next folder of a type to visit: those that it
// has without names, and the names, if there are any, at their place.
func (s *staging) eachEntryOf(staged *stagedType, names plumbing.Hash, visit func(name []byte, mode filemode.FileMode, id plumbing.Hash) error) error {
	pending := !names.IsZero()
	insert := func() error {
		pending = false
		return visit([]byte(namesFile), filemode.Regular, names)
	}
	entry := func(name []byte, mode filemode.FileMode, id plumbing.Hash) error {
		if string(name) == namesFile && (isFile(mode) || !names.IsZero()) {
			return nil // the one of the last commit, or what somebody put in its place
		}
		key := treeEntry{name: string(name), mode: modeOf(mode)}.key()
		if pending && key > namesFile {
			if err := insert(); err != nil {
				return err
			}
		}
		return visit(name, mode, id)
	}
	var err error
	if staged.bare == staged.bareBefore {
		err = eachEntry(s.storage, staged.treeBefore, entry)
	} else {
		err = s.pack.eachTreeEntry(staged.bare, entry)
	}
	if err == nil && pending {
		err = insert()
	}
	return err
}

// readNames reads what the last commit has of the names of a type.
func (t *stagedType) readNames(storage *store, folder plumbing.Hash) error {
	t.treeBefore, t.tree, t.bareBefore = folder, folder, folder
	err := eachEntry(storage, folder, func(name []byte, mode filemode.FileMode, id plumbing.Hash) error {
		if string(name) == namesFile && isFile(mode) {
			t.namesBefore = id
		}
		return nil
	})
	if err == nil && !t.namesBefore.IsZero() {
		t.bareBefore, err = withoutNames(storage, folder)
	}
	t.bare = t.bareBefore
	return err
}

// resumeNames reads what an earlier worker of the sync kept of a type for its names.
func (s *staging) resumeNames(staged *stagedType, kept string) (err error) {
	if staged.items, err = s.runOf(staged); err != nil || kept == "" {
		return err
	}
	staged.kept = plumbing.NewHash(kept)
	content, err := s.pack.content(plumbing.BlobObject, staged.kept)
	if err != nil {
		return err
	}
	run := &spool{scratch: s.scratch}
	_, err = io.Copy(run, content)
	staged.references.runs = []*spool{run}
	return errors.Join(err, content.Close())
}

// withoutNames returns what the id of a folder would be without its names.
func withoutNames(storage *store, folder plumbing.Hash) (id plumbing.Hash, err error) {
	tree, err := storage.EncodedObject(plumbing.TreeObject, folder)
	if err != nil {
		return id, err
	}
	size := tree.Size() - int64(len(appendEntry(nil, modeFile, namesFile, id)))
	sum := sha1.New()
	sum.Write(objectHeader(plumbing.TreeObject, size))
	var out []byte
	err = eachEntry(storage, folder, func(name []byte, mode filemode.FileMode, id plumbing.Hash) error {
		if string(name) == namesFile {
			return nil
		}
		out = appendEntry(out[:0], modeOf(mode), name, id)
		sum.Write(out)
		return nil
	})
	sum.Sum(id[:0])
	return id, err
}

// addNamesBefore adds to the references of a type those in its last file of names: of
// the items that were not read nothing else is known.
func (s *staging) addNamesBefore(staged *stagedType) error {
	return s.eachNameBefore(staged, func(id objectGUID, _ []byte) error { return staged.references.add(id) })
}

// eachNameBefore gives the lines of the last file of names of a type to visit: the id,
// and what comes after it. A line that is not built as ours are is none.
func (s *staging) eachNameBefore(staged *stagedType, visit func(id objectGUID, rest []byte) error) error {
	if staged.namesBefore.IsZero() {
		return nil
	}
	blob, err := object.GetBlob(s.storage, staged.namesBefore)
	if err != nil {
		return fmt.Errorf("reading names: %w", err)
	}
	l, err := openLines(blob)
	if err != nil {
		return fmt.Errorf("reading names: %w", err)
	}
	defer l.close()
	for l.scanner.Scan() {
		text, _ := bytes.CutPrefix(l.scanner.Bytes(), []byte(indentation+`"`))
		length := min(len(text), guidText)
		if id, ok := parseGUID(text[:length]); ok {
			if err := visit(id, text[length:]); err != nil {
				return err
			}
		}
	}
	return l.scanner.Err()
}
