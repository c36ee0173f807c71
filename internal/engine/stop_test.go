package engine_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/engine"
	"understudy.internal/internal/port"
	"understudy.internal/internal/port/porttest"
)

// TestStopWhileStorageFails: the end of a server waits for no more than what it is
// recording, however many syncs it could not end.
func TestStopWhileStorageFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const syncs, patience = 20, 5 * time.Second
		s := newStageOf(t, func(c *engine.Config) { c.MaxConcurrentSyncs = syncs })
		s.tenants.onTenant = func() { panic("so that there is an end to record") }
		s.syncs.beforeAppend = func([]*understudyv1.SyncEvent) { <-time.After(patience) }
		s.syncs.onAppend = func(string, []*understudyv1.SyncEvent) error { return errStorage }
		for i := range syncs {
			_, _, err := s.syncs.Create(t.Context(), port.CreateRequest{Tenant: fmt.Sprintf("tenants/t%d", i), Sync: &understudyv1.Sync{}})
			if err != nil {
				t.Fatal(err)
			}
		}
		s.run()
		<-time.After(20 * time.Second) // it is trying to end them by now
		begin := time.Now()
		s.stop()
		<-s.done
		if took := time.Since(begin); took > 2*patience {
			t.Errorf("it took %s to stop", took)
		}
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

// isClosed says whether a channel is closed by now.
func isClosed(channel <-chan struct{}) bool {
	select {
	case <-channel:
		return true
	default:
		return false
	}
}

// TestStopTaking: an engine that is about to stop takes nothing more, brings what it has
// to its end, and says when that is.
func TestStopTaking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pair(t)
		a.syncs.setAlive(a.syncs.worker)
		names := a.more(1)
		b.tenants.more = a.tenants.more
		a.source.reads["entra/sp-1"] = lasting(time.Minute, items("a"))
		a.run()
		running := a.start(nil)
		synctest.Wait()
		idle := a.engine.StopTaking()
		waiting, err := a.engine.Start(t.Context(), engine.StartRequest{Tenant: names[0]})
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(30 * time.Second)
		if got := a.logOf(waiting.GetName()).Sync(); got.GetAttempt() != 0 {
			t.Errorf("it took a sync: %v", got)
		}
		if isClosed(idle) || isClosed(a.engine.StopTaking()) {
			t.Error("it is idle, and runs a sync")
		}
		if final := a.finished(running); final.GetState() != understudyv1.SyncState_SYNC_STATE_SUCCEEDED || final.GetAttempt() != 1 {
			t.Errorf("the sync that ran is %s at attempt %d", final.GetState(), final.GetAttempt())
		}
		synctest.Wait()
		if !isClosed(idle) {
			t.Error("it is not idle")
		}
		a.syncs.setAlive(b.syncs.worker)
		b.run()
		if final := a.finished(a.logOf(waiting.GetName())); final.GetWorker() != b.syncs.worker || final.GetAttempt() != 1 {
			t.Errorf("the sync that waited is of %s at attempt %d", final.GetWorker(), final.GetAttempt())
		}
	})
}

// TestStopWhileTaking: nor does it take the sync whose log it was opening when it was told
// to stop, be it a new one or one of a worker that died: that would cost an attempt.
func TestStopWhileTaking(t *testing.T) {
	for name, events := range map[string][]*understudyv1.SyncEvent{
		"new":          nil,
		"of who died":  {porttest.Take("dead/1")},
		"of who is us": {porttest.Take("worker")},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const opening = 20 * time.Second
				s := newStage(t)
				log := s.start(nil)
				s.append(log, events...)
				s.syncs.beforeOpen = func() { <-time.After(opening) }
				s.run()
				<-time.After(opening / 2)
				idle := s.engine.StopTaking()
				<-time.After(opening * 3 / 4)
				if got := log.stored(); len(got) != len(events) {
					t.Errorf("it took the sync:\n%s", strings.Join(summary(got), "\n"))
				}
				if !isClosed(idle) {
					t.Error("it is not idle")
				}
			})
		})
	}
}

// TestStopWhileEndingCancelled: a stop that comes while the repository is asked whether a
// cancelled sync committed leaves that to the next start.
func TestStopWhileEndingCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		vault := &slowVault{Vault: s.vault}
		s.tenant.Vault = vault
		log := s.start(nil)
		s.append(log, porttest.Take("dead/1"), eventState(understudyv1.SyncState_SYNC_STATE_CANCELLING))
		s.run()
		<-time.After(time.Minute)
		synctest.Wait()
		if vault.asked == 0 {
			t.Fatal("it is not asked: the test is wrong")
		}
		s.stop()
		<-s.done
		if got := log.Sync(); got.GetEndTime() != nil {
			t.Errorf("the sync is %s, and nobody was asked", got.GetState())
		}
	})
}

// slowVault does not say what was committed before the context ends.
type slowVault struct {
	port.Vault
	asked int
}

func (v *slowVault) Committed(ctx context.Context, _ string) (*understudyv1.Snapshot, error) {
	v.asked++
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

// TestIdle: an engine with nothing to do is idle at once, one that is stopped when what it
// ran is put down, and one that could not store how a sync ended not before it could.
func TestIdle(t *testing.T) {
	for name, test := range map[string]struct {
		read     readFunc
		unstored bool
		stop     bool
		want     time.Duration
	}{
		"nothing runs": {read: items("a")},
		"stopped":      {read: blocks("a"), stop: true, want: time.Minute},
		"no ending":    {read: blocks("a"), unstored: true, want: 2 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStageOf(t, func(c *engine.Config) { c.MaxSyncDuration = time.Second })
				if test.stop {
					s = newStage(t)
				}
				s.source.reads["entra/sp-1"] = test.read
				s.run()
				log := s.start(nil)
				<-time.After(500 * time.Millisecond)
				if test.unstored {
					outage := between(0, 10*time.Minute)
					s.syncs.refuse(outage)
					<-time.After(9 * time.Minute) // it gave up, and tries to end it
				}
				begin := time.Now()
				idle := s.engine.StopTaking()
				if test.stop {
					time.AfterFunc(time.Minute, s.stop)
				}
				<-idle
				if took := time.Since(begin); took < test.want/2 || took > test.want {
					t.Errorf("it was idle after %s, want %s", took, test.want)
				}
				if got := log.Sync().GetEndTime() == nil; got != test.stop {
					t.Error(fmt.Sprint("the sync is ", log.Sync().GetState()))
				}
			})
		})
	}
}

// TestStopInOutage: a stop waits for no journal. What ran is left as it is.
func TestStopInOutage(t *testing.T) {
	for _, committed := range []bool{false, true} {
		t.Run(fmt.Sprintf("after the commit: %v", committed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStage(t)
				s.vault.pushState = understudyv1.PushState_PUSH_STATE_NO_REMOTE
				s.source.reads["entra/sp-1"] = lasting(time.Minute, items("a"))
				s.syncs.refuse(func(events []*understudyv1.SyncEvent) error {
					if committed == (events[0].GetSnapshotCommitted() != nil) && time.Now().After(startOf(s).Add(30*time.Second)) {
						return errStorage
					}
					return nil
				})
				s.run()
				log := s.start(nil)
				<-time.After(10 * time.Minute)
				before, begin := len(log.stored()), time.Now()
				s.stop()
				<-s.done
				if took := time.Since(begin); took > time.Second || len(log.stored()) != before || log.Sync().GetEndTime() != nil {
					t.Errorf("it took %s to stop, with %d events more", took, len(log.stored())-before)
				}
				next := s.restart()
				next.run()
				final := next.finished(log)
				if final.GetState() != understudyv1.SyncState_SYNC_STATE_SUCCEEDED || final.GetAttempt() != 2 || len(s.vault.commits) != 1 {
					t.Errorf("the sync is %s at attempt %d, %d commits", final.GetState(), final.GetAttempt(), len(s.vault.commits))
				}
				next.checkDense(log)
			})
		})
	}
}

// TestStopIsShort: what a stop has still to store is tried for a moment, though the journal
// itself would try for longer, and though it was being tried before. Whoever goes on finds
// the commit.
func TestStopIsShort(t *testing.T) {
	for name, early := range map[string]time.Duration{
		"before it is stored":     time.Second,
		"while it is being tried": -appendPatience / 2,
		"while it is tried again": -10 * time.Minute,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStage(t)
				s.vault.pushState = understudyv1.PushState_PUSH_STATE_NO_REMOTE
				const commits = 30 * time.Second
				s.vault.onCommit = func() { <-time.After(commits) }
				s.syncs.away = func(events []*understudyv1.SyncEvent) bool { return events[0].GetSnapshotCommitted() != nil }
				s.run()
				log := s.start(nil)
				<-time.After(commits - early)
				before, begin := len(log.stored()), time.Now()
				s.stop()
				<-s.done
				if took := time.Since(begin) - max(0, early); took > 6*time.Second || len(log.stored()) != before || len(s.vault.commits) != 1 {
					t.Errorf("it took %s to stop, with %d events more and %d commits", took, len(log.stored())-before, len(s.vault.commits))
				}
				next := s.restart()
				next.syncs.away = nil
				next.run()
				if final := next.finished(log); final.GetState() != understudyv1.SyncState_SYNC_STATE_SUCCEEDED || len(s.vault.commits) != 1 {
					t.Errorf("the sync is %s, %d commits", final.GetState(), len(s.vault.commits))
				}
				next.checkDense(log)
			})
		})
	}
}

// TestStopWhileEnding: nor is a stop held up by an end that could not be stored before.
func TestStopWhileEnding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		s.tenants.onTenant = func() { panic("so that there is an end to record") }
		trying := make(chan struct{}, 1)
		s.syncs.away = func([]*understudyv1.SyncEvent) bool { trying <- struct{}{}; return true }
		if _, _, err := s.syncs.Create(t.Context(), port.CreateRequest{Tenant: tenantName, Sync: &understudyv1.Sync{}}); err != nil {
			t.Fatal(err)
		}
		s.run()
		<-trying
		begin := time.Now()
		s.stop()
		<-s.done
		if took := time.Since(begin); took > 6*time.Second {
			t.Errorf("it took %s to stop", took)
		}
	})
}

// TestStopBeforePush: nor does a stop wait for it where it is to be asked whose the sync is
// before the push. Whoever goes on pushes.
func TestStopBeforePush(t *testing.T) {
	t.Run("the journal is away", func(t *testing.T) { stopBeforePush(t, true) })
	t.Run("the journal comes back", func(t *testing.T) { stopBeforePush(t, false) })
}

func stopBeforePush(t *testing.T, refuses bool) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		s.vault.afterCommit = func() {
			if refuses {
				s.syncs.refuse(func([]*understudyv1.SyncEvent) error { return errStorage })
			}
			s.syncs.openErr = func() error { return errStorage }
		}
		s.run()
		log := s.start(nil)
		<-time.After(10 * time.Minute)
		if len(s.vault.commits) != 1 || s.vault.pushes != 0 {
			t.Fatalf("%d commits, %d pushes: the test is wrong", len(s.vault.commits), s.vault.pushes)
		}
		begin := time.Now()
		s.stop()
		<-s.done
		if took := time.Since(begin); took > 10*time.Second || log.Sync().GetEndTime() != nil {
			t.Errorf("it took %s to stop, and the sync is %s", took, log.Sync().GetState())
		}
		next := s.restart()
		next.run()
		if final := next.finished(log); final.GetState() != understudyv1.SyncState_SYNC_STATE_SUCCEEDED || s.vault.pushes != 1 || len(s.vault.commits) != 1 {
			t.Errorf("the sync is %s, %d pushes, %d commits", final.GetState(), s.vault.pushes, len(s.vault.commits))
		}
		next.checkDense(log)
	})
}

// startOf returns when the first sync of a stage was accepted.
func startOf(s *stage) time.Time { return s.logOf(s.syncs.order[0]).Sync().GetCreateTime().AsTime() }
