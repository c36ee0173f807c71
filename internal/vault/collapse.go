package vault

import (
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/go-git/go-git/v5/plumbing"

	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
)

// The collapse guard steps in when a complete list would remove all items, or more
// than this share of them and at least this many.
const (
	collapseShare = 5 // a fifth
	collapseItems = 5
)

// collapse says which list was short, and since when.
type collapse struct {
	Items int       `json:"items"`
	IDs   string    `json:"ids_sha256"`
	Since time.Time `json:"since"`
}

// collapsed is the collapse guard (rule 5 of docs/architecture.md). It returns
// true while a complete list is not believed, and notes in the coverage what it
// saw: the same list, the wait later, is believed; another one is waited for anew.
func (s *staging) collapsed(t *catalog.Type, staged *stagedType, reading port.Reading) (bool, error) {
	before := staged.before.len()
	removed := before - staged.found
	short := removed > 0 && (removed == before || (removed >= collapseItems && removed*collapseShare > before))
	if !short || reading.AcceptCollapse {
		return false, nil
	}
	ids, err := hashNames(staged.staged)
	if err != nil {
		return false, err
	}
	seen := &collapse{Items: staged.staged.len(), IDs: ids, Since: ceilSecond(reading.Time)}
	entry := s.coverage[t.ID]
	if entry == nil {
		entry = &coverageEntry{}
		s.coverage[t.ID] = entry
	}
	if known := entry.Collapse; known != nil && known.IDs == seen.IDs {
		return reading.Time.Sub(known.Since) < s.vault.config.CollapseWait, nil
	}
	entry.Collapse = seen
	return true, nil
}

// hashNames identifies a set of files.
func hashNames(items *table) (string, error) {
	sum := sha256.New()
	err := items.each(func(name []byte, _ plumbing.Hash) error {
		sum.Write(append(name[:len(name):len(name)], '\n'))
		return nil
	})
	return hex.EncodeToString(sum.Sum(nil)), err
}

// ceilSecond rounds up, so that no wait becomes shorter.
func ceilSecond(t time.Time) time.Time {
	return t.Add(time.Second - time.Nanosecond).UTC().Truncate(time.Second)
}
