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
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/engine"
	"understudy.internal/internal/port"
)

// restart returns a new engine on the journal and the vault of another one, which
// is as if that had been killed.
func (s *stage) restart() *stage {
	next := s.replica(s.syncs.worker + "'")
	next.syncs.setAlive(next.syncs.worker)
	return next
}

// replica returns another worker on the same journal and vault.
func (s *stage) replica(worker string) *stage {
	next := newStage(s.t)
	next.syncs.fakeJournal, next.syncs.worker = s.syncs.fakeJournal, worker
	next.vault, next.tenant.Vault = s.vault, s.tenant.Vault
	next.syncs.setAlive(append(s.syncs.alive, worker)...)
	return next
}

// append stores events as the worker of a sync that will be killed.
func (s *stage) append(log *fakeLog, events ...*understudyv1.SyncEvent) {
	s.t.Helper()
	if err := log.Append(s.t.Context(), events...); err != nil {
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

// TestTakeover takes over syncs that were killed: each goes on from what it left
// behind, or ends by it.
func TestTakeover(t *testing.T) {
	const (
		sp         = understudyv1.Identity_IDENTITY_SERVICE_PRINCIPAL
		user       = understudyv1.Identity_IDENTITY_USER
		pushed     = understudyv1.PushState_PUSH_STATE_PUSHED
		cancelling = understudyv1.SyncState_SYNC_STATE_CANCELLING
		committing = understudyv1.SyncState_SYNC_STATE_COMMITTING
	)
	changed := eventResult("entra/sp-1", sp, understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_CHANGED, 0)
	changed.GetConfigurationCompleted().GetResult().ItemCount = 2
	notBackedUp := eventResult("print/user-1", user, understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_NOT_BACKED_UP,
		understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_USER_NOT_AUTHENTICATED)
	interrupted := eventResult("entra/sp-2", sp, understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_FAILED,
		understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_INTERRUPTED)
	incomplete := eventResult("entra/sp-2", sp, understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_INCOMPLETE,
		understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_RESPONSE_INVALID)
	taken := func(n int) (events []*understudyv1.SyncEvent) {
		for range n {
			events = append(events, stateChangedBy(understudyv1.SyncState_SYNC_STATE_RUNNING, "a dead one"))
		}
		return events
	}
	tests := []struct {
		name      string
		events    []*understudyv1.SyncEvent
		committed bool // the repository has a commit of the sync
		pushState understudyv1.PushState
		setUp     func(*stage)
		want      []string // what the worker appends; results after the rest
		reason    string   // of the error
		// identities are their states in the final sync.
		identities []string
	}{
		{
			name:   "in the middle of reading",
			events: []*understudyv1.SyncEvent{eventStarted("entra/sp-1", "entra/sp-2"), eventAuthenticated(sp), changed},
			want: []string{
				"state RUNNING by worker'", "committed", "finished SUCCEEDED",
				"entra/sp-2 CHANGED UNSPECIFIED by SERVICE_PRINCIPAL",
			},
			identities: []string{"AUTHENTICATED", "NOT_NEEDED"},
		},
		{
			name:   "before an identity was there",
			events: []*understudyv1.SyncEvent{eventStarted("entra/sp-1")},
			want: []string{
				"state RUNNING by worker'", "authenticated SERVICE_PRINCIPAL", "committed", "finished SUCCEEDED",
				"entra/sp-1 CHANGED UNSPECIFIED by SERVICE_PRINCIPAL",
			},
			identities: []string{"AUTHENTICATED", "NOT_NEEDED"},
		},
		{
			name:   "while a person was asked to sign in",
			events: []*understudyv1.SyncEvent{eventStarted("print/user-1"), eventState(understudyv1.SyncState_SYNC_STATE_PENDING_AUTHENTICATION)},
			setUp: func(s *stage) {
				s.user.signIn = func(_ context.Context, options port.SignInOptions) error {
					options.Prompt(&understudyv1.AuthenticationPrompt{UserCode: "ABC", ExpireTime: timestamppb.Now()})
					return nil
				}
			},
			want: []string{
				"state RUNNING by worker'", "state PENDING_AUTHENTICATION", "state RUNNING", "authenticated USER",
				"committed", "finished SUCCEEDED", "print/user-1 CHANGED UNSPECIFIED by USER",
			},
			identities: []string{"NOT_NEEDED", "AUTHENTICATED"},
		},
		{
			name:   "what was announced cannot be repeated",
			events: []*understudyv1.SyncEvent{eventStarted("entra/sp-1"), eventAuthenticated(sp), changed},
			setUp: func(s *stage) {
				s.source.reads["entra/sp-1"] = fails(readError(
					understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_SOURCE_UNAVAILABLE))
			},
			want: []string{
				"state RUNNING by worker'", "committed", "finished PARTIALLY_SUCCEEDED CONFIGURATIONS_FAILED",
				"entra/sp-1 FAILED SOURCE_UNAVAILABLE by SERVICE_PRINCIPAL",
			},
			identities: []string{"AUTHENTICATED", "NOT_NEEDED"},
		},
		{
			name: "an identity that failed is not tried again",
			events: []*understudyv1.SyncEvent{
				eventStarted("entra/sp-1", "print/user-1"), eventFailed(user), eventAuthenticated(sp), changed, notBackedUp,
			},
			want: []string{
				"state RUNNING by worker'", "committed", "finished PARTIALLY_SUCCEEDED USER_AUTHENTICATION_FAILED",
			},
			identities: []string{"AUTHENTICATED", "FAILED [print/user-1]"},
		},
		{
			name: "an identity that was authenticated cannot be any more",
			events: []*understudyv1.SyncEvent{
				eventStarted("entra/sp-1", "print/user-1"), eventAuthenticated(sp), eventAuthenticated(user), changed,
			},
			setUp: func(s *stage) {
				s.user.refuse(understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_SIGN_IN_REVOKED)
				s.user.signIn = after(time.Second, s.user.signIn)
			},
			want: []string{
				"state RUNNING by worker'", "failed USER SIGN_IN_REVOKED, affects [print/user-1], continues with SERVICE_PRINCIPAL",
				"committed", "finished PARTIALLY_SUCCEEDED USER_AUTHENTICATION_FAILED",
				"print/user-1 NOT_BACKED_UP USER_NOT_AUTHENTICATED by USER",
			},
			identities: []string{"AUTHENTICATED", "LOST [print/user-1]"},
		},
		{
			name:   "the service principal had failed at the start",
			events: []*understudyv1.SyncEvent{eventStarted("entra/sp-1"), eventFailed(sp)},
			want:   []string{"state RUNNING by worker'", "finished FAILED FAILED_PRECONDITION"},
			reason: "TENANT_AUTHENTICATION_FAILED", identities: []string{"FAILED [entra/sp-1]", "NOT_NEEDED"},
		},
		{
			name:   "the service principal was lost",
			events: []*understudyv1.SyncEvent{eventStarted("entra/sp-1", "print/user-1"), eventAuthenticated(sp), eventFailed(sp)},
			want: []string{
				"state RUNNING by worker'", "authenticated USER", "committed",
				"finished PARTIALLY_SUCCEEDED SERVICE_PRINCIPAL_LOST",
				"entra/sp-1 NOT_BACKED_UP SERVICE_PRINCIPAL_NOT_AUTHENTICATED by SERVICE_PRINCIPAL",
				"print/user-1 CHANGED UNSPECIFIED by USER",
			},
			identities: []string{"LOST [entra/sp-1]", "AUTHENTICATED"},
		},
		{
			name: "while it was being cancelled",
			events: []*understudyv1.SyncEvent{
				eventStarted("entra/sp-1"), eventAuthenticated(sp), eventState(cancelling),
			},
			want: []string{"finished CANCELLED CANCELLED"}, reason: "SYNC_CANCELLED", identities: []string{"AUTHENTICATED"},
		},
		{
			name:   "while it was being cancelled, and its repository cannot be read",
			events: []*understudyv1.SyncEvent{eventStarted("entra/sp-1"), eventState(cancelling)},
			setUp:  func(s *stage) { s.vault.committedErr = errors.New("corrupt") },
			want:   []string{"finished CANCELLED CANCELLED"}, reason: "SYNC_CANCELLED",
		},
		{
			name:   "while it began to commit",
			events: []*understudyv1.SyncEvent{eventStarted("entra/sp-1"), eventAuthenticated(sp), changed, eventState(committing)},
			want: []string{
				"state COMMITTING by worker'", "state RUNNING", "committed", "finished SUCCEEDED",
			},
			identities: []string{"AUTHENTICATED", "NOT_NEEDED"},
		},
		{
			name:   "after the commit",
			events: []*understudyv1.SyncEvent{eventStarted("entra/sp-1"), eventAuthenticated(sp), changed, eventState(committing)}, committed: true,
			pushState:  understudyv1.PushState_PUSH_STATE_NO_REMOTE,
			want:       []string{"state COMMITTING by worker'", "committed", "finished SUCCEEDED"},
			identities: []string{"AUTHENTICATED", "NOT_NEEDED"},
		},
		{
			name:   "after the commit, by a version that did not say that it commits",
			events: []*understudyv1.SyncEvent{eventStarted("entra/sp-1"), eventAuthenticated(sp), changed}, committed: true,
			pushState: understudyv1.PushState_PUSH_STATE_NO_REMOTE,
			want:      []string{"state RUNNING by worker'", "committed", "finished SUCCEEDED"}, identities: []string{"AUTHENTICATED", "NOT_NEEDED"},
		},
		{
			name: "after the commit of a sync without the user",
			events: []*understudyv1.SyncEvent{
				eventStarted("entra/sp-1", "entra/sp-2", "print/user-1"), eventFailed(user), eventAuthenticated(sp), changed, incomplete, notBackedUp,
				eventState(committing),
			},
			committed: true, pushState: pushed,
			want: []string{
				"state COMMITTING by worker'", "committed",
				"finished PARTIALLY_SUCCEEDED USER_AUTHENTICATION_FAILED CONFIGURATIONS_FAILED",
			},
			identities: []string{"AUTHENTICATED", "FAILED [print/user-1]"},
		},
		{
			name: "after the commit of a sync that lost the service principal, and ran out of time",
			events: []*understudyv1.SyncEvent{
				eventStarted("entra/sp-1", "entra/sp-2"), eventAuthenticated(sp), changed, interrupted, eventFailed(sp), eventState(committing),
			},
			committed: true, pushState: pushed,
			want:       []string{"state COMMITTING by worker'", "committed", "finished PARTIALLY_SUCCEEDED SERVICE_PRINCIPAL_LOST TIMED_OUT"},
			identities: []string{"LOST []", "NOT_NEEDED"},
		},
		{
			name:   "before the push was confirmed",
			events: []*understudyv1.SyncEvent{eventStarted("entra/sp-1"), eventAuthenticated(sp), changed, eventState(committing)}, committed: true,
			want:       []string{"state COMMITTING by worker'", "committed", "finished SUCCEEDED"},
			identities: []string{"AUTHENTICATED", "NOT_NEEDED"},
		},
		{
			name:   "before the push was confirmed, which fails now",
			events: []*understudyv1.SyncEvent{eventStarted("entra/sp-1"), eventAuthenticated(sp), changed, eventState(committing)}, committed: true,
			setUp:      func(s *stage) { s.vault.pushErr = errors.New("away") },
			want:       []string{"state COMMITTING by worker'", "committed", "finished PARTIALLY_SUCCEEDED PUSH_FAILED"},
			identities: []string{"AUTHENTICATED", "NOT_NEEDED"},
		},
		{
			name:   "before the push was confirmed, and the repository cannot be opened now",
			events: []*understudyv1.SyncEvent{eventStarted("entra/sp-1"), eventAuthenticated(sp), changed, eventState(committing)}, committed: true,
			setUp:      func(s *stage) { s.vault.beginErr = errors.New("away") },
			want:       []string{"state COMMITTING by worker'", "committed", "finished PARTIALLY_SUCCEEDED PUSH_FAILED"},
			identities: []string{"AUTHENTICATED", "NOT_NEEDED"},
		},
		{
			name: "between the snapshot and the end",
			events: []*understudyv1.SyncEvent{
				eventStarted("entra/sp-1"), eventAuthenticated(sp), changed, eventState(committing),
				eventSnapshot(understudyv1.PushState_PUSH_STATE_FAILED),
			},
			want:       []string{"state COMMITTING by worker'", "finished PARTIALLY_SUCCEEDED PUSH_FAILED"},
			identities: []string{"AUTHENTICATED", "NOT_NEEDED"},
		},
		{
			name:   "and its tenant is gone",
			events: []*understudyv1.SyncEvent{eventStarted("entra/sp-1"), eventAuthenticated(sp), changed}, committed: true,
			setUp:  func(s *stage) { s.tenants.tenant = nil },
			want:   []string{"state RUNNING by worker'", "finished FAILED ABORTED"},
			reason: "SYNC_INTERRUPTED", identities: []string{"AUTHENTICATED"},
		},
		{
			name:   "and one of its types is gone",
			events: []*understudyv1.SyncEvent{eventStarted("entra/sp-1", "entra/sp-3"), eventAuthenticated(sp)},
			want:   []string{"state RUNNING by worker'", "finished FAILED FAILED_PRECONDITION"},
			reason: "REQUEST_INVALID", identities: []string{"AUTHENTICATED"},
		},
		{
			name:   "while it began to commit, and its repository cannot be read",
			events: []*understudyv1.SyncEvent{eventStarted("entra/sp-1"), eventAuthenticated(sp), changed, eventState(committing)},
			setUp:  func(s *stage) { s.vault.committedErr = errors.New("corrupt") },
			want:   []string{"state COMMITTING by worker'", "finished FAILED ABORTED"},
			reason: "SYNC_INTERRUPTED", identities: []string{"AUTHENTICATED"},
		},
		{
			name:   "for the fourth time",
			events: append([]*understudyv1.SyncEvent{eventStarted("entra/sp-1"), eventAuthenticated(sp), changed}, taken(3)...),
			want: []string{
				"state RUNNING by worker'", "committed", "finished SUCCEEDED",
			},
			identities: []string{"AUTHENTICATED", "NOT_NEEDED"},
		},
		{
			name:   "for the fifth time",
			events: append([]*understudyv1.SyncEvent{eventStarted("entra/sp-1"), eventAuthenticated(sp), changed}, taken(4)...),
			want:   []string{"state RUNNING by worker'", "finished FAILED ABORTED"},
			reason: "SYNC_INTERRUPTED", identities: []string{"AUTHENTICATED"},
		},
		{
			name: "for the fifth time, after the commit",
			events: append(append([]*understudyv1.SyncEvent{eventStarted("entra/sp-1"), eventAuthenticated(sp), changed}, taken(4)...),
				eventState(committing)),
			committed: true, pushState: pushed,
			want: []string{"state COMMITTING by worker'", "committed", "finished SUCCEEDED"}, identities: []string{"AUTHENTICATED", "NOT_NEEDED"},
		},
		{
			name:   "after its time limit",
			events: []*understudyv1.SyncEvent{eventStarted("entra/sp-1", "entra/sp-2"), eventAuthenticated(sp), changed},
			setUp: func(s *stage) {
				<-time.After(7 * time.Hour)
				s.vault.kept = map[string]keptType{}
				s.vault.kept["entra/sp-1"] = keptType{
					"tenants/contoso/syncs/000", port.Settlement{Outcome: complete, Items: 2, Path: "entra/sp-1"}, []string{"a", "b"},
				}
				s.sp.signIn = func(ctx context.Context, _ port.SignInOptions) error { return context.Cause(ctx) }
				s.source.reads["entra/sp-2"] = blocks()
			},
			want: []string{
				"state RUNNING by worker'", "committed", "finished PARTIALLY_SUCCEEDED TIMED_OUT",
				"entra/sp-2 FAILED INTERRUPTED by SERVICE_PRINCIPAL",
			},
			identities: []string{"AUTHENTICATED", "NOT_NEEDED"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				killed := newStage(t)
				log := killed.start(nil)
				killed.append(log, clones(test.events)...)
				if test.committed {
					killed.vault.commits = []port.CommitInfo{{Sync: log.Sync().GetName()}}
				}
				s := killed.restart()
				s.vault.pushState = test.pushState
				if test.setUp != nil {
					test.setUp(s)
				}
				s.run()
				final := s.finished(log)
				if diff := cmp.Diff(test.want, summary(log.stored()[len(test.events):])); diff != "" {
					t.Errorf("events (-want +got):\n%s", diff)
				}
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
				if got := final.GetSnapshot() != nil; got != (final.GetError() == nil) {
					t.Errorf("snapshot = %v", final.GetSnapshot())
				}
				if len(s.vault.commits) > 0 && !test.committed {
					s.checkCounts(final, log)
				}
				s.checkDense(log)
				<-time.After(time.Minute) // never twice a `finished`
				s.checkDense(log)
				if _, err := s.engine.Start(t.Context(), engine.StartRequest{Tenant: tenantName}); s.tenants.tenant != nil && err != nil {
					t.Errorf("the tenant is not free: %v", err)
				}
			})
		})
	}
}

// checkDense checks that a log has no gap, and its end once.
func (s *stage) checkDense(log *fakeLog) {
	s.t.Helper()
	all := log.stored()
	for i, event := range all {
		if event.GetSequence() != int64(i+1) || (event.GetFinished() != nil) != (i == len(all)-1) {
			s.t.Errorf("event %d: %v", i, event)
		}
	}
	if got := log.Sync().GetLastSequence(); got != int64(len(all)) {
		s.t.Errorf("last_sequence = %d, want %d", got, len(all))
	}
}

// checkCounts checks that each type counts once, by its last result, also in the
// commit.
func (s *stage) checkCounts(final *understudyv1.Sync, log *fakeLog) {
	s.t.Helper()
	last := map[string]understudyv1.ConfigurationOutcome{}
	for _, event := range log.stored() {
		if r := event.GetConfigurationCompleted().GetResult(); r != nil {
			last[r.GetConfigurationType()] = r.GetOutcome()
		}
	}
	want := &understudyv1.OutcomeCounts{Total: int32(len(last))}
	for _, outcome := range last {
		switch outcome {
		case understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_CHANGED:
			want.Changed++
		case understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_FAILED:
			want.Failed++
		case understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_NOT_BACKED_UP:
			want.NotBackedUp++
		}
	}
	if diff := cmp.Diff(want, final.GetCounts(), protocmp.Transform()); diff != "" {
		s.t.Errorf("counts (-want +got):\n%s", diff)
	}
	commit := s.vault.commits[len(s.vault.commits)-1]
	if diff := cmp.Diff(want, commit.Counts, protocmp.Transform()); diff != "" || len(commit.Results) != len(last) || commit.State != final.GetState() {
		s.t.Errorf("the commit says %s of %d results, counts (-want +got):\n%s", commit.State, len(commit.Results), diff)
	}
}

func clones(events []*understudyv1.SyncEvent) []*understudyv1.SyncEvent {
	all := make([]*understudyv1.SyncEvent, len(events))
	for i, event := range events {
		all[i] = proto.CloneOf(event)
	}
	return all
}

func stateChangedBy(state understudyv1.SyncState, worker string) *understudyv1.SyncEvent {
	event := eventState(state)
	event.GetStateChanged().Worker = worker
	return event
}

// complete is the outcome of a type that is new in the backup.
const complete = understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_CHANGED

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
