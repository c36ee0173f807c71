package vault

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-git/go-git/v5/plumbing"

	"understudy.internal/internal/port"
)

// A folder and an index that are too large to hold are found and read from the
// pack, also when git packed them anew, as differences.
func TestLargeFolder(t *testing.T) {
	t.Parallel()
	v := newVault(t, nil)
	items := map[string]string{}
	for i := range 15_000 {
		items[fmt.Sprintf("%064d", i)] = `{}`
	}
	first := runSync(t, v, night, whole(groups, items))
	storage := v.keptOpen()
	tree, err := storage.EncodedObject(plumbing.AnyObject, plumbing.NewHash(git(t, v.config.Directory, "rev-parse", "main:entra/groups")))
	if err != nil {
		t.Fatal(err)
	}
	if _, streamed := tree.(*packedObject); !streamed || tree.Size() < largeObject || tree.Type() != plumbing.TreeObject {
		t.Errorf("the folder is a %T of %d bytes", tree, tree.Size())
	}
	if err := storage.Close(); err != nil {
		t.Error(err)
	}
	delete(items, fmt.Sprintf("%064d", 7))
	for i, repack := range []bool{false, true} {
		if repack {
			git(t, v.config.Directory, "repack", "-q", "-a", "-d", "-f")
		}
		second := runSync(t, v, night.Add(time.Duration(i+1)*time.Hour), whole(groups, items))
		if got := second.settled[groups.ID]; got.Items != len(items) || got.Removed != 1-i || got.Added+got.Modified != 0 {
			t.Errorf("sync %d: %+v", i+2, got)
		}
	}
	third := runSync(t, v, night.Add(3*time.Hour), ended(groups, incomplete, map[string]string{fmt.Sprintf("%064d", 7): `{}`}))
	if got := third.settled[groups.ID]; got.Items != 15_000 || got.Added != 1 {
		t.Errorf("%+v", got)
	}
	folder := func(commit string) string { return git(t, v.config.Directory, "rev-parse", commit+":entra/groups") }
	if folder(first.snapshot.GetCommit()) != folder("main") {
		t.Error("the folder is not what it was at first")
	}
	checkRepository(t, v)
}

// What is staged for nothing is not committed, and a staging that is given up
// leaves no file.
func TestScratchIsGone(t *testing.T) {
	v := newVault(t, nil)
	staging, err := v.Begin(t.Context(), port.Turn{Attempt: 1})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 4000 {
		if err := staging.Add(groups, port.Item{ID: fmt.Sprintf("%064d", i), JSON: []byte(`{}`)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := staging.Close(); err != nil {
		t.Error(err)
	}
	left, err := filepath.Glob(v.path(".scratch*"))
	if packs, _ := filepath.Glob(v.path("objects/pack/*")); err != nil || len(left)+len(packs) > 0 {
		t.Errorf("left behind: %v %v %v", left, packs, err)
	}
	if out := git(t, t.TempDir(), "-C", v.config.Directory, "count-objects"); out != "0 objects, 0 kilobytes" {
		t.Error(out)
	}
}
