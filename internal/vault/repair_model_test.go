package vault

import (
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// snapshotOf is a commit as the model knows it: its files, and the objects that are
// needed to read each of them and each folder, by path; the empty path is the whole tree.
type snapshotOf struct {
	files   map[string]plumbing.Hash
	folders map[string]plumbing.Hash
}

func snapshotIn(t *rapid.T, storage *store, commit *object.Commit) snapshotOf {
	s := snapshotOf{files: map[string]plumbing.Hash{}, folders: map[string]plumbing.Hash{"": commit.TreeHash}}
	var read func(folder string, id plumbing.Hash)
	read = func(folder string, id plumbing.Hash) {
		tree, err := object.GetTree(storage, id)
		if err != nil {
			t.Fatal(err)
		}
		for name, entry := range entriesOf(tree) {
			if at := path.Join(folder, name); entry.isFolder() {
				s.folders[at] = entry.id
				read(at, entry.id)
			} else {
				s.files[at] = entry.id
			}
		}
	}
	read("", commit.TreeHash)
	return s
}

// mended returns what the files of a commit are to be when objects are damaged, and the
// commit before was mended to have others.
func (s snapshotOf) mended(damaged map[plumbing.Hash]bool, before map[string]plumbing.Hash) map[string]plumbing.Hash {
	want := map[string]plumbing.Hash{}
	hidden := func(file string) (folder string, hidden bool) {
		for _, folder := range s.above(file) {
			if damaged[s.folders[folder]] {
				return folder, true
			}
		}
		return "", false
	}
	for file, id := range s.files {
		if _, no := hidden(file); no {
			continue
		}
		if !damaged[id] {
			want[file] = id
		} else if old, ok := before[file]; ok {
			want[file] = old
		}
	}
	for file, id := range before {
		if _, no := hidden(file); no {
			want[file] = id
		}
	}
	return want
}

// above returns the folders of a commit that a path is in, from the top.
func (s snapshotOf) above(file string) []string {
	folders := []string{""}
	for i := range file {
		if _, ok := s.folders[file[:i]]; ok && i > 0 && file[i] == '/' {
			folders = append(folders, file[:i])
		}
	}
	return folders
}

// Whatever files and folders of whatever commits are damaged: each commit is mended from
// the one before, nothing that can be read is lost, and the repository is whole.
func TestRepairModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		folder, err := os.MkdirTemp("", "understudy-model-")
		if err != nil {
			rt.Fatal(err)
		}
		defer os.RemoveAll(folder)
		v := newVault(t, func(c *Config) { c.Directory = folder + "/tenant.git" })
		commits := rapid.IntRange(2, 5).Draw(rt, "commits")
		for i := range commits {
			items := func(name string) map[string]string {
				items := map[string]string{}
				for id, text := range rapid.MapOfN(rapid.SampledFrom([]string{"a", "b", "c"}), rapid.SampledFrom([]string{"x", "y", "z"}), 1, 3).Draw(rt, name) {
					items[id] = textOf(id, text)
				}
				return items
			}
			readings := []typeReading{whole(groups, items("groups")).accepting()}
			for _, other := range []typeReading{whole(apps, items("apps")).accepting(), whole(scripts, items("scripts")).accepting()} {
				if rapid.Bool().Draw(rt, "read") {
					readings = append(readings, other)
				}
			}
			runSync(t, v, night.Add(time.Duration(i)*hour), readings...)
		}
		history, snapshots := historyOf(rt, v)
		var objects []plumbing.Hash
		known := map[plumbing.Hash]bool{}
		for _, s := range snapshots {
			for _, ids := range []map[string]plumbing.Hash{s.folders, s.files} {
				for _, at := range sortedKeys(ids) {
					if id := ids[at]; !known[id] && !strings.HasSuffix(at, coverageFile) {
						known[id] = true
						objects = append(objects, id)
					}
				}
			}
		}
		damaged := map[plumbing.Hash]bool{}
		for _, id := range rapid.SliceOfNDistinct(rapid.SampledFrom(objects), 1, 4, rapid.ID).Draw(rt, "damaged") {
			damaged[id] = true
			damageObject(t, v, id.String())
		}
		done, err := v.Repair(t.Context(), true)
		if err != nil || len(done.Left) > 0 {
			rt.Fatalf("%+v, %v", done, err)
		}
		after, now := historyOf(rt, v)
		if n := len(after) - len(history); n < 0 || n > 1 {
			rt.Fatalf("there were %d commits, and are %d", len(history), len(after))
		}
		before := map[string]plumbing.Hash{}
		for i, s := range snapshots {
			want := s.mended(damaged, before)
			if diff := cmp.Diff(idsOf(want), idsOf(now[i].files)); diff != "" {
				rt.Fatalf("commit %d of %d: %s", i+1, len(snapshots), diff)
			}
			before = want
		}
		if len(after) > len(history) { // what it says of the coverage is another test's
			last := now[len(now)-1].files
			delete(last, coverageFile)
			delete(before, coverageFile)
			if diff := cmp.Diff(idsOf(before), idsOf(last)); diff != "" {
				rt.Fatalf("the last commit: %s", diff)
			}
		}
		checkRepository(t, v)
	})
}

func idsOf(files map[string]plumbing.Hash) map[string]string {
	out := map[string]string{}
	for file, id := range files {
		out[file] = id.String()
	}
	return out
}

// historyOf returns the commits of the branch, the first one first.
func historyOf(t *rapid.T, v *Vault) (commits []*object.Commit, snapshots []snapshotOf) {
	storage := v.keptOpen()
	defer storage.Close()
	commit, err := v.tip(storage)
	for ; err == nil; commit, err = commit.Parent(0) {
		commits = append(commits, commit)
		snapshots = append(snapshots, snapshotIn(t, storage, commit))
		if commit.NumParents() == 0 {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(commits)
	slices.Reverse(snapshots)
	return commits, snapshots
}
