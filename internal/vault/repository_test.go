package vault

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"understudy.internal/internal/port"
)

// handCommit puts files into the branch as somebody could by hand: mode and content
// by path.
func handCommit(t *testing.T, v *Vault, entries map[string][2]string) {
	t.Helper()
	directory := v.config.Directory
	index := filepath.Join(t.TempDir(), "index")
	t.Setenv("GIT_INDEX_FILE", index)
	defer os.Unsetenv("GIT_INDEX_FILE")
	git(t, directory, "read-tree", "main")
	for path, entry := range entries {
		out, err := tryGit(t, directory, entry[1], "hash-object", "-w", "--stdin")
		if err != nil {
			t.Fatal(out)
		}
		git(t, directory, "update-index", "--add", "--replace", "--cacheinfo", entry[0]+","+strings.TrimSpace(out)+","+path)
	}
	commit := git(t, directory, "commit-tree", "-p", "main", "-m", "by hand", git(t, directory, "write-tree"))
	git(t, directory, "update-ref", "refs/heads/main", commit)
}

func TestForeignEntriesStay(t *testing.T) {
	v := newVault(t, nil)
	runSync(t, v, night, whole(groups, documents("a", "b")))
	handCommit(t, v, map[string][2]string{
		"README.md": {"100644", "hello"}, "entra/notes.txt": {"100644", "x"}, "entra/groups/link.json": {"120000", "a.json"},
		"entra/groups/tool.json": {"100755", "#!"}, "entra/groups/sub/x.json": {"100644", "{}"}, "coverage.json": {"100644", "not JSON"},
		"entra/groups/_index.json": {"100644", "not JSON"}, "intune": {"120000", "/etc"},
	})
	s := runSync(t, v, night.Add(hour), ended(groups, incomplete, documents("c")), whole(scripts, documents("s")))
	settledAs(t, s.settled[groups.ID], incomplete, 3, 1, 0, 0)
	s = runSync(t, v, night.Add(2*hour), whole(groups, documents("a", "c")))
	settledAs(t, s.settled[groups.ID], changed, 2, 0, 0, 1)
	now := files(t, v)
	for path, want := range map[string]string{
		"README.md": "hello", "entra/notes.txt": "x", "entra/groups/link.json": "a.json", "entra/groups/tool.json": "#!", "entra/groups/sub/x.json": "{}",
	} {
		if now[path] != want {
			t.Errorf("%s: %q", path, now[path])
		}
	}
	modes := git(t, v.config.Directory, "ls-tree", "-r", "main")
	if !strings.Contains(modes, "120000") || !strings.Contains(modes, "100755") || now["intune/scripts/s.json"] == "" {
		t.Error(modes)
	}
	if index := now["entra/groups/_index.json"]; strings.Count(index, "Name of") != 2 {
		t.Error(index)
	}
	for change, err := range v.Changes(t.Context(), s.snapshot.GetCommit(), "") {
		if err != nil || change.GetPath() != "entra/groups/b.json" {
			t.Errorf("%v %v", change, err)
		}
	}
	checkRepository(t, v)
}

func TestBranchDeletedByHand(t *testing.T) {
	v := newVault(t, nil)
	runSync(t, v, night, whole(groups, documents("a", "b")), whole(apps, documents("x")))
	git(t, v.config.Directory, "update-ref", "-d", "refs/heads/main")
	s := runSync(t, v, night.Add(hour), whole(groups, documents("a", "b")), ended(apps, failed, nil))
	settledAs(t, s.settled[apps.ID], failed, 1, 0, 0, 0)
	if got := git(t, v.config.Directory, "rev-list", "--count", "main"); got != "2" {
		t.Errorf("%s commits", got)
	}
}

// Another branch is configured: it goes on from the last commit, and HEAD names it.
func TestBranchIsRenamed(t *testing.T) {
	v := newVault(t, nil)
	runSync(t, v, night, whole(groups, documents("a")))
	v.config.Branch = "backup/contoso"
	runSync(t, v, night.Add(hour), whole(groups, documents("a", "b")))
	if got := git(t, v.config.Directory, "rev-list", "--count", "HEAD"); got != "2" || git(t, v.config.Directory, "symbolic-ref", "HEAD") != "refs/heads/backup/contoso" {
		t.Errorf("%s commits", got)
	}
}

func TestWhatAKilledProcessLeft(t *testing.T) {
	v := newVault(t, nil)
	runSync(t, v, night, whole(groups, documents("a")))
	pack := strings.Repeat("ab", 20)
	for _, name := range []string{
		"refs/heads/main.lock", "objects/pack/tmp_pack_1", "objects/pack/.pack-x.idx.tmp1", ".HEAD.tmp1",
		"objects/pack/pack-" + pack + ".pack", "objects/pack/pack-" + strings.Repeat("cd", 20) + ".idx", incomingFolder + "-1/objects/pack/x",
		".branch.tmp1", viewFolder + "-1/objects/pack/x",
	} {
		path := v.path(name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		old := time.Now().Add(-2 * halfPackAge)
		if err := os.Chtimes(path, old, old); err != nil {
			t.Fatal(err)
		}
	}
	// Git names a pack first, then its index: a young one may be whole in a moment.
	young := v.path("objects/pack/pack-" + strings.Repeat("ef", 20) + ".pack")
	if err := os.WriteFile(young, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	runSync(t, v, night.Add(hour), whole(groups, documents("a", "b")))
	if err := os.Remove(young); err != nil {
		t.Errorf("a pack that git may be writing: %v", err)
	}
	checkRepository(t, v)
	left, err := filepath.Glob(v.path("objects/pack/*"))
	if err != nil || len(left) != 4 {
		t.Errorf("left: %v %v", left, err)
	}
	for _, name := range []string{incomingFolder + "-1", viewFolder + "-1", ".branch.tmp1"} {
		if _, err := os.Stat(v.path(name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOneStagingAtATime(t *testing.T) {
	v := newVault(t, nil)
	staging, err := v.Begin(t.Context(), port.Turn{Attempt: 1})
	if err != nil {
		t.Fatal(err)
	}
	var storage *port.StorageError
	if _, err := v.Begin(t.Context(), port.Turn{Attempt: 1}); !errors.As(err, &storage) {
		t.Errorf("a second staging: %v", err)
	}
	if err := errors.Join(staging.Close(), staging.Close()); err != nil {
		t.Error(err)
	}
	runSync(t, v, night, whole(groups, documents("a")))
}

// Damage is an error, and makes nothing worse.
func TestDamage(t *testing.T) {
	flip := func(pattern string, at int) func(*testing.T, *Vault) {
		return func(t *testing.T, v *Vault) {
			paths, err := filepath.Glob(v.path(pattern))
			if err != nil || len(paths) == 0 {
				t.Fatal(paths, err)
			}
			content, err := os.ReadFile(paths[0])
			if err != nil {
				t.Fatal(err)
			}
			content[len(content)+at] ^= 0xff
			if err := errors.Join(os.Chmod(paths[0], 0o600), os.WriteFile(paths[0], content, 0o600)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, test := range map[string]struct {
		damage  func(*testing.T, *Vault)
		storage bool
	}{
		"the pack":              {flip("objects/pack/*.pack", -60), false},
		"the index of the pack": {flip("objects/pack/*.idx", -1), false},
		"the branch names nothing": {func(t *testing.T, v *Vault) {
			if err := os.WriteFile(v.path("refs/heads/main"), []byte(strings.Repeat("ab", 20)+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, false},
		"no pack folder, but a file": {func(t *testing.T, v *Vault) {
			if err := errors.Join(os.RemoveAll(v.packDirectory()), os.WriteFile(v.packDirectory(), nil, 0o600)); err != nil {
				t.Fatal(err)
			}
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVault(t, nil)
			runSync(t, v, night, whole(groups, documents("a")))
			test.damage(t, v)
			head, _ := os.ReadFile(v.path("refs/heads/main"))
			staging, err := v.Begin(t.Context(), port.Turn{Attempt: 1})
			if err == nil {
				_, err = staging.Settle(groups, port.Reading{Outcome: complete, AcceptCollapse: true})
				if err == nil {
					_, err = staging.Commit(t.Context(), port.CommitInfo{Time: night})
				}
				if err := staging.Close(); err != nil {
					t.Error(err)
				}
			}
			var storage *port.StorageError
			if err == nil || errors.As(err, &storage) != test.storage {
				t.Errorf("got %v", err)
			}
			if now, _ := os.ReadFile(v.path("refs/heads/main")); !slices.Equal(now, head) {
				t.Error("the branch moved")
			}
		})
	}
}

func TestCommitted(t *testing.T) {
	v := newVault(t, nil)
	if got, err := v.Committed(t.Context(), "tenants/x/syncs/1"); got != nil || err != nil {
		t.Errorf("before the first: %v, %v", got, err)
	}
	first := runNamedSync(t, v, "tenants/x/syncs/first", night, whole(groups, documents("a")))
	for i := range committedDepth {
		runSync(t, v, night, whole(groups, documents(numbered(0, i+1)...)))
		if i == 5 {
			got, err := v.Committed(t.Context(), "tenants/x/syncs/first")
			if err != nil || got.GetCommit() != first.snapshot.GetCommit() || got.GetTree() != first.snapshot.GetTree() || !got.GetCreated() ||
				got.GetRef() != "refs/heads/main" || got.GetPushState().String() != "PUSH_STATE_NO_REMOTE" {
				t.Errorf("%v, %v", got, err)
			}
		}
	}
	for _, name := range []string{"tenants/x/syncs/first" /* too long ago */, "tenants/x/syncs/firs", "", "SUCCEEDED"} {
		if got, err := v.Committed(t.Context(), name); got != nil || err != nil {
			t.Errorf("%q: %v, %v", name, got, err)
		}
	}
	if got := git(t, v.config.Directory, "log", "-1", "--format=%(trailers:key=Status,valueonly)", "main"); strings.TrimSpace(got) != "SUCCEEDED" {
		t.Errorf("git reads the trailer %q", got)
	}
}

func TestOpenRefuses(t *testing.T) {
	for name, config := range map[string]Config{
		"no directory": {FingerprintKey: testKey}, "short key": {Directory: "x", FingerprintKey: []byte("short")},
		"branch":         {Directory: "x", FingerprintKey: testKey, Branch: "../x"},
		"author":         {Directory: "x", FingerprintKey: testKey, AuthorName: "a\nparent x", AuthorEmail: "x"},
		"author's email": {Directory: "x", FingerprintKey: testKey, AuthorName: "a", AuthorEmail: "x>"},
	} {
		if _, err := Open(config); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

// A repository that is begun is said, once: it may be one that was moved away.
func TestANewRepositoryIsSaid(t *testing.T) {
	var logged bytes.Buffer
	v := newVault(t, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&logged, nil)) })
	said := func(want int) {
		t.Helper()
		text := logged.String()
		if strings.Count(text, "a new one is begun") != want || strings.Count(text, "level=WARN") != want || strings.Count(text, "path="+v.config.Directory) != want {
			t.Errorf("want %d: %s", want, text)
		}
	}
	runSync(t, v, night, whole(groups, documents("a")))
	said(1)
	runSync(t, v, night.Add(hour), whole(groups, documents("a", "b")))
	said(1)
	if err := os.Rename(v.config.Directory, v.config.Directory+".away"); err != nil {
		t.Fatal(err)
	}
	runSync(t, v, night.Add(2*hour), whole(groups, documents("a")))
	said(2)
}
