package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gofrs/flock"

	"understudy.internal/internal/vault"
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
	says(repair(exitOK), "contoso, in "+repository+": all is well: the branch is at ", "1 commit, 7 objects",
		"fabrikam, in "+strings.Replace(repository, "contoso", "fabrikam", 1)+": there is no repository: nothing was backed up here yet.")
	branch := filepath.Join(repository, "refs", "heads", "main")
	if err := os.WriteFile(branch, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	says(repair(exitLeft, "--tenant", "tenants/contoso"), "contoso, in "+repository+": one thing is wrong:", "the branch main is empty or damaged", "Remedy: let it begin at", "Nothing was changed.")
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

// What is said of the end is true: of what is lost, of what is left, and of a remote that
// cannot be asked.
func TestRepairSaysHowItEnded(t *testing.T) {
	mended, lost := vault.Fault{What: "an index is missing", Remedy: "make it anew"}, vault.Fault{What: "a.json cannot be read", Remedy: "leave it out", Loss: true}
	found := func(left int, held bool, faults ...vault.Fault) *vault.Repair {
		return &vault.Repair{Exists: true, Faults: faults, Left: faults[:left], Held: held, Commit: "0123456789abcdef", Commits: 1, Objects: 7}
	}
	const state = "the branch is at 0123456789ab; 1 commit, 7 objects, all of them read.\n"
	for name, test := range map[string]struct {
		apply bool
		found *vault.Repair
		code  int
		want  string
	}{
		"mended":            {true, found(0, false, mended), exitOK, "  That is done. It is whole again: " + state},
		"mended, and lost":  {true, found(0, false, mended, lost), exitPartial, "  That is done. The repository can be used again, without what is LOST: " + state + "  Start the service, and sync: what the tenant still has comes back with the next complete reading.\n"},
		"left":              {true, found(1, false, mended), exitLeft, "  What is left:\n  - an index is missing.\n      Remedy: make it anew.\n"},
		"looked at":         {false, found(1, false, mended), exitLeft, "  Nothing was changed. --apply carries the remedies out. Then " + state},
		"looked at, a loss": {false, found(1, false, lost), exitLeft, "  Put the files of its objects/pack into this one's, and look again: what they have is not lost.\n  --apply carries the remedies out; what is LOST stays lost. Then " + state},
		"held":              {true, found(1, true, mended), exitLeft, "  Nothing was changed, and nothing is mended before the remote can be asked.\n"},
	} {
		var out strings.Builder
		c := &repairCommand{Apply: test.apply}
		if err := c.report(&out, "contoso", test.found); err != nil {
			t.Fatal(err)
		}
		if got := out.String(); !strings.HasSuffix(got, "\n"+test.want) {
			t.Errorf("%s: %s", name, got)
		}
		if got := codeOf(test.found); got != test.code {
			t.Errorf("%s: exit code %d", name, got)
		}
	}
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

// In the wrong folder nothing is looked at, nothing is made, and the path is said.
func TestCommandsFindDataDir(t *testing.T) {
	file, _ := repairConfig(t)
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	relative := strings.Replace(string(content), "data_dir: "+filepath.Dir(file), "data_dir: data", 1)
	relative = strings.ReplaceAll(relative, "client_secret: {env: X}}", "client_secret: {env: X}}\n    user: {method: delegated}")
	if err := os.WriteFile(file, []byte(relative), 0o600); err != nil {
		t.Fatal(err)
	}
	wrong := t.TempDir()
	t.Chdir(wrong)
	for _, args := range [][]string{{"repair"}, {"repair", "--apply"}, {"forget", "sign-in", "contoso"}} {
		for _, folder := range []string{"", "data"} { // missing, and empty
			if folder != "" {
				if err := os.MkdirAll(folder, 0o700); err != nil {
					t.Fatal(err)
				}
			}
			code, out, stderr := command(t, append(args, "--config", file)...)
			if code != exitUsage || out != "" || !strings.Contains(stderr, "data_dir "+filepath.Join(wrong, "data")+" ") || !strings.Contains(stderr, "working directory") {
				t.Errorf("%v: exit code %d: %s%s", args, code, out, stderr)
			}
			made, err := filepath.Glob("data/*")
			if _, statErr := os.Stat("data"); err != nil || len(made) > 0 || (statErr == nil) != (folder != "") {
				t.Errorf("%v made %v, %v", args, made, statErr)
			}
			if err := os.RemoveAll("data"); err != nil {
				t.Fatal(err)
			}
		}
	}
}
