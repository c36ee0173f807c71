package engine_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/catalog"
	"understudy.internal/internal/engine"
	"understudy.internal/internal/port"
)

// between refuses what is appended in a time after now.
func between(from, to time.Duration) failure {
	begin := time.Now()
	return func([]*understudyv1.SyncEvent) error {
		if d := time.Since(begin); d >= from && d < to {
			return errStorage
		}
		return nil
	}
}

// TestOutage: a journal that cannot store for a while costs a sync nothing but the time,
// whether it reads, waits for a person, or is about to commit.
func TestOutage(t *testing.T) {
	for _, from := range []time.Duration{time.Millisecond, 19 * time.Second, 30 * time.Second, 40 * time.Second} {
		for _, length := range []time.Duration{5 * time.Second, 30 * time.Minute} {
			t.Run(fmt.Sprintf("from %s for %s", from, length), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newStage(t)
					s.source.reads["entra/sp-1"] = lasting(30*time.Second, items("a"))
					s.user.signIn = func(ctx context.Context, options port.SignInOptions) error {
						<-time.After(10 * time.Second)
						options.Prompt(&understudyv1.AuthenticationPrompt{UserCode: "code"})
						return wait(ctx, 10*time.Second)
					}
					s.vault.onCommit = func() { <-time.After(20 * time.Second) }
					s.syncs.refuse(between(from, from+length))
					s.run()
					log := s.start(nil)
					final := s.finished(log)
					if final.GetState() != understudyv1.SyncState_SYNC_STATE_SUCCEEDED || final.GetAttempt() != 1 || len(s.vault.commits) != 1 {
						t.Fatalf("%s at attempt %d, %d commits\n%s", final.GetState(), final.GetAttempt(), len(s.vault.commits),
							strings.Join(summary(log.stored()), "\n"))
					}
					end, took := from+length+10*time.Second, final.GetEndTime().AsTime().Sub(final.GetStartTime().AsTime())
					if took > max(51*time.Second, end+31*time.Second) {
						t.Errorf("it took %s", took)
					}
					s.checkDense(log)
					s.checkCounts(final, log)
				})
			})
		}
	}
}

// TestPromptInOutage: while the journal cannot store, a person is asked to sign in all the
// same, and the sign-in goes on: its code expires. Otherwise the state comes first. What is
// recorded of it is in order.
func TestPromptInOutage(t *testing.T) {
	const expires = 15 * time.Minute
	for name, outage := range map[string]time.Duration{"no outage": 0, "an outage": 20 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStage(t)
				var blocked time.Duration
				s.user.signIn = func(ctx context.Context, options port.SignInOptions) error {
					<-time.After(10 * time.Second)
					begin := time.Now()
					options.Prompt(&understudyv1.AuthenticationPrompt{UserCode: "code", ExpireTime: timestamppb.New(begin.Add(expires))})
					blocked = time.Since(begin)
					return wait(ctx, expires/3)
				}
				s.syncs.refuse(between(5*time.Second, 5*time.Second+outage))
				s.run()
				log := s.start(nil)
				<-time.After(12 * time.Second)
				synctest.Wait()
				var codes []string
				for _, event := range log.shown() {
					if code := event.GetAuthenticationPrompt().GetUserCode(); code != "" {
						codes = append(codes, code)
					}
				}
				if len(codes) != 1 || blocked > time.Second || (blocked > 0) != (outage > 0) {
					t.Errorf("the codes %q are shown, and the sign-in was held up for %s", codes, blocked)
				}
				if final := s.finished(log); final.GetState() != understudyv1.SyncState_SYNC_STATE_SUCCEEDED {
					t.Errorf("the sync is %s", final.GetState())
				}
				var states []string
				for _, event := range log.stored() {
					if change := event.GetStateChanged(); change != nil {
						states = append(states, strings.TrimPrefix(change.GetState().String(), "SYNC_STATE_"))
					}
				}
				if diff := cmp.Diff([]string{"PENDING_AUTHENTICATION", "RUNNING", "COMMITTING"}, states); diff != "" {
					t.Errorf("states (-want +got):\n%s", diff)
				}
				s.checkDense(log)
			})
		})
	}
}

// TestUnansweredAppends: whichever append was stored though it failed, its events are
// there once, and the sync goes on behind them.
func TestUnansweredAppends(t *testing.T) {
	story := func(t *testing.T, which int) (events []string, appends int) {
		synctest.Test(t, func(t *testing.T) {
			var said bytes.Buffer
			s := newStageOf(t, func(c *engine.Config) { c.Logger = slog.New(slog.NewTextHandler(&said, nil)) })
			s.user.signIn = after(500*time.Millisecond, func(context.Context, port.SignInOptions) error {
				return s.user.Fail(understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_MFA_REQUIRED)
			})
			s.source.reads["entra/sp-1"] = lasting(time.Second, items("a"))
			s.syncs.unanswered = func(events []*understudyv1.SyncEvent) error {
				if events[0].GetStarted() != nil {
					return nil // it is not taken yet
				}
				appends++
				if appends == which {
					s.syncs.refuse(between(0, 10*time.Second))
					return errStorage
				}
				return nil
			}
			s.run()
			log := s.start(nil)
			final := s.finished(log)
			if len(s.vault.commits) != 1 || final.GetAttempt() != 1 {
				t.Fatalf("%d commits, attempt %d", len(s.vault.commits), final.GetAttempt())
			}
			s.checkDense(log)
			s.checkCounts(final, log)
			synctest.Wait() // until its worker knows that the last events are stored
			s.stop()
			<-s.done
			if !strings.Contains(said.String(), `"sync finished"`) || strings.Contains(said.String(), "another worker has the sync") {
				t.Errorf("its log says:\n%s", said.String())
			}
			events = summary(log.stored())
		})
		return events, appends
	}
	want, appends := story(t, 0)
	if appends < 5 {
		t.Fatalf("%d appends: the test is wrong", appends)
	}
	for which := 1; which <= appends; which++ {
		t.Run(fmt.Sprintf("append %d", which), func(t *testing.T) {
			got, _ := story(t, which)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("events (-as always +got):\n%s", diff)
			}
		})
	}
}

// TestLateAppends: events that failed, and are stored all the same while it is looked
// whether they are. They are there once.
func TestLateAppends(t *testing.T) {
	for _, when := range []string{"before the log is opened", "before it is read", "before they are stored again", "and then cancelled"} {
		t.Run(when, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStage(t)
				s.source.reads["entra/sp-1"] = lasting(time.Minute, items("a"))
				log := s.start(nil)
				var failed, late []*understudyv1.SyncEvent
				arrive := func(now string) {
					if now == when && late != nil {
						s.append(log, late...)
						late = nil
					}
				}
				s.syncs.beforeOpen = func() { arrive("before the log is opened") }
				s.syncs.beforeEvents = func() { arrive("before it is read") }
				s.syncs.refuse(func(events []*understudyv1.SyncEvent) error {
					arrive("before they are stored again")
					arrive("and then cancelled")
					if failed != nil || events[0].GetConfigurationCompleted() == nil {
						return nil
					}
					for i, event := range events { // as a journal does that then cannot store them
						event.Sequence, event.EventTime = log.Sync().GetLastSequence()+int64(i)+1, timestamppb.Now()
					}
					failed = clones(events)
					late = failed
					if when == "and then cancelled" {
						late = append(late, eventState(understudyv1.SyncState_SYNC_STATE_CANCELLING))
					}
					return errStorage
				})
				s.run()
				final := s.finished(log)
				want := understudyv1.SyncState_SYNC_STATE_SUCCEEDED
				if when == "and then cancelled" {
					want = understudyv1.SyncState_SYNC_STATE_CANCELLED
				}
				if final.GetState() != want || final.GetAttempt() != 1 || late != nil {
					t.Errorf("the sync is %s at attempt %d", final.GetState(), final.GetAttempt())
				}
				s.checkDense(log)
				for id, n := range announced(log) {
					if n != 1 {
						t.Errorf("%s is announced %d times", id, n)
					}
				}
			})
		})
	}
}

// announced counts the results of a log, by type.
func announced(log *fakeLog) map[string]int {
	counts := map[string]int{}
	for _, event := range log.stored() {
		if result := event.GetConfigurationCompleted().GetResult(); result != nil {
			counts[result.GetConfigurationType()]++
		}
	}
	return counts
}

// TestTakenOverInOutage: a worker that cannot store, and does not hear that another one
// took its sync over, appends nothing behind that.
func TestTakenOverInOutage(t *testing.T) {
	for _, stored := range []bool{false, true} {
		t.Run(fmt.Sprintf("its last events are stored: %v", stored), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := pair(t)
				a.syncs.setAlive(a.syncs.worker)
				b.source.reads["entra/sp-1"] = lasting(time.Minute, items("a"))
				a.source.reads["entra/sp-1"] = b.source.reads["entra/sp-1"]
				a.user.signIn = after(5*time.Second, nil)
				outage := between(5*time.Second, 30*time.Second)
				if stored {
					a.syncs.unanswered = outage
				} else {
					a.syncs.refuse(outage)
				}
				a.run()
				log := a.start(nil)
				<-time.After(5100 * time.Millisecond)
				a.syncs.refuse(outage)
				a.syncs.see(a.syncs.worker, b.syncs.worker)
				a.syncs.freeze()
				b.syncs.setAlive(b.syncs.worker)
				b.run()
				final := b.finished(log)
				if final.GetWorker() != b.syncs.worker || final.GetAttempt() != 2 || final.GetState() != understudyv1.SyncState_SYNC_STATE_SUCCEEDED {
					t.Errorf("the sync of %s is %s at attempt %d", final.GetWorker(), final.GetState(), final.GetAttempt())
				}
				<-time.After(10 * time.Minute)
				if len(a.vault.commits) != 1 {
					t.Fatalf("%d commits", len(a.vault.commits))
				}
				b.checkDense(log)
				b.checkCounts(final, log)
			})
		})
	}
}

// TestCancelInOutage: a cancellation that another process could store is heard by a worker
// that cannot store anything. It lets the sync go at once, and ends it when it can.
func TestCancelInOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pair(t)
		a.syncs.setAlive(a.syncs.worker)
		names := a.more(1)
		b.tenants.more = a.tenants.more
		a.source.reads["entra/sp-1"] = lasting(10*time.Second, items("a"))
		a.run()
		log := a.start(nil)
		<-time.After(5 * time.Second)
		a.syncs.refuse(func(events []*understudyv1.SyncEvent) error {
			if events[0].GetStarted() != nil {
				return nil // so that it can be seen that it is free for another sync
			}
			return errStorage
		})
		<-time.After(20 * time.Second) // it waits for the journal by now
		if _, err := b.engine.Cancel(t.Context(), log.Sync().GetName()); err != nil {
			t.Fatal(err)
		}
		next, err := a.engine.Start(t.Context(), engine.StartRequest{Tenant: names[0]})
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(10 * time.Second)
		if got := a.logOf(next.GetName()).Sync().GetState(); got == understudyv1.SyncState_SYNC_STATE_PENDING {
			t.Error("the worker still attends to the sync that was cancelled")
		}
		a.syncs.refuse(nil)
		begin := time.Now()
		final := a.finished(log)
		if took := time.Since(begin); final.GetState() != understudyv1.SyncState_SYNC_STATE_CANCELLED || took > time.Minute {
			t.Errorf("the sync is %s after %s", final.GetState(), took)
		}
		a.checkDense(log)
	})
}

// TestOutageAtTheTimeLimit: the journal is waited for until some minutes after the time
// limit, and what was read until then is committed. After that the sync ends as it would
// have, which is stored as soon as that can be: its process knows more than its log.
func TestOutageAtTheTimeLimit(t *testing.T) {
	const limit = 20 * time.Minute
	for name, test := range map[string]struct {
		read   readFunc
		from   time.Duration
		length time.Duration
		want   understudyv1.SyncState
	}{
		"stores in time":     {blocks("a"), time.Millisecond, limit + 3*time.Minute, understudyv1.SyncState_SYNC_STATE_PARTIALLY_SUCCEEDED},
		"stores too late":    {blocks("a"), time.Millisecond, 2 * limit, understudyv1.SyncState_SYNC_STATE_FAILED},
		"and was read":       {lasting(time.Minute, items("a")), time.Second, 2 * limit, understudyv1.SyncState_SYNC_STATE_FAILED},
		"and was committed":  {items("a"), 10 * time.Minute, 2 * limit, understudyv1.SyncState_SYNC_STATE_SUCCEEDED},
		"and ends meanwhile": {blocks("a"), limit + time.Minute, 2 * limit, understudyv1.SyncState_SYNC_STATE_PARTIALLY_SUCCEEDED},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStageOf(t, func(c *engine.Config) { c.MaxSyncDuration = limit })
				s.source.reads["entra/sp-1"] = test.read
				if test.from > time.Minute { // it commits when the journal fails
					s.vault.onCommit = func() { <-time.After(15 * time.Minute) }
				}
				// Nobody but the process knows that the push was made.
				s.vault.pushState = understudyv1.PushState_PUSH_STATE_UNSPECIFIED
				s.syncs.refuse(between(test.from, test.length))
				s.run()
				log := s.start(nil)
				final := s.finished(log)
				if final.GetState() != test.want || (len(s.vault.commits) == 1) != (final.GetError() == nil) {
					t.Errorf("the sync is %s, %v, %d commits", final.GetState(), final.GetPartialCauses(), len(s.vault.commits))
				}
				if final.GetError() != nil && errorReason(t, final) != "STORAGE_UNAVAILABLE" {
					t.Errorf("error = %v", final.GetError())
				}
				if took := final.GetEndTime().AsTime().Sub(final.GetStartTime().AsTime()); took > test.length+20*time.Second {
					t.Errorf("it took %s", took)
				}
				s.checkDense(log)
				<-time.After(time.Minute)
				s.finished(s.start(nil)) // its tenant is free
			})
		})
	}
}

// TestNothingPilesUp: however many types are read while the journal cannot store, no more
// of them wait to be stored than else.
func TestNothingPilesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const types = 1000
		var all []*catalog.Type
		for i := range types {
			all = append(all, &catalog.Type{ID: fmt.Sprintf("entra/t%03d", i), ServicePrincipal: []string{"A.Read.All"}})
		}
		s := newStageOf(t, func(c *engine.Config) { c.Catalog = &fakeCatalog{all} })
		var mu sync.Mutex
		most := 0
		outage := between(time.Millisecond, 30*time.Minute)
		s.syncs.refuse(func(events []*understudyv1.SyncEvent) error {
			mu.Lock()
			defer mu.Unlock()
			most = max(most, len(events))
			return outage(events)
		})
		s.run()
		log := s.start(nil)
		if final := s.finished(log); final.GetState() != understudyv1.SyncState_SYNC_STATE_SUCCEEDED || len(announced(log)) != types {
			t.Errorf("the sync is %s with %d results", final.GetState(), len(announced(log)))
		}
		if most > 65 {
			t.Errorf("%d events were stored together", most)
		}
	})
}
