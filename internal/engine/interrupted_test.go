package engine_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/engine"
	"understudy.internal/internal/port"
)

// TestKilledAnywhere kills a sync after each of its events: every time it goes on, and
// ends as it would have ended. What was announced is not announced again.
func TestKilledAnywhere(t *testing.T) {
	refuse := func(s *stage) {
		s.user.refuse(understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_MFA_REQUIRED)
		s.user.signIn = after(time.Second, s.user.signIn)
	}
	var events []*understudyv1.SyncEvent
	var whole *understudyv1.Sync
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		refuse(s)
		s.run()
		log := s.start(nil)
		whole = s.finished(log)
		events = log.stored()
		s.stop()
		<-s.done
	})
	committing := slices.IndexFunc(events, func(e *understudyv1.SyncEvent) bool {
		return e.GetStateChanged().GetState() == understudyv1.SyncState_SYNC_STATE_COMMITTING
	})
	for killedAfter := range len(events) { // the last one is `finished`
		for _, committed := range []bool{false, true} {
			if committed != (killedAfter > committing+1) && killedAfter != committing+1 {
				continue // only after COMMITTING it may have committed, and after the snapshot it has
			}
			t.Run(fmt.Sprintf("after %d events, committed: %v", killedAfter, committed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					killed := newStage(t)
					log := killed.start(nil)
					killed.append(log, clones(events[:killedAfter])...)
					if committed {
						killed.vault.commits = []port.CommitInfo{{Sync: log.Sync().GetName()}}
					}
					s := killed.restart()
					refuse(s)
					s.vault.pushState = understudyv1.PushState_PUSH_STATE_NO_REMOTE
					s.run()
					final := s.finished(log)
					diff := cmp.Diff(whole, final, protocmp.Transform(), protocmp.IgnoreFields(&understudyv1.Sync{},
						"create_time", "start_time", "end_time", "worker", "attempt", "last_sequence"))
					if diff != "" {
						t.Errorf("(-as if it was not +got):\n%s", diff)
					}
					s.checkDense(log)
					seen := map[string]int{}
					for _, line := range summary(log.stored()) {
						seen[line]++
					}
					for _, event := range []string{
						"started 4", "authenticated SERVICE_PRINCIPAL", "committed", "entra/sp-1 CHANGED UNSPECIFIED by SERVICE_PRINCIPAL",
						"print/user-1 NOT_BACKED_UP USER_NOT_AUTHENTICATED by USER",
					} {
						if seen[event] != 1 {
							t.Errorf("%q is there %d times", event, seen[event])
						}
					}
					if len(s.vault.commits) != 1 {
						t.Errorf("%d commits", len(s.vault.commits))
					}
					s.finished(s.start(nil))
				})
			})
		}
	}
}

// TestTakeoverGoesOn: a sync that cannot be taken over keeps nobody else from it, and
// is taken over as soon as it can be.
func TestTakeoverGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		killed := newStage(t)
		stuck := killed.start(nil)
		killed.append(stuck, eventStarted("entra/sp-1"))
		other, _, err := killed.syncs.Create(t.Context(), port.CreateRequest{Tenant: "tenants/other", Sync: &understudyv1.Sync{}})
		if err != nil {
			t.Fatal(err)
		}
		killed.append(killed.logOf(other.GetName()), eventStarted("entra/sp-1"))
		s := killed.restart()
		stuckName := stuck.Sync().GetName()
		var mended atomic.Bool
		s.syncs.onAppend = func(sync string, _ []*understudyv1.SyncEvent) error {
			if sync == stuckName && !mended.Load() {
				return errStorage
			}
			return nil
		}
		s.run()
		if got := s.finished(s.logOf(other.GetName())).GetState(); got != understudyv1.SyncState_SYNC_STATE_FAILED {
			t.Errorf("the other sync is %s", got)
		}
		<-time.After(time.Minute)
		_, err = s.engine.Start(t.Context(), engine.StartRequest{Tenant: tenantName})
		if running := (*port.SyncRunningError)(nil); !errors.As(err, &running) {
			t.Errorf("Start = %v", err)
		}
		mended.Store(true)
		if final := s.finished(stuck); final.GetState() != understudyv1.SyncState_SYNC_STATE_SUCCEEDED || final.GetAttempt() != 2 {
			t.Errorf("the stuck sync is %s at attempt %d", final.GetState(), final.GetAttempt())
		}
		s.finished(s.start(nil))
	})
}

// TestSignInAndReadingOverlap: rule 2. The sync takes the longer of the two, not
// the sum.
func TestSignInAndReadingOverlap(t *testing.T) {
	const signIn, userTypes, servicePrincipalTypes = 4 * time.Minute, time.Minute, 7 * time.Minute
	for name, slow := range map[string]time.Duration{"the service principal's types": servicePrincipalTypes, "the sign-in": 0} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStage(t)
				s.user.signIn = after(signIn, nil)
				for id, delay := range map[string]time.Duration{"entra/sp-1": slow, "print/user-1": userTypes} {
					s.source.reads[id] = func(ctx context.Context, identity port.Identity, sink func(port.Item) error) error {
						return errors.Join(wait(ctx, delay), items("a")(ctx, identity, sink))
					}
				}
				s.run()
				begin := time.Now()
				s.finished(s.start(nil))
				if took, want := time.Since(begin), max(signIn+userTypes, slow); took < want || took > want+time.Second {
					t.Errorf("it took %s, want %s", took, want)
				}
				s.stop()
				<-s.done
			})
		})
	}
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
