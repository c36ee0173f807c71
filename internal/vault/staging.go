package vault

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/storage/filesystem"
	"github.com/gofrs/flock"

	understudyv1 "understudy.internal/gen/understudy/v1"
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

	mu       sync.Mutex
	pack     *packWriter
	types    map[string]*stagedType
	coverage coverage
	complete map[string]time.Time
	last     lastComplete
	closed   bool
}

// stagedType is what a sync read of a type.
type stagedType struct {
	// before are the files of the last commit: name → blob.
	before map[string]plumbing.Hash
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
	blob            plumbing.Hash
}

// Begin implements [port.Vault].
func (v *Vault) Begin(ctx context.Context) (port.Staging, error) {
	lock, err := v.take(ctx)
	if err != nil {
		return nil, err
	}
	s := &staging{vault: v, lock: lock, types: map[string]*stagedType{}, complete: map[string]time.Time{}}
	if err := s.open(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *staging) open() error {
	s.storage = s.vault.storage()
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
	if s.coverage, err = readCoverage(s.root); err != nil {
		return err
	}
	if s.last, err = s.vault.readLastComplete(); err != nil {
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
	if entry, err := s.root.FindEntry(t.ID); err == nil && entry.Mode == filemode.Dir {
		tree, err := object.GetTree(s.storage, entry.Hash)
		if err != nil {
			return nil, fmt.Errorf("reading the folder %s: %w", t.ID, err)
		}
		staged.treeBefore, staged.tree = entry.Hash, entry.Hash
		for _, file := range tree.Entries {
			staged.before[file.Name] = file.Hash
		}
	} else if err != nil && !errors.Is(err, object.ErrEntryNotFound) && !errors.Is(err, object.ErrDirectoryNotFound) {
		return nil, fmt.Errorf("reading the last tree: %w", err)
	}
	s.types[t.ID] = staged
	return staged, nil
}

// rulesOf returns the compiled rules of a type.
func (v *Vault) rulesOf(t *catalog.Type) (*rules, error) {
	if known, ok := v.rules.Load(t); ok {
		return known.(*rules), nil
	}
	compiled, err := newRules(t, v.config.FingerprintKey)
	if err == nil {
		v.rules.Store(t, compiled)
	}
	return compiled, err
}

// Add implements [port.Staging].
func (s *staging) Add(t *catalog.Type, item port.Item) error {
	rules, err := s.vault.rulesOf(t)
	if err != nil {
		return err
	}
	content, err := rules.canonical(item.JSON)
	if err != nil {
		return err
	}
	if item.ID == "" {
		return &port.ItemError{Detail: "it has no id"}
	}
	name := SafeName(item.ID) + fileEnding
	id := objectID(plumbing.BlobObject, content)

	s.mu.Lock()
	defer s.mu.Unlock()
	staged, err := s.typeOf(t)
	if err != nil {
		return err
	}
	if _, ok := staged.staged[name]; ok {
		return &port.ItemError{Detail: "another item has the same id"}
	}
	if staged.before[name] != id {
		if err := s.pack.put(plumbing.BlobObject, id, content); err != nil {
			return &port.StorageError{Err: err}
		}
	}
	staged.staged[name] = stagedItem{id: item.ID, displayName: item.DisplayName, blob: id}
	return nil
}

// Settle implements [port.Staging].
func (s *staging) Settle(t *catalog.Type, reading port.Reading) (port.Settlement, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	staged, err := s.typeOf(t)
	if err != nil {
		return port.Settlement{}, err
	}
	if staged.settled {
		return port.Settlement{}, fmt.Errorf("%s is settled twice", t.ID)
	}
	staged.settled = true
	result := port.Settlement{Outcome: reading.Outcome, Reason: reading.Reason, Path: t.ID}
	complete := reading.Outcome == understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_CHANGED ||
		reading.Outcome == understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_UNCHANGED
	if complete && s.collapsed(t, staged, reading) {
		complete = false
		result.Outcome = understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_INCOMPLETE
		result.Reason = understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_COUNT_COLLAPSED
		reading.Reason = result.Reason
	}
	switch {
	case complete:
		err = s.replace(staged, &result)
	case result.Outcome == understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_INCOMPLETE:
		err = s.update(staged, &result)
	default:
		result.Items = staged.countBefore()
	}
	if err != nil {
		return port.Settlement{}, err
	}
	if complete {
		result.Outcome = understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_UNCHANGED
		if staged.tree != staged.treeBefore {
			result.Outcome = understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_CHANGED
		}
		s.complete[t.ID] = reading.Time
		result.LastComplete = reading.Time
	} else {
		result.LastComplete = s.lastCompleteOf(t.ID)
	}
	s.coverage.settle(t.ID, result, reading, staged, s.lastCompleteOf(t.ID))
	staged.before, staged.staged = nil, nil // the tree has what the commit needs
	return result, nil
}

// replace makes the folder of exactly what was read.
func (s *staging) replace(staged *stagedType, result *port.Settlement) error {
	for name, item := range staged.staged {
		staged.count(name, item, result)
	}
	for name := range staged.before {
		if _, ok := staged.staged[name]; !ok && isItem(name) {
			result.Removed++
		}
	}
	result.Items = len(staged.staged)
	return s.writeFolder(staged, staged.staged)
}

// update makes the folder of what was read and, for the rest, of what there was.
func (s *staging) update(staged *stagedType, result *port.Settlement) error {
	if len(staged.staged) == 0 {
		result.Items = staged.countBefore()
		return nil
	}
	names, err := s.readIndex(staged)
	if err != nil {
		return err
	}
	merged := make(map[string]stagedItem, len(staged.before)+len(staged.staged))
	for name, blob := range staged.before {
		if isItem(name) {
			known := names[name]
			merged[name] = stagedItem{id: known.id, displayName: known.displayName, blob: blob}
		}
	}
	for name, item := range staged.staged {
		staged.count(name, item, result)
		merged[name] = item
	}
	result.Items = len(merged)
	return s.writeFolder(staged, merged)
}

// count says whether a file is new or different.
func (t *stagedType) count(name string, item stagedItem, result *port.Settlement) {
	switch before, ok := t.before[name]; {
	case !ok:
		result.Added++
	case before != item.blob:
		result.Modified++
	}
}

func (t *stagedType) countBefore() int {
	n := 0
	for name := range t.before {
		if isItem(name) {
			n++
		}
	}
	return n
}

// writeFolder writes the index and the tree of a type.
func (s *staging) writeFolder(staged *stagedType, items map[string]stagedItem) error {
	index, err := encodeIndex(items)
	if err != nil {
		return err
	}
	indexID := objectID(plumbing.BlobObject, index)
	if staged.before[indexFile] != indexID {
		if err := s.pack.put(plumbing.BlobObject, indexID, index); err != nil {
			return &port.StorageError{Err: err}
		}
	}
	entries := make([]treeEntry, 0, len(items)+1)
	entries = append(entries, treeEntry{name: indexFile, mode: modeFile, id: indexID})
	for name, item := range items {
		entries = append(entries, treeEntry{name: name, mode: modeFile, id: item.blob})
	}
	staged.tree, err = s.putTree(entries, staged.treeBefore)
	return err
}

// Close implements [port.Staging].
func (s *staging) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	if s.pack != nil {
		s.pack.abort()
	}
	return s.lock.Unlock()
}

// settledTypes returns the ids of the settled types, sorted.
func (s *staging) settledTypes() []string {
	ids := slices.Sorted(maps.Keys(s.types))
	return slices.DeleteFunc(ids, func(id string) bool { return !s.types[id].settled })
}
