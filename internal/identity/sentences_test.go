package identity

import (
	"strings"
	"testing"

	understudyv1 "understudy.internal/gen/understudy/v1"
)

// reasons are all that a failure can have.
func reasons() []understudyv1.AuthFailureReason {
	var all []understudyv1.AuthFailureReason
	for n := range understudyv1.AuthFailureReason_name {
		if reason := understudyv1.AuthFailureReason(n); reason != understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_UNSPECIFIED {
			all = append(all, reason)
		}
	}
	return all
}

var (
	theUser = who{identity: understudyv1.Identity_IDENTITY_USER, method: byDeviceCode}
	theApp  = who{identity: understudyv1.Identity_IDENTITY_SERVICE_PRINCIPAL, method: bySecret}
	account = who{identity: understudyv1.Identity_IDENTITY_USER, method: byPasswords}
)

func (w who) says(reason understudyv1.AuthFailureReason) string {
	return w.failure(w.standard(reason)).failure.GetMessage()
}

// TestKnownSentences has the sentences that users know, word for word.
func TestKnownSentences(t *testing.T) {
	const (
		timedOut = "User authentication failed - Authentication timed out waiting for delegated authentication to complete. " +
			"Sync again and complete the steps for authentication. " +
			"Configurations requiring user account authentication will not be backed up until the Sync authenticates successfully."
		blocked = "User authentication failed - The user is blocked due to a Conditional Access or MFA policy in the tenant. " +
			"Please exclude the user from the policy. " +
			"Configurations requiring user account authentication will not be backed up until the Sync authenticates successfully."
	)
	for reason, want := range map[understudyv1.AuthFailureReason]string{
		understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_SIGN_IN_TIMED_OUT:          timedOut,
		understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_CONDITIONAL_ACCESS_BLOCKED: blocked,
		understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_MFA_REQUIRED:               blocked,
		understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_MFA_ENROLLMENT_REQUIRED:    blocked,
	} {
		for _, w := range []who{theUser, account} {
			if got := w.says(reason); got != want {
				t.Errorf("%s:\n got %s\nwant %s", reason, got, want)
			}
		}
	}
}

// TestEveryReasonHasItsSentence checks the build: what failed – why – what to do.
// What it means for the backup.
func TestEveryReasonHasItsSentence(t *testing.T) {
	said := map[string]understudyv1.AuthFailureReason{}
	for _, reason := range reasons() {
		for _, c := range []struct {
			who
			begin, end string
		}{
			{theUser, "User authentication failed - ", " Configurations requiring user account authentication will not be backed up until the Sync authenticates successfully."},
			{account, "User authentication failed - ", " Configurations requiring user account authentication will not be backed up until the Sync authenticates successfully."},
			{theApp, "Service principal authentication failed - ", " The Sync could not start; the previous backup is unchanged."},
		} {
			message := c.says(reason)
			middle, okBegin := strings.CutPrefix(message, c.begin)
			middle, okEnd := strings.CutSuffix(middle, c.end)
			if why, what, ok := strings.Cut(middle, ". "); !okBegin || !okEnd || !ok || why == "" || !strings.HasSuffix(what, ".") {
				t.Errorf("%s has another build: %s", reason, message)
			}
		}
		failure := theUser.failure(theUser.standard(reason)).failure
		if failure.GetRemedyActor() == understudyv1.RemedyActor_REMEDY_ACTOR_UNSPECIFIED {
			t.Errorf("nobody mends %s", reason)
		}
		if failure.GetRetryable() != (failure.GetRemedyActor() == nobody) {
			t.Errorf("%s: retryable %v, but %s mends it", reason, failure.GetRetryable(), failure.GetRemedyActor())
		}
		if other, ok := said[failure.GetMessage()]; ok && sentences[reason].text != policyBlocked {
			t.Errorf("%s and %s say the same", reason, other)
		}
		said[failure.GetMessage()] = reason
	}
	if len(sentences) != len(reasons()) {
		t.Errorf("%d sentences, %d reasons", len(sentences), len(reasons()))
	}
}

func TestASignInThatIsLostInMidRunDoesNotSayThatTheSyncCouldNotStart(t *testing.T) {
	w := theApp
	w.lost = true
	message := w.says(understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_SIGN_IN_REVOKED)
	if strings.Contains(message, "could not start") || !strings.Contains(message, "previous backup is unchanged") {
		t.Error(message)
	}
}

func TestMissingPermissionsAreNamed(t *testing.T) {
	const reason = understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_INSUFFICIENT_PERMISSIONS
	f := newFixture(t)
	err := f.servicePrincipal().Fail(reason, "Policy.Read.All", "Group.Read.All")
	failure := failureOf(t, err)
	if len(failure.GetMissingPermissions()) != 2 || !strings.Contains(failure.GetMessage(), " Missing: Policy.Read.All, Group.Read.All. ") {
		t.Error(failure)
	}
	failure = failureOf(t, f.servicePrincipal().Fail(reason, "A", "B", "C", "D", "E", "F", "G"))
	if len(failure.GetMissingPermissions()) != 7 || !strings.Contains(failure.GetMessage(), " Missing: A, B, C, D, E and 2 more. ") {
		t.Error(failure)
	}
}

func TestHelp(t *testing.T) {
	f := newFixture(t)
	const reason = understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_CONDITIONAL_ACCESS_BLOCKED
	failure := failureOf(t, f.user(Delegated).Fail(reason))
	if got, want := failure.GetHelpUri(), "https://understudy.example/help/conditional-access-blocked"; got != want {
		t.Errorf("help is at %s, want %s", got, want)
	}
	f.config.HelpBaseURL = ""
	if got := failureOf(t, f.user(Delegated).Fail(reason)).GetHelpUri(); got != "" {
		t.Errorf("help is at %s, want nowhere", got)
	}
}

// TestTheCallerOwnsAFailure says that changing one copy changes no other.
func TestTheCallerOwnsAFailure(t *testing.T) {
	failed := theUser.failure(theUser.standard(understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_ACCOUNT_LOCKED))
	failed.AuthFailure().Message = "changed"
	if failed.AuthFailure().GetMessage() == "changed" {
		t.Error("the failure is shared")
	}
}
