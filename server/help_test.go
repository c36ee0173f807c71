package main

import (
	"bytes"
	"strings"
	"testing"

	understudyv1 "understudy.internal/gen/understudy/v1"
)

// command runs a command line and returns what it wrote.
func command(t *testing.T, args ...string) (code int, out, stderr string) {
	t.Helper()
	var o, e bytes.Buffer
	code = runContext(t.Context(), args, streams{in: strings.NewReader(""), out: &o, err: &e})
	return code, o.String(), e.String()
}

func TestHelpOfAReason(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ topic, begins string }{
		{"CONDITIONAL_ACCESS_BLOCKED", "# Blocked by Conditional Access\n"},
		{"AUTH_FAILURE_REASON_CONDITIONAL_ACCESS_BLOCKED", "# Blocked by Conditional Access\n"},
		{"conditional-access-blocked", "# Blocked by Conditional Access\n"},
		{"https://understudy.example/help/conditional-access-blocked", "# Blocked by Conditional Access\n"},
		{"AADSTS53003", "# Blocked by Conditional Access\n"},
		{"aadsts50076", "# Multifactor authentication is required\n"},
		{"530036", "# The tenant blocks this way to sign in\n"},
		{"ERROR_REASON_SYNC_ALREADY_RUNNING", "## ERROR_REASON_SYNC_ALREADY_RUNNING\n"},
		{"sync-already-running", "## ERROR_REASON_SYNC_ALREADY_RUNNING\n"},
		{"COUNT_COLLAPSED", "## CONFIGURATION_FAILURE_REASON_COUNT_COLLAPSED\n"},
		{"THROTTLED", "# The sign-in service asks to wait\n"},
		{"CONFIGURATION_FAILURE_REASON_THROTTLED", "## CONFIGURATION_FAILURE_REASON_THROTTLED\n"},
		{"PARTIALLY_SUCCEEDED", "## SYNC_STATE_PARTIALLY_SUCCEEDED\n"},
		{"SYNC_STATE_FAILED", "## SYNC_STATE_FAILED\n"},
		{"push-failed", "## PARTIAL_CAUSE_PUSH_FAILED\n"},
		{"NOT_BACKED_UP", "## CONFIGURATION_OUTCOME_NOT_BACKED_UP\n"},
		{"INCOMPLETE", "## CONFIGURATION_OUTCOME_INCOMPLETE\n"},
		{"FAILED", "## SYNC_STATE_FAILED\n"},
		{"states", "# How a sync stands\n"},
		{"errors", "# Errors of calls and syncs\n"},
	} {
		code, out, stderr := command(t, "help", c.topic)
		if code != exitOK || !strings.HasPrefix(out, c.begins) || stderr != "" {
			t.Errorf("help %s: code %d, %.60q, %q; want %q", c.topic, code, out, stderr, c.begins)
		}
		if strings.HasPrefix(c.begins, "## ") && strings.Count(out, "\n## ") != 0 {
			t.Errorf("help %s prints more than one section", c.topic)
		}
	}
}

// Whatever the server may report, the command explains it.
func TestHelpOfEveryValue(t *testing.T) {
	t.Parallel()
	for _, enum := range []map[int32]string{
		understudyv1.AuthFailureReason_name, understudyv1.ErrorReason_name, understudyv1.ConfigurationFailureReason_name,
		understudyv1.SyncState_name, understudyv1.PartialCause_name, understudyv1.ConfigurationOutcome_name,
	} {
		for number, name := range enum {
			if number == 0 {
				continue
			}
			code, out, _ := command(t, "help", name)
			if code != exitOK || !strings.Contains(out, name) {
				t.Errorf("help %s: code %d, %.60q", name, code, out)
			}
		}
	}
}

func TestHelpOfTheUnknown(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ topic, stderr string }{
		{"MFA_REQUIERD", "understudy: there is no help on \"MFA_REQUIERD\"; did you mean mfa-required? Try: understudy help\n"},
		{"AUTH_FAILURE_REASON_TROTTLED", "understudy: there is no help on \"AUTH_FAILURE_REASON_TROTTLED\"; did you mean throttled? Try: understudy help\n"},
		{"../../etc/passwd", "understudy: there is no help on \"../../etc/passwd\". Try: understudy help\n"},
		{"README", "understudy: there is no help on \"README\". Try: understudy help\n"},
		{
			"AADSTS99", "understudy: AADSTS99 is on no page. The reason of the AuthFailure is still right, because it does not depend on " +
				"codes; Microsoft explains the code on https://login.microsoftonline.com/error?code=99\n",
		},
	} {
		code, out, stderr := command(t, "help", c.topic)
		if code != exitUsage || out != "" || stderr != c.stderr {
			t.Errorf("help %s: code %d, out %q, error\n%swant\n%s", c.topic, code, out, stderr, c.stderr)
		}
	}
}

func TestHelpListsEverything(t *testing.T) {
	t.Parallel()
	code, out, stderr := command(t, "help")
	if code != exitOK || stderr != "" {
		t.Fatalf("code %d, %q", code, stderr)
	}
	const begin = "An identity of a tenant could not authenticate (AuthFailureReason):\n\n" +
		"  account-disabled            The user's account is disabled in the tenant, or may not sign in at this hour.\n"
	const end = "  not-available                 The tenant does not have the feature: its licence, its region or the roll-out.\n" +
		"\nPrint one of them: understudy help NAME. An AADSTS code does as well: understudy help AADSTS53003.\n"
	if !strings.HasPrefix(out, begin) || !strings.HasSuffix(out, end) {
		t.Errorf("the list is\n%s", out)
	}
	topics := strings.Count(out, "\n  ")
	if want := len(understudyv1.AuthFailureReason_name) + len(understudyv1.ErrorReason_name) +
		len(understudyv1.ConfigurationFailureReason_name) + len(understudyv1.SyncState_name) + len(understudyv1.PartialCause_name) +
		len(understudyv1.ConfigurationOutcome_name) - 6; topics != want {
		t.Errorf("%d topics, want %d", topics, want)
	}
	for line := range strings.Lines(out) {
		if len(line) > 140 {
			t.Errorf("too long for one line: %s", line)
		}
	}
}
