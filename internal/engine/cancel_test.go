package engine_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

// TestCancelIsNotLost: a cancellation that could not be recorded leaves the sync as it
// was.
func TestCancelIsNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		log := s.start(nil)
		s.syncs.onAppend = func(string, []*understudyv1.SyncEvent) error { return errStorage }
		var storage *port.StorageError
		if _, err := s.engine.Cancel(t.Context(), log.Sync().GetName()); !errors.As(err, &storage) {
			t.Errorf("Cancel = %v", err)
		}
		s.syncs.onAppend = nil
		s.run()
		if final := s.finished(log); final.GetState() != understudyv1.SyncState_SYNC_STATE_SUCCEEDED {
			t.Errorf("the sync is %s", final.GetState())
		}
	})
}

// TestCancelWaitsForNobody: where it is known that nothing can be stored a cancellation is
// refused before it waits for anything, and one whose caller goes away while it waits is none.
func TestCancelWaitsForNobody(t *testing.T) {
	s := newStage(t)
	name := s.start(nil).Sync().GetName()
	opened := 0
	s.syncs.beforeOpen = func() { opened++ }
	s.syncs.unreachable = errStorage
	if _, err := s.engine.Cancel(t.Context(), name); !errors.As(err, new(*port.StorageError)) || opened > 0 {
		t.Errorf("Cancel = %v, and it opened the log %d times", err, opened)
	}
	s.syncs.unreachable = nil
	gone := errors.New("the caller went away")
	ctx, leave := context.WithCancelCause(t.Context())
	s.syncs.beforeOpen = func() { leave(gone) }
	if _, err := s.engine.Cancel(ctx, name); !errors.Is(err, gone) {
		t.Errorf("Cancel = %v", err)
	}
	if got := s.logOf(name).stored(); len(got) > 0 {
		t.Errorf("stored are %v", got)
	}
	s.syncs.beforeOpen = nil
	if got, err := s.engine.Cancel(t.Context(), name); err != nil || got.GetState() != understudyv1.SyncState_SYNC_STATE_CANCELLED {
		t.Errorf("Cancel = %v, %v", got, err)
	}
}

// TestCancelWins: what was told to be cancelled ends so, also when the sync fails
// at the same moment.
func TestCancelWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		proceed := make(chan struct{})
		s.sp.signIn = func(context.Context, port.SignInOptions) error {
			<-proceed
			return s.sp.Fail(understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_CREDENTIAL_EXPIRED)
		}
		cancelling := make(chan struct{})
		s.syncs.onAppend = func(_ string, events []*understudyv1.SyncEvent) error {
			if events[len(events)-1].GetStateChanged().GetState() == understudyv1.SyncState_SYNC_STATE_CANCELLING {
				close(cancelling)
				close(proceed)
			}
			return nil
		}
		s.run()
		log := s.start(nil)
		log.until(t.Context(), func(e *understudyv1.SyncEvent) bool { return e.GetAuthenticationSucceeded() != nil })
		if _, err := s.engine.Cancel(t.Context(), log.Sync().GetName()); err != nil {
			t.Fatal(err)
		}
		<-cancelling
		if final := s.finished(log); final.GetState() != understudyv1.SyncState_SYNC_STATE_CANCELLED {
			t.Errorf("the sync is %s", final.GetState())
		}
		s.stop()
		<-s.done
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
