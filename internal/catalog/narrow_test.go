package catalog

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func ids(types []*Type) []string {
	var list []string
	for _, t := range types {
		list = append(list, t.ID)
	}
	return list
}

func whole(t *testing.T) *Catalog {
	t.Helper()
	c, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// What is excluded is out of wildcards, and cannot be named.
func TestNarrowExcludes(t *testing.T) {
	t.Parallel()
	narrow, err := three().Narrow([]string{"intune/*", "entra/users"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		patterns []string
		want     []string
		excluded *ExcludedError
		unknown  bool
	}{
		{patterns: []string{"*"}, want: []string{"entra/groups"}},
		{patterns: []string{"entra/*", "entra/groups"}, want: []string{"entra/groups"}},
		{patterns: []string{"entra/groups", "entra/users"}, excluded: &ExcludedError{Index: 1, Pattern: "entra/users"}},
		{patterns: []string{"intune/*"}, excluded: &ExcludedError{Pattern: "intune/*"}},
		{patterns: []string{"entra/grops"}, unknown: true},
	} {
		selected, err := narrow.Select(c.patterns)
		var excluded *ExcludedError
		errors.As(err, &excluded)
		if diff := cmp.Diff(c.excluded, excluded); diff != "" {
			t.Errorf("Select(%q), error (-want +got):\n%s", c.patterns, diff)
		}
		var unknown *UnknownPatternError
		if errors.As(err, &unknown) != c.unknown {
			t.Errorf("Select(%q): %v", c.patterns, err)
		}
		if diff := cmp.Diff(c.want, ids(selected)); diff != "" {
			t.Errorf("Select(%q) (-want +got):\n%s", c.patterns, diff)
		}
	}
	if _, err := three().Narrow([]string{"entra/*", "intun/*"}, nil); err == nil || err.Error() != `"intun/*" names no configuration type; did you mean intune/*?` {
		t.Errorf("an exclude that names nothing: %v", err)
	}
}

// A filter narrows a copy: the catalog is as it was, and so are the other types.
func TestNarrowFilters(t *testing.T) {
	t.Parallel()
	all := whole(t)
	before, _ := all.Get("entra/groups")
	content := *before
	if content.Delta == nil {
		t.Fatal("the type has no delta function to lose")
	}
	narrow, err := all.Narrow([]string{"intune/*"}, map[string]string{
		"entra/groups":                    "securityEnabled eq true",
		"entra/role-assignment-schedules": "a eq 1 or b eq 2",
	})
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string][2]string{
		"entra/groups":                    {"securityEnabled eq true", "securityEnabled eq true"},
		"entra/role-assignment-schedules": {"(assignmentType eq 'Assigned') and (a eq 1 or b eq 2)", "a eq 1 or b eq 2"},
	} {
		got, _ := narrow.Get(id)
		if got.Filter != want[0] || got.TenantFilter != want[1] || got.Delta != nil {
			t.Errorf("%s: filter %q, of the tenant %q, delta %v", id, got.Filter, got.TenantFilter, got.Delta)
		}
		selected, err := narrow.Select([]string{id})
		if err != nil || selected[0] != got {
			t.Errorf("Select(%s) gives another type: %v", id, err)
		}
	}
	if after, _ := all.Get("entra/groups"); after != before || !cmp.Equal(*after, content) {
		t.Error("the catalog changed")
	}
	for _, got := range narrow.Types() {
		original, ok := all.Get(got.ID)
		if !ok || got.Workload() == "intune" || (got != original) != (got.TenantFilter != "") {
			t.Errorf("%s: not shared, or not excluded", got.ID)
		}
	}
	if narrow.Version() != all.Version() {
		t.Error("the version changed")
	}
}

// What cannot be filtered, and what is no filter, is refused; all at once.
func TestNarrowRefusesFilters(t *testing.T) {
	t.Parallel()
	all := whole(t)
	for _, c := range []struct{ id, filter, want string }{
		{"entra/grops", "a eq 1", "did you mean entra/groups"},
		{"entra/*", "a eq 1", "is a pattern"},
		{"intune/scope-tags", "a eq 1", "is excluded"},
		{"entra/organization", "a eq 1", ""},
		{"print/settings", "a eq 1", "one object"},
		{"entra/group-eligibility-schedules", "a eq 1", "each of several objects"},
		{"entra/groups", "", "is empty"},
		{"entra/groups", "  ", "is empty"},
		{"entra/groups", " a eq 1", "space"},
		{"entra/groups", "$filter=a eq 1", "'$'"},
		{"entra/groups", "a eq 1&$top=5", "'&'"},
		{"entra/groups", "a eq 1#", "'#'"},
		{"entra/groups", "a%20eq%201", "'%'"},
		{"entra/groups", `a eq "x"`, `'"'`},
		{"entra/groups", "a eq ‘x’", "'‘'"},
		{"entra/groups", "a eq 1) or (b eq 2", "parentheses"},
		{"entra/groups", "(a eq 1", "parentheses"},
		{"entra/groups", "a eq 1)(", "parentheses"},
		{"entra/groups", "a eq 'x", "quote"},
		{"entra/groups", "a eq 'O'Neill'", "quote"},
		{"entra/groups", "a eq '{id}'", "brace"},
		{"entra/groups", "a eq 'x\n'", "control character"},
		{"entra/groups", "a\u00a0eq 1", "control character"},
		{"entra/groups", strings.Repeat("a", maxFilter+1), "longer"},
		{"entra/groups", "a eq '&?#;%\"$ ( é'", ""},
		{"entra/groups", "displayName eq 'O''Neill (1'", ""},
		{"entra/groups", "groupTypes/any(c:c eq 'Unified') and (mailEnabled eq true)", ""},
	} {
		_, err := all.Narrow([]string{"intune/*"}, map[string]string{c.id: c.filter})
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s, %.40q: %v, want %q", c.id, c.filter, err, c.want)
		}
	}
	_, err := all.Narrow(nil, map[string]string{"print/settings": "a eq 1", "entra/groups": "("})
	if err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("not all mistakes: %v", err)
	}
}

// Whatever a filter is that is accepted, it cannot leave the parentheses that it is
// put in, nor the option, and nothing of the catalog fills it.
func FuzzFilterStaysWithin(f *testing.F) {
	for _, filter := range []string{
		"securityEnabled eq true", "a eq 'x'", "a eq 'O''Neill'", "a) or (b", "'(' ne ')'", "a eq 1&$top=5", "a eq '{id}'", "((a eq 1))", "''')'''",
	} {
		f.Add(filter)
	}
	f.Fuzz(func(t *testing.T, filter string) {
		if filterProblem(filter) != "" {
			return
		}
		// A reading of its own: literals go first, then matching pairs.
		bare, parts := "", strings.Split(filter, "'")
		if len(parts)%2 == 0 {
			t.Fatalf("%q: a quote is open", filter)
		}
		for i := 0; i < len(parts); i += 2 {
			bare += parts[i]
		}
		if strings.ContainsAny(bare, "$&?#;%\"") || strings.ContainsAny(filter, "{}\r\n\x00") {
			t.Fatalf("%q has what it must not have", filter)
		}
		bare = strings.Join(slices.DeleteFunc(strings.Split(bare, ""), func(s string) bool { return s != "(" && s != ")" }), "")
		for strings.Contains(bare, "()") {
			bare = strings.ReplaceAll(bare, "()", "")
		}
		if bare != "" {
			t.Fatalf("%q leaves its parentheses", filter)
		}
	})
}
