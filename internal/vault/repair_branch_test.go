package vault

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/google/go-cmp/cmp"
)

// threeSyncs makes three commits, and returns them, the last one first.
func threeSyncs(t *testing.T, v *Vault) (commits []string) {
	t.Helper()
	for i, text := range []string{"first", "second", "third"} {
		s := runSync(t, v, night.Add(time.Duration(i)*hour), whole(groups, map[string]string{"a": textOf("a", text)}))
		commits = append([]string{s.snapshot.GetCommit()}, commits...)
	}
	return commits
}

func branchOf(t *testing.T, v *Vault) string { return git(t, v.config.Directory, "rev-parse", "main") }

// A branch that can be read and is older than what this machine noted goes forward to
// that; one that something else put in its place stays.
func TestRepairComparesTheBranchWithTheNotes(t *testing.T) {
	packed := func(t *testing.T, v *Vault, id string) {
		overwrite(t, v.path("refs/heads/main"), without)
		overwrite(t, v.path("packed-refs"), with("# pack-refs with: peeled fully-peeled sorted \n"+id+" refs/heads/main\n"))
	}
	t.Run("an old reference that git packed", func(t *testing.T) {
		v := newVault(t, nil)
		commits := threeSyncs(t, v)
		packed(t, v, commits[2])
		if said := apply(t, v); !strings.Contains(said, "is older than the last commit that this machine noted") || strings.Contains(said, "LOST") {
			t.Error(said)
		}
		if got := branchOf(t, v); got != commits[0] {
			t.Errorf("the branch is at %s", got)
		}
	})
	t.Run("an old file", func(t *testing.T) {
		v := newVault(t, nil)
		commits := threeSyncs(t, v)
		overwrite(t, v.path("refs/heads/main"), with(commits[1]+"\n"))
		apply(t, v)
		if got := branchOf(t, v); got != commits[0] {
			t.Errorf("the branch is at %s", got)
		}
	})
	t.Run("a commit that is not above it", func(t *testing.T) { // as when a remote had its way
		v := newVault(t, nil)
		commits := threeSyncs(t, v)
		tree := git(t, v.config.Directory, "rev-parse", "main~1^{tree}")
		other := git(t, v.config.Directory, "commit-tree", "-p", commits[2], "-m", "of another", tree)
		overwrite(t, v.path("refs/heads/main"), with(other+"\n"))
		if said := apply(t, v); said != "" || branchOf(t, v) != other {
			t.Errorf("%s, at %s", said, branchOf(t, v))
		}
	})
	t.Run("notes that are behind", func(t *testing.T) { // as when the branch followed a remote
		v := newVault(t, nil)
		commits := threeSyncs(t, v)
		overwrite(t, v.path(notesFile), with(`{"commit":"`+commits[2]+`"}`))
		if said := apply(t, v); said != "" || branchOf(t, v) != commits[0] {
			t.Errorf("%s, at %s", said, branchOf(t, v))
		}
	})
	t.Run("notes that are behind, and an old commit that is gone", func(t *testing.T) {
		v := newVault(t, nil)
		commits := threeSyncs(t, v)
		overwrite(t, v.path(notesFile), with(`{"commit":"`+commits[1]+`"}`))
		overwrite(t, onePackOf(t, v, commits[2]), without)
		if said := apply(t, v); !strings.Contains(said, "what was before it is lost") || strings.Contains(said, "this machine noted") {
			t.Error(said)
		}
	})
	t.Run("a commit that is gone", func(t *testing.T) {
		v := newVault(t, nil)
		commits := threeSyncs(t, v)
		packed(t, v, commits[1])
		overwrite(t, onePackOf(t, v, commits[0]), without)
		done, err := v.Repair(t.Context(), true)
		said, loss := saidOf(done)
		if err != nil || len(done.Left) > 0 || !loss || !strings.Contains(said, "the last commit that this machine noted, "+commits[0][:12]+", is not there") || branchOf(t, v) != commits[1] {
			t.Errorf("%v, %v: %s", done, err, said)
		}
	})
	t.Run("a commit between that is gone", func(t *testing.T) {
		v := newVault(t, nil)
		commits := threeSyncs(t, v)
		packed(t, v, commits[2])
		overwrite(t, onePackOf(t, v, commits[1]), without)
		done, err := v.Repair(t.Context(), true)
		said, loss := saidOf(done)
		if err != nil || len(done.Left) > 0 || !loss || !strings.Contains(said, "whether it is later than "+commits[2][:12]) || branchOf(t, v) != commits[2] {
			t.Errorf("%v, %v: %s", done, err, said)
		}
	})
}

// Where the branch does not say what the last commit was, and something is lost that may
// have been one, it is said, whatever the notes know: they may be behind.
func TestRepairSaysThatLaterCommitsMayBeLost(t *testing.T) {
	const lost = "later commits than"
	for name, test := range map[string]struct {
		damage func(t *testing.T, v *Vault, commits []string)
		says   bool
	}{
		"a damaged pack, and notes": {func(t *testing.T, v *Vault, commits []string) {
			damageObject(t, v, commits[0])
			overwrite(t, v.path(notesFile), with(`{"commit":"`+commits[1]+`"}`))
		}, true},
		"a pack that is gone, and notes": {func(t *testing.T, v *Vault, commits []string) {
			overwrite(t, onePackOf(t, v, commits[0]), without)
			overwrite(t, v.path(notesFile), with(`{"commit":"`+commits[1]+`"}`))
		}, true},
		"a pack that is gone, no notes": {func(t *testing.T, v *Vault, commits []string) {
			overwrite(t, onePackOf(t, v, commits[0]), without)
			overwrite(t, v.path(notesFile), without)
		}, true},
		"nothing else": {func(*testing.T, *Vault, []string) {}, false},
		"an index of what is there": {func(t *testing.T, v *Vault, commits []string) {
			index := strings.TrimSuffix(onePackOf(t, v, commits[0]), ".pack") + ".idx"
			content, err := os.ReadFile(index)
			if err != nil {
				t.Fatal(err)
			}
			overwrite(t, v.path("objects/pack/pack-"+strings.Repeat("ab", 20)+".idx"), with(string(content)))
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVault(t, nil)
			commits := threeSyncs(t, v)
			test.damage(t, v, commits)
			overwrite(t, v.path("refs/heads/main"), with(""))
			if said := apply(t, v); strings.Contains(said, lost) != test.says {
				t.Error(said)
			}
		})
	}
}

// What an index says that has no pack any more is kept.
func TestRepairKeepsAnIndexWithoutPack(t *testing.T) {
	v := newVault(t, nil)
	commits := threeSyncs(t, v)
	pack := onePackOf(t, v, commits[0])
	index, err := os.ReadFile(strings.TrimSuffix(pack, ".pack") + ".idx")
	if err != nil {
		t.Fatal(err)
	}
	overwrite(t, pack, without)
	apply(t, v)
	aside := asideOf(t, v)
	delete(aside, lossesFile)
	if diff := cmp.Diff(aside, map[string]string{"objects/pack/" + strings.TrimSuffix(filepath.Base(pack), ".pack") + ".idx": string(index)}); diff != "" {
		t.Error(diff)
	}
}

// A pack whose index says that a commit is there that is another object is no reason to
// end in disorder, nor to begin there, though nothing else seems to be newer.
func TestRepairOfAnIndexThatLies(t *testing.T) {
	for name, forget := range map[string]bool{"with notes": false, "without notes": true} {
		t.Run(name, func(t *testing.T) {
			v := newVault(t, nil)
			commits := threeSyncs(t, v)
			content := strings.ReplaceAll(git(t, v.config.Directory, "cat-file", "commit", commits[0]), strconv.FormatInt(night.Add(2*hour).Unix(), 10), strconv.FormatInt(night.Add(3*hour).Unix(), 10))
			w, err := newPackWriter(v.packDirectory())
			if err != nil {
				t.Fatal(err)
			}
			entry, err := deflaters.get().deflate(plumbing.CommitObject, []byte(content))
			if err != nil {
				t.Fatal(err)
			}
			lie := plumbing.NewHash(strings.Repeat("ab", 20))
			if err := w.append(lie, entry); err != nil {
				t.Fatal(err)
			}
			if _, err := w.finish(); err != nil {
				t.Fatal(err)
			}
			overwrite(t, v.path("refs/heads/main"), with(lie.String()+"\n"))
			if forget {
				overwrite(t, v.path(notesFile), without)
			}
			done, err := v.Repair(t.Context(), true)
			if err != nil || len(done.Left) > 0 || branchOf(t, v) != commits[0] {
				t.Errorf("%+v, %v", done, err)
			}
		})
	}
}
