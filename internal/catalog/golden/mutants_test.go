package golden

import (
	"bytes"
	"fmt"
	"net/http/httptest"
	"os"
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
	staging, err := v.Begin(t.Context(), port.Turn{Attempt: 1})
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

// TestWithoutASecretRule takes each rule for secrets out of its entry: what the rule is
// for must then stand in clear, in the item or in a file beside it, and be found.
func TestWithoutASecretRule(t *testing.T) {
	known := loadCatalog(t)
	server := &tenants{}
	listener := httptest.NewTLSServer(server)
	t.Cleanup(listener.Close)
	for _, configurationType := range known.Types() {
		for i, rule := range configurationType.Secrets {
			t.Run(configurationType.ID+"/"+rule.Property, func(t *testing.T) {
				t.Parallel()
				f, err := loadFixture(fixtureFile(configurationType))
				if err != nil {
					t.Fatal(err)
				}
				token := fmt.Sprintf("%s %d", configurationType.ID, i)
				server.open(token, f.first())
				items := read(t, configurationType, listener, token)
				without := *configurationType
				without.Secrets = slices.Delete(slices.Clone(configurationType.Secrets), i, i+1)
				v, directory := newVault(t)
				_, snapshot := backUp(t, v, &without, items, 1)
				tree := folder(t, directory, snapshot.GetCommit(), &without)
				golden, err := os.ReadFile(goldenFile(configurationType))
				if err != nil {
					t.Fatal(err)
				}
				if bytes.Equal(tree, golden) && shown(t, rule, items) { // Graph shows some only when they are made
					t.Error("the golden tree is the same without the rule")
				}
				if len(rule.When) > 0 && len(treeInClear(t, tree)) == 0 {
					t.Error("the secret is in clear, and no check finds it")
				}
			})
		}
	}
}

// shown says whether a fixture has a value for a rule.
func shown(t *testing.T, rule catalog.SecretRule, items []port.Item) bool {
	t.Helper()
	return slices.ContainsFunc(documentsOf(t, items), func(document any) bool {
		return matches(document, segmentsOf(t, rule.Property), func(value any) bool { return value != nil && value != "" })
	})
}
