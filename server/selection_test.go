package main

import (
	"encoding/json"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/tenant"
)

// coverageLine is what coverage.json says of a type.
type coverageLine struct{ State, Filter string }

// coverage returns what coverage.json says of a tenant's types.
func (h *harness) coverage(tenant string) map[string]coverageLine {
	h.Helper()
	lines := map[string]coverageLine{}
	if err := json.Unmarshal([]byte(h.git(tenant, "show", "main:coverage.json")), &lines); err != nil {
		h.Fatal(err)
	}
	return lines
}

// items returns how many items the backup of a tenant has of a type.
func (h *harness) items(tenant, configurationType string) int {
	h.Helper()
	n := 0
	for path := range h.files(tenant) {
		if strings.HasPrefix(path, configurationType+"/") && !strings.HasSuffix(path, "/_index.json") && !strings.HasSuffix(path, "/_names.json") {
			n++
		}
	}
	return n
}

// result returns the result of a type, or nil.
func (s *story) result(configurationType string) *understudyv1.ConfigurationResult {
	for _, event := range s.durable {
		if r := event.GetConfigurationCompleted().GetResult(); r.GetConfigurationType() == configurationType {
			return r
		}
	}
	return nil
}

// TestPartOfATenant backs a tenant up whole, then a part of it, then whole again,
// each time with another configuration, over the real assembly: a filter reaches
// Microsoft Graph, a list that it shortens is not believed until that is accepted,
// and the backup says that it is not the whole.
func TestPartOfATenant(t *testing.T) {
	t.Parallel()
	const (
		filter   = "isAssignableToRole eq true" // every fourth group of the simulated tenant
		excluded = "print/task-definitions"
	)
	folder := t.TempDir()
	configured := func(exclude []string, filters tenant.Filters) func(*labConfig) {
		return func(l *labConfig) {
			l.Folder, l.Exclude, l.Filters = folder, exclude, filters
			l.Types = []string{"entra/groups", "entra/role-assignment-schedules", "print/*"}
		}
	}
	t.Run("whole", func(t *testing.T) {
		h := newHarness(t, configured(nil, nil))
		h.mustSync("contoso", nil, nobody)
		if got := h.items("contoso", "entra/groups"); got != 120 {
			t.Errorf("%d groups", got)
		}
	})
	t.Run("a part", func(t *testing.T) {
		h := newHarness(t, configured([]string{excluded}, tenant.Filters{"entra/groups": filter}))
		before := h.files("contoso")
		s := h.sync("contoso", nil, nobody)
		groups := s.result("entra/groups")
		if groups.GetFilter() != filter || groups.GetReason() != understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_COUNT_COLLAPSED {
			t.Errorf("not said, or believed at once: %v", groups)
		}
		if s.result(excluded) != nil || s.result("print/settings") == nil {
			t.Errorf("not excluded, or too much is:\n%s", s.text())
		}
		h.kept(before, h.files("contoso"), s)
		if got := h.coverage("contoso")["entra/groups"]; got != (coverageLine{State: "stale"}) {
			t.Errorf("coverage %+v", got)
		}

		s = h.mustSync("contoso", &understudyv1.SyncSpec{AcceptCollapse: []string{"entra/groups"}}, nobody)
		if got := h.items("contoso", "entra/groups"); got != 30 || s.result("entra/groups").GetRemovedCount() != 90 {
			t.Errorf("%d groups, %v", got, s.result("entra/groups"))
		}
		if got := h.coverage("contoso")["entra/groups"]; got != (coverageLine{State: "complete", Filter: filter}) {
			t.Errorf("coverage %+v", got)
		}
		if got := h.git("contoso", "log", "-1", "--format=%(trailers:key=Filtered,valueonly)", "main"); strings.TrimSpace(got) != "entra/groups ("+filter+")" {
			t.Errorf("trailer %q", got)
		}
		if got := h.items("contoso", excluded); got != 3 {
			t.Errorf("%d items of what is excluded since", got)
		}

		_, err := h.client.StartSync(h.ctx, &understudyv1.StartSyncRequest{
			Parent: "tenants/contoso", Spec: &understudyv1.SyncSpec{ConfigurationTypes: []string{"entra/groups", excluded}},
		})
		violations := detailOf[*errdetails.BadRequest](status.Convert(err)).GetFieldViolations()
		if status.Code(err) != codes.InvalidArgument || len(violations) != 1 || violations[0].GetField() != "spec.configuration_types[1]" ||
			!strings.Contains(violations[0].GetDescription(), "excludes "+excluded) {
			t.Errorf("a sync of what is excluded: %v %v", err, violations)
		}
	})
	t.Run("whole again", func(t *testing.T) {
		h := newHarness(t, configured(nil, nil))
		h.mustSync("contoso", nil, nobody)
		if got := h.items("contoso", "entra/groups"); got != 120 {
			t.Errorf("%d groups", got)
		}
		if got := h.coverage("contoso")["entra/groups"]; got != (coverageLine{State: "complete"}) {
			t.Errorf("coverage %+v", got)
		}
	})
}
