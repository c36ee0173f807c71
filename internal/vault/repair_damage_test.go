package vault

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// damageTest is a kind of damage to a repository of two commits, and what is to become
// of it.
type damageTest struct {
	damage func(*testing.T, *Vault)
	says   []string
	// lost are the files that the backup does not have any more, kept those files and
	// folders that are as the commit before had them. An empty path is everything.
	lost, kept []string
	// back says that the branch is at the commit before the last.
	back bool
}

func damageTests() map[string]damageTest {
	branch := "refs/heads/main"
	file := func(name string, change func([]byte) []byte) func(*testing.T, *Vault) {
		return func(t *testing.T, v *Vault) { overwrite(t, v.path(name), change) }
	}
	pack := func(ending, object string, change func([]byte) []byte) func(*testing.T, *Vault) {
		return func(t *testing.T, v *Vault) {
			overwrite(t, strings.TrimSuffix(onePackOf(t, v, object), ".pack")+ending, change)
		}
	}
	return map[string]damageTest{
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
		"an empty loose object":     {damage: file("objects/ab/"+strings.Repeat("cd", 19), with("")), says: []string{"is damaged"}},
		"an empty tag":              {damage: file("refs/tags/x", with("")), says: []string{"refs/tags/x is empty or damaged"}},
		"packed references":         {damage: file("packed-refs", with("\x00\x00")), says: []string{"packed-refs is damaged"}},
		"a file is damaged":         {damage: func(t *testing.T, v *Vault) { damageObject(t, v, "main:entra/groups/b.json") }, says: []string{"entra/groups/b.json cannot be read", "is damaged: 6 of 7", "leave it out"}, lost: []string{"entra/groups/b.json"}},
		"a changed file is damaged": {damage: func(t *testing.T, v *Vault) { damageObject(t, v, "main:entra/groups/a.json") }, says: []string{"entra/groups/a.json cannot be read", "keep its version of 2026-11-20 02:00"}, kept: []string{"entra/groups/a.json"}},
		"two files are damaged": {damage: func(t *testing.T, v *Vault) {
			damageObject(t, v, "main:entra/groups/a.json")
			damageObject(t, v, "main:entra/groups/b.json")
		}, says: []string{"5 of 7"}, kept: []string{"entra/groups/a.json"}, lost: []string{"entra/groups/b.json"}},
		"a folder of folders":     {damage: func(t *testing.T, v *Vault) { damageObject(t, v, "main:entra") }, says: []string{"entra cannot be read"}, kept: []string{"entra"}},
		"a folder is damaged":     {damage: func(t *testing.T, v *Vault) { damageObject(t, v, "main:entra/groups") }, says: []string{"entra/groups cannot be read", "keep its version of 2026-11-20 02:00"}, kept: []string{"entra/groups"}},
		"an index is damaged":     {damage: func(t *testing.T, v *Vault) { damageObject(t, v, "main:entra/groups/_index.json") }, says: []string{"entra/groups/_index.json cannot be read"}, kept: []string{"entra/groups/_index.json"}},
		"the coverage is damaged": {damage: func(t *testing.T, v *Vault) { damageObject(t, v, "main~1:coverage.json") }, says: []string{"coverage.json cannot be read", "files of 1 older commit cannot"}, lost: []string{"coverage.json"}},
		"the tree is damaged":     {damage: func(t *testing.T, v *Vault) { damageObject(t, v, "main^{tree}") }, says: []string{"the whole tree cannot be read"}, kept: []string{""}},
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
		}, says: []string{"entra/groups cannot be read"}, kept: []string{"entra/groups"}},
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
	}
}

// Every kind of damage: a look changes nothing, and what is mended is whole for git and
// goes on; what is lost is named, and nothing else is.
func TestRepair(t *testing.T) {
	for name, test := range damageTests() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newVault(t, nil)
			runSync(t, v, night, whole(groups, documents("a")), whole(scripts, documents("s")))
			before := files(t, v)
			long := strings.Repeat("of some length, ", 20)
			runSync(t, v, night.Add(hour), whole(groups, map[string]string{"a": `{"id":"a","now":"` + long + `"}`, "b": `{"id":"b","text":"` + long + `"}`}))
			want := files(t, v)
			if test.back {
				want = before
			}
			test.damage(t, v)
			test.checkMended(t, v)
			test.checkFiles(t, v, want, before)
			// The next sync works, and brings everything back.
			s := runSync(t, v, time.Now(), whole(groups, documents("a", "b", "c")), whole(scripts, documents("s")))
			settled := s.settled[groups.ID]
			if got := itemsOf(files(t, v), groups); settled.Items != 3 || !slices.Equal(got, []string{"a", "b", "c"}) {
				t.Errorf("%v: %+v", got, settled)
			}
			if state := coverageOf(t, v, groups).State; state != stateComplete {
				t.Errorf("after a complete reading the type is %s", state)
			}
			checkRepository(t, v)
			if again, err := v.Repair(t.Context(), false); err != nil || len(again.Faults) > 0 {
				t.Errorf("%+v, %v", again, err)
			}
		})
	}
}

// checkMended looks and then mends, and compares what is said.
func (test damageTest) checkMended(t *testing.T, v *Vault) {
	t.Helper()
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
	text, loss := saidOf(done)
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
	if loses := len(test.lost)+len(test.kept) > 0 || test.back; loses && !loss {
		t.Errorf("it does not say that something is lost:\n%s", text)
	}
	checkRepository(t, v)
}

// saidOf returns what was found, and whether something of it is a loss.
func saidOf(found *Repair) (text string, loss bool) {
	var said []string
	for _, fault := range found.Faults {
		said = append(said, fault.What+": "+fault.Remedy)
		loss = loss || fault.Loss
	}
	return strings.Join(said, "\n"), loss
}

// checkFiles compares the backup with what it was before the damage, and in the commit
// before that.
func (test damageTest) checkFiles(t *testing.T, v *Vault, last, before map[string]string) {
	t.Helper()
	now := files(t, v)
	want := maps.Clone(last)
	for path := range last {
		if slices.Contains(test.lost, path) || isBelowOne(test.kept, path) {
			delete(want, path)
		}
	}
	for path, content := range before {
		if isBelowOne(test.kept, path) {
			want[path] = content
		}
	}
	types := map[string]bool{}
	for _, path := range slices.Concat(test.lost, test.kept) {
		for _, configurationType := range []string{groups.ID, scripts.ID} {
			types[configurationType] = types[configurationType] || path == "" || strings.HasPrefix(path, configurationType) || strings.HasPrefix(configurationType, path+"/")
		}
	}
	if _, ok := want[coverageFile]; ok {
		checkCoverage(t, want[coverageFile], now[coverageFile], types)
		delete(want, coverageFile)
		delete(now, coverageFile)
	}
	if diff := cmp.Diff(want, now); diff != "" {
		t.Errorf("the backup: %s", diff)
	}
}

func isBelowOne(folders []string, path string) bool {
	return slices.ContainsFunc(folders, func(f string) bool { return f == "" || f == path || strings.HasPrefix(path, f+"/") })
}

// checkCoverage makes sure that the types that lost files, and no others, are called
// damaged.
func checkCoverage(t *testing.T, before, after string, types map[string]bool) {
	t.Helper()
	was, err := decodeCoverage([]byte(before))
	if err != nil {
		t.Fatal(err)
	}
	is, err := decodeCoverage([]byte(after))
	if err != nil {
		t.Fatal(err)
	}
	if len(is) != len(was) {
		t.Errorf("the coverage has %d types, and had %d", len(is), len(was))
	}
	for id, entry := range was {
		now := is[id]
		switch {
		case now == nil:
			t.Errorf("the coverage has no %s", id)
		case !types[id] && !now.equal(entry):
			t.Errorf("%s was %+v, and is %+v", id, entry, now)
		case types[id] && (now.State != stateStale || now.Reason != damagedReason || now.LastComplete == nil || !now.LastComplete.Equal(entry.Since)):
			t.Errorf("%s lost files, and is %+v", id, now)
		}
	}
}
