package simulator_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
	"understudy.internal/internal/simulator"
	"understudy.internal/internal/vault"
)

// backup reads the whole catalog into a vault and returns what became of each type.
func backup(t *testing.T, r *reader, v *vault.Vault) map[string]port.Settlement {
	t.Helper()
	staging, err := v.Begin(t.Context(), port.Turn{Attempt: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer staging.Close()
	settled := map[string]port.Settlement{}
	for _, entry := range types(t) {
		reading := port.Reading{
			Outcome:  understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_CHANGED,
			Identity: entry.Reader(), Time: time.Now(),
		}
		if err := read(t.Context(), r, entry, staging); err != nil {
			t.Errorf("%s: %v", entry.ID, err)
		}
		if settled[entry.ID], err = staging.Settle(entry, reading); err != nil {
			t.Fatalf("%s: %v", entry.ID, err)
		}
	}
	_, err = staging.Commit(t.Context(), port.CommitInfo{Sync: "tenants/contoso/syncs/one", Time: time.Now(), Counts: &understudyv1.OutcomeCounts{}})
	if err != nil {
		t.Fatal(err)
	}
	return settled
}

func read(ctx context.Context, r *reader, entry *catalog.Type, staging port.Staging) error {
	return r.session.Read(ctx, entry, r.identity(entry), func(i port.Item) error { return staging.Add(entry, i) })
}

// TestOnlyChangesAreChanges backs the tenant up twice. Every answer differs in what
// is volatile and in the order of sets; nothing of it is a change to the vault. What
// was changed is one.
func TestOnlyChangesAreChanges(t *testing.T) {
	t.Parallel()
	x := start(t, simulator.Config{Seed: 3, Items: 3, Hostile: true})
	v, err := vault.Open(vault.Config{Directory: filepath.Join(t.TempDir(), "backup.git"), FingerprintKey: make([]byte, 32)})
	if err != nil {
		t.Fatal(err)
	}
	r := x.reader()
	for id, s := range backup(t, r, v) {
		if s.Outcome != understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_CHANGED && s.Items > 0 {
			t.Errorf("%s: the first time it is %s", id, s.Outcome)
		}
	}
	for _, err := range []error{
		x.ChangeItem("/v1.0/groups", 1), x.ChangeItem("/v1.0/policies/authorizationPolicy", 0),
		x.RemoveItem("/beta/deviceManagement/deviceCategories", 2),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	want := map[string][2]int{"entra/groups": {1, 0}, "entra/authorization-policy": {1, 0}, "intune/device-categories": {0, 1}}
	for id, s := range backup(t, r, v) {
		if s.Added != 0 || s.Modified != want[id][0] || s.Removed != want[id][1] {
			t.Errorf("%s: %d added, %d modified, %d removed; want 0, %d, %d", id, s.Added, s.Modified, s.Removed, want[id][0], want[id][1])
		}
	}
}
