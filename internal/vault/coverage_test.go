package vault

import (
	"strings"
	"testing"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

// The coverage says by what the configuration narrows a type: by what it narrowed
// it when that was read which is in the backup.
func TestCoverageSaysFilter(t *testing.T) {
	v := newVault(t, nil)
	narrow, other := *groups, *groups
	narrow.TenantFilter, other.TenantFilter = "securityEnabled eq true", "mailEnabled eq true"
	ten := documents("a", "b", "c", "d", "e", "f", "g", "h", "i", "j")
	accepted := whole(&narrow, documents("a", "b"))
	accepted.reading.AcceptCollapse = true
	at := night
	for _, step := range []struct {
		name          string
		reading       typeReading
		state, filter string
		// lasts says that the entry stands so since the step before.
		lasts bool
	}{
		{"never read", ended(&narrow, failed, nil), stateMissing, narrow.TenantFilter, false},
		{"whole", whole(groups, ten), stateComplete, "", false},
		{"narrowed, and not believed", whole(&narrow, documents("a", "b")), stateStale, "", false},
		{"narrowed on purpose", accepted, stateComplete, narrow.TenantFilter, false},
		{"as before", whole(&narrow, documents("a", "b")), stateComplete, narrow.TenantFilter, true},
		{"the same by another filter", whole(&other, documents("a", "b")), stateComplete, other.TenantFilter, false},
		{"not read by a third", ended(&narrow, failed, nil), stateStale, other.TenantFilter, false},
		{"not available", ended(&narrow, notAvailable, nil).accepting(), stateNotAvailable, other.TenantFilter, false},
		{"whole again, in part", ended(groups, incomplete, documents("c")), stateStale, other.TenantFilter, false},
		{"whole again", whole(groups, ten), stateComplete, "", false},
	} {
		at = at.Add(hour / 4)
		runSync(t, v, at, step.reading)
		entry := coverageOf(t, v, groups)
		if entry.State != step.state || entry.Filter != step.filter || entry.Since.Equal(at) == step.lasts {
			t.Errorf("%s: coverage %+v", step.name, entry)
		}
	}
	if got := len(itemsOf(files(t, v), groups)); got != len(ten) {
		t.Errorf("%d items", got)
	}
	checkRepository(t, v)
}

// The message of a commit has a trailer that Git understands for each type that is
// narrowed, complete or not.
func TestMessageSaysFilter(t *testing.T) {
	v := newVault(t, nil)
	info := port.CommitInfo{Sync: "tenants/x/syncs/1", Time: night, Results: []*understudyv1.ConfigurationResult{
		{ConfigurationType: apps.ID, Outcome: failed, Reason: serverError, Filter: "startswith(displayName,'A: B')"},
		{ConfigurationType: groups.ID, Outcome: changed, Filter: "securityEnabled eq true"},
		{ConfigurationType: scripts.ID, Outcome: changed},
	}}
	staging, err := v.Begin(t.Context(), port.Turn{Attempt: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer staging.Close()
	if _, err := staging.Commit(t.Context(), info); err != nil {
		t.Fatal(err)
	}
	got := git(t, v.config.Directory, "log", "-1", "--format=%(trailers:key=Filtered)%(trailers:key=Failed)", "main")
	want := "Filtered: entra/applications (startswith(displayName,'A: B'))\nFiltered: entra/groups (securityEnabled eq true)\n" +
		"Failed: entra/applications (SOURCE_UNAVAILABLE)"
	if strings.TrimSpace(got) != want {
		t.Errorf("trailers\n%s\nwant\n%s", got, want)
	}
}
