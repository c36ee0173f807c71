package engine_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/catalog"
	"understudy.internal/internal/engine"
	"understudy.internal/internal/port"
)

// stuckVault is a vault whose disk does not answer from a call on, whatever the context
// says, until the test ends.
type stuckVault struct {
	port.Vault
	begin, committed, settle, commit bool
	ended                            <-chan struct{}
}

func (v *stuckVault) hang(here bool) {
	if here {
		<-v.ended
	}
}

func (v *stuckVault) Committed(ctx context.Context, sync string) (*understudyv1.Snapshot, error) {
	v.hang(v.committed)
	return v.Vault.Committed(ctx, sync)
}

func (v *stuckVault) Begin(ctx context.Context, turn port.Turn) (port.Staging, error) {
	v.hang(v.begin)
	staging, err := v.Vault.Begin(ctx, turn)
	return &stuckStaging{staging, v}, err
}

type stuckStaging struct {
	port.Staging
	vault *stuckVault
}

func (s *stuckStaging) Settle(t *catalog.Type, reading port.Reading) (port.Settlement, error) {
	s.vault.hang(s.vault.settle)
	return s.Staging.Settle(t, reading)
}

func (s *stuckStaging) Commit(ctx context.Context, info port.CommitInfo) (*understudyv1.Snapshot, error) {
	s.vault.hang(s.vault.commit)
	return s.Staging.Commit(ctx, info)
}

// TestHung: a sync that a disk holds up, wherever that is, is found an hour after it should
// have been over, cancelled or not; not before, and not the sync beside it.
func TestHung(t *testing.T) {
	const limit = 2 * time.Hour
	for name, test := range map[string]struct {
		vault stuckVault
		// before is what a worker before this one left, after how long.
		before []*understudyv1.SyncEvent
		after  time.Duration
		cancel bool
		// rest is how long the sync may still read.
		rest time.Duration
	}{
		"beginning":                    {vault: stuckVault{begin: true}, rest: limit},
		"reading":                      {vault: stuckVault{settle: true}, rest: limit},
		"cancelled":                    {vault: stuckVault{settle: true}, cancel: true, rest: limit},
		"committing":                   {vault: stuckVault{commit: true}, rest: limit},
		"taking over":                  {vault: stuckVault{committed: true}, before: []*understudyv1.SyncEvent{eventStarted("entra/sp-1")}, rest: limit},
		"taking over in time":          {vault: stuckVault{commit: true}, before: []*understudyv1.SyncEvent{eventStarted("entra/sp-1")}, after: time.Hour, rest: time.Hour},
		"taking over after the limit":  {vault: stuckVault{commit: true}, before: []*understudyv1.SyncEvent{eventStarted("entra/sp-1")}, after: 3 * time.Hour},
		"ending one that is cancelled": {vault: stuckVault{committed: true}, before: []*understudyv1.SyncEvent{eventStarted("entra/sp-1"), eventState(understudyv1.SyncState_SYNC_STATE_CANCELLING)}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStageOf(t, func(c *engine.Config) { c.MaxSyncDuration, c.MaxConcurrentSyncs = limit, 2 })
				ended := make(chan struct{})
				names := s.more(1)
				vault := test.vault
				vault.Vault, vault.ended = s.tenant.Vault, ended
				s.tenant.Vault = &vault
				log := s.start(nil)
				s.append(log, clones(test.before)...)
				<-time.After(test.after)
				s.run()
				t.Cleanup(func() { close(ended) })
				begin := time.Now()
				if _, err := s.engine.Start(t.Context(), engine.StartRequest{Tenant: names[0]}); err != nil {
					t.Fatal(err)
				}
				if test.cancel {
					time.AfterFunc(time.Minute, func() { _, _ = s.engine.Cancel(t.Context(), log.Sync().GetName()) })
				}
				err := s.engine.WatchHung(t.Context())
				hung := (*engine.HungError)(nil)
				if !errors.As(err, &hung) || hung.Sync != log.Sync().GetName() {
					t.Errorf("WatchHung = %v", err)
				}
				over := test.rest + 30*time.Minute // a commit
				if took := time.Since(begin); took < over+58*time.Minute || took > over+62*time.Minute {
					t.Errorf("it was found after %s, an hour after %s", took, over)
				}
			})
		})
	}
}

// TestLongSyncs: no sync that only takes its time counts as hung: one that reads until its
// time limit, and then has a commit that takes longer than it may; be it taken over in the
// middle, or after its time limit.
func TestLongSyncs(t *testing.T) {
	for name, after := range map[string]time.Duration{"from its start": 0, "taken over": 5 * time.Hour, "taken over late": 9 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStage(t)
				s.source.reads["entra/sp-1"] = blocks("a")
				s.vault.afterCommit = func() { <-time.After(80 * time.Minute) }
				log := s.start(nil)
				if after > 0 {
					s.append(log, eventStarted("entra/sp-1"))
					<-time.After(after)
				}
				watching, stop := context.WithCancel(t.Context())
				watched := make(chan error, 1)
				go func() { watched <- s.engine.WatchHung(watching) }()
				s.run()
				for range 8 {
					<-time.After(time.Hour)
				}
				if final := log.Sync(); final.GetState() != understudyv1.SyncState_SYNC_STATE_PARTIALLY_SUCCEEDED {
					t.Errorf("the sync is %s", final.GetState())
				}
				stop()
				if err := <-watched; err != nil {
					t.Errorf("WatchHung = %v", err)
				}
			})
		})
	}
}
