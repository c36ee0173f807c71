package catalog

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func three() *Catalog {
	return &Catalog{types: []*Type{{ID: "entra/groups"}, {ID: "entra/users"}, {ID: "intune/scope-tags"}}}
}

func TestSelect(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		patterns []string
		want     []string
		unknown  *UnknownPatternError
	}{
		{nil, nil, nil},
		{[]string{"*"}, []string{"entra/groups", "entra/users", "intune/scope-tags"}, nil},
		{[]string{"entra/*"}, []string{"entra/groups", "entra/users"}, nil},
		{[]string{"intune/scope-tags", "entra/groups", "entra/*"}, []string{"entra/groups", "entra/users", "intune/scope-tags"}, nil},
		{[]string{"*", "entra/grops"}, nil, &UnknownPatternError{Index: 1, Pattern: "entra/grops", Suggestions: []string{"entra/groups"}}},
		{[]string{"Entra/Groups"}, nil, &UnknownPatternError{Pattern: "Entra/Groups", Suggestions: []string{"entra/groups"}}},
		{[]string{"scope-tags"}, nil, &UnknownPatternError{Pattern: "scope-tags", Suggestions: []string{"intune/scope-tags"}}},
		{[]string{"intun/*"}, nil, &UnknownPatternError{Pattern: "intun/*", Suggestions: []string{"intune/*"}}},
		{[]string{"entra/"}, nil, &UnknownPatternError{Pattern: "entra/", Suggestions: []string{"entra/*", "entra/groups", "entra/users"}}},
		{[]string{""}, nil, &UnknownPatternError{}},
		{[]string{"exchange/something-else"}, nil, &UnknownPatternError{Pattern: "exchange/something-else"}},
		{[]string{strings.Repeat("x", 1<<20)}, nil, &UnknownPatternError{Pattern: strings.Repeat("x", 1<<20)}},
	} {
		selected, err := three().Select(c.patterns)
		var ids []string
		for _, entry := range selected {
			ids = append(ids, entry.ID)
		}
		var unknown *UnknownPatternError
		errors.As(err, &unknown)
		if diff := cmp.Diff(c.want, ids); diff != "" {
			t.Errorf("Select(%.40q) (-want +got):\n%s", c.patterns, diff)
		}
		if diff := cmp.Diff(c.unknown, unknown); diff != "" {
			t.Errorf("Select(%.40q), error (-want +got):\n%.400s", c.patterns, diff)
		}
	}
}

func TestUnknownPatternMessage(t *testing.T) {
	t.Parallel()
	_, err := three().Select([]string{"entra/grops"})
	if want := `"entra/grops" names no configuration type; did you mean entra/groups?`; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}
