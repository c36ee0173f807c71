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
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/testing/protocmp"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/engine"
	"understudy.internal/internal/port"
)

// restart returns a new engine on the journal and the vault of another one, which
// is as if it had been killed.
func (s *stage) restart() *stage {
	next := newStage(s.t)
	next.syncs.logs, next.syncs.order = s.syncs.logs, s.syncs.order
	for _, log := range next.syncs.logs {
		log.syncs = next.syncs
	}
	next.vault.commits, next.vault.backup = s.vault.commits, s.vault.backup
	return next
}

// append stores events as the worker of a sync that will be killed.
func (s *stage) append(log *fakeLog, events ...*understudyv1.SyncEvent) {
	s.t.Helper()
	if err := log.Append(s.t.Context(), events...); err != nil {
		s.t.Fatal(err)
	}
}

func (s *stage) recover() {
	s.t.Helper()
	if err := s.engine.Recover(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

func errorReason(t *testing.T, sync *understudyv1.Sync) string {
	t.Helper()
	var info errdetails.ErrorInfo
	for _, detail := range sync.GetError().GetDetails() {
		if detail.MessageIs(&info) {
			if err := detail.UnmarshalTo(&info); err != nil {
				t.Fatal(err)
			}
		}
	}
	return strings.TrimPrefix(info.GetReason(), "ERROR_REASON_")
}

func eventStarted(ids ...string) *understudyv1.SyncEvent {
	return &understudyv1.SyncEvent{Event: &understudyv1.SyncEvent_Started{Started: &understudyv1.SyncStarted{ConfigurationTypes: ids}}}
}

func eventState(state understudyv1.SyncState) *understudyv1.SyncEvent {
	return &understudyv1.SyncEvent{Event: &understudyv1.SyncEvent_StateChanged{StateChanged: &understudyv1.StateChanged{State: state}}}
}

func eventSnapshot(push understudyv1.PushState) *understudyv1.SyncEvent {
	return &understudyv1.SyncEvent{Event: &understudyv1.SyncEvent_SnapshotCommitted{SnapshotCommitted: &understudyv1.SnapshotCommitted{
		Snapshot: &understudyv1.Snapshot{Commit: "c0ffee", PushState: push},
	}}}
}

func eventFailed(identity understudyv1.Identity) *understudyv1.SyncEvent {
	return &understudyv1.SyncEvent{Event: &understudyv1.SyncEvent_AuthenticationFailed{AuthenticationFailed: &understudyv1.AuthenticationFailed{
		Failure: &understudyv1.AuthFailure{Identity: identity},
	}}}
}

func eventAuthenticated(identity understudyv1.Identity) *understudyv1.SyncEvent {
	return &understudyv1.SyncEvent{Event: &understudyv1.SyncEvent_AuthenticationSucceeded{
		AuthenticationSucceeded: &understudyv1.AuthenticationSucceeded{Identity: identity},
	}}
}

func eventResult(
	id string, identity understudyv1.Identity, outcome understudyv1.ConfigurationOutcome, reason understudyv1.ConfigurationFailureReason,
) *understudyv1.SyncEvent {
	return &understudyv1.SyncEvent{Event: &understudyv1.SyncEvent_ConfigurationCompleted{
		ConfigurationCompleted: &understudyv1.ConfigurationCompleted{Result: &understudyv1.ConfigurationResult{
			ConfigurationType: id, Identity: identity, Outcome: outcome, Reason: reason,
		}},
	}}
}

// TestRecoverEndings ends syncs that were killed, by what they left behind.
func TestRecoverEndings(t *testing.T) {
	const (
		sp     = understudyv1.Identity_IDENTITY_SERVICE_PRINCIPAL
		user   = understudyv1.Identity_IDENTITY_USER
		pushed = understudyv1.PushState_PUSH_STATE_PUSHED
	)
	changed := eventResult("entra/sp-1", sp, understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_CHANGED, 0)
	notBackedUp := eventResult("print/user-1", user, understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_NOT_BACKED_UP,
		understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_USER_NOT_AUTHENTICATED)
	interrupted := eventResult("entra/sp-2", sp, understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_FAILED,
		understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_INTERRUPTED)
	incomplete := eventResult("entra/sp-2", sp, understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_INCOMPLETE,
		understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_RESPONSE_INVALID)
	tests := []struct {
		name      string
		events    []*understudyv1.SyncEvent
		committed bool // the repository has a commit of the sync
		pushState understudyv1.PushState
		setUp     func(*stage)
		want      string // state, causes, code
		reason    string // of the error
		// identities are their states in the final sync.
		identities []string
	}{
		{
			name:   "in the middle of reading",
			events: []*understudyv1.SyncEvent{eventStarted("entra/sp-1", "entra/sp-2"), eventAuthenticated(sp), changed},
			want:   "finished FAILED ABORTED", reason: "SYNC_INTERRUPTED", identities: []string{"AUTHENTICATED"},
		},
		{
			name:   "while a person was asked to sign in",
			events: []*understudyv1.SyncEvent{eventStarted("print/user-1"), eventState(understudyv1.SyncState_SYNC_STATE_PENDING_AUTHENTICATION)},
			want:   "finished FAILED ABORTED", reason: "SYNC_INTERRUPTED",
		},
		{
			name: "while it was being cancelled",
			events: []*understudyv1.SyncEvent{
				eventStarted("entra/sp-1"), eventAuthenticated(sp), eventState(understudyv1.SyncState_SYNC_STATE_CANCELLING),
			},
			want: "finished CANCELLED CANCELLED", reason: "SYNC_CANCELLED", identities: []string{"AUTHENTICATED"},
		},
		{
			name:   "after the commit",
			events: []*understudyv1.SyncEvent{eventStarted("entra/sp-1"), eventAuthenticated(sp), changed}, committed: true,
			pushState: understudyv1.PushState_PUSH_STATE_NO_REMOTE,
			want:      "finished SUCCEEDED", identities: []string{"AUTHENTICATED", "NOT_NEEDED"},
		},
		{
			name: "after the commit of a sync without the user",
			events: []*understudyv1.SyncEvent{
				eventStarted("entra/sp-1", "entra/sp-2", "print/user-1"), eventFailed(user), eventAuthenticated(sp), changed, incomplete, notBackedUp,
			},
			committed: true, pushState: pushed,
			want:       "finished PARTIALLY_SUCCEEDED USER_AUTHENTICATION_FAILED CONFIGURATIONS_FAILED",
			identities: []string{"AUTHENTICATED", "FAILED [print/user-1]"},
		},
		{
			name: "after the commit of a sync that lost the service principal, and ran out of time",
			events: []*understudyv1.SyncEvent{
				eventStarted("entra/sp-1", "entra/sp-2"), eventAuthenticated(sp), changed, interrupted, eventFailed(sp),
			},
			committed: true, pushState: pushed,
			want: "finished PARTIALLY_SUCCEEDED SERVICE_PRINCIPAL_LOST TIMED_OUT", identities: []string{"LOST []", "NOT_NEEDED"},
		},
		{
			name:   "before the push was confirmed",
			events: []*understudyv1.SyncEvent{eventStarted("entra/sp-1"), eventAuthenticated(sp), changed}, committed: true,
			want: "finished PARTIALLY_SUCCEEDED PUSH_FAILED", identities: []string{"AUTHENTICATED", "NOT_NEEDED"},
		},
		{
			name: "between the snapshot and the end",
			events: []*understudyv1.SyncEvent{
				eventStarted("entra/sp-1"), eventAuthenticated(sp), changed, eventSnapshot(understudyv1.PushState_PUSH_STATE_FAILED),
			},
			want: "finished PARTIALLY_SUCCEEDED PUSH_FAILED", identities: []string{"AUTHENTICATED", "NOT_NEEDED"},
		},
		{
			name:   "and its tenant is gone",
			events: []*understudyv1.SyncEvent{eventStarted("entra/sp-1"), eventAuthenticated(sp), changed}, committed: true,
			setUp: func(s *stage) { s.tenants.tenant = nil },
			want:  "finished FAILED ABORTED", reason: "SYNC_INTERRUPTED", identities: []string{"AUTHENTICATED"},
		},
		{
			name:   "and its repository cannot be read",
			events: []*understudyv1.SyncEvent{eventStarted("entra/sp-1"), eventAuthenticated(sp), changed},
			setUp:  func(s *stage) { s.vault.committedErr = errors.New("corrupt") },
			want:   "finished FAILED ABORTED", reason: "SYNC_INTERRUPTED", identities: []string{"AUTHENTICATED"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			killed := newStage(t)
			log := killed.start(nil)
			killed.append(log, test.events...)
			if test.committed {
				killed.vault.commits = []port.CommitInfo{{Sync: log.Sync().GetName()}}
			}
			s := killed.restart()
			s.vault.pushState = test.pushState
			if test.setUp != nil {
				test.setUp(s)
			}
			s.recover()
			s.recover() // again: never twice a `finished`
			lines := summary(log.stored())
			lines = slices.DeleteFunc(lines, func(line string) bool { return !strings.HasPrefix(line, "finished") })
			if diff := cmp.Diff([]string{test.want}, lines); diff != "" {
				t.Errorf("end (-want +got):\n%s", diff)
			}
			final := log.Sync()
			if got := errorReason(t, final); got != test.reason {
				t.Errorf("reason = %q, want %q", got, test.reason)
			}
			var identities []string
			for _, outcome := range final.GetIdentities() {
				line := short(outcome.GetState(), "IDENTITY_STATE_")
				if outcome.GetFailure() != nil {
					line += fmt.Sprint(" ", outcome.GetFailure().GetAffectedConfigurationTypes())
				}
				identities = append(identities, line)
			}
			if diff := cmp.Diff(test.identities, identities); diff != "" {
				t.Errorf("identities (-want +got):\n%s", diff)
			}
			if got, want := final.GetSnapshot() != nil, !strings.Contains(test.want, "FAILED ABORTED") && test.reason == ""; got != want {
				t.Errorf("snapshot = %v", final.GetSnapshot())
			}
			if got, want := final.GetLastSequence(), int64(len(log.stored())); got != want {
				t.Errorf("last_sequence = %d, want %d", got, want)
			}
		})
	}
}

// TestKilledAnywhere kills a sync after each of its events: every time it ends
// once, as it would have ended when its commit was there, and its tenant is free.
func TestKilledAnywhere(t *testing.T) {
	var events []*understudyv1.SyncEvent
	var whole *understudyv1.Sync
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		s.user.refuse(understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_MFA_REQUIRED)
		s.user.signIn = after(time.Second, s.user.signIn)
		s.run()
		log := s.start(nil)
		whole = s.finished(log)
		events = log.stored()
		s.stop()
		<-s.done
	})
	results := 0
	for killedAfter := range len(events) { // the last one is `finished`
		if killedAfter > 0 && events[killedAfter-1].GetConfigurationCompleted() != nil {
			results++
		}
		for _, committed := range []bool{false, true} {
			if committed && results < 4 {
				continue // a commit begins after the last result
			}
			killed := newStage(t)
			log := killed.start(nil)
			killed.append(log, events[:killedAfter]...)
			if committed {
				killed.vault.commits = []port.CommitInfo{{Sync: log.Sync().GetName()}}
			}
			s := killed.restart()
			s.vault.pushState = understudyv1.PushState_PUSH_STATE_NO_REMOTE
			s.recover()
			final := log.Sync()
			switch hasSnapshot := events[max(0, killedAfter-1)].GetSnapshotCommitted() != nil; {
			case killedAfter == 0:
				if final.GetState() != understudyv1.SyncState_SYNC_STATE_PENDING {
					t.Errorf("a sync that had not begun is %s", final.GetState())
				}
			case committed || hasSnapshot:
				diff := cmp.Diff(whole, final, protocmp.Transform(),
					protocmp.IgnoreFields(&understudyv1.Sync{}, "create_time", "start_time", "end_time"))
				if diff != "" {
					t.Errorf("killed after %d events and the commit (-as if it was not +got):\n%s", killedAfter, diff)
				}
			case final.GetState() != understudyv1.SyncState_SYNC_STATE_FAILED:
				t.Errorf("killed after %d events it is %s", killedAfter, final.GetState())
			}
			if killedAfter > 0 {
				if _, err := s.engine.Start(t.Context(), engine.StartRequest{Tenant: tenantName}); err != nil {
					t.Errorf("killed after %d events, the tenant is not free: %v", killedAfter, err)
				}
			}
		}
	}
}

// TestRecoverGoesOn: a sync that cannot be ended does not keep the server from
// starting, and is ended as soon as it can be.
func TestRecoverGoesOn(t *testing.T) {
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
		var mended atomic.Bool
		s.syncs.onAppend = func(sync string, _ []*understudyv1.SyncEvent) error {
			if sync == stuck.sync.GetName() && !mended.Load() {
				return errStorage
			}
			return nil
		}
		s.recover()
		if got := s.logOf(other.GetName()).Sync().GetState(); got != understudyv1.SyncState_SYNC_STATE_FAILED {
			t.Errorf("the other sync is %s", got)
		}
		s.run()
		<-time.After(time.Minute)
		_, err = s.engine.Start(t.Context(), engine.StartRequest{Tenant: tenantName})
		if running := (*port.SyncRunningError)(nil); !errors.As(err, &running) {
			t.Errorf("Start = %v", err)
		}
		mended.Store(true)
		if final := s.finished(stuck); errorReason(t, final) != "SYNC_INTERRUPTED" {
			t.Errorf("the stuck sync ended with %v", final.GetError())
		}
		s.finished(s.start(nil))
		s.stop()
		<-s.done
	})
}

// TestStorageFailsWhileRecording: from any of its appends on, for a while. The sync
// ends once, as what it committed says, and its tenant is free again.
func TestStorageFailsWhileRecording(t *testing.T) {
	for broken := range 6 {
		t.Run(fmt.Sprintf("append %d", broken), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStage(t)
				s.user.signIn = after(time.Second, nil)
				s.vault.pushState = understudyv1.PushState_PUSH_STATE_NO_REMOTE
				var appends, refused atomic.Int64
				begin := time.Now()
				s.syncs.onAppend = func(string, []*understudyv1.SyncEvent) error {
					if appends.Add(1) > int64(broken) && time.Since(begin) < time.Minute {
						refused.Add(1)
						return errStorage
					}
					return nil
				}
				s.run()
				log := s.start(nil)
				final := s.finished(log)
				if refused.Load() == 0 {
					t.Fatal("nothing was refused: the test is wrong")
				}
				if committed := len(s.vault.commits) > 0; committed != (final.GetState() == understudyv1.SyncState_SYNC_STATE_SUCCEEDED) {
					t.Errorf("%d commits, and the sync is %s", len(s.vault.commits), final.GetState())
				}
				if final.GetError() != nil && errorReason(t, final) != "STORAGE_UNAVAILABLE" {
					t.Errorf("error = %v", final.GetError())
				}
				for i, event := range log.stored() {
					if event.GetSequence() != int64(i+1) || (event.GetFinished() != nil) != (i == len(log.stored())-1) {
						t.Errorf("event %d: %v", i, event)
					}
				}
				s.finished(s.start(nil))
				s.stop()
				<-s.done
			})
		})
	}
}

// TestCancelIsNotLost: a cancellation that could not be recorded leaves the sync in
// the queue, and one that comes between the queue and the run is obeyed.
func TestCancelIsNotLost(t *testing.T) {
	t.Run("the storage fails", func(t *testing.T) {
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
			s.stop()
			<-s.done
		})
	})
	t.Run("between the queue and the run", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newStage(t)
			taken, proceed := make(chan struct{}), make(chan struct{})
			log := s.start(nil)
			var once sync.Once
			s.tenants.onTenant = func() { once.Do(func() { close(taken); <-proceed }) }
			s.run()
			<-taken
			got, err := s.engine.Cancel(t.Context(), log.Sync().GetName())
			if err != nil || got.GetState() != understudyv1.SyncState_SYNC_STATE_CANCELLING {
				t.Errorf("Cancel = %v, %v", got.GetState(), err)
			}
			close(proceed)
			if final := s.finished(log); final.GetState() != understudyv1.SyncState_SYNC_STATE_CANCELLED || len(s.vault.commits) > 0 {
				t.Errorf("the sync is %s after %d commits", final.GetState(), len(s.vault.commits))
			}
			s.stop()
			<-s.done
		})
	})
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
