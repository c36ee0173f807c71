package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	understudyv1 "understudy.internal/gen/understudy/v1"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares with a file, or writes it.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("no golden file (run with -update): %v", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

// story is the stream of one sync.
type story struct {
	durable []*understudyv1.SyncEvent
	prompts int
	final   *understudyv1.Sync
	// ended is the error that ended the stream, or nil.
	ended error
}

// text tells a story so that two runs of one case tell the same: events in order,
// but results and identities, which run side by side, sorted; no times and ids. How far
// one identity came when the other ends the sync is left out; uncounted looks at that.
func (s *story) text() string {
	var lines, identities, results []string
	flush := func(list *[]string) {
		slices.Sort(*list)
		lines = append(lines, *list...)
		*list = nil
	}
	failed := s.final.GetState() == understudyv1.SyncState_SYNC_STATE_FAILED
	for _, event := range s.durable {
		switch e := event.GetEvent().(type) {
		case *understudyv1.SyncEvent_Started:
			lines = append(lines, fmt.Sprintf("started: %s", strings.Join(e.Started.GetConfigurationTypes(), " ")))
		case *understudyv1.SyncEvent_StateChanged:
			identities = append(identities, "state: "+e.StateChanged.GetState().String())
		case *understudyv1.SyncEvent_AuthenticationSucceeded:
			if failed {
				continue
			}
			identities = append(identities, fmt.Sprintf("%s authenticated by %s", e.AuthenticationSucceeded.GetIdentity(), e.AuthenticationSucceeded.GetMethod()))
		case *understudyv1.SyncEvent_AuthenticationFailed:
			identities = append(identities, failureText(e.AuthenticationFailed))
		case *understudyv1.SyncEvent_ConfigurationCompleted:
			if failed {
				continue
			}
			results = append(results, resultText(e.ConfigurationCompleted.GetResult()))
		case *understudyv1.SyncEvent_SnapshotCommitted:
			flush(&identities)
			flush(&results)
			snapshot := e.SnapshotCommitted.GetSnapshot()
			lines = append(lines, fmt.Sprintf("snapshot: %s created=%t %s", snapshot.GetRef(), snapshot.GetCreated(), snapshot.GetPushState()))
		case *understudyv1.SyncEvent_Finished:
			flush(&identities)
			flush(&results)
			lines = append(lines, finalText(e.Finished.GetSync()))
		default:
			lines = append(lines, fmt.Sprintf("%T", e))
		}
	}
	lines = append(lines, fmt.Sprintf("prompts: %d", s.prompts), fmt.Sprintf("status: %v", s.ended))
	return strings.Join(lines, "\n") + "\n"
}

func failureText(e *understudyv1.AuthenticationFailed) string {
	f := e.GetFailure()
	return fmt.Sprintf("%s failed by %s: %s\n  code %q error %q suberror %q\n  remedy %s retryable %t, continues with %s\n  affects %d: %s\n  %s",
		f.GetIdentity(), f.GetMethod(), f.GetReason(), f.GetProviderErrorCode(), f.GetOauthError(), f.GetOauthSuberror(),
		f.GetRemedyActor(), f.GetRetryable(), e.GetContinuesWith(), f.GetAffectedCount(),
		strings.Join(f.GetAffectedConfigurationTypes(), " "), f.GetMessage())
}

func resultText(r *understudyv1.ConfigurationResult) string {
	text := fmt.Sprintf("%s: %s by %s: %d items, +%d ~%d -%d", r.GetConfigurationType(), r.GetOutcome(), r.GetIdentity(),
		r.GetItemCount(), r.GetAddedCount(), r.GetModifiedCount(), r.GetRemovedCount())
	if r.GetError() != nil {
		text += fmt.Sprintf("\n  %s (code %d) %s", r.GetReason(), r.GetError().GetCode(), r.GetError().GetMessage())
	}
	return text
}

func finalText(s *understudyv1.Sync) string {
	c := s.GetCounts()
	text := fmt.Sprintf("finished: %s causes %v\n  %d types", s.GetState(), s.GetPartialCauses(), c.GetTotal())
	if s.GetState() != understudyv1.SyncState_SYNC_STATE_FAILED {
		text += fmt.Sprintf(": %d changed, %d unchanged, %d incomplete, %d failed, %d not backed up, %d not available",
			c.GetChanged(), c.GetUnchanged(), c.GetIncomplete(), c.GetFailed(), c.GetNotBackedUp(), c.GetNotAvailable())
	}
	for _, who := range s.GetIdentities() {
		if s.GetState() == understudyv1.SyncState_SYNC_STATE_FAILED && who.GetFailure() == nil {
			continue
		}
		text += fmt.Sprintf("\n  %s %s %s", who.GetIdentity(), who.GetState(), who.GetFailure().GetReason())
	}
	if s.GetError() != nil {
		text += fmt.Sprintf("\n  error %d: %s", s.GetError().GetCode(), s.GetError().GetMessage())
	}
	return text
}

// uncounted says in what the results of a story are not those that its end counts, or
// are not possible: of an identity that failed before it had read anything.
func (s *story) uncounted() string {
	counts := map[understudyv1.ConfigurationOutcome]int32{}
	failed := s.final.GetState() == understudyv1.SyncState_SYNC_STATE_FAILED
	unread := map[understudyv1.Identity]bool{}
	for _, who := range s.final.GetIdentities() {
		unread[who.GetIdentity()] = failed && who.GetState() == understudyv1.IdentityState_IDENTITY_STATE_FAILED
	}
	for _, event := range s.durable {
		if r := event.GetConfigurationCompleted().GetResult(); r != nil {
			counts[r.GetOutcome()]++
			if unread[r.GetIdentity()] {
				return fmt.Sprintf("%s has a result by an identity that failed at the start", r.GetConfigurationType())
			}
		}
	}
	c := s.final.GetCounts()
	for outcome, count := range map[understudyv1.ConfigurationOutcome]int32{
		understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_CHANGED:       c.GetChanged(),
		understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_UNCHANGED:     c.GetUnchanged(),
		understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_INCOMPLETE:    c.GetIncomplete(),
		understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_FAILED:        c.GetFailed(),
		understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_NOT_BACKED_UP: c.GetNotBackedUp(),
		understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_NOT_AVAILABLE: c.GetNotAvailable(),
	} {
		if counts[outcome] != count {
			return fmt.Sprintf("%d types are counted %s, and %d events say so", count, outcome, counts[outcome])
		}
	}
	return ""
}
