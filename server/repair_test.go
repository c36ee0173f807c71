package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gofrs/flock"
)

// repairConfig writes a configuration of two tenants, of which one has a backup.
func repairConfig(t *testing.T) (file, repository string) {
	t.Helper()
	folder := t.TempDir()
	definition := `  - id: %s
    directory_id: %d2222222-2222-4222-8222-222222222222
    service_principal: {client_id: 33333333-3333-4333-8333-333333333333, client_secret: {env: X}}
`
	content := fmt.Sprintf("data_dir: %s\ntenants:\n", folder) + fmt.Sprintf(definition, "contoso", 1) + fmt.Sprintf(definition, "fabrikam", 2)
	file = filepath.Join(folder, "understudy.yaml")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	backUpSecret(t, file, content)
	return file, filepath.Join(folder, "repositories", "contoso.git")
}

func TestRepairCommand(t *testing.T) {
	file, repository := repairConfig(t)
	repair := func(want int, args ...string) string {
		t.Helper()
		code, out, stderr := command(t, append([]string{"repair", "--config", file}, args...)...)
		if code != want {
			t.Errorf("repair %v: exit code %d, want %d: %s%s", args, code, want, out, stderr)
		}
		return out + stderr
	}
	says := func(out string, parts ...string) {
		t.Helper()
		for _, part := range parts {
			if !strings.Contains(out, part) {
				t.Errorf("it does not say %q: %s", part, out)
			}
		}
	}
	says(repair(exitOK), "contoso: all is well: the branch is at ", "1 commit, 7 objects", "fabrikam: nothing was backed up here yet.")
	branch := filepath.Join(repository, "refs", "heads", "main")
	if err := os.WriteFile(branch, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	says(repair(exitLeft, "--tenant", "tenants/contoso"), "contoso: one thing is wrong:", "the branch main is empty or damaged", "Remedy: let it begin at", "Nothing was changed.")
	if content, err := os.ReadFile(branch); err != nil || len(content) > 0 {
		t.Errorf("the branch is %q, %v", content, err)
	}
	says(repair(exitOK, "--apply"), "It is whole again: the branch is at ")
	says(repair(exitOK), "all is well")
	packs, err := filepath.Glob(filepath.Join(repository, "objects", "pack", "*.pack"))
	if err != nil || len(packs) != 1 {
		t.Fatal(packs, err)
	}
	if err := os.Chmod(packs[0], 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(packs[0], []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	says(repair(exitLeft, "--apply"), "LOST", "What is left:", "To begin a new backup, remove the repository")
	says(repair(exitUsage, "--tenant", "contos"), `no tenant "contos"`)
}

// Beside a running service nothing is looked at.
func TestRepairBesideAService(t *testing.T) {
	file, repository := repairConfig(t)
	for _, path := range []string{filepath.Join(filepath.Dir(file), "lock"), filepath.Join(repository, "understudy.lock")} {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		lock := flock.New(path)
		if locked, err := lock.TryLock(); err != nil || !locked {
			t.Fatal(locked, err)
		}
		code, out, stderr := command(t, "repair", "--config", file, "--apply", "--tenant", "contoso")
		if code != exitFailed || out != "" || !strings.Contains(stderr, "Stop the service") || strings.Contains(stderr, "shared") {
			t.Errorf("exit code %d: %s%s", code, out, stderr)
		}
		if err := lock.Unlock(); err != nil {
			t.Fatal(err)
		}
	}
}

// What is to be stopped fits the configuration.
func TestRepairSaysWhatToStop(t *testing.T) {
	for shared, want := range map[bool]string{false: "Stop the service", true: "Stop every replica"} {
		cfg := &config{DataDir: t.TempDir(), DataDirShared: shared}
		unlock, err := lockDataDir(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := lockForRepair(cfg); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "data_dir_shared") {
			t.Errorf("shared %v: %v", shared, err)
		}
		if err := unlock(); err != nil {
			t.Fatal(err)
		}
	}
}
