package golden

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
	"understudy.internal/internal/source/graph"
	"understudy.internal/internal/vault"
)

var update = flag.Bool("update", false, "write the golden files")

// fingerprintKey is fixed, so that the fingerprints in golden files are.
var fingerprintKey = []byte("golden trees only, never a secret")

// TestGolden reads every configuration type from its fixture.
func TestGolden(t *testing.T) {
	known := loadCatalog(t)
	server := &tenants{}
	listener := httptest.NewTLSServer(server)
	t.Cleanup(listener.Close)
	for _, configurationType := range known.Types() {
		t.Run(configurationType.ID, func(t *testing.T) {
			t.Parallel()
			f, err := loadFixture(fixtureFile(configurationType))
			if errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("write %s: what Graph answers for this type (see the package comment)", fixtureFile(configurationType))
			}
			if err != nil {
				t.Fatal(err)
			}
			runType(t, configurationType, f, server, listener)
		})
	}
}

// TestNoForeignFiles finds fixtures of types that do not exist, and golden files
// without a fixture.
func TestNoForeignFiles(t *testing.T) {
	known := loadCatalog(t)
	fixtures := fixtureIDs(t, ".json")
	for _, id := range fixtures {
		if _, ok := known.Get(id); !ok {
			t.Errorf("testdata/%s.json is of no configuration type", id)
		}
	}
	for _, id := range fixtureIDs(t, ".golden") {
		if !slices.Contains(fixtures, id) {
			t.Errorf("testdata/%s.golden has no fixture", id)
		}
	}
}

// runType makes two syncs of one type: the first must give the golden tree, the
// second must find nothing to commit.
func runType(t *testing.T, configurationType *catalog.Type, f *fixture, server *tenants, listener *httptest.Server) {
	t.Helper()
	file := fixtureFile(configurationType)
	v, directory := newVault(t)
	firstTenant := server.open(configurationType.ID+" first", f.first())
	items := read(t, configurationType, listener, configurationType.ID+" first")
	firstTenant.check(t, file)
	incomplete := mutants(configurationType)
	settlement, snapshot := backUp(t, v, configurationType, items, 1, incomplete...)
	if settlement.Outcome != understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_CHANGED || !snapshot.GetCreated() {
		t.Fatalf("the first sync: %v, commit made: %v", settlement.Outcome, snapshot.GetCreated())
	}
	tree := folder(t, directory, snapshot.GetCommit(), configurationType)
	if t.Failed() {
		return // what was not read completely is no golden tree
	}
	compareGolden(t, configurationType, tree)
	checkRules(t, configurationType, items)
	checkSecrets(t, tree)

	secondTenant := server.open(configurationType.ID+" second", f.second(t))
	again := read(t, configurationType, listener, configurationType.ID+" second")
	secondTenant.check(t, file)
	settlement, snapshot = backUp(t, v, configurationType, again, 2)
	if settlement.Outcome == understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_UNCHANGED && !snapshot.GetCreated() {
		checkMutants(t, v, f, incomplete, again)
		return
	}
	after := folder(t, directory, snapshot.GetCommit(), configurationType)
	t.Errorf("the same configuration asked for again: %v, commit made: %v (-first +second):\n%s",
		settlement.Outcome, snapshot.GetCreated(), lineDiff(tree, after))
}

func loadCatalog(t *testing.T) *catalog.Catalog {
	t.Helper()
	known, err := catalog.Load()
	if err != nil {
		t.Fatal(err)
	}
	return known
}

// identity holds one token.
type identity struct{ token string }

// SignIn implements port.Identity.
func (*identity) SignIn(context.Context, port.SignInOptions) (understudyv1.AuthenticationMethod, error) {
	return understudyv1.AuthenticationMethod_AUTHENTICATION_METHOD_UNSPECIFIED, nil
}

// Token implements port.Identity.
func (i *identity) Token(context.Context, port.TokenRequest) (port.Token, error) {
	return port.Token{Value: i.token, ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// Fail implements port.Identity.
func (*identity) Fail(reason understudyv1.AuthFailureReason, _ ...string) error {
	return errors.New(reason.String())
}

// read reads all items of a type.
func read(t *testing.T, configurationType *catalog.Type, listener *httptest.Server, token string) []port.Item {
	t.Helper()
	source, err := graph.New(graph.Config{
		Endpoint:     listener.URL,
		DirectoryID:  DirectoryID,
		HTTPClient:   &http.Client{Transport: listener.Client().Transport},
		NotAvailable: catalog.DefaultNotAvailable(),
		Limits:       map[string]graph.Limit{configurationType.GateName(): {Requests: 1 << 20, Per: time.Second}},
		RetryDelay:   1,
	})
	if err != nil {
		t.Fatal(err)
	}
	session := source.Open()
	defer session.Close()
	var items []port.Item
	err = session.Read(t.Context(), configurationType, &identity{token}, func(item port.Item) error {
		item.JSON = bytes.Clone(item.JSON)
		items = append(items, item)
		return nil
	})
	if err != nil {
		t.Errorf("reading: %v", err)
	}
	if len(items) == 0 {
		t.Error("the fixture has no items")
	}
	return items
}

func newVault(t *testing.T) (v *vault.Vault, directory string) {
	t.Helper()
	directory = filepath.Join(t.TempDir(), "tenant.git")
	v, err := vault.Open(vault.Config{Directory: directory, FingerprintKey: fingerprintKey})
	if err != nil {
		t.Fatal(err)
	}
	return v, directory
}

// backUp backs items up as the complete reading of a type, on a night; and of its
// mutants.
func backUp(t *testing.T, v *vault.Vault, configurationType *catalog.Type, items []port.Item, night int, also ...*mutant) (port.Settlement, *understudyv1.Snapshot) {
	t.Helper()
	at := nightOf(night)
	staging, err := v.Begin(t.Context(), port.Turn{Attempt: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := staging.Close(); err != nil {
			t.Error(err)
		}
	}()
	settlement := settle(t, staging, configurationType, items, night)
	for _, m := range also {
		settle(t, staging, &m.Type, items, night)
	}
	snapshot, err := staging.Commit(t.Context(), port.CommitInfo{
		Sync:   "tenants/golden/syncs/" + at.Format(time.DateOnly),
		State:  understudyv1.SyncState_SYNC_STATE_SUCCEEDED,
		Counts: &understudyv1.OutcomeCounts{Total: 1},
		Time:   at,
	})
	if err != nil {
		t.Fatal(err)
	}
	return settlement, snapshot
}

// settle stages items as the complete reading of a type, on a night.
func settle(t *testing.T, staging port.Staging, configurationType *catalog.Type, items []port.Item, night int) port.Settlement {
	t.Helper()
	for _, item := range items {
		if err := staging.Add(configurationType, item); err != nil {
			t.Errorf("%s: %v", item.ID, err)
		}
	}
	settlement, err := staging.Settle(configurationType, port.Reading{
		Outcome:  understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_CHANGED,
		Identity: configurationType.Reader(),
		Time:     nightOf(night),
	})
	if err != nil {
		t.Fatal(err)
	}
	return settlement
}

func nightOf(number int) time.Time { return time.Date(2026, 11, number, 2, 0, 0, 0, time.UTC) }

// folder returns the folder of a type in a commit, as a txtar archive.
func folder(t *testing.T, directory, commit string, configurationType *catalog.Type) []byte {
	t.Helper()
	command := exec.CommandContext(t.Context(), "git", "-C", directory, "archive", "--format=tar", commit, configurationType.ID)
	command.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_SYSTEM="+os.DevNull)
	out, err := command.Output()
	if err != nil {
		t.Fatalf("git archive: %v", err)
	}
	files := map[string][]byte{}
	for archive := tar.NewReader(bytes.NewReader(out)); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if header.Typeflag != tar.TypeReg {
			continue
		}
		if files[header.Name], err = io.ReadAll(archive); err != nil {
			t.Fatal(err)
		}
	}
	tree := &txtar.Archive{}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		tree.Files = append(tree.Files, txtar.File{Name: name, Data: files[name]})
	}
	return txtar.Format(tree)
}

// compareGolden compares a tree with the golden file, or writes it.
func compareGolden(t *testing.T, configurationType *catalog.Type, tree []byte) {
	t.Helper()
	file := goldenFile(configurationType)
	if *update {
		if err := os.WriteFile(file, tree, 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Errorf("%v: run the test with -update, and read what it writes", err)
		return
	}
	if diff := lineDiff(want, tree); diff != "" {
		t.Errorf("%s (-golden +now):\n%s", file, diff)
	}
}

// lineDiff compares texts line by line; empty when they are equal.
func lineDiff(a, b []byte) string {
	return cmp.Diff(strings.Split(string(a), "\n"), strings.Split(string(b), "\n"))
}
