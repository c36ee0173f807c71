package engine_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

// pair returns two workers on one journal and one vault; neither runs.
func pair(t *testing.T) (a, b *stage) {
	a = newStage(t)
	return a, a.replica("other")
}

// holdEnd keeps this worker from ending syncs until the returned function is called.
func (s *stage) holdEnd() (end func()) {
	ended := make(chan struct{})
	s.syncs.beforeAppend = func(events []*understudyv1.SyncEvent) {
		if slices.ContainsFunc(events, func(e *understudyv1.SyncEvent) bool { return e.GetFinished() != nil }) {
			<-ended
		}
	}
	return func() { close(ended) }
}

// count counts events of a log.
func count(log *fakeLog, match func(*understudyv1.SyncEvent) bool) (n int) {
	for _, event := range log.stored() {
		if match(event) {
			n++
		}
	}
	return n
}

// TestOneOfTwoTakes: however often, exactly one of two workers runs a sync, and for
// one tenant it is always the same one.
func TestOneOfTwoTakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pair(t)
		a.run()
		b.run()
		workers := map[string]bool{}
		for i := range 30 {
			accepted := []*stage{a, b}[i%2]
			log := accepted.start(nil)
			final := accepted.finished(log)
			workers[final.GetWorker()] = true
			if final.GetState() != understudyv1.SyncState_SYNC_STATE_SUCCEEDED || final.GetAttempt() != 1 {
				t.Errorf("sync %d is %s at attempt %d", i, final.GetState(), final.GetAttempt())
			}
			if n := count(log, func(e *understudyv1.SyncEvent) bool { return e.GetStarted() != nil }); n != 1 {
				t.Errorf("sync %d started %d times", i, n)
			}
			a.checkDense(log)
		}
		if len(workers) != 1 || len(a.vault.commits) != 30 {
			t.Errorf("%d commits by %v", len(a.vault.commits), workers)
		}
	})
}

// TestPreference: who is not preferred waits, and takes a sync that nobody else takes.
// The order is that of the replicas, also when they start anew.
func TestPreference(t *testing.T) {
	names := []string{"first", "second", "third"}
	var orders [][]time.Duration
	for start := range 2 {
		var waits []time.Duration
		for which := range names {
			synctest.Test(t, func(t *testing.T) {
				a := newStage(t)
				a.syncs.worker = fmt.Sprintf("%s/%d", names[0], start)
				a.syncs.setAlive(a.syncs.worker)
				workers := []*stage{a, nil, nil}
				for i := range workers[1:] {
					workers[i+1] = a.replica(fmt.Sprintf("%s/%d", names[i+1], start))
				}
				workers[which].run() // the others are alive, and busy
				synctest.Wait()
				final := a.finished(workers[which].start(nil))
				waits = append(waits, final.GetStartTime().AsTime().Sub(final.GetCreateTime().AsTime()))
			})
		}
		orders = append(orders, waits)
	}
	if diff := cmp.Diff(orders[0], orders[1]); diff != "" {
		t.Errorf("another order after a restart:\n%s", diff)
	}
	slices.Sort(orders[0])
	if diff := cmp.Diff([]time.Duration{0, 200 * time.Millisecond, 400 * time.Millisecond}, orders[0]); diff != "" {
		t.Errorf("waits (-want +got):\n%s", diff)
	}
}

// TestSameMoment: of two workers that take a sync at the same moment one is refused,
// and says nothing.
func TestSameMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pair(t)
		begin := make(chan struct{})
		var opened atomic.Int64
		for _, s := range []*stage{a, b} {
			s.syncs.beforeAppend = func(events []*understudyv1.SyncEvent) {
				if events[0].GetStarted() == nil {
					return
				}
				if opened.Add(1) == 2 {
					close(begin)
				}
				<-begin
			}
			s.run()
		}
		log := a.start(nil)
		if final := a.finished(log); final.GetState() != understudyv1.SyncState_SYNC_STATE_SUCCEEDED {
			t.Errorf("the sync is %s", final.GetState())
		}
		if opened.Load() != 2 {
			t.Errorf("%d workers took it", opened.Load())
		}
		if n := count(log, func(e *understudyv1.SyncEvent) bool { return e.GetStarted() != nil }); n != 1 {
			t.Errorf("it started %d times", n)
		}
		a.checkDense(log)
	})
}

// block makes the first reading of a type wait until the function that it returns is
// called, and tells when it is reached.
func (s *stage) block(id string) (reached <-chan struct{}, proceed func()) {
	at, on := make(chan struct{}), make(chan struct{})
	var once sync.Once
	s.source.reads[id] = func(ctx context.Context, identity port.Identity, sink func(port.Item) error) error {
		once.Do(func() { close(at); <-on })
		return items("a", "b")(ctx, identity, sink)
	}
	return at, func() { close(on) }
}

// TestFrozenWorker: one that comes back too late neither appends nor commits.
func TestFrozenWorker(t *testing.T) {
	takeOver := func(a, b *stage) {
		a.syncs.see(a.syncs.worker, b.syncs.worker) // it does not know how late it is
		a.syncs.freeze()
		b.syncs.setAlive(b.syncs.worker)
		b.run()
	}
	check := func(t *testing.T, a *stage, log *fakeLog, before int) {
		t.Helper()
		a.checkDense(log)
		if got := log.Sync(); got.GetWorker() != "other" || got.GetState() != understudyv1.SyncState_SYNC_STATE_SUCCEEDED {
			t.Errorf("the sync is %s, of %s", got.GetState(), got.GetWorker())
		}
		if got := len(log.stored()); got != before {
			t.Errorf("%d events were appended", got-before)
		}
		if len(a.vault.commits) != 1 {
			t.Errorf("%d commits", len(a.vault.commits))
		}
	}
	t.Run("while it reads", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a, b := pair(t)
			a.syncs.setAlive(a.syncs.worker)
			reached, proceed := a.block("entra/sp-1")
			a.run()
			log := a.start(nil)
			<-reached
			takeOver(a, b)
			b.finished(log)
			before := len(log.stored())
			proceed() // it hears of nothing: only its append is refused
			synctest.Wait()
			<-time.After(time.Second)
			check(t, a, log, before)
		})
	})
	t.Run("and hears of it before it goes on", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a, b := pair(t)
			a.syncs.setAlive(a.syncs.worker)
			a.source.reads["entra/sp-1"] = blocks("a")
			a.run()
			log := a.start(nil)
			synctest.Wait()
			takeOver(a, b)
			b.finished(log)
			before := len(log.stored())
			a.syncs.thaw()
			synctest.Wait() // its reading ends, and leaves its slot
			check(t, a, log, before)
			a.source.reads["entra/sp-1"] = nil
			a.syncs.see(a.syncs.worker)
			b.stop()
			<-b.done
			if final := a.finished(a.start(nil)); final.GetWorker() != a.syncs.worker {
				t.Errorf("the next sync is of %s", final.GetWorker())
			}
		})
	})
	for _, thaws := range []bool{false, true} {
		t.Run(fmt.Sprintf("while it commits, and hears of it: %v", thaws), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := pair(t)
				a.syncs.setAlive(a.syncs.worker)
				reached, proceed := make(chan struct{}), make(chan struct{})
				var second atomic.Bool
				a.vault.onCommit = func() {
					if !second.Swap(true) {
						close(reached)
						<-proceed
					}
				}
				a.run()
				log := a.start(nil)
				<-reached
				takeOver(a, b)
				b.finished(log)
				before := len(log.stored())
				if thaws {
					a.syncs.thaw()
					synctest.Wait()
				}
				close(proceed)
				synctest.Wait()
				check(t, a, log, before)
				if got := a.vault.stopped; got != map[bool]int{true: 1}[thaws] {
					t.Errorf("%d commits were stopped", got)
				}
			})
		})
	}
	for _, thaws := range []bool{false, true} {
		t.Run(fmt.Sprintf("between its commit and the push, and hears of it: %v", thaws), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := pair(t)
				a.syncs.setAlive(a.syncs.worker)
				a.vault.pushState = understudyv1.PushState_PUSH_STATE_NO_REMOTE
				reached, proceed := make(chan struct{}), make(chan struct{})
				a.vault.afterCommit = func() { close(reached); <-proceed }
				a.run()
				log := a.start(nil)
				<-reached
				takeOver(a, b)
				b.finished(log)
				before := len(log.stored())
				if thaws {
					a.syncs.thaw()
				}
				close(proceed)
				synctest.Wait()
				check(t, a, log, before)
				if a.vault.pushes != 0 {
					t.Error("it pushed")
				}
			})
		})
	}
}

// TestCutOff: a worker that is cut off for the lease time stops what it runs without a
// word, and goes on with it when it is back and nobody took it.
func TestCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		s.source.reads["entra/sp-1"] = blocks("a")
		s.run()
		log := s.start(nil)
		synctest.Wait()
		<-time.After(time.Second) // what it read is announced
		before := len(log.stored())
		s.syncs.see("somebody else")
		synctest.Wait()
		<-time.After(time.Minute)
		if got := log.Sync(); len(log.stored()) != before || got.GetState() != understudyv1.SyncState_SYNC_STATE_RUNNING {
			t.Errorf("%d events, state %s", len(log.stored())-before, got.GetState())
		}
		s.source.reads["entra/sp-1"] = nil
		s.syncs.see(s.syncs.worker)
		final := s.finished(log)
		if final.GetState() != understudyv1.SyncState_SYNC_STATE_SUCCEEDED || final.GetAttempt() != 2 {
			t.Errorf("the sync is %s at attempt %d", final.GetState(), final.GetAttempt())
		}
		s.checkDense(log)
	})
}

// TestSeenTooLate: who saw that a worker is dead, and comes when another one has taken
// its sync over, leaves it alone.
func TestSeenTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pair(t)
		log := a.start(nil)
		a.append(log, eventStarted("entra/sp-1"))
		a.source.reads["entra/sp-1"] = blocks("a")
		var once sync.Once
		b.syncs.beforeOpen = func() {
			once.Do(func() { a.run(); synctest.Wait(); <-time.After(time.Second) })
		}
		b.run()
		<-time.After(time.Minute)
		if got := log.Sync(); got.GetWorker() != a.syncs.worker || got.GetAttempt() != 2 {
			t.Errorf("it is of %s at attempt %d", got.GetWorker(), got.GetAttempt())
		}
	})
}

// TestStranger: a worker that does not know a tenant leaves its syncs to those that
// may, and ends them when nobody takes them.
func TestStranger(t *testing.T) {
	for _, known := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			a, b := pair(t)
			b.tenants.tenant = nil
			log := a.start(nil)
			b.run()
			<-time.After(9 * time.Minute)
			if got := log.Sync().GetState(); got != understudyv1.SyncState_SYNC_STATE_PENDING {
				t.Fatalf("the sync is %s", got)
			}
			if known {
				a.run()
			}
			final := a.finished(log)
			want := understudyv1.SyncState_SYNC_STATE_FAILED
			if known {
				want = understudyv1.SyncState_SYNC_STATE_SUCCEEDED
			}
			if took := final.GetEndTime().AsTime().Sub(final.GetCreateTime().AsTime()); final.GetState() != want || took > 11*time.Minute {
				t.Errorf("the sync is %s after %s", final.GetState(), took)
			}
			a.checkDense(log)
		})
	}
}
