package engine_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/engine"
	"understudy.internal/internal/port"
)

// tenants gives the workers more tenants, each with a vault of its own.
func (s *stage) more(n int) (names []string) {
	s.tenants.more = map[string]*engine.Tenant{}
	for i := range n {
		tenant := *s.tenant
		tenant.Name = fmt.Sprintf("tenants/%d", i)
		tenant.Vault = &fakeVault{backup: map[string][]string{}}
		tenant.ServicePrincipal = &fakeIdentity{identity: s.sp.identity}
		tenant.User = &fakeIdentity{identity: s.user.identity}
		s.tenants.more[tenant.Name] = &tenant
		names = append(names, tenant.Name)
	}
	return names
}

// TestTotalLimit: over all workers no more syncs run at a time than there may.
func TestTotalLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newStageOf(t, func(c *engine.Config) { c.MaxConcurrentSyncs, c.MaxConcurrentSyncsTotal, c.MaxQueuedSyncs = 2, 3, 100 })
		b := newStageOf(t, func(c *engine.Config) { c.MaxConcurrentSyncs, c.MaxConcurrentSyncsTotal, c.MaxQueuedSyncs = 2, 3, 100 })
		b.syncs.fakeJournal, b.syncs.worker = a.syncs.fakeJournal, "other"
		a.syncs.setAlive(a.syncs.worker, b.syncs.worker)
		names := a.more(8)
		b.tenants.more = a.tenants.more
		var logs []*fakeLog
		for _, name := range names {
			sync, err := a.engine.Start(t.Context(), engine.StartRequest{Tenant: name})
			if err != nil {
				t.Fatal(err)
			}
			logs = append(logs, a.logOf(sync.GetName()))
		}
		var running, most, read atomic.Int64
		for _, s := range []*stage{a, b} {
			s.source.reads["entra/sp-1"] = func(ctx context.Context, identity port.Identity, sink func(port.Item) error) error {
				most.Store(max(most.Load(), running.Add(1)))
				defer running.Add(-1)
				// No two end at the same moment.
				length := time.Minute + time.Duration(read.Add(1))*7*time.Second
				return errors.Join(wait(ctx, length), items("a")(ctx, identity, sink))
			}
		}
		for _, tenant := range a.tenants.more {
			tenant.Source = a.source
		}
		// One that a dead worker left takes no place until it is taken over.
		a.append(logs[7], eventStarted("entra/sp-1"))
		begin := time.Now()
		a.run()
		<-time.After(time.Second)
		b.run()
		for _, log := range logs {
			if final := a.finished(log); final.GetState() != understudyv1.SyncState_SYNC_STATE_SUCCEEDED {
				t.Errorf("%s is %s", final.GetName(), final.GetState())
			}
		}
		if took := time.Since(begin); most.Load() != 3 || took > 6*time.Minute {
			t.Errorf("at most %d ran, in %s", most.Load(), took)
		}
	})
}

// TestCrowded: a worker that decided to take a sync leaves it when others took as many
// as there may run.
func TestCrowded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newStageOf(t, func(c *engine.Config) { c.MaxConcurrentSyncsTotal = 1 })
		b := newStageOf(t, func(c *engine.Config) { c.MaxConcurrentSyncsTotal = 1 })
		b.syncs.fakeJournal, b.syncs.worker = a.syncs.fakeJournal, "other"
		a.syncs.setAlive(a.syncs.worker, b.syncs.worker)
		names := a.more(2)
		b.tenants.more = a.tenants.more
		reached, proceed := a.block("entra/sp-1")
		for _, tenant := range a.tenants.more {
			tenant.Source = a.source
		}
		for _, name := range names {
			if _, err := a.engine.Start(t.Context(), engine.StartRequest{Tenant: name}); err != nil {
				t.Fatal(err)
			}
		}
		var once sync.Once
		b.syncs.beforeOpen = func() {
			// The other one takes the sync that this one did not decide to take.
			once.Do(func() { a.run(); <-reached })
		}
		b.run()
		<-time.After(time.Minute)
		running := 0
		for _, name := range a.syncs.order {
			if a.logOf(name).Sync().GetState() != understudyv1.SyncState_SYNC_STATE_PENDING {
				running++
			}
		}
		if running != 1 {
			t.Errorf("%d run", running)
		}
		proceed()
		for _, name := range a.syncs.order {
			a.finished(a.logOf(name))
		}
	})
}

// TestQueuePositions: those who watch a sync that waits hear how many are before it.
func TestQueuePositions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStageOf(t, func(c *engine.Config) { c.MaxConcurrentSyncs, c.MaxQueuedSyncs = 1, 100 })
		names := s.more(3)
		s.source.reads["entra/sp-1"] = func(ctx context.Context, identity port.Identity, sink func(port.Item) error) error {
			return errors.Join(wait(ctx, 3*time.Second), items("a")(ctx, identity, sink))
		}
		for _, tenant := range s.tenants.more {
			tenant.Source = s.source
		}
		var logs []*fakeLog
		for _, name := range names {
			sync, err := s.engine.Start(t.Context(), engine.StartRequest{Tenant: name})
			if err != nil {
				t.Fatal(err)
			}
			logs = append(logs, s.logOf(sync.GetName()))
		}
		s.run()
		s.finished(logs[2])
		positions := func(log *fakeLog) (all []int32) {
			for _, event := range log.shown() {
				if p := event.GetProgress(); p.GetPhase() == understudyv1.SyncPhase_SYNC_PHASE_QUEUED {
					all = append(all, p.GetQueuePosition())
				}
			}
			return slices.Compact(all)
		}
		if diff := cmp.Diff([]int32{1, 0}, positions(logs[2])[len(positions(logs[2]))-2:]); diff != "" {
			t.Errorf("positions of the last (-want +got):\n%s", diff)
		}
	})
}

// TestQueueIsOfAll: what waits is counted over all workers.
func TestQueueIsOfAll(t *testing.T) {
	a, b := pair(t)
	a.more(3)
	b.tenants.more = a.tenants.more
	for i, s := range []*stage{a, b, a} {
		_, err := s.engine.Start(t.Context(), engine.StartRequest{Tenant: fmt.Sprintf("tenants/%d", i)})
		limit := (*engine.LimitError)(nil)
		if full := errors.As(err, &limit); full != (i == 2) {
			t.Errorf("Start %d = %v", i, err)
		}
	}
}
