package engine_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
)

// fakeVault keeps the ids of items by type, and what it was told.
type fakeVault struct {
	mu       sync.Mutex
	backup   map[string][]string
	readings map[string]port.Reading
	commits  []port.CommitInfo

	collapse     map[string]bool
	beginErr     error
	commitErr    error
	committedErr error
	pushErr      error
	// pushState is that of commits whose sync was interrupted.
	pushState understudyv1.PushState
	onBegin   func(port.Turn)
	onCommit  func()
	// afterCommit is called when the commit is made and before it is pushed.
	afterCommit func()
	pushes      int
	// begun counts stagings: who began later took the repository over.
	begun int
	// stopped is how many commits were stopped by their context.
	stopped int
	// kept are types that a sync settled and whose items are still there; nil: none
	// is kept.
	kept map[string]keptType
}

// keptType is a type that an earlier worker of a sync settled.
type keptType struct {
	sync       string
	settlement port.Settlement
	items      []string
}

func (f *fakeVault) Begin(ctx context.Context, turn port.Turn) (port.Staging, error) {
	if f.beginErr != nil {
		return nil, f.beginErr
	}
	if f.onBegin != nil {
		f.onBegin(turn)
	}
	var committed *understudyv1.Snapshot
	if turn.Attempt > 1 {
		committed, _ = f.Committed(ctx, turn.Sync)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.readings = map[string]port.Reading{}
	f.begun++
	return &fakeStaging{
		vault: f, turn: turn, sync: turn.Sync, committed: committed, parent: len(f.commits), begun: f.begun,
		staged: map[string][]string{}, settled: map[string][]string{},
	}, nil
}

func (f *fakeVault) Changes(context.Context, string, string) iter.Seq2[*understudyv1.ItemChange, error] {
	return func(yield func(*understudyv1.ItemChange, error) bool) {
		yield(&understudyv1.ItemChange{Id: "a"}, nil)
	}
}

func (f *fakeVault) Committed(_ context.Context, name string) (*understudyv1.Snapshot, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, info := range f.commits {
		if info.Sync == name && !info.DryRun {
			return &understudyv1.Snapshot{Commit: "c0ffee", Created: true, PushState: f.pushState}, nil
		}
	}
	return nil, f.committedErr
}

type fakeStaging struct {
	vault           *fakeVault
	turn            port.Turn
	sync            string
	committed       *understudyv1.Snapshot
	parent, begun   int
	mu              sync.Mutex
	staged, settled map[string][]string
	closed          bool
}

func (f *fakeStaging) Add(t *catalog.Type, item port.Item) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch item.ID {
	case "unstorable":
		return &port.ItemError{Detail: "a duplicate key"}
	case "disk full":
		return &port.StorageError{Err: fmt.Errorf("no space")}
	case "panic":
		panic("a bug")
	}
	f.staged[t.ID] = append(f.staged[t.ID], item.ID)
	return nil
}

func (f *fakeStaging) Resumed(t *catalog.Type) (port.Settlement, bool) {
	f.vault.mu.Lock()
	defer f.vault.mu.Unlock()
	kept, ok := f.vault.kept[t.ID]
	if !ok || kept.sync != f.sync {
		return port.Settlement{}, false
	}
	f.settled[t.ID] = kept.items
	return kept.settlement, true
}

func (f *fakeStaging) Basis(*catalog.Type) (string, error) { return "", nil }

func (f *fakeStaging) Settle(t *catalog.Type, reading port.Reading) (port.Settlement, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.vault.mu.Lock()
	defer f.vault.mu.Unlock()
	f.vault.readings[t.ID] = reading
	s := port.Settlement{Outcome: reading.Outcome, Reason: reading.Reason, Path: t.ID, Items: len(f.staged[t.ID])}
	gone := reading.Outcome == understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_NOT_AVAILABLE || len(reading.Without) > 0
	if gone && f.vault.collapse[t.ID] && !reading.AcceptCollapse {
		s.Outcome = understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_INCOMPLETE
		s.Reason = understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_FEATURE_NOT_AVAILABLE
		return s, nil
	}
	if reading.Outcome == understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_CHANGED {
		if f.vault.collapse[t.ID] && !reading.AcceptCollapse {
			s.Outcome = understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_INCOMPLETE
			s.Reason = understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_COUNT_COLLAPSED
			return s, nil
		}
		if slices.Equal(f.vault.backup[t.ID], f.staged[t.ID]) {
			s.Outcome = understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_UNCHANGED
		}
		f.settled[t.ID] = f.staged[t.ID]
		if f.vault.kept != nil {
			f.vault.kept[t.ID] = keptType{f.sync, s, f.staged[t.ID]}
		}
	}
	return s, nil
}

func (f *fakeStaging) Commit(ctx context.Context, info port.CommitInfo) (*understudyv1.Snapshot, error) {
	if f.vault.onCommit != nil {
		f.vault.onCommit()
	}
	if ctx.Err() != nil {
		f.vault.stopped++
		return nil, context.Cause(ctx)
	}
	if f.vault.afterCommit != nil {
		defer f.vault.afterCommit()
	}
	f.vault.mu.Lock()
	defer f.vault.mu.Unlock()
	if len(f.vault.commits) != f.parent || f.vault.begun != f.begun {
		return nil, errors.New("somebody else has the repository")
	}
	if f.vault.commitErr != nil {
		return nil, f.vault.commitErr
	}
	f.vault.commits = append(f.vault.commits, info)
	if info.DryRun {
		return nil, nil
	}
	for id, ids := range f.settled {
		f.vault.backup[id] = ids
	}
	return &understudyv1.Snapshot{Commit: "c0ffee", Created: true}, nil
}

func (f *fakeStaging) Committed() *understudyv1.Snapshot { return f.committed }

func (f *fakeStaging) Push(ctx context.Context) (understudyv1.PushState, error) {
	if err := f.turn.Owned(ctx); err != nil {
		return understudyv1.PushState_PUSH_STATE_FAILED, err
	}
	f.vault.pushes++
	if f.vault.pushErr != nil {
		return understudyv1.PushState_PUSH_STATE_FAILED, f.vault.pushErr
	}
	return understudyv1.PushState_PUSH_STATE_NO_REMOTE, nil
}

func (f *fakeStaging) Close() error {
	f.closed = true
	return nil
}
