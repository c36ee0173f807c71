package main

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	understudyv1 "understudy.internal/gen/understudy/v1"
)

// blocked is a user that Conditional Access blocks.
func blocked() *understudyv1.AuthFailure {
	return &understudyv1.AuthFailure{
		Identity: understudyv1.Identity_IDENTITY_USER,
		Reason:   understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_CONDITIONAL_ACCESS_BLOCKED,
		Message: "User authentication failed - The user is blocked due to a Conditional Access or MFA policy in the tenant. " +
			"Please exclude the user from the policy. Configurations requiring user account authentication will not be backed up " +
			"until the Sync authenticates successfully.",
		RemedyActor:       understudyv1.RemedyActor_REMEDY_ACTOR_TENANT_ADMINISTRATOR,
		ProviderErrorCode: "AADSTS53003", CorrelationId: "c0ffee",
		AffectedCount: 2,
	}
}

// partialSync is a sync without the user, with every outcome.
func partialSync(t *testing.T) *fakeSyncs {
	failure := blocked()
	notBackedUp := func(id string) *understudyv1.ConfigurationResult {
		r := result(id, understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_NOT_BACKED_UP)
		r.Reason = understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_USER_NOT_AUTHENTICATED
		r.Error = statusProto(t, codes.FailedPrecondition, failure.GetMessage(), failure)
		return r
	}
	first := notBackedUp("entra/terms-of-use")
	first.LastCompleteTime = &timestamppb.Timestamp{Seconds: 1764000000}
	forbidden := result("intune/scripts", understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_FAILED)
	forbidden.Reason = understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_PERMISSION_MISSING
	forbidden.Error = statusProto(t, codes.FailedPrecondition, "The service principal may not read this: the permission X.Read.All is missing, or a directory role. Grant it with admin consent, then sync again. The previous content is kept.")
	alike := result("intune/policies", understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_INCOMPLETE)
	alike.Reason, alike.Error = forbidden.GetReason(), forbidden.GetError()
	changed := result("entra/groups", understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_CHANGED)
	changed.AddedCount, changed.ModifiedCount, changed.RemovedCount = 1, 2, 3
	changed.Duration, changed.ReadMode = durationpb.New(1500*time.Millisecond), understudyv1.ReadMode_READ_MODE_DELTA
	unchanged := result("entra/organization", understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_UNCHANGED)
	unchanged.ReadMode = understudyv1.ReadMode_READ_MODE_FULL
	return &fakeSyncs{events: []*understudyv1.SyncEvent{
		startedEvent("entra/groups", "entra/organization", "entra/terms-of-use", "print/settings", "intune/scripts", "intune/policies", "x/y"),
		failedEvent(failure, understudyv1.Identity_IDENTITY_SERVICE_PRINCIPAL),
		completedEvent(changed),
		completedEvent(unchanged),
		completedEvent(first),
		completedEvent(notBackedUp("print/settings")),
		completedEvent(forbidden),
		completedEvent(alike),
		completedEvent(result("x/y", understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_NOT_AVAILABLE)),
		finishedEvent(understudyv1.SyncState_SYNC_STATE_PARTIALLY_SUCCEEDED, func(s *understudyv1.Sync) {
			s.PartialCauses = []understudyv1.PartialCause{
				understudyv1.PartialCause_PARTIAL_CAUSE_USER_AUTHENTICATION_FAILED,
				understudyv1.PartialCause_PARTIAL_CAUSE_CONFIGURATIONS_FAILED,
			}
			s.Identities = []*understudyv1.IdentityOutcome{
				{
					Identity: understudyv1.Identity_IDENTITY_SERVICE_PRINCIPAL,
					State:    understudyv1.IdentityState_IDENTITY_STATE_AUTHENTICATED,
				},
				{Identity: understudyv1.Identity_IDENTITY_USER, State: understudyv1.IdentityState_IDENTITY_STATE_FAILED, Failure: failure},
			}
			s.Snapshot = &understudyv1.Snapshot{
				Commit: "0123456789abcdef", Ref: "refs/heads/main", Created: true,
				PushState: understudyv1.PushState_PUSH_STATE_PUSHED,
			}
		}),
	}}
}

const partialHead = `tenants/contoso/syncs/01a: PARTIALLY_SUCCEEDED after 12.3s
  - the user could not authenticate
  - some configurations could not be read completely

The user failed: CONDITIONAL_ACCESS_BLOCKED (AADSTS53003)
  User authentication failed - The user is blocked due to a Conditional Access or MFA policy in the tenant. Please exclude the user from the policy. Configurations requiring user account authentication will not be backed up until the Sync authenticates successfully.
  Who can mend it: an administrator of the tenant
  Correlation id: c0ffee
  Help: understudy help CONDITIONAL_ACCESS_BLOCKED

Not backed up completely (4); the previous content is kept:
  CONFIGURATION TYPE  OUTCOME        REASON                  LAST COMPLETE
  entra/terms-of-use  NOT_BACKED_UP  USER_NOT_AUTHENTICATED  2025-11-24 16:00
  intune/policies     INCOMPLETE     PERMISSION_MISSING      never
  intune/scripts      FAILED         PERMISSION_MISSING      never
  print/settings      NOT_BACKED_UP  USER_NOT_AUTHENTICATED  never

  2 x The service principal may not read this: the permission X.Read.All is missing, or a directory role. Grant it with admin consent, then sync again. The previous content is kept. Help: understudy help CONFIGURATION_FAILURE_REASON_PERMISSION_MISSING

Backed up: 2 configuration types (1 changed, 1 unchanged). Not available in the tenant: 1.
`

const partialTail = `Commit 0123456789abcdef on refs/heads/main (new). Pushed to the remote.
Retry only what is missing: understudy sync --retry tenants/contoso/syncs/01a
`

const partialVerbose = `  CONFIGURATION TYPE  OUTCOME        ITEMS    CHANGES   READ      TOOK
  entra/groups        CHANGED        3 items  +1 ~2 -3  by delta  1.5s
  entra/organization  UNCHANGED      3 items  +0 ~0 -0  in full   0s
  x/y                 NOT_AVAILABLE  3 items  +0 ~0 -0  -         0s
`

const partialWay = `Sync tenants/contoso/syncs/01a
Started: 7 configuration types, catalog 1.2.

  ! User authentication failed - The user is blocked due to a Conditional Access or MFA policy in the tenant. Please exclude the user from the policy. Configurations requiring user account authentication will not be backed up until the Sync authenticates successfully.
    Reason: CONDITIONAL_ACCESS_BLOCKED (AADSTS53003)
    Help:   understudy help CONDITIONAL_ACCESS_BLOCKED
    Not backed up for that: 2 configuration types.
    The sync goes on with the service principal.

`

// The whole of what a person sees of a sync without the user.
func TestReportOfAPartialSync(t *testing.T) {
	for _, c := range []struct {
		name    string
		verbose bool
		want    string
	}{
		{"plain", false, partialHead + partialTail},
		{"verbose", true, partialHead + partialVerbose + partialTail},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got := showSync(t.Context(), t, &syncCommand{Verbose: c.verbose}, partialSync(t), 0)
				if d := cmp.Diff(c.want, got.out); d != "" {
					t.Error(d)
				}
				if d := cmp.Diff(partialWay, got.err); d != "" {
					t.Error(d)
				}
				if got.code != exitPartial || got.message != "" {
					t.Errorf("code %d, %q", got.code, got.message)
				}
			})
		})
	}
}

// What is not believed to be gone can be confirmed: the command is there to be copied.
func TestReportOfWhatIsDoubted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		doubted := func(id string, reason understudyv1.ConfigurationFailureReason) *understudyv1.SyncEvent {
			r := result(id, understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_INCOMPLETE)
			r.Reason = reason
			return completedEvent(r)
		}
		log := &fakeSyncs{events: []*understudyv1.SyncEvent{
			startedEvent("entra/groups", "intune/scripts", "intune/apps"),
			doubted("entra/groups", understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_COUNT_COLLAPSED),
			doubted("intune/apps", understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_SOURCE_UNAVAILABLE),
			doubted("intune/scripts", understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_FEATURE_NOT_AVAILABLE),
			finishedEvent(understudyv1.SyncState_SYNC_STATE_PARTIALLY_SUCCEEDED, func(s *understudyv1.Sync) {
				s.Snapshot = &understudyv1.Snapshot{Commit: "c0ffee"}
			}),
		}}
		got := showSync(t.Context(), t, &syncCommand{}, log, 0)
		want := "confirm it: understudy sync -t entra/groups,intune/scripts --accept-collapse entra/groups,intune/scripts contoso\n"
		if !strings.HasSuffix(got.out, want) {
			t.Errorf("it does not end with %q:\n%s", want, got.out)
		}
	})
}

// Another server takes the sync over: the person hears of it, and of two results of a
// type the later one stands.
func TestReportOfATakeover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		taken := &understudyv1.SyncEvent{Event: &understudyv1.SyncEvent_StateChanged{StateChanged: &understudyv1.StateChanged{
			State: understudyv1.SyncState_SYNC_STATE_RUNNING, Worker: "replica-2/x",
		}}}
		log := &fakeSyncs{events: []*understudyv1.SyncEvent{
			startedEvent("entra/groups"),
			completedEvent(result("entra/groups", understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_FAILED)),
			taken,
			completedEvent(result("entra/groups", understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_CHANGED)),
			finishedEvent(understudyv1.SyncState_SYNC_STATE_SUCCEEDED, func(*understudyv1.Sync) {}),
		}}
		got := showSync(t.Context(), t, &syncCommand{Verbose: true}, log, 0)
		if !strings.Contains(got.err, "another one goes on") {
			t.Errorf("nobody says that another server goes on:\n%s", got.err)
		}
		if !strings.Contains(got.out, "Read, but not committed: 1 configuration type.") || strings.Contains(got.out, "entra/groups") {
			t.Errorf("the later result does not stand alone:\n%s", got.out)
		}
	})
}

// How the other endings are shown, and what the program exits with.
func TestEndingsOfSyncs(t *testing.T) {
	expired := &understudyv1.AuthFailure{
		Identity: understudyv1.Identity_IDENTITY_SERVICE_PRINCIPAL,
		Reason:   understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_CREDENTIAL_EXPIRED,
		Message:  "Service principal authentication failed - The secret expired. Make a new one. The Sync could not start; the previous backup is unchanged.",
		HelpUri:  "https://help.example/credential-expired", MissingPermissions: []string{"A.Read", "B.Read"},
	}
	one := startedEvent("entra/groups")
	unchanged := completedEvent(result("entra/groups", understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_UNCHANGED))
	for _, c := range []struct {
		name   string
		state  understudyv1.SyncState
		change func(*understudyv1.Sync)
		events []*understudyv1.SyncEvent
		code   int
		want   string
	}{
		{"nothing changed", understudyv1.SyncState_SYNC_STATE_SUCCEEDED, func(s *understudyv1.Sync) {
			s.Snapshot = &understudyv1.Snapshot{Commit: "abc", Ref: "refs/heads/main"}
		}, []*understudyv1.SyncEvent{one, unchanged}, exitOK, `tenants/contoso/syncs/01a: SUCCEEDED after 12.3s

Backed up: 1 configuration type (0 changed, 1 unchanged).
Commit abc on refs/heads/main (an earlier one: nothing changed since).
`},
		{"dry run", understudyv1.SyncState_SYNC_STATE_SUCCEEDED, func(s *understudyv1.Sync) {
			s.Spec = &understudyv1.SyncSpec{DryRun: true}
		}, []*understudyv1.SyncEvent{one, unchanged}, exitOK, `tenants/contoso/syncs/01a: SUCCEEDED after 12.3s

Backed up: 1 configuration type (0 changed, 1 unchanged).
A dry run: nothing was committed.
`},
		{"not pushed", understudyv1.SyncState_SYNC_STATE_PARTIALLY_SUCCEEDED, func(s *understudyv1.Sync) {
			s.PartialCauses = []understudyv1.PartialCause{understudyv1.PartialCause_PARTIAL_CAUSE_PUSH_FAILED, 99}
			s.Snapshot = &understudyv1.Snapshot{
				Commit: "abc", Ref: "refs/heads/main", Created: true, PushState: understudyv1.PushState_PUSH_STATE_FAILED,
				PushError: statusProto(t, codes.Unavailable, "The remote cannot be reached."),
			}
		}, []*understudyv1.SyncEvent{one, unchanged}, exitPartial, `tenants/contoso/syncs/01a: PARTIALLY_SUCCEEDED after 12.3s
  - the remote did not take the commit
  - 99

Backed up: 1 configuration type (0 changed, 1 unchanged).
Commit abc on refs/heads/main (new). Not pushed: The remote cannot be reached.
`},
		{"no access", understudyv1.SyncState_SYNC_STATE_FAILED, func(s *understudyv1.Sync) {
			s.Error = statusProto(t, codes.FailedPrecondition, expired.GetMessage(),
				errorInfo(understudyv1.ErrorReason_ERROR_REASON_TENANT_AUTHENTICATION_FAILED, nil), expired)
			s.Identities = []*understudyv1.IdentityOutcome{{
				Identity: expired.GetIdentity(), State: understudyv1.IdentityState_IDENTITY_STATE_FAILED, Failure: expired,
			}}
		}, nil, exitFailed, `tenants/contoso/syncs/01a: FAILED after 12.3s
  Service principal authentication failed - The secret expired. Make a new one. The Sync could not start; the previous backup is unchanged.

The service principal failed: CREDENTIAL_EXPIRED
  Missing permissions: A.Read, B.Read
  Help: https://help.example/credential-expired

Read, but not committed: 0 configuration types.
Nothing was committed; the previous backup is unchanged.
Retry: understudy sync --retry tenants/contoso/syncs/01a
`},
		{"cancelled", understudyv1.SyncState_SYNC_STATE_CANCELLED, func(s *understudyv1.Sync) {
			s.Error = statusProto(t, codes.Canceled, "The sync was cancelled.",
				errorInfo(understudyv1.ErrorReason_ERROR_REASON_SYNC_CANCELLED, nil))
		}, nil, exitFailed, `tenants/contoso/syncs/01a: CANCELLED after 12.3s
  The sync was cancelled.
  Help: understudy help ERROR_REASON_SYNC_CANCELLED

Read, but not committed: 0 configuration types.
Nothing was committed; the previous backup is unchanged.
Retry: understudy sync --retry tenants/contoso/syncs/01a
`},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fakeSyncs{events: append(c.events, finishedEvent(c.state, c.change))}
				got := showSync(t.Context(), t, &syncCommand{}, f, 0)
				if d := cmp.Diff(c.want, got.out); d != "" {
					t.Error(d)
				}
				if got.code != c.code || got.message != "" {
					t.Errorf("code %d, %q", got.code, got.message)
				}
			})
		})
	}
}

// The prompt is shown at once, once, and so that it can be used; without a
// terminal progress comes now and then.
func TestPromptAndProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeSyncs{
			events: []*understudyv1.SyncEvent{
				startedEvent("entra/groups", "print/settings"), promptEvent(5 * time.Minute),
				progressEvent(1, "entra/groups"), progressEvent(2), progressEvent(3),
				finishedEvent(understudyv1.SyncState_SYNC_STATE_SUCCEEDED, nil),
			},
			cuts: []int{3}, broken: statusWith(t, codes.Unavailable, "lost"),
		}
		got := showSync(t.Context(), t, &syncCommand{}, f, 0)
		want := `Sync tenants/contoso/syncs/01a
Started: 2 configuration types, catalog 1.2.

  ==== SIGN IN ====
  Open   https://microsoft.example/devicelogin
  Enter  ABCD-EFGH
  Until  00:05:00, in 5m0s
  Meanwhile the sync reads what the service principal can read.

The stream was lost (UNAVAILABLE). Trying again in `
		if !strings.HasPrefix(got.err, want) || strings.Count(got.err, "ABCD-EFGH") != 1 || got.code != exitOK {
			t.Errorf("code %d:\n%s", got.code, cmp.Diff(want, got.err))
		}
		f = &fakeSyncs{events: append(f.events[:0:0], f.events...)}
		got = showSync(t.Context(), t, &syncCommand{}, f, 0)
		if !strings.HasSuffix(got.err, "\n[0s] Reading: 0 of 2 configuration types, 1 item; entra/groups\n") {
			t.Errorf("progress without a terminal:\n%s", got.err)
		}
	})
}

// On a terminal the progress line is drawn over itself, is never wider than the
// terminal, and does not stay.
func TestProgressOnATerminal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeSyncs{events: []*understudyv1.SyncEvent{
			startedEvent("entra/groups"), progressEvent(1, strings.Repeat("entra/groups ", 20)),
			completedEvent(result("entra/groups", understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_UNCHANGED)),
			failedEvent(blocked(), understudyv1.Identity_IDENTITY_SERVICE_PRINCIPAL), progressEvent(2),
			finishedEvent(understudyv1.SyncState_SYNC_STATE_SUCCEEDED, nil),
		}}
		got := showSync(t.Context(), t, &syncCommand{}, f, 40)
		const erase = "\r\x1b[K"
		if !strings.HasSuffix(got.err, erase) {
			t.Errorf("the progress line stays: %q", got.err)
		}
		drawn := 0
		for i, part := range strings.Split(got.err, erase) {
			line, rest, _ := strings.Cut(part, "\n")
			if strings.HasPrefix(line, "[") {
				drawn++
				if len(line) > 39 || rest != "" {
					t.Errorf("part %d: %q", i, part)
				}
			}
		}
		if drawn == 0 || strings.Contains(got.out, "\x1b") {
			t.Errorf("drawn %d times: %q %q", drawn, got.err, got.out)
		}
	})
}

// Whatever a server says cannot move the cursor, change colours, or reorder text.
func TestHostileText(t *testing.T) {
	const evil = "\x1b[2J\x07\u202e\x00\u0085\r\nx"
	synctest.Test(t, func(t *testing.T) {
		failure := &understudyv1.AuthFailure{
			Message: evil, HelpUri: evil, ProviderErrorCode: evil, CorrelationId: evil, MissingPermissions: []string{evil},
		}
		r := result(evil, understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_FAILED)
		r.Error = statusProto(t, codes.Unavailable, evil)
		prompt := promptEvent(time.Minute)
		prompt.GetAuthenticationPrompt().VerificationUri, prompt.GetAuthenticationPrompt().UserCode = evil, evil
		prompt.GetAuthenticationPrompt().AuthorizationUri = evil
		f := &fakeSyncs{events: []*understudyv1.SyncEvent{
			{Event: &understudyv1.SyncEvent_Started{Started: &understudyv1.SyncStarted{CatalogVersion: evil}}},
			prompt, failedEvent(failure, 0), progressEvent(1, evil), completedEvent(r),
			finishedEvent(understudyv1.SyncState_SYNC_STATE_FAILED, func(s *understudyv1.Sync) {
				s.Error = statusProto(t, codes.Internal, evil, errorInfo(1, map[string]string{"k": evil}))
				s.Identities = []*understudyv1.IdentityOutcome{{Failure: failure}}
				s.Snapshot = &understudyv1.Snapshot{Commit: evil, Ref: evil}
			}),
		}}
		got := showSync(t.Context(), t, &syncCommand{Verbose: true}, f, 0)
		f = &fakeSyncs{fail: statusWith(t, codes.NotFound, evil, errorInfo(1, map[string]string{evil: evil}))}
		refused := showSync(t.Context(), t, &syncCommand{}, f, 0)
		for _, text := range []string{got.out, got.err, refused.message} {
			if text == "" || strings.ContainsAny(text, "\x1b\x07\u202e\x00\u0085\r") {
				t.Errorf("%q", text)
			}
		}
	})
}
