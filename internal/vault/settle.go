package vault

import (
	"fmt"
	"io"

	"github.com/go-git/go-git/v5/plumbing"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
)

// settle is Settle without the checkpoint.
func (s *staging) settle(t *catalog.Type, reading port.Reading) (port.Settlement, error) {
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
	vanished, err := s.vanished(t, staged, reading)
	if err != nil {
		return port.Settlement{}, &port.StorageError{Err: err}
	}
	if vanished {
		complete = false
		result.Outcome = understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_INCOMPLETE
		result.Reason = understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_FEATURE_NOT_AVAILABLE
	}
	collapsed := false
	if complete {
		if collapsed, err = s.collapsed(t, staged, reading); err != nil {
			return port.Settlement{}, &port.StorageError{Err: err}
		}
	}
	if collapsed {
		complete = false
		result.Outcome = understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_INCOMPLETE
		result.Reason = understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_COUNT_COLLAPSED
	}
	switch {
	case complete:
		err = s.replace(staged, &result)
	case result.Outcome == understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_INCOMPLETE && staged.staged.len() > 0:
		err = s.update(staged, &result)
	default:
		result.Items = staged.before.len() // the folder stays as it is
	}
	if err != nil {
		return port.Settlement{}, err
	}
	result.LastComplete = s.lastCompleteOf(t.ID)
	if complete {
		result.Outcome = understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_UNCHANGED
		if staged.bare != staged.bareBefore {
			result.Outcome = understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_CHANGED
		}
		result.LastComplete, result.Basis = reading.Time, s.vault.basis(staged.bare)
		s.notes.LastComplete[t.ID] = reading.Time
	}
	s.coverage.settle(t, result, reading, !staged.bare.IsZero())
	// The folder and its names have what the commit needs.
	staged.before, staged.sidesBefore, staged.staged, staged.sides, staged.foreign = nil, nil, nil, nil, nil
	if !staged.written {
		staged.references = references{}
	}
	return result, nil
}

// replace makes the folder of exactly what was read.
func (s *staging) replace(staged *stagedType, result *port.Settlement) error {
	result.Added, result.Modified, result.Removed = staged.added, staged.modified, staged.before.len()-staged.found
	result.Items = staged.staged.len()
	return s.writeFolder(staged)
}

// update makes the folder of what was read and, for the rest, of what there was.
func (s *staging) update(staged *stagedType, result *port.Settlement) error {
	result.Added, result.Modified = staged.added, staged.modified
	if err := s.takeOver(staged, nil); err != nil {
		return err
	}
	result.Items = staged.staged.len()
	return s.writeFolder(staged)
}

// takeOver adds to what was read what the last commit has beside it, but for what
// was removed.
func (s *staging) takeOver(staged *stagedType, removed map[string]bool) error {
	if err := s.addNamesBefore(staged); err != nil {
		return err
	}
	lines, err := s.linesOf(staged)
	if err != nil {
		return err
	}
	defer lines.close()
	return staged.before.each(func(name []byte, blob plumbing.Hash) error {
		line, err := lines.of(name)
		if err != nil {
			return err
		}
		if removed[string(name)] {
			return nil
		}
		if _, ok, err := staged.staged.find(string(name)); ok || err != nil {
			return err
		}
		staged.found++
		if sides := staged.sidesBefore[string(name)]; len(sides) > 0 {
			staged.sides[string(name)] = sides
		}
		return staged.staged.add(name, line, blob)
	})
}

// writeFolder writes the index of a type, of what was staged, and keeps what is in its
// folder, which is completed with the names.
func (s *staging) writeFolder(staged *stagedType) error {
	items := staged.staged
	for i := range items.len() {
		s.pack.use(items.entries.at(i).blob)
	}
	index, err := s.pack.putStream(plumbing.BlobObject, indexSize(items), staged.index,
		func(w io.Writer) error {
			run := &spool{scratch: s.scratch}
			staged.items = run
			return writeIndex(w, items, func(line []byte) error { return addToRun(run, line) })
		})
	if err != nil {
		return &port.StorageError{Err: err}
	}
	others, err := s.besideItems(staged, index)
	if err != nil {
		return &port.StorageError{Err: err}
	}
	if err := s.keepFolder(staged, others); err != nil {
		return &port.StorageError{Err: err}
	}
	staged.written = true
	return nil
}

// keepFolder keeps the folder of a type without its names, and what they are to be of.
func (s *staging) keepFolder(staged *stagedType, others []treeEntry) error {
	items := staged.staged
	var err error
	staged.bare, err = s.pack.keep(plumbing.TreeObject, folderSize(items, others), staged.bareBefore,
		func(w io.Writer) error { return writeFolder(w, items, others) })
	if err != nil {
		return err
	}
	all, err := staged.references.finish()
	if err == nil && all != nil {
		staged.kept, err = s.pack.keep(plumbing.BlobObject, all.size(), plumbing.ZeroHash, all.writeTo)
	}
	return err
}

// besideItems lists what is in the folder of a type beside the items: the index,
// the side files, and what is somebody else's. A name of ours that somebody else
// used is ours.
func (s *staging) besideItems(staged *stagedType, index plumbing.Hash) ([]treeEntry, error) {
	others := []treeEntry{{name: indexFile, mode: modeFile, id: index}}
	ours := map[string]struct{}{indexFile: {}}
	for _, sides := range staged.sides {
		for _, side := range sides {
			s.pack.use(side.id)
			ours[side.name] = struct{}{}
			others = append(others, treeEntry{name: side.name, mode: modeFile, id: side.id})
		}
	}
	for _, entry := range staged.foreign {
		item, err := staged.staged.has(entry.name)
		if err != nil {
			return nil, err
		}
		if _, ok := ours[entry.name]; !item && !ok {
			others = append(others, entry)
		}
	}
	sortEntries(others)
	return others, nil
}
