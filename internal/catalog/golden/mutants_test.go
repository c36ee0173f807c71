package golden

import (
	"fmt"
	"slices"
	"testing"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
	"understudy.internal/internal/vault"
)

// mutant is a type without one of its rules.
type mutant struct {
	catalog.Type
	// without names the rule that is missing, path is what it is for.
	without, path string
}

// mutants returns a type without each of its rules for what is volatile and what
// is a set, under ids of their own.
func mutants(t *catalog.Type) []*mutant {
	var all []*mutant
	add := func(kind, path string) *mutant {
		m := &mutant{Type: *t, without: kind + ": " + path, path: path}
		m.ID = fmt.Sprintf("%s-%d", t.ID, len(all))
		all = append(all, m)
		return m
	}
	for i, path := range t.Volatile {
		add("volatile", path).Volatile = slices.Delete(slices.Clone(t.Volatile), i, i+1)
	}
	for i, rule := range t.Arrays {
		add("arrays", rule.Path).Arrays = slices.Delete(slices.Clone(t.Arrays), i, i+1)
	}
	return all
}

// checkMutants reports mutants for which the second reading does not differ from the
// first, which the vault has: what is later does not touch what the missing rule is
// for, or another rule covers it. A fixture may excuse rules for lists that never have
// two elements.
func checkMutants(t *testing.T, v *vault.Vault, f *fixture, all []*mutant, second []port.Item) {
	t.Helper()
	if len(all) == 0 {
		return
	}
	staging, err := v.Begin(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		settlement := settle(t, staging, &m.Type, second, 2)
		survives := settlement.Outcome == understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_UNCHANGED
		if _, excused := f.AtMostOne[m.path]; survives != excused {
			t.Errorf("the second reading differs without the rule %s: %v; at_most_one excuses it: %v", m.without, !survives, excused)
		}
	}
	if err := staging.Close(); err != nil {
		t.Error(err)
	}
}
