package vault

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/google/go-cmp/cmp"
)

// loseMany makes commits of a folder in which so many files cannot be read, and one is
// new each time. The first commit has a version of each that can be.
func loseMany(t testing.TB, v *Vault, files, commits int) (tips []plumbing.Hash) {
	t.Helper()
	write := func(input string, arguments ...string) string {
		out, err := tryGit(t, v.config.Directory, input, arguments...)
		if err != nil {
			t.Fatal(out, err)
		}
		return strings.TrimSpace(out)
	}
	sound := write("sound", "hash-object", "-w", "--stdin")
	var before, after strings.Builder
	for i := range files {
		sum := sha1.Sum(fmt.Appendf(nil, "lost %d", i))
		fmt.Fprintf(&before, "100644 blob %s\tfile-%05d\n", sound, i)
		fmt.Fprintf(&after, "100644 blob %s\tfile-%05d\n", hex.EncodeToString(sum[:]), i)
	}
	tip := git(t, v.config.Directory, "rev-parse", "main")
	for i := range commits {
		list := before.String()
		if i > 0 {
			list = after.String() + fmt.Sprintf("100644 blob %s\tnew-%05d\n", sound, i)
		}
		folder := write(list, "mktree", "--missing")
		root := write(git(t, v.config.Directory, "ls-tree", "main")+"\n040000 tree "+folder+"\tmany\n", "mktree", "--missing")
		tip = write("", "commit-tree", "-p", tip, "-m", "by hand", root)
		tips = append(tips, plumbing.NewHash(tip))
	}
	git(t, v.config.Directory, "update-ref", "refs/heads/main", tip)
	return tips
}

// Many files that are lost in many commits do not make a repair large: the commits share
// what they say of them.
func TestRepairOfManyFilesInManyCommits(t *testing.T) {
	const files, commits = 200, 12
	v := newVault(t, nil)
	runSync(t, v, night, whole(groups, documents("a")))
	tips := loseMany(t, v, files, commits)
	l := remade(t, v)
	for i := 2; i < commits; i++ {
		before, now := l.commits[tips[i-1]].below["many"], l.commits[tips[i]].below["many"]
		if len(now.kept) != files || now == before || &now.kept[0] != &before.kept[0] {
			t.Errorf("commit %d has a list of its own", i)
		}
	}
	apply(t, v)
	message := git(t, v.config.Directory, "log", "-1", "--format=%B", "main")
	if !strings.Contains(message, "200 files could not be read") || !strings.Contains(message, "many/file-00049: as it was ") || !strings.Contains(message, "and 150 more") {
		t.Error(message)
	}
}

// remade makes the commits of a repository again, and writes nothing into it.
func remade(t testing.TB, v *Vault) *leaver {
	t.Helper()
	pack, err := newPackWriter(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer pack.abort()
	storage := v.storage()
	tip, err := v.branch(storage)
	if err != nil {
		t.Fatal(err)
	}
	w := newWalk(t.Context(), storage)
	commits, _ := w.all(tip)
	l := newLeaver(w, pack)
	for _, commit := range commits {
		if err := l.remake(commit, nil); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// Of which time a file is, among many, is found without looking at all of them.
func TestTimeOfOneOfMany(t *testing.T) {
	took := func(files int) time.Duration {
		lost := &madeTree{}
		for i := range files {
			lost.kept = append(lost.kept, fmt.Sprintf("file-%07d", i))
		}
		first := &madeCommit{madeTree: &madeTree{}, when: night}
		last := &madeCommit{madeTree: &madeTree{below: map[string]*madeTree{"many": lost}}, when: night.Add(hour), first: first}
		best := time.Hour
		for range 5 {
			began := time.Now()
			for i := range 1000 {
				if got := last.timeOf("many/" + lost.kept[i*files/1000]); !got.Equal(night) {
					t.Fatalf("it is of %v", got)
				}
			}
			best = min(best, time.Since(began))
		}
		return best
	}
	few, many := took(1000), took(128_000)
	if many > 30*few {
		t.Errorf("with 128 times as many files it takes %v instead of %v", many, few)
	}
}

func TestWhatBecameOfATree(t *testing.T) {
	made := &madeTree{}
	below := &madeTree{out: []string{"z"}, kept: []string{"b"}}
	made.take("folder", below)
	made.take("kept", &madeTree{state: isKept})
	made.take("out", &madeTree{state: isOut})
	made.take("read", &madeTree{})
	said := map[string]treeState{}
	made.each("", func(path string, state treeState) { said[path] = state })
	if diff := cmp.Diff(map[string]treeState{"folder/b": isKept, "folder/z": isOut, "kept": isKept, "out": isOut}, said); diff != "" {
		t.Error(diff)
	}
	for path, want := range map[string]bool{
		"folder/b": true, "kept": true, "kept/x": true, "folder/b/c": true,
		"": false, "folder": false, "folder/z": false, "folder/bb": false, "out": false, "out/x": false, "read": false, "kep": false, "b": false,
	} {
		if got := made.keeps(path); got != want {
			t.Errorf("%q is kept: %v", path, got)
		}
	}
	mixed := &madeTree{}
	for _, name := range []string{"a-b", "a.x", "a"} { // the order of a tree where a is a folder
		mixed.take(name, &madeTree{state: isKept})
	}
	mixed.share(nil)
	for _, name := range []string{"a-b", "a.x", "a"} {
		if !mixed.keeps(name) {
			t.Errorf("%s is not kept", name)
		}
	}
	whole := &madeTree{state: isKept}
	if !whole.keeps("") || !whole.keeps("x/y") {
		t.Error("what is kept as a whole is not")
	}
}

// BenchmarkRepairOfManyFiles is a repair of a history in which many files are lost.
func BenchmarkRepairOfManyFiles(b *testing.B) {
	v := newVault(b, nil)
	runSync(b, v, night, whole(groups, documents("a")))
	loseMany(b, v, 4000, 80)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Repair(b.Context(), false); err != nil {
			b.Fatal(err)
		}
	}
}
