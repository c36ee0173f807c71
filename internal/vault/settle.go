package vault

import (
	"fmt"
	"slices"

	"github.com/go-git/go-git/v5/plumbing"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
)

// Settle implements [port.Staging].
func (s *staging) Settle(t *catalog.Type, reading port.Reading) (port.Settlement, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pack == nil || s.closed {
		return port.Settlement{}, errDone
	}
	staged, err := s.typeOf(t)
	if err != nil {
		return port.Settlement{}, err
	}
	if staged.settled {
		return port.Settlement{}, fmt.Errorf("%s is settled already", t.ID)
	}
	staged.settled = true
	result := port.Settlement{Outcome: reading.Outcome, Reason: reading.Reason, Path: t.ID}
	complete := reading.Outcome == understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_CHANGED ||
		reading.Outcome == understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_UNCHANGED
	if complete && reading.Since != "" {
		if err := s.overlay(t, staged, reading); err != nil {
			return port.Settlement{}, err
		}
	}
	if complete && s.collapsed(t, staged, reading) {
		complete = false
		result.Outcome = understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_INCOMPLETE
		result.Reason = understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_COUNT_COLLAPSED
	}
	switch {
	case complete:
		err = s.replace(staged, &result)
	case result.Outcome == understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_INCOMPLETE && len(staged.staged) > 0:
		err = s.update(staged, &result)
	default:
		s.keep(staged, &result)
	}
	if err != nil {
		return port.Settlement{}, err
	}
	result.LastComplete = s.lastCompleteOf(t.ID)
	if complete {
		result.Outcome = understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_UNCHANGED
		if staged.tree != staged.treeBefore {
			result.Outcome = understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_CHANGED
		}
		result.LastComplete, result.Basis = reading.Time, s.vault.basis(staged.tree)
		s.notes.LastComplete[t.ID] = reading.Time
	}
	s.coverage.settle(t, result, reading, !staged.tree.IsZero())
	staged.before, staged.sidesBefore, staged.staged, staged.foreign = nil, nil, nil, nil // the tree has what the commit needs
	return result, nil
}

// replace makes the folder of exactly what was read.
func (s *staging) replace(staged *stagedType, result *port.Settlement) error {
	for name, item := range staged.staged {
		staged.count(name, item, result)
	}
	for name := range staged.before {
		if _, ok := staged.staged[name]; !ok {
			result.Removed++
		}
	}
	result.Items = len(staged.staged)
	return s.writeFolder(staged, staged.staged)
}

// update makes the folder of what was read and, for the rest, of what there was.
func (s *staging) update(staged *stagedType, result *port.Settlement) error {
	known, err := s.known(staged)
	if err != nil {
		return err
	}
	merged := make(map[string]stagedItem, len(staged.before)+len(staged.staged))
	for name, blob := range staged.before {
		item := known[name]
		item.blob, item.sides = blob, staged.sidesBefore[name]
		merged[name] = item
	}
	for name, item := range staged.staged {
		staged.count(name, item, result)
		merged[name] = item
	}
	result.Items = len(merged)
	return s.writeFolder(staged, merged)
}

// known returns what the index of the last commit says of the items.
func (s *staging) known(staged *stagedType) (map[string]stagedItem, error) {
	if staged.index.IsZero() {
		return nil, nil
	}
	content, err := readBlob(s.storage, staged.index)
	if err != nil {
		return nil, fmt.Errorf("reading an index: %w", err)
	}
	if items, ok := indexLines(content); ok {
		return items, nil
	}
	return decodeIndex(content), nil
}

// keep leaves the folder as it is. What was staged is not part of the commit.
func (s *staging) keep(staged *stagedType, result *port.Settlement) {
	result.Items = len(staged.before)
	s.leave(staged)
}

// leave notes that nothing takes what was staged of a type.
func (s *staging) leave(staged *stagedType) {
	for _, item := range staged.staged {
		s.unused = append(s.unused, item.blob)
		for _, side := range item.sides {
			s.unused = append(s.unused, side.id)
		}
	}
}

// count says whether an item is new or different: it, or a file beside it.
func (t *stagedType) count(name string, item stagedItem, result *port.Settlement) {
	switch before, ok := t.before[name]; {
	case !ok:
		result.Added++
	case before != item.blob || !slices.Equal(t.sidesBefore[name], item.sides):
		result.Modified++
	}
}

// writeFolder writes the index and the tree of a type.
func (s *staging) writeFolder(staged *stagedType, items map[string]stagedItem) error {
	for _, item := range staged.staged {
		s.used[item.blob]++
		for _, side := range item.sides {
			s.used[side.id]++
		}
	}
	names := sortedKeys(items)
	index := encodeIndex(names, items)
	indexID := objectID(plumbing.BlobObject, index)
	if staged.index != indexID {
		if err := s.pack.put(plumbing.BlobObject, indexID, index); err != nil {
			return &port.StorageError{Err: err}
		}
	}
	var err error
	staged.tree, err = s.pack.putTree(folderEntries(indexID, names, items, staged.foreign), staged.treeBefore)
	return err
}

// folderEntries lists the folder of a type. A name of ours that somebody else used
// is ours.
func folderEntries(index plumbing.Hash, names []string, items map[string]stagedItem, foreign []treeEntry) []treeEntry {
	entries := make([]treeEntry, 0, len(items)+len(foreign)+1)
	entries = append(entries, treeEntry{name: indexFile, mode: modeFile, id: index})
	sides := map[string]struct{}{}
	for _, name := range names {
		item := items[name]
		entries = append(entries, treeEntry{name: name, mode: modeFile, id: item.blob})
		for _, side := range item.sides {
			entries = append(entries, treeEntry{name: side.name, mode: modeFile, id: side.id})
			sides[side.name] = struct{}{}
		}
	}
	for _, entry := range foreign {
		_, item := items[entry.name]
		_, side := sides[entry.name]
		if !item && !side && entry.name != indexFile {
			entries = append(entries, entry)
		}
	}
	return entries
}
