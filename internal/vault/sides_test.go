package vault

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
)

// scripted has items with payloads and secrets.
var scripted = &catalog.Type{
	ID: "intune/scripted", Secrets: []catalog.SecretRule{{Property: "key"}},
	Payloads: []catalog.PayloadRule{{Property: "script", Extension: "ps1", FileName: "fileName"}},
}

// script is an item with a script and a secret; each is left out when empty.
func script(text, key string) string {
	document, err := json.Marshal(map[string]any{"script": []byte(text), "key": key}) // bytes are base64
	if err != nil {
		panic(err)
	}
	return string(document)
}

// sealingVault seals to one recipient.
func sealingVault(t testing.TB) (*Vault, func(sealed string) string) {
	t.Helper()
	identity := newIdentity(t)
	v := newVault(t, func(c *Config) { c.Recipients = []string{identity.Recipient().String()} })
	return v, func(sealed string) string {
		t.Helper()
		plain, err := opened(sealed, identity)
		if err != nil {
			t.Fatal(err)
		}
		return plain
	}
}

// reopened is a vault of the same repository.
func reopened(t testing.TB, v *Vault, change func(*Config)) *Vault {
	t.Helper()
	config := v.config
	change(&config)
	again, err := Open(config)
	if err != nil {
		t.Fatal(err)
	}
	return again
}

// beside returns the files of a type but for its items and its index.
func beside(t testing.TB, v *Vault) map[string]string {
	t.Helper()
	found := map[string]string{}
	for path, content := range files(t, v) {
		if name, ok := strings.CutPrefix(path, scripted.ID+"/"); ok && !strings.HasSuffix(name, fileEnding) {
			found[name] = content
		}
	}
	return found
}

func namesOf(files map[string]string) string {
	return strings.Join(slices.Sorted(maps.Keys(files)), " ")
}

func TestSideFilesFollowTheirItems(t *testing.T) {
	v, open := sealingVault(t)
	s := runSync(t, v, night, whole(scripted, map[string]string{
		"a": script("one", "hunter2"), "b": script("", "hunter3"), "c": script("three", ""), "d": script("", ""), "e": `{}`, "f": `{}`,
	}))
	settledAs(t, s.settled[scripted.ID], changed, 6, 6, 0, 0)
	first := beside(t, v)
	if got := namesOf(first); got != "a.script.ps1 a.secrets.age b.secrets.age c.script.ps1" {
		t.Fatal(got)
	}
	if first["a.script.ps1"] != "one" || open(first["a.secrets.age"]) != "{\n  \"/key\": \"hunter2\"\n}\n" {
		t.Errorf("%q", first)
	}

	// An incomplete reading updates what it has, files beside it too, and nothing else.
	s = runSync(t, v, night.Add(hour), ended(scripted, incomplete, map[string]string{"a": script("two", "hunter2"), "c": script("", "new")}))
	settledAs(t, s.settled[scripted.ID], incomplete, 6, 0, 2, 0)
	second := beside(t, v)
	if got := namesOf(second); got != "a.script.ps1 a.secrets.age b.secrets.age c.secrets.age" {
		t.Fatal(got)
	}
	if second["a.secrets.age"] != first["a.secrets.age"] || second["b.secrets.age"] != first["b.secrets.age"] || second["a.script.ps1"] != "two" {
		t.Error("what did not change has another file")
	}

	// A failed one changes nothing, whatever it read.
	s = runSync(t, v, night.Add(2*hour), ended(scripted, failed, map[string]string{"a": script("three", "x")}))
	settledAs(t, s.settled[scripted.ID], failed, 6, 0, 0, 0)
	if diff := cmp.Diff(second, beside(t, v)); diff != "" {
		t.Error(diff)
	}

	// A complete one removes an item with its files, and files that an item lost.
	s = runSync(t, v, night.Add(3*hour), whole(scripted, map[string]string{
		"b": script("", "hunter3"), "c": script("", ""), "d": script("", ""), "e": `{}`, "f": `{}`,
	}))
	settledAs(t, s.settled[scripted.ID], changed, 5, 0, 1, 1)
	if got := beside(t, v); namesOf(got) != "b.secrets.age" || got["b.secrets.age"] != first["b.secrets.age"] {
		t.Errorf("%q", got)
	}
	checkRepository(t, v)
	checkOnlySealed(t, v, "hunter2", "hunter3", "new")
}

// checkOnlySealed looks for secrets in every object of a repository.
func checkOnlySealed(t testing.TB, v *Vault, secrets ...string) {
	t.Helper()
	for line := range strings.Lines(git(t, v.config.Directory, "cat-file", "--batch-all-objects", "--batch-check") + "\n") {
		id, rest, _ := strings.Cut(line, " ")
		kind, _, _ := strings.Cut(rest, " ")
		content := git(t, v.config.Directory, "cat-file", kind, id)
		for _, secret := range secrets {
			if strings.Contains(content, `"`+secret+`"`) {
				t.Errorf("%s %s has %s", kind, id, secret)
			}
		}
	}
}

// A sync that reads the same makes no commit, though encryption is randomised; and
// what was made for nothing does not stay in the repository.
func TestSideFilesDoNotChangeByThemselves(t *testing.T) {
	v, _ := sealingVault(t)
	items := map[string]string{"a": script("one", "hunter2"), "b": script("two", "hunter3")}
	first := runSync(t, v, night, whole(scripted, items))
	count := func() string { return git(t, v.config.Directory, "cat-file", "--batch-all-objects", "--batch-check") }
	objects := count()
	for _, again := range []typeReading{whole(scripted, items), ended(scripted, incomplete, items), ended(scripted, failed, map[string]string{"a": script("x", "y")})} {
		s := runSync(t, v, night.Add(hour), again)
		if again.reading.Outcome == complete && s.snapshot.GetCreated() {
			t.Error("a commit was made")
		}
		if again.reading.Outcome == complete && s.settled[scripted.ID].Basis != first.settled[scripted.ID].Basis {
			t.Error("the basis is another")
		}
	}
	// The coverage changed once: a blob, a tree and a commit.
	if added := len(splitLines(count())) - len(splitLines(objects)); added != 3 {
		t.Errorf("%d objects were added, want 3", added)
	}
}

// Another recipient makes every file anew, and nothing else; without recipients
// there are none.
func TestRecipientsChange(t *testing.T) {
	v, _ := sealingVault(t)
	items := map[string]string{"a": script("one", "hunter2"), "b": script("two", "hunter3"), "c": script("three", "")}
	before := runSync(t, v, night, whole(scripted, items))
	all := files(t, v)
	bob := newIdentity(t)
	more := reopened(t, v, func(c *Config) { c.Recipients = append(slices.Clone(c.Recipients), bob.Recipient().String()) })
	s := runSync(t, more, night.Add(hour), whole(scripted, items))
	settledAs(t, s.settled[scripted.ID], changed, 3, 0, 2, 0)
	if s.settled[scripted.ID].Basis == before.settled[scripted.ID].Basis {
		t.Error("the basis is the same: a reading by delta would not seal anew")
	}
	for path, content := range files(t, more) {
		sealed := strings.HasSuffix(path, secretsSuffix)
		if (content != all[path]) != sealed {
			t.Errorf("%s: changed %v", path, !sealed)
		}
		if _, err := opened(content, bob); sealed && err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	var paths []string
	for change, err := range more.Changes(t.Context(), s.snapshot.GetCommit(), "") {
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, change.GetKind().String()+" "+change.GetPath()+" "+change.GetId())
	}
	want := []string{"CHANGE_KIND_MODIFIED intune/scripted/a.json a", "CHANGE_KIND_MODIFIED intune/scripted/b.json b"}
	if diff := cmp.Diff(want, paths); diff != "" {
		t.Error(diff)
	}
	if s := runSync(t, more, night.Add(2*hour), whole(scripted, items)); s.snapshot.GetCreated() {
		t.Error("sealed again")
	}
	none := reopened(t, v, func(c *Config) { c.Recipients = nil })
	s = runSync(t, none, night.Add(3*hour), whole(scripted, items))
	settledAs(t, s.settled[scripted.ID], changed, 3, 0, 2, 0)
	if got := namesOf(beside(t, none)); got != "a.script.ps1 b.script.ps1 c.script.ps1" {
		t.Error(got)
	}
}

// A rotation makes no commit; then only what changes is by the new key; when the old
// one is taken away the rest follows at once.
func TestRotation(t *testing.T) {
	v, open := sealingVault(t)
	items := map[string]string{"a": script("one", "hunter2"), "b": script("two", "hunter3")}
	runSync(t, v, night, whole(scripted, items))
	before := files(t, v)
	fresh := []byte("another key that is long enough.")
	rotated := reopened(t, v, func(c *Config) { c.FingerprintKey, c.PreviousFingerprintKeys = fresh, [][]byte{testKey} })
	if s := runSync(t, rotated, night.Add(hour), whole(scripted, items)); s.snapshot.GetCreated() {
		t.Fatal(cmp.Diff(before, files(t, v)))
	}
	items["b"] = script("two", "hunter4")
	s := runSync(t, rotated, night.Add(2*hour), whole(scripted, items))
	settledAs(t, s.settled[scripted.ID], changed, 2, 0, 1, 0)
	after := files(t, rotated)
	if !strings.Contains(after["intune/scripted/a.json"], keyName(testKey)) || !strings.Contains(after["intune/scripted/b.json"], keyName(fresh)) {
		t.Errorf("%v", after)
	}
	if got := open(after["intune/scripted/b.secrets.age"]); !strings.Contains(got, "hunter4") {
		t.Error(got)
	}
	finished := reopened(t, rotated, func(c *Config) { c.PreviousFingerprintKeys = nil })
	s = runSync(t, finished, night.Add(3*hour), whole(scripted, items))
	settledAs(t, s.settled[scripted.ID], changed, 2, 0, 1, 0)
	for path, content := range files(t, finished) {
		if strings.Contains(content, keyName(testKey)) {
			t.Errorf("%s has a fingerprint by the old key", path)
		}
	}
	if s := runSync(t, finished, night.Add(4*hour), whole(scripted, items)); s.snapshot.GetCreated() {
		t.Error("not finished at once")
	}
	checkRepository(t, finished)
}

// A reading by delta takes the files of what it did not read along.
func TestSideFilesOfADelta(t *testing.T) {
	v, _ := sealingVault(t)
	s := runSync(t, v, night, whole(scripted, map[string]string{"a": script("one", "1"), "b": script("two", "2"), "c": script("three", "3")}))
	before := beside(t, v)
	reading := whole(scripted, map[string]string{"a": script("new", "1")})
	reading.reading.Since, reading.reading.Removed = s.settled[scripted.ID].Basis, []string{"b"}
	s = runSync(t, v, night.Add(hour), reading)
	settledAs(t, s.settled[scripted.ID], changed, 2, 0, 1, 1)
	delete(before, "b.script.ps1")
	delete(before, "b.secrets.age")
	before["a.script.ps1"] = "new"
	if diff := cmp.Diff(before, beside(t, v)); diff != "" {
		t.Error(diff)
	}
}

// What somebody else put into the folder stays; what they did to our files does not.
func TestForeignFilesBesideItems(t *testing.T) {
	v, open := sealingVault(t)
	items := map[string]string{"a": script("one", "hunter2"), "b": script("two", "hunter3")}
	runSync(t, v, night, whole(scripted, items))
	work := t.TempDir()
	git(t, work, "clone", "-q", v.config.Directory, ".")
	commitFiles(t, work, map[string]string{
		"intune/scripted/README.md": "theirs", "intune/scripted/install.v2.ps1": "theirs", "intune/scripted/gone.secrets.age": "theirs",
		"intune/scripted/a.script.exe": "theirs", "intune/scripted/a.ps1": "theirs", "intune/scripted/a.b_c.ps1": "theirs",
		"intune/scripted/a.script.ps1": "broken", "intune/scripted/a.old.sh": "of an earlier rule", "intune/scripted/b.secrets.age": "broken",
	})
	git(t, work, "push", "-q", "origin", "HEAD:main")
	s := runSync(t, v, night.Add(hour), whole(scripted, items))
	settledAs(t, s.settled[scripted.ID], changed, 2, 0, 2, 0)
	got := beside(t, v)
	want := "README.md a.b_c.ps1 a.ps1 a.script.exe a.script.ps1 a.secrets.age b.script.ps1 b.secrets.age gone.secrets.age install.v2.ps1"
	if namesOf(got) != want || got["a.script.ps1"] != "one" || !strings.Contains(open(got["b.secrets.age"]), "hunter3") {
		t.Errorf("%q", got)
	}
	s = runSync(t, v, night.Add(2*hour), whole(scripted, map[string]string{"b": items["b"]}))
	settledAs(t, s.settled[scripted.ID], changed, 1, 0, 0, 1)
	want = "README.md a.b_c.ps1 a.ps1 a.script.exe b.script.ps1 b.secrets.age gone.secrets.age install.v2.ps1"
	if got := namesOf(beside(t, v)); got != want {
		t.Error(got)
	}
	checkRepository(t, v)
}

func commitFiles(t testing.TB, work string, content map[string]string) {
	t.Helper()
	for path, text := range content {
		if out, err := tryGit(t, work, text, "hash-object", "-w", "--stdin"); err != nil {
			t.Fatal(out)
		} else {
			git(t, work, "update-index", "--add", "--cacheinfo", "100644,"+strings.TrimSpace(out)+","+path)
		}
	}
	git(t, work, "commit", "-q", "-m", "by hand")
}

// Whatever the id, its files are beside it and nobody else's.
func TestSideFilesOfHostileNames(t *testing.T) {
	t.Parallel()
	v, _ := sealingVault(t)
	items := map[string]string{"a": script("of a", "1"), "a.script": script("of a.script", "2"), "a.script.ps1": script("of a.script.ps1", "3"), "a.secrets": script("", "4")}
	for _, id := range hostile {
		if id != "" && id == strings.ToValidUTF8(id, "") {
			items[id] = script("of "+id, "secret of "+id)
		}
	}
	s := runSync(t, v, night, whole(scripted, items))
	settledAs(t, s.settled[scripted.ID], changed, len(items), len(items), 0, 0)
	got := beside(t, v)
	for id := range items {
		stem := SafeName(id)
		if text := got[stem+".script.ps1"]; text != "of "+id && id != "a.secrets" && text != strings.TrimSuffix("of "+id, "\n") {
			t.Errorf("%q has %q", id, text)
		}
		if got[stem+secretsSuffix] == "" {
			t.Errorf("%q has no secrets", id)
		}
		if item, ok := itemOfSide(stem + ".script.ps1"); !ok || item != stem+fileEnding {
			t.Errorf("%q: %q", id, item)
		}
	}
	if s := runSync(t, v, night.Add(hour), whole(scripted, items)); s.snapshot.GetCreated() {
		t.Error("a commit was made")
	}
	checkRepository(t, v)
	work := t.TempDir() + "/work"
	git(t, t.TempDir(), "-c", "core.protectNTFS=true", "-c", "core.protectHFS=true", "clone", "-q", v.config.Directory, work)
	if out := git(t, work, "status", "--porcelain"); out != "" {
		t.Errorf("after checking out: %s", out)
	}
}

func TestItemOfSide(t *testing.T) {
	for name, want := range map[string]string{
		"a.script.ps1": "a.json", "a.b.script.ps1": "a.b.json", "a.secrets.age": "a.json", "a.x-0-y.xml": "a.json", "a.s.jsonc": "a.json",
		"a.ps1": "", ".script.ps1": "", "a..ps1": "", "a.script.json": "", "a.script.exe": "", "a.other.age": "", "a.b_c.ps1": "",
		"a.é.ps1": "", "": "", ".": "", "...": "", "secrets.age": "", ".secrets.age": "",
	} {
		if got, _ := itemOfSide(name); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

// A document that cannot be stored leaves no file.
func TestRefusedItemHasNoSideFiles(t *testing.T) {
	v, _ := sealingVault(t)
	staging, err := v.Begin(t.Context(), port.Turn{Attempt: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer staging.Close()
	if err := staging.Add(scripted, port.Item{ID: "a", JSON: []byte(script("one", "1"))}); err != nil {
		t.Fatal(err)
	}
	for _, document := range []string{script("two", "2"), `{"script":"aGk=","script":"aGk="}`} {
		if err := staging.Add(scripted, port.Item{ID: "a", JSON: []byte(document)}); err == nil {
			t.Error("accepted")
		}
	}
	if _, err := staging.Settle(scripted, port.Reading{Outcome: complete, Time: night}); err != nil {
		t.Fatal(err)
	}
	if _, err := staging.Commit(t.Context(), port.CommitInfo{Time: night}); err != nil {
		t.Fatal(err)
	}
	if got := beside(t, v); namesOf(got) != "a.script.ps1 a.secrets.age" || got["a.script.ps1"] != "one" {
		t.Errorf("%q", got)
	}
}
