package vault

import (
	"encoding/json"
	"errors"
	"fmt"
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
	// Filter is what the configuration narrows the list to: other items of the
	// tenant are not in the backup, complete or not. It is the one that what is
	// there was read with, also when the configuration has another one since.
	Filter string `json:"filter,omitempty"`
	// Reason is why it is not complete.
	Reason string `json:"reason,omitempty"`
	// Since is when it came to stand so.
	Since time.Time `json:"since"`
	// LastComplete is when it was last complete, as far as that was known when it
	// ceased to be.
	LastComplete *time.Time `json:"last_complete,omitempty"`
	// Collapse is the short list that is not believed yet.
	Collapse *collapse `json:"collapse,omitempty"`
	// Confirmed says that somebody confirmed that the tenant does not have the type any
	// more, of which there is content.
	Confirmed bool `json:"confirmed,omitempty"`
}

// readCoverage returns the coverage of the last commit. One that somebody broke by
// hand begins anew, with a collapse guard that has seen nothing yet.
func (v *Vault) readCoverage(root *object.Tree) (coverage, error) {
	file, err := root.File(coverageFile)
	if errors.Is(err, object.ErrFileNotFound) {
		return coverage{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", coverageFile, err)
	}
	content, err := file.Contents()
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", coverageFile, err)
	}
	c, err := decodeCoverage([]byte(content))
	if err != nil {
		v.logger.Warn("the coverage of the last commit is not usable and begins anew", "error", err)
		return coverage{}, nil
	}
	return c, nil
}

func decodeCoverage(content []byte) (coverage, error) {
	c := coverage{}
	if err := json.Unmarshal(content, &c); err != nil {
		return nil, err
	}
	for id, entry := range c {
		if entry == nil {
			delete(c, id)
		}
	}
	return c, nil
}

func (c coverage) encode() ([]byte, error) {
	content, err := json.MarshalIndent(c, "", indentation) // encoding/json sorts the keys
	return append(content, '\n'), err
}

// settle notes how a type stands after a sync.
func (c coverage) settle(t *catalog.Type, s port.Settlement, reading port.Reading, hasContent bool) {
	next := &coverageEntry{
		Identity: word(reading.Identity.String(), "IDENTITY_"),
		Filter:   t.TenantFilter,
		Since:    reading.Time.UTC().Truncate(time.Second),
	}
	before := c[t.ID]
	switch s.Outcome {
	case understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_CHANGED,
		understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_UNCHANGED:
		next.State = stateComplete
	case understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_NOT_AVAILABLE:
		next.State = stateNotAvailable
	default:
		next.State, next.Reason = stateMissing, word(s.Reason.String(), "CONFIGURATION_FAILURE_REASON_")
		if hasContent {
			next.State = stateStale
		}
	}
	if next.State != stateComplete {
		if before != nil {
			next.Collapse, next.LastComplete = before.Collapse, before.LastComplete
		}
		next.Confirmed = confirmed(before, s)
		if before != nil && hasContent {
			next.Filter = before.Filter
		}
		if next.LastComplete == nil && !s.LastComplete.IsZero() {
			at := s.LastComplete.UTC().Truncate(time.Second)
			next.LastComplete = &at
		}
	}
	if before != nil && before.State == next.State && before.Identity == next.Identity && before.Reason == next.Reason &&
		before.Filter == next.Filter {
		next.Since = before.Since
	}
	c[t.ID] = next
}

// confirmed says whether it is confirmed that the tenant does not have a type any more
// of which there are items. Settle says so only where it is: see vanished. What was read
// since, if only in part, is there again.
func confirmed(before *coverageEntry, s port.Settlement) bool {
	switch s.Outcome {
	case understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_NOT_AVAILABLE:
		return s.Items > 0
	case understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_FAILED,
		understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_NOT_BACKED_UP:
		return before != nil && before.Confirmed
	}
	return false
}

func word(name, prefix string) string { return strings.ToLower(strings.TrimPrefix(name, prefix)) }

// lastCompleteOf returns when a type was last complete: as noted, else as the
// coverage says, else the time of the last commit that says that it is complete.
func (s *staging) lastCompleteOf(id string) time.Time {
	if at, ok := s.notes.LastComplete[id]; ok {
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

// equal says whether two entries, which may be nil, say the same.
func (e *coverageEntry) equal(other *coverageEntry) bool {
	a, aErr := json.Marshal(e)
	b, bErr := json.Marshal(other)
	return aErr == nil && bErr == nil && string(a) == string(b)
}
