package engine_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/engine"
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

// TestCancelThroughAnother cancels a sync of one worker through another one.
func TestCancelThroughAnother(t *testing.T) {
	const cancelling, cancelled = understudyv1.SyncState_SYNC_STATE_CANCELLING, understudyv1.SyncState_SYNC_STATE_CANCELLED
	t.Run("waiting", func(t *testing.T) {
		a, b := pair(t)
		log := a.start(nil)
		got, err := b.engine.Cancel(t.Context(), log.Sync().GetName())
		if err != nil || got.GetState() != cancelled {
			t.Errorf("Cancel = %v, %v", got.GetState(), err)
		}
	})
	t.Run("taken at the same moment", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a, b := pair(t)
			a.source.reads["entra/sp-1"] = blocks("a")
			end := a.holdEnd()
			log := a.start(nil)
			b.syncs.beforeAppend = func(events []*understudyv1.SyncEvent) {
				if events[0].GetFinished() != nil {
					a.run()
					synctest.Wait()
					<-time.After(time.Second)
				}
			}
			got, err := b.engine.Cancel(t.Context(), log.Sync().GetName())
			if err != nil || got.GetState() != cancelling {
				t.Errorf("Cancel = %v, %v, want CANCELLING while its worker has not ended it", got.GetState(), err)
			}
			end()
			if final := a.finished(log); final.GetState() != cancelled {
				t.Errorf("the sync is %s", final.GetState())
			}
		})
	})
	t.Run("reading", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a, b := pair(t)
			a.source.reads["entra/sp-1"] = blocks("a")
			end := a.holdEnd()
			a.run()
			log := a.start(nil)
			log.until(t.Context(), func(e *understudyv1.SyncEvent) bool { return e.GetConfigurationCompleted() != nil })
			begin := time.Now()
			got, err := b.engine.Cancel(t.Context(), log.Sync().GetName())
			if err != nil || got.GetState() != cancelling {
				t.Errorf("Cancel = %v, %v, want CANCELLING while its worker has not ended it", got.GetState(), err)
			}
			end()
			if final := a.finished(log); final.GetState() != cancelled || len(a.vault.commits) > 0 || time.Since(begin) > 0 {
				t.Errorf("%s after %d commits and %s", final.GetState(), len(a.vault.commits), time.Since(begin))
			}
		})
	})
	t.Run("just before the commit", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a, b := pair(t)
			var state understudyv1.SyncState
			a.syncs.beforeAppend = func(events []*understudyv1.SyncEvent) {
				if commits(events[0]) {
					sync, err := b.engine.Cancel(t.Context(), b.syncs.order[0])
					if err != nil {
						t.Error(err)
					}
					state = sync.GetState()
				}
			}
			a.run()
			final := a.finished(a.start(nil))
			if state != cancelling || final.GetState() != cancelled || len(a.vault.commits) > 0 {
				t.Errorf("Cancel = %s, and the sync is %s after %d commits", state, final.GetState(), len(a.vault.commits))
			}
		})
	})
	t.Run("as a person is asked to sign in", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a, b := pair(t)
			a.user.signIn = func(ctx context.Context, options port.SignInOptions) error {
				synctest.Wait() // the results of the service principal wait to be stored
				options.Prompt(&understudyv1.AuthenticationPrompt{UserCode: "ABC", ExpireTime: timestamppb.Now()})
				<-ctx.Done()
				return context.Cause(ctx)
			}
			a.syncs.beforeAppend = func(events []*understudyv1.SyncEvent) {
				if events[0].GetStateChanged().GetState() != understudyv1.SyncState_SYNC_STATE_PENDING_AUTHENTICATION {
					return
				}
				if _, err := b.engine.Cancel(t.Context(), b.syncs.order[0]); err != nil {
					t.Error(err)
				}
			}
			a.run()
			final := a.finished(a.start(nil))
			if final.GetState() != cancelled || final.GetCounts().GetChanged() != 2 {
				t.Errorf("the sync is %s with %d results", final.GetState(), final.GetCounts().GetChanged())
			}
			if n := count(a.logOf(final.GetName()), func(e *understudyv1.SyncEvent) bool { return e.GetConfigurationCompleted() != nil }); n != 2 {
				t.Errorf("%d results are stored", n)
			}
		})
	})
	t.Run("just after the commit began", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a, b := pair(t)
			var err error
			a.vault.onCommit = func() { _, err = b.engine.Cancel(t.Context(), b.syncs.order[0]) }
			a.run()
			final := a.finished(a.start(nil))
			over := (*port.SyncFinishedError)(nil)
			if !errors.As(err, &over) || over.State != understudyv1.SyncState_SYNC_STATE_COMMITTING {
				t.Errorf("Cancel = %v", err)
			}
			if final.GetState() != understudyv1.SyncState_SYNC_STATE_SUCCEEDED {
				t.Errorf("the sync is %s", final.GetState())
			}
		})
	})
	t.Run("between the reading of its state and the request", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a, b := pair(t)
			reached, proceed := a.block("entra/sp-1")
			a.run()
			log := a.start(nil)
			<-reached
			var once sync.Once
			b.syncs.beforeAppend = func([]*understudyv1.SyncEvent) { once.Do(func() { proceed(); a.finished(log) }) }
			_, err := b.engine.Cancel(t.Context(), log.Sync().GetName())
			over := (*port.SyncFinishedError)(nil)
			if !errors.As(err, &over) || over.State != understudyv1.SyncState_SYNC_STATE_SUCCEEDED {
				t.Errorf("Cancel = %v", err)
			}
		})
	})
	t.Run("while another one takes it over", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a, b := pair(t)
			log := a.start(nil)
			a.append(log, eventStarted("entra/sp-1"))
			b.source.reads["entra/sp-1"] = blocks("a")
			var once sync.Once
			b.syncs.beforeAppend = func(events []*understudyv1.SyncEvent) {
				if events[0].GetStateChanged().GetWorker() != "" {
					once.Do(func() {
						if _, err := a.engine.Cancel(t.Context(), log.Sync().GetName()); err != nil {
							t.Error(err)
						}
					})
				}
			}
			b.syncs.setAlive(b.syncs.worker)
			b.run()
			if final := b.finished(log); final.GetState() != cancelled || final.GetAttempt() != 1 {
				t.Errorf("the sync is %s after %d attempts", final.GetState(), final.GetAttempt())
			}
		})
	})
	t.Run("and its worker dies", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a, b := pair(t)
			log := a.start(nil)
			a.append(log, eventStarted("entra/sp-1"))
			if _, err := b.engine.Cancel(t.Context(), log.Sync().GetName()); err != nil {
				t.Fatal(err)
			}
			b.syncs.setAlive(b.syncs.worker)
			b.run()
			if final := b.finished(log); final.GetState() != cancelled {
				t.Errorf("the sync is %s", final.GetState())
			}
		})
	})
}

// TestShutdownHandsOver: the end of a server ends no sync. Another worker goes on with
// it, and does not read again what is there.
func TestShutdownHandsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pair(t)
		a.syncs.setAlive(a.syncs.worker)
		a.vault.kept = map[string]keptType{}
		a.source.reads["entra/sp-1"] = blocks("a")
		a.run()
		log := a.start(nil)
		synctest.Wait() // the results of the others still wait to be stored
		a.stop()
		<-a.done
		if got := log.Sync(); got.GetState() != understudyv1.SyncState_SYNC_STATE_RUNNING || len(a.vault.commits) > 0 {
			t.Errorf("the sync is %s after %d commits", got.GetState(), len(a.vault.commits))
		}
		if got := log.Sync().GetCounts().GetChanged(); got != 3 {
			t.Errorf("%d results were announced, want 3", got)
		}
		a.syncs.setAlive(b.syncs.worker)
		var read []string
		for _, id := range []string{"entra/sp-1", "entra/sp-2", "print/user-1", "print/user-2"} {
			b.source.reads[id] = func(ctx context.Context, identity port.Identity, sink func(port.Item) error) error {
				read = append(read, id)
				return items("a", "b")(ctx, identity, sink)
			}
		}
		b.run()
		final := b.finished(log)
		if diff := cmp.Diff([]string{"entra/sp-1"}, read); diff != "" {
			t.Errorf("read again (-want +got):\n%s", diff)
		}
		if b.user.signIns != 0 {
			t.Error("the user was signed in for nothing")
		}
		if final.GetState() != understudyv1.SyncState_SYNC_STATE_SUCCEEDED || final.GetAttempt() != 2 || len(b.vault.backup) != 4 {
			t.Errorf("the sync is %s at attempt %d, with %d types", final.GetState(), final.GetAttempt(), len(b.vault.backup))
		}
		if n := count(log, func(e *understudyv1.SyncEvent) bool { return e.GetConfigurationCompleted() != nil }); n != 4 {
			t.Errorf("%d results", n)
		}
		b.checkCounts(final, log)
		b.checkDense(log)
	})
}

// TestShutdownWaitsForCommit: a commit that began is brought to its end.
func TestShutdownWaitsForCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		reached, proceed := make(chan struct{}), make(chan struct{})
		s.vault.onCommit = func() { close(reached); <-proceed }
		s.run()
		log := s.start(nil)
		<-reached
		s.stop()
		synctest.Wait()
		close(proceed)
		<-s.done
		if got := log.Sync(); got.GetState() != understudyv1.SyncState_SYNC_STATE_SUCCEEDED || s.vault.pushes != 1 {
			t.Errorf("the sync is %s after %d pushes", got.GetState(), s.vault.pushes)
		}
	})
}

// TestShutdownBeforeRunning: what waits goes on waiting.
func TestShutdownBeforeRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		s.run()
		s.stop()
		<-s.done
		log := s.start(nil)
		if got := log.Sync().GetState(); got != understudyv1.SyncState_SYNC_STATE_PENDING {
			t.Errorf("the sync is %s", got)
		}
		next := s.restart()
		next.run()
		if final := next.finished(log); final.GetAttempt() != 1 {
			t.Errorf("attempt = %d", final.GetAttempt())
		}
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

// TestPoison: a sync that kills its workers ends, and one that panics at once.
func TestPoison(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		s.source.reads["entra/sp-1"] = blocks("a")
		log := s.start(nil)
		attempts := 0
		for log.Sync().GetEndTime() == nil && attempts < 10 {
			s.run()
			synctest.Wait()
			<-time.After(time.Second)
			attempts++
			s.stop()
			<-s.done
			next := s.restart()
			next.source.reads["entra/sp-1"] = blocks("a")
			s = next
		}
		final := log.Sync()
		if attempts != 6 || final.GetState() != understudyv1.SyncState_SYNC_STATE_FAILED || errorReason(t, final) != "SYNC_INTERRUPTED" ||
			!strings.Contains(final.GetError().GetMessage(), "5 times") {
			t.Errorf("after %d workers: %s, %v", attempts, final.GetState(), final.GetError())
		}
	})
}

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

// TestEndTooLate: a worker whose end of a sync could not be stored, and that was taken
// for dead meanwhile, does not end the sync of the next one.
func TestEndTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pair(t)
		a.syncs.setAlive(a.syncs.worker)
		a.vault.beginErr = errors.New("corrupt")
		a.syncs.onAppend = func(_ string, events []*understudyv1.SyncEvent) error {
			if events[0].GetFinished() != nil {
				return errStorage
			}
			return nil
		}
		a.run()
		log := a.start(nil)
		synctest.Wait()
		a.vault.beginErr, a.syncs.onAppend = nil, nil
		a.syncs.see(a.syncs.worker, b.syncs.worker)
		b.source.reads["entra/sp-1"] = func(ctx context.Context, identity port.Identity, sink func(port.Item) error) error {
			return errors.Join(wait(ctx, time.Minute), items("a")(ctx, identity, sink))
		}
		a.syncs.setAlive(b.syncs.worker)
		b.run()
		if final := b.finished(log); final.GetWorker() != b.syncs.worker || final.GetState() != understudyv1.SyncState_SYNC_STATE_SUCCEEDED {
			t.Errorf("the sync of %s is %s", final.GetWorker(), final.GetState())
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
