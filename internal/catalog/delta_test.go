package catalog_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"understudy.internal/internal/catalog"
	"understudy.internal/internal/facts"
)

// Types whose delta function saves nothing worth having: it reports none of their
// children, which would all have to be read all the same.
var unusedDeltas = []string{"entra/applications", "entra/service-principals"}

// A type has a delta exactly where Microsoft documents the function, for users and
// applications, with a permission that the type asks for anyway; and it relies on
// no more than the documentation says that the function reports.
func TestDeltasAreDocumented(t *testing.T) {
	t.Parallel()
	documented, err := facts.DeltaFunctions()
	if err != nil {
		t.Fatal(err)
	}
	used := 0
	for _, entry := range load(t).Types() {
		at := slices.IndexFunc(documented, func(f facts.DeltaFunction) bool {
			return f.Version == entry.Version && f.Path == entry.Path
		})
		switch {
		case at < 0 && entry.Delta != nil:
			t.Errorf("%s: Microsoft documents no delta function of %s", entry.ID, entry.Path)
		case at < 0:
		case entry.Delta == nil:
			if !slices.Contains(unusedDeltas, entry.ID) {
				t.Errorf("%s: Microsoft documents a delta function (%s) that is not used", entry.ID, documented[at].SourceURL)
			}
		default:
			used++
			checkDelta(t, entry, documented[at])
		}
	}
	if used+len(unusedDeltas) != len(documented) {
		t.Errorf("%d delta functions are used and %d are not, of %d", used, len(unusedDeltas), len(documented))
	}
}

func checkDelta(t *testing.T, entry *catalog.Type, documented facts.DeltaFunction) {
	t.Helper()
	for _, name := range entry.Delta.Covers {
		if !slices.Contains(documented.Relations, name) {
			t.Errorf("%s: %s does not say that a delta query reports %s", entry.ID, documented.SourceURL, name)
		}
	}
	for _, name := range documented.Relations {
		isChild := slices.ContainsFunc(entry.Children, func(c catalog.Child) bool { return c.Name == name })
		if isChild && !slices.Contains(entry.Delta.Covers, name) {
			t.Errorf("%s: a delta query reports %s, and the entry does not use it", entry.ID, name)
		}
	}
	if !slices.Contains(entry.ServicePrincipal, documented.Application) || !slices.Contains(entry.User, documented.Delegated) {
		t.Errorf("%s: the delta function needs %s (application) and %s (delegated)", entry.ID, documented.Application, documented.Delegated)
	}
}

func TestDeltaSelectsAndUncovered(t *testing.T) {
	t.Parallel()
	groups, ok := load(t).Get("entra/groups")
	if !ok || groups.Delta == nil {
		t.Fatal("groups have no delta")
	}
	if diff := cmp.Diff([]string{"", "members,owners"}, groups.Delta.Selects()); diff != "" {
		t.Error(diff)
	}
	names := []string{}
	for _, child := range groups.Uncovered() {
		names = append(names, child.Name)
	}
	if diff := cmp.Diff([]string{"groupLifecyclePolicies", "settings"}, names); diff != "" {
		t.Error(diff)
	}
	plain := &catalog.Type{Children: groups.Children}
	if len(plain.Uncovered()) != len(groups.Children) {
		t.Error("without a delta no child is covered")
	}
}
