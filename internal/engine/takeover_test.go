package engine_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/engine"
	"understudy.internal/internal/port"
)

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
