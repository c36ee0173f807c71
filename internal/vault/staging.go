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
	"github.com/go-git/go-git/v5/storage/filesystem"
	"github.com/gofrs/flock"

	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
)

// staging implements [port.Staging].
type staging struct {
	vault   *Vault
	lock    *flock.Flock
	storage *filesystem.Storage
	// previous is the last commit, or nil; root its tree.
	previous *object.Commit
	root     *object.Tree

	mu sync.Mutex
	// pack is nil after the commit.
	pack     *packWriter
	types    map[string]*stagedType
	coverage coverage
	notes    notes
	// used counts the uses of staged content, unused has what no folder took.
	used   map[plumbing.Hash]int
	unused []plumbing.Hash
	closed bool
}

// stagedType is what a sync read of a type.
type stagedType struct {
	// before are the items of the last commit: name → blob.
	before map[string]plumbing.Hash
	// sidesBefore are their side files, by the item's name.
	sidesBefore map[string][]sideFile
	// index is the index of the last commit, or zero.
	index plumbing.Hash
	// foreign are the entries of the folder that are not ours.
	foreign []treeEntry
	// treeBefore is the folder of the last commit; zero if there is none.
	treeBefore plumbing.Hash
	// staged are the files read: name → what is in them.
	staged map[string]stagedItem
	// tree is the folder of the next commit; zero: none.
	tree    plumbing.Hash
	settled bool
}

type stagedItem struct {
	id, displayName string
	// line is what the index says, where that is known and the rest is not.
	line []byte
	blob plumbing.Hash
	// sides are the files beside it, sorted.
	sides []sideFile
}

// errDone says that a staging is used after its commit.
var errDone = errors.New("the staging is committed or closed")

// Begin implements [port.Vault].
func (v *Vault) Begin(ctx context.Context) (port.Staging, error) {
	lock, err := v.take(ctx)
	if err != nil {
		return nil, err
	}
	s := &staging{vault: v, lock: lock, storage: v.keptOpen(), types: map[string]*stagedType{}, used: map[plumbing.Hash]int{}}
	if err := s.open(); err != nil {
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

// typeOf returns the staged type, and reads what the last commit has of it.
func (s *staging) typeOf(t *catalog.Type) (*stagedType, error) {
	if staged := s.types[t.ID]; staged != nil {
		return staged, nil
	}
	staged := &stagedType{before: map[string]plumbing.Hash{}, staged: map[string]stagedItem{}}
	workload, name, _ := strings.Cut(t.ID, "/")
	folder := folderIn(s.root, workload)
	if !folder.IsZero() {
		tree, err := object.GetTree(s.storage, folder)
		if err != nil {
			return nil, fmt.Errorf("reading the folder %s: %w", workload, err)
		}
		folder = folderIn(tree, name)
	}
	if !folder.IsZero() {
		if err := staged.read(s.storage, folder); err != nil {
			return nil, fmt.Errorf("reading the folder %s: %w", t.ID, err)
		}
	}
	s.types[t.ID] = staged
	return staged, nil
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

func (t *stagedType) read(storage *filesystem.Storage, id plumbing.Hash) error {
	tree, err := object.GetTree(storage, id)
	if err != nil {
		return err
	}
	t.treeBefore, t.tree = id, id
	for _, file := range tree.Entries {
		switch {
		case file.Name == indexFile && isFile(file.Mode):
			t.index = file.Hash
		case isItem(file.Name, file.Mode):
			t.before[file.Name] = file.Hash
		default:
			t.foreign = append(t.foreign, treeEntry{name: file.Name, mode: modeOf(file.Mode), id: file.Hash})
		}
	}
	t.sidesBefore, t.foreign = splitSides(t.foreign, t.before)
	return nil
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
	staged := stagedItem{
		id: item.ID, displayName: strings.ToValidUTF8(item.DisplayName, "\uFFFD"),
		blob: objectID(plumbing.BlobObject, content), sides: sidesOf(sides),
	}
	isNew, err := s.stage(t, name, staged, sides)
	if err != nil {
		return err
	}
	if isNew {
		if err := s.store(staged.blob, content); err != nil {
			return err
		}
	}
	return s.storeSides(sides)
}

// stage notes an item, and says whether its content is to be stored. It takes from
// the side files what is stored already.
func (s *staging) stage(t *catalog.Type, name string, item stagedItem, sides []madeSide) (isNew bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	staged, err := s.unsettled(t)
	if err != nil {
		return false, err
	}
	if _, ok := staged.staged[name]; ok {
		return false, &port.ItemError{Detail: "another item has the same id"}
	}
	staged.staged[name] = item
	for i, side := range sides {
		if s.pack.has(side.id) || slices.Contains(staged.sidesBefore[name], side.sideFile) {
			sides[i].content = nil
		}
	}
	return staged.before[name] != item.blob && !s.pack.has(item.blob), nil
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

// Close implements [port.Staging].
func (s *staging) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	err := s.storage.Close()
	if s.pack != nil {
		s.pack.abort()
	} else if err := s.vault.mergePacks(); err != nil {
		s.vault.logger.Warn("merging packs failed; the backup is whole", "error", err)
	}
	return errors.Join(err, s.lock.Unlock())
}

// settledTypes returns the ids of the settled types, sorted.
func (s *staging) settledTypes() []string {
	ids := slices.Sorted(maps.Keys(s.types))
	return slices.DeleteFunc(ids, func(id string) bool { return !s.types[id].settled })
}
