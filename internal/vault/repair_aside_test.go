package vault

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/google/go-cmp/cmp"
)

// What one repair puts aside the next one does not put its own in the place of.
func TestRepairPutsEachTimeAside(t *testing.T) {
	v := newVault(t, nil)
	v.now = func() time.Time { return night }
	runSync(t, v, night, whole(groups, documents("a")))
	for _, content := range []string{"first", "second"} {
		overwrite(t, v.path("refs/tags/x"), with(content))
		apply(t, v)
	}
	want := map[string]string{"refs/tags/x": "first", "refs/tags/x (2)": "second"}
	if diff := cmp.Diff(want, asideOf(t, v)); diff != "" {
		t.Error(diff)
	}
	folders, err := filepath.Glob(v.path(damagedFolder + "/*"))
	if want := []string{v.path(damagedFolder + "/20261120T020000Z-1"), v.path(damagedFolder + "/20261120T020000Z-2")}; err != nil || !cmp.Equal(folders, want) {
		t.Errorf("%v, %v", folders, err)
	}
}

// A checkpoint that cannot be read is kept, with what may be its pack: nobody knows which
// one it is.
func TestRepairKeepsADamagedCheckpoint(t *testing.T) {
	v := newVault(t, nil)
	runSync(t, v, night, whole(groups, documents("a")))
	s := begin(t, v, theSync)
	read(t, s, night, whole(groups, documents("a", "b")))
	if err := s.Close(); err != nil { // keeps a checkpoint
		t.Fatal(err)
	}
	packs, err := filepath.Glob(filepath.Join(v.packDirectory(), temporaryPack+"*"))
	if err != nil || len(packs) != 1 {
		t.Fatal(packs, err)
	}
	pack, err := os.ReadFile(packs[0])
	if err != nil {
		t.Fatal(err)
	}
	overwrite(t, v.path(checkpointFile), with("{"))
	if said := apply(t, v); !strings.Contains(said, "the checkpoint "+checkpointFile+" is damaged") || strings.Contains(said, "was left by") {
		t.Error(said)
	}
	want := map[string]string{checkpointFile: "{", "objects/pack/" + filepath.Base(packs[0]): string(pack)}
	if diff := cmp.Diff(want, asideOf(t, v)); diff != "" {
		t.Error(diff)
	}
}

// A damaged pack of which everything can be read is the same pack when it is written
// anew: then that one stays.
func TestRepairOfAPackWithoutItsEnd(t *testing.T) {
	v := newVault(t, nil)
	runSync(t, v, night, whole(groups, documents("a")))
	w, err := newPackWriter(v.packDirectory())
	if err != nil {
		t.Fatal(err)
	}
	content := []byte("of somebody else")
	id := objectID(plumbing.BlobObject, content)
	if err := w.put(plumbing.BlobObject, id, content); err != nil {
		t.Fatal(err)
	}
	path, err := w.finish()
	if err != nil {
		t.Fatal(err)
	}
	overwrite(t, path, func(content []byte) []byte { content[len(content)-1] ^= 0xff; return content })
	apply(t, v)
	if got := git(t, v.config.Directory, "cat-file", "blob", id.String()); got != string(content) {
		t.Errorf("the object is %q", got)
	}
}
