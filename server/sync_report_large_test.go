package main

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	understudyv1 "understudy.internal/gen/understudy/v1"
)

// A large tenant: what is narrowed, and what the time went into, is said without
// being asked.
func TestReportOfALargeTenant(t *testing.T) {
	large := result("entra/groups", understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_CHANGED)
	large.ItemCount, large.Duration, large.Filter = 100000, durationpb.New(41*time.Minute+300*time.Millisecond), "securityEnabled eq true"
	small := result("entra/applications", understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_UNCHANGED)
	small.Duration = durationpb.New(2 * time.Second)
	hostile := result("entra/domains", understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_UNCHANGED)
	hostile.Filter = "a eq '\x1b[2J'"
	begun := func(s *understudyv1.Sync) {
		s.StartTime, s.EndTime = timestamppb.New(time.Unix(110, 0)), timestamppb.New(time.Unix(110+2580, 0))
		s.Snapshot = &understudyv1.Snapshot{Commit: "abc", Ref: "refs/heads/main", Created: true}
	}
	events := func(results ...*understudyv1.ConfigurationResult) *fakeSyncs {
		f := &fakeSyncs{events: []*understudyv1.SyncEvent{startedEvent("entra/groups", "entra/applications")}}
		for _, r := range results {
			f.events = append(f.events, completedEvent(r))
		}
		f.events = append(f.events, finishedEvent(understudyv1.SyncState_SYNC_STATE_SUCCEEDED, begun))
		return f
	}
	synctest.Test(t, func(t *testing.T) {
		got := showSync(t.Context(), t, &syncCommand{}, events(large, small), 0)
		want := `tenants/contoso/syncs/01a: SUCCEEDED after 43m10s

Backed up: 2 configuration types (1 changed, 1 unchanged).
Narrowed by the tenant's definition (1); what does not match the filter is not backed up:
  CONFIGURATION TYPE  FILTER
  entra/groups        securityEnabled eq true
Most of the time, 41m0s of 43m0s, went into entra/groups (100000 items). If that is too long, exclude it, narrow it by a filter, or give it a definition of its own: see Large tenants in docs/deployment.md.
Commit abc on refs/heads/main (new).
`
		if diff := cmp.Diff(want, got.out); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		for _, f := range []*fakeSyncs{events(small), events(large), events(small, hostile)} {
			got = showSync(t.Context(), t, &syncCommand{}, f, 0)
			if strings.Contains(got.out, "Most of the time") || strings.Contains(got.out, "\x1b") {
				t.Errorf("%q", got.out)
			}
		}
		if !strings.Contains(got.out, "entra/domains") {
			t.Errorf("no filter in %q", got.out)
		}
	})
}
