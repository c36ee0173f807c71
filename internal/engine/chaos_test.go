package engine_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/engine"
	"understudy.internal/internal/port"
)

// TestChaos lets everything happen to three workers at random: they are stopped and
// started, frozen, cut off, cannot store or do not hear that they did, and their syncs are
// cancelled through any of them. Afterwards every sync has ended once, its log has no gap
// and nothing twice, and what it says of its commit is so.
func TestChaos(t *testing.T) {
	for seed := range uint64(25) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { newChaos(t, seed).play(10 * time.Minute) })
		})
	}
}

// chaos is three workers and four tenants.
type chaos struct {
	t       *testing.T
	random  *rand.Rand
	workers []*stage
	tenants map[string]*engine.Tenant
	vaults  map[string]*fakeVault
	starts  int
	// broken says that nothing is stored, silent that nobody is told of it.
	broken atomic.Bool
	silent atomic.Bool
	frozen map[*stage]bool
	cutOff map[*stage]bool
}

func newChaos(t *testing.T, seed uint64) *chaos {
	c := &chaos{
		t: t, random: rand.New(rand.NewPCG(seed, 1)), frozen: map[*stage]bool{}, cutOff: map[*stage]bool{},
		vaults: map[string]*fakeVault{}, tenants: map[string]*engine.Tenant{},
	}
	first := c.worker(nil)
	for i := range 4 {
		tenant := *first.tenant
		tenant.Name = fmt.Sprintf("tenants/%d", i)
		vault := &fakeVault{backup: map[string][]string{}, kept: map[string]keptType{}}
		tenant.Vault, c.vaults[tenant.Name] = vault, vault
		push := time.Duration(1+c.random.IntN(3000)) * time.Millisecond
		vault.afterCommit = func() { <-time.After(push) }
		tenant.Source = &fakeSource{reads: map[string]readFunc{}}
		for _, id := range []string{"entra/sp-1", "entra/sp-2", "print/user-1", "print/user-2"} {
			length := time.Duration(c.random.IntN(20000)) * time.Millisecond
			tenant.Source.(*fakeSource).reads[id] = func(ctx context.Context, identity port.Identity, sink func(port.Item) error) error {
				return errors.Join(wait(ctx, length), items("a", "b")(ctx, identity, sink))
			}
		}
		c.tenants[tenant.Name] = &tenant
	}
	first.syncs.onAppend = func(string, []*understudyv1.SyncEvent) error {
		if c.broken.Load() {
			return errStorage
		}
		return nil
	}
	first.tenants.more = c.known(first)
	c.workers = []*stage{first, c.worker(first), c.worker(first)}
	for _, s := range c.workers {
		s.run()
	}
	c.update()
	return c
}

// worker makes another worker.
func (c *chaos) worker(first *stage) *stage {
	s := newStageOf(c.t, func(config *engine.Config) { config.MaxConcurrentSyncs, config.MaxQueuedSyncs = 2, 100 })
	c.starts++
	s.syncs.worker = fmt.Sprintf("replica-%d/%d", c.starts%3, c.starts)
	if first != nil {
		s.syncs.fakeJournal = first.syncs.fakeJournal
	}
	s.syncs.unanswered = func(events []*understudyv1.SyncEvent) error {
		takes := events[0].GetStarted() != nil || events[0].GetStateChanged().GetWorker() != ""
		if c.silent.Load() && !takes { // taking costs an attempt each time
			return errStorage
		}
		return nil
	}
	s.tenants.more = c.known(s)
	return s
}

// known are the tenants as a worker knows them: while it is frozen it does nothing with
// their repositories.
func (c *chaos) known(s *stage) map[string]*engine.Tenant {
	known := map[string]*engine.Tenant{}
	for name, tenant := range c.tenants {
		copied := *tenant
		copied.Vault = &icyVault{Vault: tenant.Vault, syncs: s.syncs}
		copied.ServicePrincipal, copied.User = &fakeIdentity{identity: s.sp.identity}, &fakeIdentity{identity: s.user.identity}
		known[name] = &copied
	}
	return known
}

type icyVault struct {
	port.Vault
	syncs *fakeSyncs
}

// wait waits until the worker is not frozen and heard what there is to hear.
func (v *icyVault) wait(ctx context.Context) error {
	for ice := v.syncs.ice(); ice != nil; ice = v.syncs.ice() {
		<-ice
	}
	<-time.After(time.Millisecond)
	return context.Cause(ctx)
}

func (v *icyVault) Begin(ctx context.Context, turn port.Turn) (port.Staging, error) {
	if err := v.wait(ctx); err != nil {
		return nil, err
	}
	staging, err := v.Vault.Begin(ctx, turn)
	if err == nil {
		staging = &icyStaging{staging, v}
	}
	return staging, err
}

type icyStaging struct {
	port.Staging
	vault *icyVault
}

func (s *icyStaging) Commit(ctx context.Context, info port.CommitInfo) (*understudyv1.Snapshot, error) {
	<-time.After(time.Duration(len(info.Results)) * time.Second)
	if err := s.vault.wait(ctx); err != nil {
		return nil, err
	}
	return s.Staging.Commit(ctx, info)
}

// update tells who is alive.
func (c *chaos) update() {
	var alive []string
	for _, s := range c.workers {
		if !c.frozen[s] && !c.cutOff[s] {
			alive = append(alive, s.syncs.worker)
		}
	}
	for _, s := range c.workers {
		switch {
		case c.cutOff[s]:
			s.syncs.see("nobody")
		case c.frozen[s]:
			s.syncs.see(append(alive, s.syncs.worker)...)
		default:
			s.syncs.see(alive...)
		}
	}
}

func (c *chaos) play(length time.Duration) {
	for begin := time.Now(); time.Since(begin) < length; {
		<-time.After(time.Duration(c.random.IntN(3000)) * time.Millisecond)
		c.act()
	}
	c.broken.Store(false)
	c.silent.Store(false)
	for _, s := range c.workers {
		if c.frozen[s] {
			s.syncs.thaw()
		}
	}
	clear(c.frozen)
	clear(c.cutOff)
	c.update()
	<-time.After(time.Hour)
	c.check()
}

func (c *chaos) act() {
	i := c.random.IntN(len(c.workers))
	s := c.workers[i]
	switch c.random.IntN(9) {
	case 0: // stopped in order, and started
		if c.frozen[s] {
			delete(c.frozen, s)
			s.syncs.thaw()
		}
		s.stop()
		<-s.done
		delete(c.cutOff, s)
		c.workers[i] = c.worker(s)
		c.workers[i].run()
	case 1:
		if !c.frozen[s] {
			c.frozen[s] = true
			s.syncs.freeze()
		}
	case 2, 3:
		if c.frozen[s] {
			delete(c.frozen, s)
			s.syncs.thaw()
		}
	case 4:
		c.cutOff[s] = !c.cutOff[s]
	case 5:
		c.broken.Store(c.random.IntN(4) == 0)
		c.silent.Store(c.random.IntN(4) == 0)
	case 6:
		if names := c.unfinished(); len(names) > 0 && c.random.IntN(3) == 0 {
			_, _ = s.engine.Cancel(c.t.Context(), names[c.random.IntN(len(names))])
		}
	default:
		_, _ = s.engine.Start(c.t.Context(), engine.StartRequest{Tenant: fmt.Sprintf("tenants/%d", c.random.IntN(4))})
	}
	c.update()
}

func (c *chaos) unfinished() (names []string) {
	standings, _ := c.workers[0].syncs.Unfinished(c.t.Context())
	for _, s := range standings {
		names = append(names, s.Sync)
	}
	return names
}

// checkOnce checks that no attempt of a sync recorded anything twice.
func (c *chaos) checkOnce(log *fakeLog) {
	recorded := map[string]bool{}
	for _, event := range log.stored() {
		if event.GetStateChanged().GetWorker() != "" {
			clear(recorded)
		}
		if event.GetStateChanged() != nil {
			continue
		}
		event = clones([]*understudyv1.SyncEvent{event})[0]
		event.Sequence, event.EventTime = 0, nil
		if text := event.String(); recorded[text] {
			c.t.Errorf("%s has twice: %s", log.Sync().GetName(), text)
		} else {
			recorded[text] = true
		}
	}
}

func (c *chaos) check() {
	s := c.workers[0]
	committed := map[string]int{}
	for _, vault := range c.vaults {
		for _, info := range vault.commits {
			committed[info.Sync]++
		}
	}
	for _, name := range s.syncs.order {
		log := s.logOf(name)
		final := log.Sync()
		if final.GetEndTime() == nil {
			c.t.Errorf("%s is %s at attempt %d", name, final.GetState(), final.GetAttempt())
			continue
		}
		s.checkDense(log)
		c.checkOnce(log)
		backedUp := final.GetState() == understudyv1.SyncState_SYNC_STATE_SUCCEEDED ||
			final.GetState() == understudyv1.SyncState_SYNC_STATE_PARTIALLY_SUCCEEDED
		if n := committed[name]; n > 1 || (n == 1) != backedUp || (final.GetSnapshot() != nil) != backedUp {
			c.t.Errorf("%s is %s after %d commits, with the snapshot %v:\n%s", name, final.GetState(), n, final.GetSnapshot(),
				strings.Join(summary(log.stored()), "\n"))
		}
		if backedUp && final.GetCounts().GetTotal() != final.GetCounts().GetChanged()+final.GetCounts().GetUnchanged() {
			c.t.Errorf("%s counts %v", name, final.GetCounts())
		}
		switch reason := errorReason(c.t, final); {
		case final.GetState() != understudyv1.SyncState_SYNC_STATE_FAILED:
		case reason != "SYNC_INTERRUPTED": // five workers; an outage ends none
			c.t.Errorf("%s failed by %s: %s", name, reason, final.GetError().GetMessage())
		}
	}
	if len(s.syncs.order) < 5 {
		c.t.Errorf("only %d syncs: the test is wrong", len(s.syncs.order))
	}
}
