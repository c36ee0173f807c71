package vault

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing/object"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
)

// coverage is `coverage.json`: configuration type → how the backup stands. An
// entry changes only when how it stands changes, so that a night that is degraded
// like the one before makes no commit.
type coverage map[string]*coverageEntry

// The states of an entry.
const (
	stateComplete     = "complete"
	stateStale        = "stale"         // there is content of an earlier sync
	stateMissing      = "missing"       // there never was any
	stateNotAvailable = "not_available" // the tenant does not have it
)

type coverageEntry struct {
	State string `json:"state"`
	// Identity read it, or would have.
	Identity string `json:"identity"`
	// Reason is why it is not complete.
	Reason string `json:"reason,omitempty"`
	// Since is when it came to stand so.
	Since time.Time `json:"since"`
	// LastComplete is when it was last complete, as far as that was known when it
	// ceased to be.
	LastComplete *time.Time `json:"last_complete,omitempty"`
	// Collapse is the short list that is not believed yet.
	Collapse *collapse `json:"collapse,omitempty"`
}

// collapse says which list was short, and since when.
type collapse struct {
	Items int       `json:"items"`
	IDs   string    `json:"ids_sha256"`
	Since time.Time `json:"since"`
}

func readCoverage(root *object.Tree) (coverage, error) {
	c := coverage{}
	file, err := root.File(coverageFile)
	if errors.Is(err, object.ErrFileNotFound) {
		return c, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", coverageFile, err)
	}
	content, err := file.Contents()
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", coverageFile, err)
	}
	if err := json.Unmarshal([]byte(content), &c); err != nil {
		return nil, fmt.Errorf("%s of the last commit is not usable: %w", coverageFile, err)
	}
	return c, nil
}

func (c coverage) encode() ([]byte, error) {
	content, err := json.MarshalIndent(c, "", indentation) // encoding/json sorts the keys
	return append(content, '\n'), err
}

// settle notes how a type stands.
func (c coverage) settle(id string, s port.Settlement, reading port.Reading, staged *stagedType, lastComplete time.Time) {
	next := &coverageEntry{
		Identity: word(reading.Identity.String(), "IDENTITY_"),
		Since:    reading.Time.UTC().Truncate(time.Second),
	}
	before := c[id]
	switch s.Outcome {
	case understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_CHANGED,
		understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_UNCHANGED:
		next.State = stateComplete
	case understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_NOT_AVAILABLE:
		next.State = stateNotAvailable
	default:
		next.State = stateMissing
		if !staged.tree.IsZero() {
			next.State = stateStale
		}
		next.Reason = word(s.Reason.String(), "CONFIGURATION_FAILURE_REASON_")
		if before != nil {
			next.Collapse, next.LastComplete = before.Collapse, before.LastComplete
		}
		if next.LastComplete == nil && !lastComplete.IsZero() {
			at := lastComplete.UTC().Truncate(time.Second)
			next.LastComplete = &at
		}
	}
	if before != nil && before.State == next.State && before.Identity == next.Identity && before.Reason == next.Reason {
		next.Since = before.Since
	}
	c[id] = next
}

func word(name, prefix string) string { return strings.ToLower(strings.TrimPrefix(name, prefix)) }

// The collapse guard steps in when a complete list would remove all items, or more
// than this share of them and at least this many.
const (
	collapseShare = 5 // a fifth
	collapseItems = 5
)

// collapsed is the collapse guard. It returns true while a list is not believed,
// and notes what it saw.
func (s *staging) collapsed(t *catalog.Type, staged *stagedType, reading port.Reading) bool {
	before, removed := 0, 0
	for name := range staged.before {
		if isItem(name) {
			before++
			if _, ok := staged.staged[name]; !ok {
				removed++
			}
		}
	}
	short := removed > 0 && (removed == before || (removed >= collapseItems && removed*collapseShare > before))
	if !short || reading.AcceptCollapse {
		return false
	}
	entry := s.coverage[t.ID]
	if entry == nil {
		entry = &coverageEntry{}
		s.coverage[t.ID] = entry
	}
	ids := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(staged.staged)) {
		ids.Write([]byte(name + "\n"))
	}
	seen := &collapse{
		Items: len(staged.staged), IDs: hex.EncodeToString(ids.Sum(nil)), Since: reading.Time.UTC().Truncate(time.Second),
	}
	if known := entry.Collapse; known != nil && known.IDs == seen.IDs {
		if reading.Time.Sub(known.Since) >= s.vault.config.CollapseWait {
			return false // seen again, later: it is so
		}
		return true
	}
	entry.Collapse = seen
	return true
}

// lastComplete says when each type was last complete. It is beside the repository
// and not in it: it changes with every sync.
type lastComplete map[string]time.Time

func (v *Vault) lastCompletePath() string {
	return filepath.Join(v.config.Directory, "understudy-last-complete.json")
}

func (v *Vault) readLastComplete() (lastComplete, error) {
	last := lastComplete{}
	content, err := os.ReadFile(v.lastCompletePath())
	if errors.Is(err, os.ErrNotExist) {
		return last, nil
	}
	if err != nil {
		return nil, &port.StorageError{Err: err}
	}
	if err := json.Unmarshal(content, &last); err != nil {
		// It only informs: a damaged one is made anew.
		v.logger.Warn("the times of the last complete readings are damaged and begin anew", "error", err)
		return lastComplete{}, nil
	}
	return last, nil
}

func (v *Vault) writeLastComplete(last lastComplete) error {
	content, err := json.MarshalIndent(last, "", indentation)
	if err != nil {
		return err
	}
	return writeDurably(v.lastCompletePath(), 0o600, append(content, '\n'))
}

// lastCompleteOf returns when a type was last complete: as noted, else as the
// coverage says, else the time of the last commit that says that it is complete.
func (s *staging) lastCompleteOf(id string) time.Time {
	if at, ok := s.last[id]; ok {
		return at
	}
	entry := s.coverage[id]
	switch {
	case entry == nil:
		return time.Time{}
	case entry.LastComplete != nil:
		return *entry.LastComplete
	case entry.State == stateComplete && s.previous != nil:
		return s.previous.Committer.When
	}
	return time.Time{}
}
