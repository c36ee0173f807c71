package vault

import (
	"encoding/json"

	"github.com/go-git/go-git/v5/plumbing"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
)

// vanished says whether the tenant says that it does not have what the last commit has:
// a path that was renamed, or a licence that was withdrawn, looks exactly like that. It
// is not believed until somebody confirms it; of a whole type once, until it is read
// completely again.
func (s *staging) vanished(t *catalog.Type, staged *stagedType, reading port.Reading) (bool, error) {
	if reading.AcceptCollapse || staged.before.len() == 0 {
		return false, nil
	}
	switch reading.Outcome {
	case understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_NOT_AVAILABLE:
		entry := s.coverage[t.ID]
		return entry == nil || !entry.Confirmed, nil
	case understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_CHANGED,
		understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_UNCHANGED:
		return s.hadItemsOf(staged, reading.Without)
	}
	return false, nil
}

// hadItemsOf says whether the last commit has items of some parents that were not read
// now. One whose id is not known may be such an item.
func (s *staging) hadItemsOf(staged *stagedType, parents []string) (found bool, err error) {
	if len(parents) == 0 {
		return false, nil
	}
	of := make(map[string]bool, len(parents))
	for _, parent := range parents {
		of[parent] = true
	}
	lines, err := s.linesOf(staged)
	if err != nil {
		return false, err
	}
	defer lines.close()
	err = staged.before.each(func(name []byte, _ plumbing.Hash) error {
		if found {
			return nil
		}
		line, err := lines.of(name)
		if err != nil || !isBelow(line, of) {
			return err
		}
		read, err := staged.staged.has(string(name))
		found = !read
		return err
	})
	return found, err
}

// isBelow says whether a line of an index is that of an item of some parents: its id is
// the parent's, or begins with it and a slash.
func isBelow(line []byte, parents map[string]bool) bool {
	var entry indexEntry
	if json.Unmarshal(line, &entry) != nil || entry.ID == "" || parents[entry.ID] {
		return true
	}
	for at, r := range entry.ID {
		if r == '/' && parents[entry.ID[:at]] {
			return true
		}
	}
	return false
}
