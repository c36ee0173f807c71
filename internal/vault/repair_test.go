package vault

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/google/go-cmp/cmp"

	"understudy.internal/internal/port"
)

// contentOf returns what is in a folder: path to a hash of the content.
func contentOf(t *testing.T, folder string) map[string]string {
	t.Helper()
	content := map[string]string{}
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || entry.Name() == lockFile {
			return err
		}
		text, err := os.ReadFile(path)
		sum := sha256.Sum256(text)
		content[strings.TrimPrefix(path, folder)] = hex.EncodeToString(sum[:6])
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// overwrite writes a file of a repository, whatever its mode; nil removes it.
func overwrite(t *testing.T, path string, change func([]byte) []byte) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	if content = change(content); content == nil {
		return
	}
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, content, 0o600)); err != nil {
		t.Fatal(err)
	}
}

func with(content string) func([]byte) []byte { return func([]byte) []byte { return []byte(content) } }
func without([]byte) []byte                   { return nil }
func half(content []byte) []byte              { return content[:len(content)/2] }

// onePackOf returns the pack that has an object.
func onePackOf(t *testing.T, v *Vault, object string) string {
	t.Helper()
	id := git(t, v.config.Directory, "rev-parse", object)
	for _, path := range packsOf(t, v) {
		if strings.Contains(git(t, v.config.Directory, "verify-pack", "-v", path), id) {
			return path
		}
	}
	t.Fatalf("%s is in no pack", object)
	return ""
}

// damageObject flips a byte in an object.
func damageObject(t *testing.T, v *Vault, object string) {
	t.Helper()
	id := plumbing.NewHash(git(t, v.config.Directory, "rev-parse", object))
	path := onePackOf(t, v, object)
	p, err := openPack(path)
	if err != nil {
		t.Fatal(err)
	}
	offset, err := p.index.FindOffset(id)
	if err != nil {
		t.Fatal(err)
	}
	end := p.offsets[slices.Index(p.offsets, offset)+1]
	if err := p.file.Close(); err != nil {
		t.Fatal(err)
	}
	overwrite(t, path, func(content []byte) []byte { content[(offset+end)/2] ^= 0xff; return content })
}

// Every kind of damage: a look changes nothing, and what is mended is whole for git and
// goes on; what is lost is named, and nothing else is.
func TestRepair(t *testing.T) {
	branch := "refs/heads/main"
	file := func(name string, change func([]byte) []byte) func(*testing.T, *Vault) {
		return func(t *testing.T, v *Vault) { overwrite(t, v.path(name), change) }
	}
	pack := func(ending, object string, change func([]byte) []byte) func(*testing.T, *Vault) {
		return func(t *testing.T, v *Vault) {
			overwrite(t, strings.TrimSuffix(onePackOf(t, v, object), ".pack")+ending, change)
		}
	}
	for name, test := range map[string]struct {
		damage func(*testing.T, *Vault)
		says   []string
		// lost are the files that the backup does not have any more.
		lost []string
		// back says that the branch is at the commit before the last.
		back bool
	}{
		"nothing":              {damage: func(*testing.T, *Vault) {}},
		"an empty branch":      {damage: file(branch, with("")), says: []string{"the branch main is empty or damaged", "let it begin at"}},
		"a branch of zeros":    {damage: file(branch, with(strings.Repeat("\x00", 41))), says: []string{"the branch main is empty or damaged"}},
		"no branch":            {damage: file(branch, without), says: []string{"the branch main is missing"}},
		"a branch of nothing":  {damage: file(branch, with(strings.Repeat("ab", 20)+"\n")), says: []string{"names the commit abababababab"}},
		"a branch that is old": {damage: func(t *testing.T, v *Vault) { file(branch, with(""))(t, v); file(notesFile, without)(t, v) }, says: []string{"let it begin at"}},
		"notes that are behind": {damage: func(t *testing.T, v *Vault) {
			file(notesFile, with(`{"commit":"`+git(t, v.config.Directory, "rev-parse", "main~1")+`"}`))(t, v)
			file(branch, with(""))(t, v)
		}, says: []string{"let it begin at"}},
		"notes of nothing": {damage: file(notesFile, with("")), says: []string{"understudy-notes.json cannot be read"}},
		"no index":         {damage: pack(".idx", "main", without), says: []string{"the index of objects/pack/pack-", "make it anew"}},
		"a damaged index":  {damage: pack(".idx", "main", half), says: []string{"the index of objects/pack/pack-"}},
		"the index of another": {damage: func(t *testing.T, v *Vault) {
			other, _ := os.ReadFile(strings.TrimSuffix(onePackOf(t, v, "main~1"), "pack") + "idx")
			pack(".idx", "main", with(string(other)))(t, v)
		}, says: []string{"the index of objects/pack/pack-"}},
		"an index without pack": {damage: file("objects/pack/pack-"+strings.Repeat("ab", 20)+".idx", with("x")), says: []string{"the index of a pack that is not there"}},
		"a pack of nothing":     {damage: file("objects/pack/pack-"+strings.Repeat("ab", 20)+".pack", with("")), says: []string{"is damaged: 0 of an unknown number"}},
		"leftovers": {damage: func(t *testing.T, v *Vault) {
			for _, name := range []string{branch + ".lock", "HEAD.lock", "objects/pack/tmp_pack_1", ".branch.tmp1", incomingFolder + "-1/objects/pack/x"} {
				file(name, with("x"))(t, v)
			}
		}, says: []string{"main.lock was left", "HEAD.lock was left", "tmp_pack_1 was left"}},
		"an empty configuration": {damage: file("config", with("")), says: []string{"the file config is missing, empty or damaged"}},
		"an empty HEAD":          {damage: file("HEAD", with("")), says: []string{"HEAD does not name the branch"}},
		"no folders": {damage: func(t *testing.T, v *Vault) {
			if err := os.RemoveAll(v.path("refs")); err != nil {
				t.Fatal(err)
			}
		}, says: []string{"the folder refs/heads is missing", "the branch main is missing"}},
		"an empty loose object":   {damage: file("objects/ab/"+strings.Repeat("cd", 19), with("")), says: []string{"is damaged"}},
		"an empty tag":            {damage: file("refs/tags/x", with("")), says: []string{"refs/tags/x is empty or damaged"}},
		"packed references":       {damage: file("packed-refs", with("\x00\x00")), says: []string{"packed-refs is damaged"}},
		"a file is damaged":       {damage: func(t *testing.T, v *Vault) { damageObject(t, v, "main:entra/groups/b.json") }, says: []string{"entra/groups/b.json cannot be read", "is damaged: 5 of 6"}, lost: []string{"entra/groups/b.json"}},
		"a folder is damaged":     {damage: func(t *testing.T, v *Vault) { damageObject(t, v, "main:entra/groups") }, says: []string{"entra/groups cannot be read"}, lost: []string{"entra/groups/_index.json", "entra/groups/a.json", "entra/groups/b.json"}},
		"an index is damaged":     {damage: func(t *testing.T, v *Vault) { damageObject(t, v, "main:entra/groups/_index.json") }, says: []string{"entra/groups/_index.json cannot be read"}, lost: []string{"entra/groups/_index.json"}},
		"the coverage is damaged": {damage: func(t *testing.T, v *Vault) { damageObject(t, v, "main~1:coverage.json") }, says: []string{"coverage.json cannot be read", "files of 1 older commit cannot"}, lost: []string{"coverage.json"}},
		"the tree is damaged":     {damage: func(t *testing.T, v *Vault) { damageObject(t, v, "main^{tree}") }, says: []string{"the whole tree cannot be read"}, lost: []string{"*"}},
		"no branch, a damaged file": {damage: func(t *testing.T, v *Vault) {
			damageObject(t, v, "main:entra/groups/b.json")
			file(branch, with(""))(t, v)
		}, says: []string{"the branch main is empty", "entra/groups/b.json cannot be read"}, lost: []string{"entra/groups/b.json"}},
		"no branch, no notes, a damaged file": {damage: func(t *testing.T, v *Vault) {
			damageObject(t, v, "main:entra/groups/b.json")
			file(branch, without)(t, v)
			file(notesFile, without)(t, v)
		}, says: []string{"the branch main is missing", "entra/groups/b.json cannot be read", "later commits than"}, lost: []string{"entra/groups/b.json"}},
		"no branch, a damaged folder": {damage: func(t *testing.T, v *Vault) {
			damageObject(t, v, "main:entra/groups")
			file(branch, with(""))(t, v)
		}, says: []string{"entra/groups cannot be read"}, lost: []string{"entra/groups/_index.json", "entra/groups/a.json", "entra/groups/b.json"}},
		"no branch, a damaged tree": {damage: func(t *testing.T, v *Vault) {
			damageObject(t, v, "main^{tree}")
			file(branch, with(""))(t, v)
		}, says: []string{"or its tree, cannot be read, and no copy was found"}, back: true},
		"no branch, a damaged commit": {damage: func(t *testing.T, v *Vault) {
			damageObject(t, v, "main")
			file(branch, with(""))(t, v)
		}, says: []string{"or its tree, cannot be read, and no copy was found: leave it out"}, back: true},
		"the commit is damaged": {damage: func(t *testing.T, v *Vault) { damageObject(t, v, "main") }, says: []string{"names the commit", "let it begin at"}, back: true},
		"an old commit":         {damage: func(t *testing.T, v *Vault) { damageObject(t, v, "main~1") }, says: []string{"what was before it is lost"}},
		"an old file":           {damage: func(t *testing.T, v *Vault) { damageObject(t, v, "main~1:intune/scripts/s.json") }, says: []string{"intune/scripts/s.json cannot be read", "older"}, lost: []string{"intune/scripts/s.json"}},
		"half the last pack":    {damage: pack(".pack", "main", half), says: []string{"is damaged"}, lost: nil, back: true},
		"no last pack":          {damage: pack(".pack", "main", without), says: []string{"names the commit"}, back: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newVault(t, nil)
			runSync(t, v, night, whole(groups, documents("a")), whole(scripts, documents("s")))
			before := files(t, v)
			runSync(t, v, night.Add(hour), whole(groups, map[string]string{"a": `{"id":"a"}`, "b": `{"id":"b","text":"` + strings.Repeat("of some length, ", 20) + `"}`}))
			want := files(t, v)
			if test.back {
				want = before
			}
			test.damage(t, v)
			damaged := contentOf(t, v.config.Directory)

			looked, err := v.Repair(t.Context(), false)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(damaged, contentOf(t, v.config.Directory)); diff != "" {
				t.Fatalf("a look changed something: %s", diff)
			}
			done, err := v.Repair(t.Context(), true)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(looked.Faults, done.Faults); diff != "" {
				t.Errorf("it did something else than it said: %s", diff)
			}
			var said []string
			loss := false
			for _, fault := range done.Faults {
				said = append(said, fault.What+": "+fault.Remedy)
				loss = loss || fault.Loss
			}
			text := strings.Join(said, "\n")
			for _, part := range test.says {
				if !strings.Contains(text, part) {
					t.Errorf("it does not say %q:\n%s", part, text)
				}
			}
			if len(test.says) == 0 && text != "" {
				t.Error(text)
			}
			if len(done.Left) > 0 {
				t.Errorf("left: %v", done.Left)
			}
			if (test.lost != nil || test.back) && !loss {
				t.Errorf("it does not say that something is lost:\n%s", text)
			}
			checkRepository(t, v)
			now := map[string]string{}
			if git(t, v.config.Directory, "ls-tree", "-r", "main") != "" {
				now = files(t, v)
			}
			for path := range want {
				if slices.Contains(test.lost, path) || slices.Equal(test.lost, []string{"*"}) {
					delete(want, path)
				}
			}
			if len(test.lost) > 0 && !slices.Contains(test.lost, coverageFile) {
				for _, path := range test.lost {
					id, _, _ := strings.Cut(strings.TrimPrefix(path, "entra/"), "/")
					if path != "*" && !strings.HasPrefix(path, "intune/") && coverageOf(t, v, groups).State != stateStale {
						t.Errorf("%s is called %s", id, coverageOf(t, v, groups).State)
					}
				}
				delete(want, coverageFile)
				delete(now, coverageFile)
			}
			if diff := cmp.Diff(want, now); diff != "" && name != "half the last pack" {
				t.Errorf("the backup: %s", diff)
			}
			// The next sync works, and brings everything back.
			s := runSync(t, v, time.Now(), whole(groups, documents("a", "b", "c")), whole(scripts, documents("s")))
			if s.settled[groups.ID].Items != 3 || itemsOf(files(t, v), groups) == nil {
				t.Errorf("%+v", s.settled[groups.ID])
			}
			checkRepository(t, v)
			if again, err := v.Repair(t.Context(), false); err != nil || len(again.Faults) > 0 {
				t.Errorf("%+v, %v", again, err)
			}
		})
	}
}

// What is lost here and is on the remote comes back.
func TestRepairFromTheRemote(t *testing.T) {
	for name, damage := range map[string]func(*testing.T, *Vault){
		"a file":      func(t *testing.T, v *Vault) { damageObject(t, v, "main:entra/groups/a.json") },
		"a tree":      func(t *testing.T, v *Vault) { damageObject(t, v, "main^{tree}") },
		"the commit":  func(t *testing.T, v *Vault) { damageObject(t, v, "main") },
		"an old file": func(t *testing.T, v *Vault) { damageObject(t, v, "main~1:intune/scripts/s.json") },
		"all packs": func(t *testing.T, v *Vault) {
			for _, path := range packsOf(t, v) {
				overwrite(t, path, without)
			}
		},
		"an empty branch and a damaged file": func(t *testing.T, v *Vault) {
			damageObject(t, v, "main:entra/groups/b.json")
			overwrite(t, v.path("refs/heads/main"), with(""))
		},
		"an empty branch and a damaged tree": func(t *testing.T, v *Vault) {
			damageObject(t, v, "main^{tree}")
			overwrite(t, v.path("refs/heads/main"), with(""))
		},
		"an empty branch, no notes, a damaged commit": func(t *testing.T, v *Vault) {
			damageObject(t, v, "main")
			overwrite(t, v.path("refs/heads/main"), with(""))
			overwrite(t, v.path(notesFile), without)
		},
		"an empty branch and a damaged commit": func(t *testing.T, v *Vault) {
			damageObject(t, v, "main")
			overwrite(t, v.path("refs/heads/main"), with(""))
		},
		"an empty branch and no packs": func(t *testing.T, v *Vault) {
			overwrite(t, v.path("refs/heads/main"), with(""))
			if err := os.RemoveAll(v.path("objects")); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := bareRemote(t)
			v, _ := remoteVault(t, Remote{URL: path})
			runSync(t, v, night, whole(groups, documents("a")), whole(scripts, documents("s")))
			wantPushed(t, runSync(t, v, night, whole(groups, documents("a", "b"))))
			want := git(t, v.config.Directory, "rev-parse", "main")
			damage(t, v)
			damaged := contentOf(t, v.config.Directory)
			if looked, err := v.Repair(t.Context(), false); err != nil || len(looked.Left) == 0 {
				t.Fatalf("%v, %v", looked, err)
			}
			if diff := cmp.Diff(damaged, contentOf(t, v.config.Directory)); diff != "" {
				t.Fatalf("a look changed something: %s", diff)
			}
			done, err := v.Repair(t.Context(), true)
			if err != nil || len(done.Left) > 0 || done.Commit != want {
				t.Fatalf("%+v, %v", done, err)
			}
			for _, fault := range done.Faults {
				if fault.Loss {
					t.Errorf("lost: %v", fault)
				}
			}
			if got := git(t, v.config.Directory, "rev-parse", "main"); got != want {
				t.Errorf("the branch is at %s", got)
			}
			wantPushed(t, runSync(t, v, night.Add(hour), whole(groups, documents("a", "b", "c"))))
			sameBranch(t, v, path)
		})
	}
}

// Where nothing can be saved it is said, and nothing is removed.
func TestRepairOfNothing(t *testing.T) {
	v := newVault(t, nil)
	if got, err := v.Repair(t.Context(), true); err != nil || got.Exists {
		t.Errorf("no repository: %v, %v", got, err)
	}
	s := begin(t, v, theSync)
	if _, err := v.Repair(t.Context(), true); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("while a sync runs: %v", err)
	}
	read(t, s, night, whole(groups, documents("a")))
	if err := s.Close(); err != nil { // keeps a checkpoint
		t.Fatal(err)
	}
	if got, err := v.Repair(t.Context(), true); err != nil || !got.Exists || len(got.Faults) > 0 {
		t.Errorf("before the first commit: %v, %v", got, err)
	}
	s = begin(t, v, theSync)
	if _, ok := s.Resumed(groups); !ok {
		t.Error("the checkpoint is gone")
	}
	commit(t, s, night)
	for _, path := range packsOf(t, v) {
		overwrite(t, path, with("nothing"))
	}
	got, err := v.Repair(t.Context(), true)
	if err != nil || len(got.Left) == 0 || !got.Left[0].Loss || got.Left[0].Remedy != "" {
		t.Fatalf("%+v, %v", got, err)
	}
	if _, err := v.Begin(t.Context(), port.Turn{Sync: theSync, Attempt: 1}); err == nil {
		t.Error("a new backup begins by itself")
	}
	aside, err := os.ReadDir(v.path(damagedFolder))
	if err != nil || len(aside) == 0 {
		t.Errorf("put aside: %v, %v", aside, err)
	}
	shared, _ := shared(t)
	s = begin(t, shared, theSync)
	if _, err := shared.Repair(t.Context(), false); err == nil {
		t.Error("a shared repository that is in use is looked at")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var _ port.Vault = shared
}
