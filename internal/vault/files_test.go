package vault

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A folder may have any name, also one that is a pattern.
func TestFolderThatLooksLikeAPattern(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "a[b]*")
	source := bareRemote(t)
	path := filepath.Join(filepath.Dir(source), "[x].git")
	if err := os.Rename(source, path); err != nil {
		t.Fatal(err)
	}
	v := newVault(t, func(c *Config) {
		c.Directory, c.Remote = filepath.Join(folder, "tenant.git"), &Remote{URL: path}
	})
	for i := range maxPacks + 2 {
		wantPushed(t, runSync(t, v, night, whole(groups, documents(numbered(0, i+1)...))))
	}
	if n := len(packsOf(t, v)); n > maxPacks || n == 0 {
		t.Errorf("%d packs: they are not merged", n)
	}
	storage := v.keptOpen()
	storage.openPacks()
	if len(storage.packs) == 0 {
		t.Error("the packs are not found")
	}
	if err := storage.Close(); err != nil {
		t.Fatal(err)
	}
	leave := func() []string {
		left := []string{viewFolder + "-1/x", "objects/pack/tmp_pack_1", incomingFolder + "-1/x", ".HEAD.tmp1"}
		for _, name := range left {
			overwrite(t, v.path(name), with("x"))
		}
		return left
	}
	gone := func(names []string) {
		t.Helper()
		for _, name := range names {
			if _, err := os.Stat(v.path(name)); err == nil {
				t.Errorf("%s is left", name)
			}
		}
	}
	left := leave()
	runSync(t, v, night.Add(hour), whole(groups, documents("a")).accepting())
	gone(left)
	left = leave()
	overwrite(t, v.path(checkpointFile), with("{"))
	for _, pack := range packsOf(t, v) {
		overwrite(t, pack, without)
	}
	apply(t, v) // fetches all from the remote
	gone(left)
	if got := itemsOf(files(t, v), groups); !cmp.Equal(got, []string{"a"}) {
		t.Errorf("the backup has %v", got)
	}
	if _, ok := asideOf(t, v)["objects/pack/tmp_pack_1"]; !ok {
		t.Error("the pack of a checkpoint is not put aside")
	}
}

func TestGlob(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "[a]")
	for _, name := range []string{"x.lock", "refs/heads/y.lock", "refs/heads/b/z.lock", "refs/heads/other"} {
		overwrite(t, filepath.Join(folder, name), with("x"))
	}
	for pattern, want := range map[string]string{
		"*.lock": "/x.lock", "refs/heads/*.lock": "/refs/heads/y.lock", "refs/heads/*/*.lock": "/refs/heads/b/z.lock",
		"refs/*": "/refs/heads", "none/*": "", "x.lock/*": "",
	} {
		got, err := glob(folder, pattern)
		if text := strings.ReplaceAll(strings.Join(got, " "), folder, ""); err != nil || text != want {
			t.Errorf("%s: %q, %v", pattern, text, err)
		}
	}
	if _, err := glob(folder, "["); err == nil {
		t.Error("a bad pattern is none")
	}
}
