package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/simulator"
)

// runForget runs `understudy forget` with the configuration of a lab, and demands an
// exit code and a part of what is said.
func runForget(t *testing.T, config string, code int, says string, args ...string) {
	t.Helper()
	var out, stderr strings.Builder
	got := runContext(t.Context(), append(append([]string{"forget"}, args...), "--config", config), streams{out: &out, err: &stderr})
	if said := out.String() + stderr.String(); got != code || !strings.Contains(said, says) {
		t.Errorf("forget %v: exit code %d, want %d; said %q, want %q", args, got, code, said, says)
	}
}

// onSharedJournal lets a lab keep its journal, and what replicas share, on a cluster of
// one node.
func onSharedJournal(t *testing.T) func(*labConfig) {
	t.Helper()
	address := newNATSCluster(t, 1).addresses[0]
	return func(l *labConfig) {
		l.Settings = fmt.Sprintf("data_dir_shared: true\njournal: {cluster: {servers: [\"nats://%s\"], replicas: 1}}\nlease: 5s\n", address)
	}
}

// TestForgetSignIn: while the service runs, a password that was refused is tried again,
// and a cached sign-in is not used any more.
func TestForgetSignIn(t *testing.T) {
	t.Parallel()
	for name, shared := range map[string]bool{"files": false, "cluster": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var changes []func(*labConfig)
			if shared {
				changes = append(changes, onSharedJournal(t))
			}
			h := newHarness(t, changes...)
			config := h.lab.configFile()
			runForget(t, config, exitOK, "There was nothing to forget of contoso.", "sign-in", "contoso")

			h.wrong(simulator.Scenario{Name: "wrong-password"})
			h.sync("contoso", nil, nobody)
			h.wrong()
			if s := h.sync("contoso", nil, nobody); s.final.GetState() == succeeded {
				t.Fatal("a refused password was tried again")
			}
			runForget(t, config, exitOK, "That a password of contoso was refused is forgotten", "sign-in", "contoso")
			h.mustSync("contoso", nil, nobody)

			h.mustSync("fabrikam", nil, signsIn)
			silent := &understudyv1.SyncSpec{AllowPrompt: new(bool)}
			h.mustSync("fabrikam", silent, nobody)
			files, err := filepath.Glob(filepath.Join(h.lab.Folder, "data", "tokens", "*"))
			if err != nil || (len(files) == 0) != shared {
				t.Errorf("the files of sign-ins are %v, %v", files, err)
			}
			runForget(t, config, exitOK, "The cached sign-in of fabrikam is forgotten", "sign-in", "tenants/fabrikam")
			if s := h.sync("fabrikam", silent, nobody); !strings.Contains(s.text(), "SIGN_IN_REQUIRED") {
				t.Errorf("the next sync needs no sign-in:\n%s", s.text())
			}
			h.leaksNothing()
		})
	}
}

// TestForgetKeys: a replica with other keys does not start on the cluster before the
// keys are forgotten; then the others do not. While one runs nothing is forgotten.
func TestForgetKeys(t *testing.T) {
	t.Parallel()
	h := newHarness(t, onSharedJournal(t))
	text, err := os.ReadFile(h.lab.configFile())
	if err != nil {
		t.Fatal(err)
	}
	// Another data_dir, in which the other replica makes keys of its own.
	other := filepath.Join(h.lab.Folder, "other.yaml")
	content := strings.Replace(string(text), filepath.Join(h.lab.Folder, "data"), filepath.Join(h.lab.Folder, "other"), 1)
	if err := os.WriteFile(other, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	// It is a copy, so that nothing but the keys is another.
	if err := os.MkdirAll(filepath.Join(h.lab.Folder, "other"), 0o700); err != nil {
		t.Fatal(err)
	}
	writeTestFile(t, filepath.Join(h.lab.Folder, "other", sharedIDFile), string(readTestFile(t, filepath.Join(h.lab.Folder, "data", sharedIDFile))))
	start := func(file string) error { return h.start(t, file) }
	if err := start(h.lab.configFile()); err != nil {
		t.Errorf("the same keys: %v", err)
	}
	for range 2 {
		if err := start(other); err == nil || !strings.HasPrefix(err.Error(), "keys.encryption is not the key that the replicas") {
			t.Errorf("other keys: %v", err)
		}
	}
	name, _, _ := strings.Cut(h.lab.service.journal.Worker(), "/")
	runForget(t, other, exitFailed, "stop all replicas first. On the cluster these are heard: "+name, "keys")
	if err := start(other); err == nil {
		t.Error("the keys were forgotten beside a replica")
	}
	h.lab.service.journal.Leave()
	runForget(t, other, exitOK, "those of the replica that starts next count", "keys")
	if err := start(other); err != nil {
		t.Errorf("after the keys were forgotten: %v", err)
	}
	if err := start(h.lab.configFile()); err == nil {
		t.Error("the keys of before count still")
	}
}

func TestForgetRefuses(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	config := h.lab.configFile()
	runForget(t, config, exitUsage, `the configuration has no tenant "tailspin"`, "sign-in", "tailspin")
	runForget(t, config, exitUsage, "there is nothing to forget", "keys")
	runForget(t, config, exitUsage, "there is nothing to forget", "data-dir")
	runForget(t, filepath.Join(h.lab.Folder, "missing.yaml"), exitUsage, "missing.yaml", "sign-in", "contoso")
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	before, _, _ := strings.Cut(string(text), "    user:\n") // contoso is the first, and then has none
	alone := filepath.Join(h.lab.Folder, "alone.yaml")
	if err := os.WriteFile(alone, []byte(before), 0o600); err != nil {
		t.Fatal(err)
	}
	runForget(t, alone, exitUsage, "the tenant contoso has no user", "sign-in", "contoso")
}
