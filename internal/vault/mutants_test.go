package vault

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestWithoutTheRulesTestsFail switches a commit rule off in a test build and runs
// the property test of the rules against it: a test that passes then shows nothing.
func TestWithoutTheRulesTestsFail(t *testing.T) {
	t.Parallel()
	if os.Getenv(mutantRun) != "" {
		return // this is a mutant's own run
	}
	for name, m := range map[string]struct{ file, rule, without string }{
		"rule 4: an incomplete reading removes": {
			"settle.go", "\t\terr = s.update(staged, &result)\n", "\t\terr = s.replace(staged, &result)\n",
		},
		"rule 4: a failed reading removes": {
			"settle.go", "\t\tresult.Items = staged.before.len() // the folder stays as it is\n", "\t\terr = s.replace(staged, &result)\n",
		},
		"rule 4: every reading is complete": {
			"settle.go", "\tcollapsed := false\n", "\tcomplete, collapsed := true, false\n\t_ = complete\n",
		},
		"rule 5: every short list is believed": {
			"settle.go", "\tif collapsed {\n\t\tcomplete = false\n", "\tif collapsed && false {\n\t\tcomplete = false\n",
		},
		"rule 5: what is said not to exist is gone": {
			"settle.go", "\tif vanished {\n", "\tif vanished && reading.Outcome != understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_NOT_AVAILABLE {\n",
		},
		"rule 5: a parent that says so has none": {
			"settle.go", "\tif vanished {\n", "\tif vanished && len(reading.Without) == 0 {\n",
		},
		"rule 6: a commit of an equal tree": {
			"commit.go", "s.previous == nil || s.previous.TreeHash != root", "true",
		},
		"names: a failed reading changes them": {
			"display_names.go", "staged.written {\n\t\t\twritten = append", "staged.settled {\n\t\t\twritten = append",
		},
		"names: of what was not read they are forgotten": {
			"settle.go", "\tif err := s.addNamesBefore(staged); err != nil {\n", "\tif err := error(nil); err != nil {\n",
		},
		"names: those of types that are not in the sync are not seen": {
			"display_names.go", "(staged != nil && staged.written) {", "(staged == nil || staged.written) {",
		},
		"names: an item's own id counts": {
			"references.go", "if i = end; id != self {", "if i = end; id == self || id != self {",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, err := runMutant(t, m.file, m.rule, m.without)
			switch {
			case strings.Contains(out, "build failed"):
				t.Fatalf("the mutant does not compile:\n%s", out)
			case err == nil:
				t.Errorf("the tests pass without the rule:\n%s", out)
			case !strings.Contains(out, "--- FAIL"):
				t.Fatalf("no test failed: %v\n%s", err, out)
			}
		})
	}
}

// mutantRun tells a mutant's run that it is one.
const mutantRun = "UNDERSTUDY_TEST_MUTANT"

// runMutant runs the tests of the commit rules with one line of a file replaced. The
// tree is not touched: the go command reads the changed file in place of it.
func runMutant(t *testing.T, file, rule, without string) (string, error) {
	t.Helper()
	path, err := filepath.Abs(file)
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(source), rule); n != 1 {
		t.Fatalf("%s has %q %d times: the rule is elsewhere now", file, rule, n)
	}
	folder := t.TempDir()
	changed, overlay := filepath.Join(folder, file), filepath.Join(folder, "overlay.json")
	content, err := json.Marshal(map[string]map[string]string{"Replace": {path: changed}})
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{changed: []byte(strings.Replace(string(source), rule, without, 1)), overlay: content} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// To build is most of the work: it is done as fast as can be.
	command := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-timeout=120s", "-vet=off", "-failfast", "-gcflags=-N -l", "-ldflags=-s -w", "-overlay", overlay,
		"-run", "^(TestCommitRulesModel|TestCollapse.*|TestNoCommit.*)$", "-rapid.checks=200", "-rapid.nofailfile", "-rapid.shrinktime=100ms", ".")
	command.Env = append(os.Environ(), mutantRun+"=1")
	out, err := command.CombinedOutput()
	return string(out), err
}
