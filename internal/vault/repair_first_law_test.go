package vault

import (
	"os"
	"strings"
	"testing"
	"time"

	"understudy.internal/internal/port"
)

// apply mends, and returns what was said.
func apply(t *testing.T, v *Vault) string {
	t.Helper()
	done, err := v.Repair(t.Context(), true)
	if err != nil || len(done.Left) > 0 {
		t.Fatalf("%+v, %v", done, err)
	}
	checkRepository(t, v)
	text, _ := saidOf(done)
	return text
}

// textOf is an item with a text, so long that it is compressed.
func textOf(id, text string) string {
	return `{"id":"` + id + `","text":"` + strings.Repeat(text+", ", 30) + `"}`
}

// What a repair cannot read it takes out of no backup that can be read: not here, and
// not, with the next push, on the remote.
func TestRepairTakesNothingFromTheRemote(t *testing.T) {
	path := bareRemote(t)
	v, _ := remoteVault(t, Remote{URL: path})
	wantPushed(t, runSync(t, v, night, whole(groups, documents("a", "b")), whole(scripts, documents("s"))))
	before := files(t, v)
	hideRemote(t, path)
	if s := runSync(t, v, night.Add(hour), whole(groups, map[string]string{"a": textOf("a", "newer"), "b": textOf("b", "newer")})); s.pushed != pushFailed {
		t.Fatal(s.pushed)
	}
	bringBack(t, path)
	damageObject(t, v, "main:entra/groups/a.json")
	if said := apply(t, v); !strings.Contains(said, "entra/groups/a.json cannot be read, and no copy was found: keep its version of 2026-11-20 02:00") {
		t.Error(said)
	}
	// The next sync does not read the type.
	wantPushed(t, runSync(t, v, night.Add(2*hour), ended(groups, failed, nil), whole(scripts, documents("s"))))
	sameBranch(t, v, path)
	now := filesOf(t, path, "main")
	if now["entra/groups/a.json"] != before["entra/groups/a.json"] || !strings.Contains(now["entra/groups/b.json"], "newer") {
		t.Errorf("the remote has\n%s\n%s", now["entra/groups/a.json"], now["entra/groups/b.json"])
	}
}

func hideRemote(t *testing.T, path string) {
	t.Helper()
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
}

func bringBack(t *testing.T, path string) {
	t.Helper()
	if err := os.Rename(path+".away", path); err != nil {
		t.Fatal(err)
	}
}

// Where the commit before cannot be read either, the one before that counts, in every
// commit that comes after; each file is of its own time.
func TestRepairKeepsTheNewestThatCanBeRead(t *testing.T) {
	v := newVault(t, nil)
	at := func(n int) time.Time { return night.Add(time.Duration(n) * hour) }
	sync := func(n int, a, b, c string) {
		runSync(t, v, at(n), whole(groups, map[string]string{"a": textOf("a", a), "b": textOf("b", b), "c": textOf("c", c)}))
	}
	sync(0, "first", "first", "first")
	sync(1, "first", "second", "first")
	sync(2, "third", "third", "first")
	sync(3, "fourth", "third", "fourth")
	damageObject(t, v, "main:entra/groups/a.json")
	damageObject(t, v, "main~1:entra/groups/a.json")
	damageObject(t, v, "main:entra/groups/b.json")
	said := apply(t, v)
	for _, part := range []string{
		"a.json cannot be read, and no copy was found: keep its version of 2026-11-20 03:00",
		"b.json cannot be read, and no copy was found: keep its version of 2026-11-20 03:00",
		"files of 1 older commit cannot be read",
	} {
		if !strings.Contains(said, part) {
			t.Errorf("it does not say %q: %s", part, said)
		}
	}
	for commit, want := range map[string][3]string{
		"main":   {"first", "second", "fourth"},
		"main~1": {"first", "second", "fourth"},
		"main~2": {"first", "second", "first"},
		"main~3": {"first", "second", "first"},
		"main~4": {"first", "first", "first"},
	} {
		all := filesOf(t, v.config.Directory, commit)
		for i, name := range []string{"a", "b", "c"} {
			if !strings.Contains(all["entra/groups/"+name+".json"], want[i]) {
				t.Errorf("%s:%s.json is %s, want %s", commit, name, all["entra/groups/"+name+".json"], want[i])
			}
		}
	}
	message := git(t, v.config.Directory, "log", "-1", "--format=%B", "main")
	if !strings.Contains(message, "Repair: 2 files could not be read\n\nentra/groups/a.json: as it was 2026-11-20 03:00 UTC\n") {
		t.Error(message)
	}
}

// The first version of a file that cannot be read is left out of all commits that have
// it, and stays in those that have another one.
func TestRepairLeavesOutWhatNeverCouldBeRead(t *testing.T) {
	v := newVault(t, nil)
	for i, text := range []string{"first", "first", "second"} {
		runSync(t, v, night.Add(time.Duration(i)*hour), whole(groups, map[string]string{"a": textOf("a", text), "b": textOf("b", strings.Repeat("x", i))}))
	}
	damageObject(t, v, "main~2:entra/groups/a.json")
	if said := apply(t, v); !strings.Contains(said, "files of 2 older commits cannot be read") || strings.Contains(said, "a.json") {
		t.Error(said)
	}
	for commit, want := range map[string]bool{"main": true, "main~1": false, "main~2": false} {
		if _, ok := filesOf(t, v.config.Directory, commit)["entra/groups/a.json"]; ok != want {
			t.Errorf("%s has the file: %v", commit, ok)
		}
	}
	if state := coverageOf(t, v, groups).State; state != stateComplete {
		t.Errorf("the type lost nothing, and is %s", state)
	}
}

// An older coverage in place of a lost one calls nothing complete, and does not let a
// short list be believed that may have been taken back since.
func TestRepairOfTheCoverage(t *testing.T) {
	v := newVault(t, nil)
	all := documents(numbered(0, 10)...)
	runSync(t, v, night, whole(groups, all), whole(scripts, documents("s")))
	short := documents(numbered(0, 2)...)
	runSync(t, v, night.Add(hour), whole(groups, short)) // is not believed
	if coverageOf(t, v, groups).Collapse == nil {
		t.Fatal("the short list is not noted")
	}
	runSync(t, v, night.Add(2*hour), whole(groups, all)) // takes it back
	damageObject(t, v, "main:coverage.json")
	if said := apply(t, v); !strings.Contains(said, "coverage.json cannot be read, and no copy was found: keep its version of 2026-11-20 03:00 UTC, and call no type complete") {
		t.Error(said)
	}
	for _, configurationType := range []string{groups.ID, scripts.ID} {
		entry := mustCoverage(t, v)[configurationType]
		if entry == nil || entry.State != stateStale || entry.Reason != damagedReason || entry.Collapse != nil || entry.LastComplete == nil {
			t.Errorf("%s: %+v", configurationType, entry)
		}
	}
	// The same short list, long after, is as if it was seen for the first time.
	s := runSync(t, v, night.Add(100*hour), whole(groups, short))
	settledAs(t, s.settled[groups.ID], incomplete, 10, 0, 0, 0)
}

func mustCoverage(t *testing.T, v *Vault) coverage {
	t.Helper()
	c, err := decodeCoverage([]byte(files(t, v)[coverageFile]))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A type that lost something is read in full next time, also where its folder is one that
// a cursor is of: that of before, or one of which the names alone were lost.
func TestRepairedTypesAreReadInFull(t *testing.T) {
	const member = "11111111-1111-4111-8111-111111111111"
	for _, name := range []string{"a.json", "_index.json", "_names.json", "new.json"} {
		t.Run(name, func(t *testing.T) {
			v := newVault(t, nil)
			items := map[string]string{"a": textOf("a", "older"), member: `{"id":"` + member + `"}`, "m": `{"id":"m","member":"` + member + `"}`}
			runSync(t, v, night, whole(groups, items))
			older := basisOf(t, v, groups)
			items["a"], items["new"] = textOf("a", "newer"), textOf("new", "newer")
			runSync(t, v, night.Add(hour), whole(groups, items), whole(scripts, documents("s")))
			newer := basisOf(t, v, groups)
			other := basisOf(t, v, scripts)
			damageObject(t, v, "main:entra/groups/"+name)
			apply(t, v)
			if basis := basisOf(t, v, groups); basis != "" {
				t.Errorf("it has the basis %q", basis)
			}
			if basis := basisOf(t, v, scripts); basis == "" || basis != other {
				t.Errorf("the other type has the basis %q, and had %q", basis, other)
			}
			for _, since := range []string{older, newer, ""} {
				s := begin(t, v, "")
				_, err := s.Settle(groups, port.Reading{Outcome: complete, Identity: asServicePrincipal, Time: night, Since: since})
				if refused := err != nil; refused != (since != "") {
					t.Errorf("a reading since %q: %v", since, err)
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			}
			runSync(t, v, night.Add(2*hour), whole(groups, items))
			if got := basisOf(t, v, groups); got != newer {
				t.Errorf("after a full reading the basis is %q, and was %q", got, newer)
			}
		})
	}
}

// A folder that can be read, and of which nothing else can, is not the folder of before:
// what was removed from that stays removed. A file that was in the place of a folder is
// kept, and the other way round.
func TestRepairOfFoldersOfOthers(t *testing.T) {
	blob := func(v *Vault, content string) string {
		out, err := tryGit(t, v.config.Directory, content, "hash-object", "-w", "--stdin")
		if err != nil {
			t.Fatal(out, err)
		}
		return strings.TrimSpace(out)
	}
	tree := func(v *Vault, lines ...string) string {
		out, err := tryGit(t, v.config.Directory, strings.Join(lines, "\n")+"\n", "mktree")
		if err != nil {
			t.Fatal(out, err)
		}
		return strings.TrimSpace(out)
	}
	file := func(id, name string) string { return "100644 blob " + id + "\t" + name }
	folder := func(id, name string) string { return "040000 tree " + id + "\t" + name }
	const damaged = "damaged"
	for name, test := range map[string]struct {
		before, now func(v *Vault, damaged string) string
		want        string
	}{
		"another file": {
			func(v *Vault, _ string) string { return folder(tree(v, file(blob(v, "old"), "old")), "x") },
			func(v *Vault, damaged string) string { return folder(tree(v, file(damaged, "new")), "x") }, "",
		},
		"a file before": {
			func(v *Vault, _ string) string { return file(blob(v, "old"), "x") },
			func(v *Vault, damaged string) string { return folder(tree(v, file(damaged, "new")), "x") }, "x",
		},
		"a folder before": {
			func(v *Vault, _ string) string { return folder(tree(v, file(blob(v, "old"), "old")), "x") },
			func(_ *Vault, damaged string) string { return file(damaged, "x") }, "x/old",
		},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVault(t, nil)
			runSync(t, v, night, whole(groups, documents("a")))
			lost := blob(v, damaged)
			commit := branchOf(t, v)
			for _, entry := range []string{test.before(v, lost), test.now(v, lost)} {
				root := tree(v, append(strings.Split(git(t, v.config.Directory, "ls-tree", "main"), "\n"), entry)...)
				commit = git(t, v.config.Directory, "commit-tree", "-p", commit, "-m", "by hand", root)
			}
			git(t, v.config.Directory, "update-ref", "refs/heads/main", commit)
			overwrite(t, v.path("objects/"+lost[:2]+"/"+lost[2:]), with("x"))
			apply(t, v)
			all := files(t, v)
			delete(all, coverageFile)
			for _, known := range []string{"entra/groups/_index.json", "entra/groups/a.json"} {
				if _, ok := all[known]; !ok {
					t.Errorf("%s is gone", known)
				}
				delete(all, known)
			}
			if got := strings.Join(sortedKeys(all), " "); got != test.want {
				t.Errorf("it has %q, want %q", got, test.want)
			}
		})
	}
}
