package vault

import (
	"bytes"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
)

// Short names of what the tests say often.
const (
	complete     = understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_CHANGED
	changed      = understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_CHANGED
	unchanged    = understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_UNCHANGED
	incomplete   = understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_INCOMPLETE
	failed       = understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_FAILED
	notBackedUp  = understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_NOT_BACKED_UP
	notAvailable = understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_NOT_AVAILABLE

	collapsedCount = understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_COUNT_COLLAPSED
	serverError    = understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_SOURCE_UNAVAILABLE

	asServicePrincipal = understudyv1.Identity_IDENTITY_SERVICE_PRINCIPAL
	asUser             = understudyv1.Identity_IDENTITY_USER
)

var (
	testKey = []byte("0123456789abcdef0123456789abcdef")
	night   = time.Date(2026, 11, 20, 2, 0, 0, 0, time.UTC)
	groups  = &catalog.Type{ID: "entra/groups"}
	apps    = &catalog.Type{ID: "entra/applications"}
	scripts = &catalog.Type{ID: "intune/scripts"}
)

// TestMain keeps the configuration of this machine out of the git commands.
func TestMain(m *testing.M) {
	for name, value := range map[string]string{
		"GIT_CONFIG_GLOBAL": os.DevNull, "GIT_CONFIG_SYSTEM": os.DevNull, "GIT_TERMINAL_PROMPT": "0",
		"GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@example.com", "GIT_COMMITTER_NAME": "C", "GIT_COMMITTER_EMAIL": "c@example.com",
	} {
		if err := os.Setenv(name, value); err != nil {
			panic(err)
		}
	}
	useMemory()
	fewerChecks()
	if role := os.Getenv(childRole); role != "" {
		os.Exit(runChild(role))
	}
	os.Exit(m.Run())
}

// useMemory lets the tests keep their repositories in memory where there is enough of it
// (a container often has 64 MB): that a process is killed is the same there, and a power
// cut is not what they show.
func useMemory() {
	const memory, enough = "/dev/shm", 1 << 30
	var stat syscall.Statfs_t
	if os.Getenv("TMPDIR") != "" || syscall.Statfs(memory, &stat) != nil || stat.Bavail*uint64(stat.Bsize) < enough {
		return
	}
	if probe, err := os.MkdirTemp(memory, "understudy-"); err == nil && os.Remove(probe) == nil {
		_ = os.Setenv("TMPDIR", memory)
	}
}

// fewerChecks lets rapid check properties less often than it does, unless the command
// line says how often: `-rapid.checks=1000` is for a night.
func fewerChecks() {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "rapid.checks" })
	if !given {
		_ = flag.Set("rapid.checks", "40")
	}
}

func newVault(t testing.TB, change func(*Config)) *Vault {
	t.Helper()
	config := Config{Directory: filepath.Join(t.TempDir(), "tenant.git"), FingerprintKey: testKey}
	if change != nil {
		change(&config)
	}
	v, err := Open(config)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// typeReading is what a sync reads of a type: id → document, and how it ends.
type typeReading struct {
	t       *catalog.Type
	items   map[string]string
	reading port.Reading
	// names are the display names; nil: `Name of <id>`.
	names map[string]string
}

func (r typeReading) nameOf(id string) string {
	if r.names == nil {
		return "Name of " + id
	}
	return r.names[id]
}

// accepting is a reading of which a short list is believed.
func (r typeReading) accepting() typeReading {
	r.reading.AcceptCollapse = true
	return r
}

// whole is a complete reading.
func whole(t *catalog.Type, items map[string]string) typeReading {
	return typeReading{t: t, items: items, reading: port.Reading{Outcome: complete, Identity: asServicePrincipal}}
}

func ended(t *catalog.Type, outcome understudyv1.ConfigurationOutcome, items map[string]string) typeReading {
	return typeReading{t: t, items: items, reading: port.Reading{Outcome: outcome, Reason: serverError, Identity: asServicePrincipal}}
}

// synced is what a sync left.
type synced struct {
	settled  map[string]port.Settlement
	snapshot *understudyv1.Snapshot
	pushed   understudyv1.PushState
	pushErr  error
}

var syncNumber atomic.Int64

// runSync carries out one sync at a time.
func runSync(t testing.TB, v *Vault, at time.Time, readings ...typeReading) synced {
	t.Helper()
	return runNamedSync(t, v, fmt.Sprintf("tenants/x/syncs/%d", syncNumber.Add(1)), at, readings...)
}

func runNamedSync(t testing.TB, v *Vault, name string, at time.Time, readings ...typeReading) synced {
	t.Helper()
	return syncWith(t, v, name, at, func(commitAndPush func()) { commitAndPush() }, readings...)
}

// syncWith is runNamedSync with something around the commit and the push.
func syncWith(t testing.TB, v *Vault, name string, at time.Time, around func(commitAndPush func()), readings ...typeReading) synced {
	t.Helper()
	staging, err := v.Begin(t.Context(), port.Turn{Attempt: 1})
	if err != nil {
		t.Fatalf("Begin: %v", err)
	}
	defer func() {
		if err := staging.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}()
	s := synced{settled: map[string]port.Settlement{}}
	for _, r := range readings {
		for id, document := range r.items {
			if err := staging.Add(r.t, port.Item{ID: id, DisplayName: r.nameOf(id), JSON: []byte(document)}); err != nil {
				t.Fatalf("Add %s: %v", id, err)
			}
		}
		r.reading.Time = at
		if s.settled[r.t.ID], err = staging.Settle(r.t, r.reading); err != nil {
			t.Fatalf("Settle %s: %v", r.t.ID, err)
		}
	}
	info := port.CommitInfo{Sync: name, State: understudyv1.SyncState_SYNC_STATE_SUCCEEDED, Time: at, Counts: &understudyv1.OutcomeCounts{Total: int32(len(readings))}}
	around(func() {
		if s.snapshot, err = staging.Commit(t.Context(), info); err != nil {
			t.Fatalf("Commit: %v", err)
		}
		s.pushed, s.pushErr = staging.Push(t.Context())
	})
	return s
}

// git runs the git command in a repository and returns its output.
func git(t testing.TB, directory string, arguments ...string) string {
	t.Helper()
	out, err := tryGit(t, directory, "", arguments...)
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(arguments, " "), err, out)
	}
	return strings.TrimSuffix(out, "\n")
}

func tryGit(t testing.TB, directory, input string, arguments ...string) (string, error) {
	t.Helper()
	command := exec.CommandContext(t.Context(), "git", append([]string{"-C", directory}, arguments...)...)
	command.Stdin = strings.NewReader(input)
	out, err := command.CombinedOutput()
	return string(out), err
}

// checkRepository lets git look for anything wrong.
func checkRepository(t testing.TB, v *Vault) {
	t.Helper()
	if out := git(t, v.config.Directory, "fsck", "--full", "--strict", "--no-progress", "--no-dangling"); out != "" {
		t.Errorf("git fsck: %s", out)
	}
	left, err := glob(v.packDirectory(), "tmp_*")
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// files returns the files of the branch, as git shows them.
func files(t testing.TB, v *Vault) map[string]string {
	t.Helper()
	return filesOf(t, v.config.Directory, v.ref().String())
}

func filesOf(t testing.TB, directory, ref string) map[string]string {
	t.Helper()
	all := map[string]string{}
	names := git(t, directory, "ls-tree", "-r", "-z", "--name-only", ref)
	for name := range strings.SplitSeq(strings.TrimSuffix(names, "\x00"), "\x00") {
		all[name] = git(t, directory, "show", ref+":"+name)
	}
	return all
}

// itemsOf returns the names of the items of a type.
func itemsOf(all map[string]string, t *catalog.Type) []string {
	var names []string
	for path := range all {
		if name, ok := strings.CutPrefix(path, t.ID+"/"); ok && name != indexFile && name != namesFile {
			names = append(names, strings.TrimSuffix(name, fileEnding))
		}
	}
	slices.Sort(names)
	return names
}

// documents makes items of ids.
func documents(ids ...string) map[string]string {
	items := map[string]string{}
	for _, id := range ids {
		items[id] = fmt.Sprintf(`{"id":%q}`, id)
	}
	return items
}

func numbered(from, to int) []string {
	var ids []string
	for i := from; i < to; i++ {
		ids = append(ids, fmt.Sprintf("item-%03d", i))
	}
	return ids
}

// grepFolder fails when a marker is in any file of a folder.
func grepFolder(t testing.TB, folder string, markers ...string) {
	t.Helper()
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		for _, marker := range markers {
			if bytes.Contains(content, []byte(marker)) {
				t.Errorf("%s holds %q", path, marker)
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func splitLines(text string) []string { return strings.Split(strings.TrimSuffix(text, "\n"), "\n") }

// liveHeap returns how much memory is in use.
func liveHeap() int64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

// randomDocument is a document that does not compress well.
func randomDocument(seed uint64, size int) []byte {
	random := rand.New(rand.NewPCG(seed, 1))
	out := append(make([]byte, 0, size+32), `{"value":"`...)
	for len(out) < size {
		out = strconv.AppendUint(out, random.Uint64(), 36)
	}
	return append(out, `"}`...)
}
