package vault

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
)

// staging implements [port.Staging].
type staging struct {
	vault   *Vault
	turn    port.Turn
	held    *hold
	storage *store
	// previous is the last commit, or nil; root its tree.
	previous *object.Commit
	root     *object.Tree

	mu sync.Mutex
	// pack is nil after the commit.
	pack *packWriter
	// snapshot is what Commit returned, or an earlier worker of the sync committed.
	snapshot *understudyv1.Snapshot
	types    map[string]*stagedType
	coverage coverage
	notes    notes
	// scratch has the names of the staged types.
	scratch *scratch
	closed  bool
	// checkpointing is held while a checkpoint is made, and taken before mu.
	checkpointing sync.Mutex
	checkpoints   checkpoints
}

// stagedType is what a sync read of a type.
type stagedType struct {
	id string
	// before are the items of the last commit, without their lines of the index.
	before *table
	// sidesBefore are their side files, by the item's name.
	sidesBefore map[string][]sideFile
	// index is the index of the last commit, or zero.
	index plumbing.Hash
	// foreign are the entries of the folder that are not ours.
	foreign []treeEntry
	// treeBefore is the folder of the last commit, bareBefore the same without its
	// names, and namesBefore these; zero if there is none.
	treeBefore, bareBefore, namesBefore plumbing.Hash
	// staged are the items read, and sides the files beside them.
	staged *table
	sides  map[string][]sideFile
	// found is how many of them the last commit has too, modified how many of these
	// with other content, and added how many it does not have.
	found, modified, added int
	// tree is the folder of the next commit, bare the same without its names; zero:
	// none. It is known when the commit is made.
	tree, bare plumbing.Hash
	settled    bool
	// written says that the folder is made anew.
	written bool
	// references are the ids that the items refer to, items those that they have, with
	// names, and names is the file of names. keptNames are those of the last one that
	// cannot be looked up.
	references references
	items      *spool
	names      *spool
	keptNames  idStreams
	lastNamed  objectGUID
	// kept is the blob of the references that another worker of the sync can use.
	kept plumbing.Hash
}

// errDone says that a staging is used after its commit.
var errDone = errors.New("the staging is committed or closed")

// Begin implements [port.Vault].
func (v *Vault) Begin(ctx context.Context, turn port.Turn) (port.Staging, error) {
	held, left, err := v.take(ctx, turn)
	if err != nil {
		return nil, err
	}
	s := &staging{
		vault: v, turn: turn, held: held, storage: v.keptOpen(), types: map[string]*stagedType{}, scratch: &scratch{directory: v.config.Directory},
	}
	c := &s.checkpoints
	c.sync, c.settled, c.begun, c.last = turn.Sync, map[string]*settledType{}, v.now(), v.now()
	err = s.open()
	if err == nil && turn.Attempt > 1 {
		err = s.findCommitted(ctx)
	}
	if err == nil && left != nil && s.snapshot == nil {
		err = s.resume(ctx, left)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *staging) open() error {
	var err error
	if s.previous, err = s.vault.tip(s.storage); err != nil {
		return err
	}
	s.root = &object.Tree{}
	if s.previous != nil {
		if s.root, err = s.previous.Tree(); err != nil {
			return fmt.Errorf("reading the last tree: %w", err)
		}
	}
	if s.coverage, err = s.vault.readCoverage(s.root); err != nil {
		return err
	}
	if s.notes, err = s.vault.readNotes(); err != nil {
		return err
	}
	if s.pack, err = newPackWriter(s.vault.packDirectory()); err != nil {
		return &port.StorageError{Err: err}
	}
	return nil
}

// findCommitted looks for the commit of an earlier worker of the sync, which may have
// come after anybody asked for it last.
func (s *staging) findCommitted(ctx context.Context) (err error) {
	if s.previous == nil {
		return nil
	}
	if s.snapshot, err = s.vault.findSync(ctx, s.storage, s.previous.Hash, s.turn.Sync); err != nil || s.snapshot == nil {
		return err
	}
	s.checkpoints.ended = true
	err = s.discard(false)
	s.pack = nil
	return err
}

// Committed implements [port.Staging].
func (s *staging) Committed() *understudyv1.Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.snapshot
}

// typeOf returns the staged type, and reads what the last commit has of it.
func (s *staging) typeOf(t *catalog.Type) (*stagedType, error) {
	if staged := s.types[t.ID]; staged != nil {
		return staged, nil
	}
	staged := &stagedType{
		id: t.ID, before: newTable(s.scratch), staged: newTable(s.scratch), sides: map[string][]sideFile{},
		references: references{scratch: s.scratch}, items: &spool{scratch: s.scratch},
	}
	folder, err := s.folderBefore(t)
	if err != nil {
		return nil, err
	}
	if !folder.IsZero() {
		if err := staged.read(s.storage, folder); err != nil {
			return nil, fmt.Errorf("reading the folder %s: %w", t.ID, err)
		}
	}
	s.types[t.ID] = staged
	return staged, nil
}

// folderBefore returns the folder that the last commit has of a type, or zero.
func (s *staging) folderBefore(t *catalog.Type) (plumbing.Hash, error) {
	workload, name, _ := strings.Cut(t.ID, "/")
	folder := folderIn(s.root, workload)
	if folder.IsZero() {
		return folder, nil
	}
	tree, err := object.GetTree(s.storage, folder)
	if err != nil {
		return plumbing.ZeroHash, fmt.Errorf("reading the folder %s: %w", workload, err)
	}
	return folderIn(tree, name), nil
}

// folderIn returns the id of a folder in another, zero when there is none.
func folderIn(tree *object.Tree, name string) plumbing.Hash {
	for _, entry := range tree.Entries {
		if entry.Name == name && entry.Mode == filemode.Dir {
			return entry.Hash
		}
	}
	return plumbing.ZeroHash
}

func (t *stagedType) read(storage *store, id plumbing.Hash) error {
	t.treeBefore, t.tree, t.bareBefore = id, id, id
	var others []treeEntry
	err := eachEntry(storage, id, func(name []byte, mode filemode.FileMode, id plumbing.Hash) error {
		switch {
		case string(name) == indexFile && isFile(mode):
			t.index = id
		case string(name) == namesFile && isFile(mode):
			t.namesBefore = id
		case isItem(string(name), mode):
			return t.before.add(name, nil, id)
		default:
			others = append(others, treeEntry{name: string(name), mode: modeOf(mode), id: id})
		}
		return nil
	})
	if err != nil {
		return err
	}
	if !t.namesBefore.IsZero() {
		if t.bareBefore, err = withoutNames(storage, id); err != nil {
			return err
		}
	}
	t.bare = t.bareBefore
	t.sidesBefore, t.foreign, err = splitSides(others, t.before.has)
	return err
}

// Add implements [port.Staging]. Only the bookkeeping and the write are done one
// at a time; the costly part is not.
func (s *staging) Add(t *catalog.Type, item port.Item) error {
	if item.ID == "" {
		return &port.ItemError{Detail: "it has no id"}
	}
	if !utf8.ValidString(item.ID) {
		return &port.ItemError{Detail: "its id is not UTF-8"}
	}
	rules, err := s.vault.rulesOf(t)
	if err != nil {
		return err
	}
	name := SafeName(item.ID) + fileEnding
	content, sides, err := s.filesOf(t, rules, name, item.JSON)
	if err != nil {
		return err
	}
	blob := objectID(plumbing.BlobObject, content)
	line := appendLine(nil, name, indexed{item.ID, strings.ToValidUTF8(item.DisplayName, "\uFFFD")})
	isNew, err := s.stage(t, stagedItem{name: name, line: line, blob: blob, references: referencesIn(content, item.ID)}, sides)
	if err != nil {
		return err
	}
	if isNew {
		if err := s.store(blob, content); err != nil {
			return err
		}
	}
	if err := s.storeSides(sides); err != nil {
		return err
	}
	s.checkpointIfDue()
	return nil
}

// stagedItem is an item that was read: its file, its line of the index, what is in the
// file, and the ids that it refers to.
type stagedItem struct {
	name       string
	line       []byte
	blob       plumbing.Hash
	references []objectGUID
}

// stage notes an item, and says whether its content is to be stored. It takes from
// the side files what is stored already.
func (s *staging) stage(t *catalog.Type, item stagedItem, sides []madeSide) (isNew bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	staged, err := s.unsettled(t)
	if err != nil {
		return false, err
	}
	before, again, err := staged.staged.find(item.name)
	switch {
	case err != nil:
		return false, &port.StorageError{Err: err}
	case again && before == item.blob: // a list that moved while it was read brings an item twice
		for i := range sides {
			sides[i].content = nil
		}
		return false, nil
	case again:
		return false, &port.ItemError{Detail: "another item has the same id"}
	}
	changed, err := staged.add(item, sidesOf(sides))
	if err != nil {
		return false, &port.StorageError{Err: err}
	}
	for i, side := range sides {
		if s.pack.has(side.id) || slices.Contains(staged.sidesBefore[item.name], side.sideFile) {
			sides[i].content = nil
		}
	}
	return changed && !s.pack.has(item.blob), nil
}

// add notes an item, and says whether its content is not what it was.
func (t *stagedType) add(item stagedItem, sides []sideFile) (changed bool, err error) {
	before, found, err := t.before.find(item.name)
	if err := errors.Join(err, t.staged.add([]byte(item.name), item.line, item.blob), t.references.add(item.references...)); err != nil {
		return false, err
	}
	if len(sides) > 0 {
		t.sides[item.name] = sides
	}
	switch {
	case !found:
		t.added++
	case before != item.blob || !slices.Equal(t.sidesBefore[item.name], sides):
		t.found++
		t.modified++
	default:
		t.found++
	}
	return !found || before != item.blob, nil
}

// unsettled returns a type that items can be added to.
func (s *staging) unsettled(t *catalog.Type) (*stagedType, error) {
	if s.pack == nil || s.closed {
		return nil, errDone
	}
	staged, err := s.typeOf(t)
	if err == nil && staged.settled {
		err = fmt.Errorf("%s is settled already", t.ID)
	}
	return staged, err
}

// store writes a file to the pack. After an error there can be no commit: the
// pack remembers it.
func (s *staging) store(id plumbing.Hash, content []byte) error {
	d := deflaters.get()
	defer d.release()
	entry, err := d.deflate(plumbing.BlobObject, content)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pack == nil || s.closed {
		return errDone
	}
	if err := s.pack.append(id, entry); err != nil {
		return &port.StorageError{Err: err}
	}
	return nil
}

// Close implements [port.Staging]. What was settled and not committed is kept for
// another worker of the same sync.
func (s *staging) Close() error {
	s.endTimer()
	s.checkpointing.Lock()
	defer s.checkpointing.Unlock()
	s.mu.Lock()
	fresh := s.checkpoints.fresh && s.vault.config.CheckpointInterval > 0
	s.mu.Unlock()
	if fresh {
		s.checkpoint()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	err := errors.Join(s.storage.Close(), s.scratch.close())
	lost := s.held.check() != nil
	if s.checkpoints.ended && !lost {
		err = errors.Join(err, s.vault.removeCheckpoint())
	}
	if s.pack != nil {
		err = errors.Join(err, s.discard(lost))
	} else if lost {
		s.vault.logger.Warn("another worker took the repository over; its packs are not for us to merge")
	} else if err := s.vault.mergePacks(); err != nil {
		s.vault.logger.Warn("merging packs failed; the backup is whole", "error", err)
	}
	return errors.Join(err, s.held.release())
}

// settledTypes returns the ids of the settled types, sorted.
func (s *staging) settledTypes() []string {
	ids := slices.Sorted(maps.Keys(s.types))
	return slices.DeleteFunc(ids, func(id string) bool { return !s.types[id].settled })
}
