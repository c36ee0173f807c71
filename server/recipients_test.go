package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"filippo.io/age/armor"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
)

// What the file says about keys and recipients reaches the tenant's vault.
func TestConfiguredRecipientsAndPreviousKeys(t *testing.T) {
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	for name, first := range map[string]byte{"encryption": 0xa0, "old": 0x80, "new": 0xf0} {
		if err := os.WriteFile(filepath.Join(folder, name), testKey(first), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	snapshotOf := func(keys string) *understudyv1.Snapshot {
		t.Helper()
		content := fmt.Sprintf(`data_dir: %s
keys: {encryption: {file: encryption}, %s}
tenants:
  - id: contoso
    directory_id: 22222222-2222-4222-8222-222222222222
    service_principal: {client_id: 33333333-3333-4333-8333-333333333333, client_secret: {env: X}}
    secrets: {recipients: [%s]}
`, folder, keys, identity.Recipient())
		return backUpSecret(t, filepath.Join(folder, "understudy.yaml"), content)
	}
	if !snapshotOf("fingerprint: {file: old}").GetCreated() {
		t.Fatal("nothing was committed")
	}
	if snapshotOf("fingerprint: {file: new}, fingerprint_previous: [{file: old}]").GetCreated() {
		t.Error("the rotation looks like a change")
	}
	last := snapshotOf("fingerprint: {file: new}")
	if !last.GetCreated() {
		t.Error("without the previous key nothing changes")
	}
	sealed := gitShow(t, filepath.Join(folder, "repositories", "contoso.git"), last.GetCommit()+":entra/secretive/a.secrets.age")
	if got := openSealed(t, sealed, identity); got != "{\n  \"/key\": \"hunter2\"\n}\n" {
		t.Errorf("sealed is %q", got)
	}
}

// backUpSecret makes the vault of a configuration's only tenant, and backs up an item
// with a secret.
func backUpSecret(t *testing.T, name, content string) *understudyv1.Snapshot {
	t.Helper()
	cfg, err := parseConfig(name, []byte(content))
	if err != nil {
		t.Fatal(err)
	}
	k, err := loadKeys(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	b := tenantBuilder{cfg: cfg, keys: k, definition: &cfg.Tenants[0], logger: slog.New(slog.DiscardHandler)}
	v, err := b.vault()
	if err != nil {
		t.Fatal(err)
	}
	staging, err := v.Begin(t.Context(), port.Turn{Attempt: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer staging.Close()
	secretive := &catalog.Type{ID: "entra/secretive", Secrets: []catalog.SecretRule{{Property: "key"}}}
	if err := staging.Add(secretive, port.Item{ID: "a", JSON: []byte(`{"key":"hunter2"}`)}); err != nil {
		t.Fatal(err)
	}
	if _, err := staging.Settle(secretive, port.Reading{Outcome: understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_CHANGED}); err != nil {
		t.Fatal(err)
	}
	snapshot, err := staging.Commit(t.Context(), port.CommitInfo{Sync: "tenants/contoso/syncs/x"})
	if err != nil {
		t.Fatal(err)
	}
	return snapshot
}

func gitShow(t *testing.T, repository, object string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "git", "-C", repository, "show", object).Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func openSealed(t *testing.T, sealed string, identity age.Identity) string {
	t.Helper()
	plain, err := age.Decrypt(armor.NewReader(strings.NewReader(sealed)), identity)
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(plain)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
