package vault

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"understudy.internal/internal/port"
)

func packsOf(t testing.TB, v *Vault) []string {
	t.Helper()
	paths, err := glob(v.packDirectory(), "*.pack")
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

func TestPacksAreMerged(t *testing.T) {
	v := newVault(t, nil)
	var commits []string
	for i := range 4 * maxPacks {
		s := runSync(t, v, night, whole(groups, documents(numbered(0, 20+i)...)))
		commits = append(commits, s.snapshot.GetCommit())
		if n := len(packsOf(t, v)); n > maxPacks+1 {
			t.Fatalf("%d packs after %d commits", n, i+1)
		}
	}
	checkRepository(t, v)
	for _, commit := range commits {
		if got := len(itemsOf(filesNamed(t, v, commit), groups)); got < 20 {
			t.Errorf("%s has %d items", commit, got)
		}
	}
	idx, err := filepath.Glob(filepath.Join(v.packDirectory(), "*.idx"))
	if err != nil || len(idx) != len(packsOf(t, v)) {
		t.Errorf("%d indexes, %d packs, %v", len(idx), len(packsOf(t, v)), err)
	}
}

// filesNamed returns the names of the files of a commit, without content.
func filesNamed(t testing.TB, v *Vault, commit string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, name := range splitLines(git(t, v.config.Directory, "ls-tree", "-r", "--name-only", commit)) {
		all[name] = ""
	}
	return all
}

// After a merge each pack is at least twice as large as the next smaller one.
func TestSplit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sizes := rapid.SliceOfN(rapid.Int64Range(1, 1<<20), 1, 30).Draw(t, "sizes")
		slices.Sort(sizes)
		var packs []*pack
		for _, size := range sizes {
			packs = append(packs, &pack{size: size})
		}
		n := split(packs)
		if n == 1 {
			t.Fatalf("one pack is merged with nothing: %v", sizes)
		}
		total := int64(0)
		for _, size := range sizes[:n] {
			total += size
		}
		for _, size := range sizes[n:] {
			if total > 0 && size < growth*total {
				t.Fatalf("%d of %v: %d follows %d", n, sizes, size, total)
			}
			total = size
		}
	})
}

// While somebody reads, no pack is taken away under his hands.
func TestMergeWaitsForReaders(t *testing.T) {
	v := newVault(t, nil)
	var last string
	for i := range maxPacks {
		last = runSync(t, v, night, whole(groups, documents(numbered(0, i+1)...))).snapshot.GetCommit()
	}
	before := packsOf(t, v)
	for _, err := range v.Changes(t.Context(), last, "") {
		if err != nil {
			t.Fatal(err)
		}
		runSync(t, v, night, whole(groups, documents(numbered(0, 50)...)))
		for _, path := range before {
			if _, err := os.Stat(path); err != nil {
				t.Errorf("gone: %v", err)
			}
		}
	}
	runSync(t, v, night, whole(groups, documents(numbered(0, 51)...)))
	if n := len(packsOf(t, v)); n > maxPacks {
		t.Errorf("%d packs", n)
	}
	checkRepository(t, v)
}

// A pack that is damaged is not merged into another, where nobody would see it.
func TestMergeRefusesDamage(t *testing.T) {
	v := newVault(t, nil)
	for i := range maxPacks {
		runSync(t, v, night, whole(groups, documents(numbered(0, i+1)...)))
	}
	victim := packsOf(t, v)[3]
	content, err := os.ReadFile(victim)
	if err != nil {
		t.Fatal(err)
	}
	content[packHeaderSize+9] ^= 0xff
	if err := errors.Join(os.Chmod(victim, 0o600), os.WriteFile(victim, content, 0o600)); err != nil {
		t.Fatal(err)
	}
	runSync(t, v, night, whole(scripts, documents("s")))
	if err := v.mergePacks(); err == nil {
		t.Error("merged")
	}
	if _, err := os.Stat(victim); err != nil {
		t.Error(err)
	}
}

// Content goes to the disk and not into memory.
func TestMemoryDoesNotGrowWithContent(t *testing.T) {
	v := newVault(t, nil)
	staging, err := v.Begin(t.Context(), port.Turn{Attempt: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer staging.Close()
	const items, size = 64, 1 << 20
	begin := liveHeap()
	for i := range items {
		if err := staging.Add(groups, port.Item{ID: fmt.Sprint(i), JSON: randomDocument(uint64(i), size)}); err != nil {
			t.Fatal(err)
		}
	}
	if grown := liveHeap() - begin; grown > items*size/8 {
		t.Errorf("%d bytes for %d", grown, items*size)
	}
	if _, err := staging.Settle(groups, port.Reading{Outcome: complete, Time: night}); err != nil {
		t.Fatal(err)
	}
	if _, err := staging.Commit(t.Context(), port.CommitInfo{Time: night}); err != nil {
		t.Fatal(err)
	}
	if grown := liveHeap() - begin; grown > items*size/8 {
		t.Errorf("%d bytes for %d after the commit", grown, items*size)
	}
	checkRepository(t, v)
}
