package vault

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
)

const hour = time.Hour

// settledAs compares what matters of a settlement.
func settledAs(t *testing.T, got port.Settlement, outcome understudyv1.ConfigurationOutcome, items, added, modified, removed int) {
	t.Helper()
	if got.Outcome != outcome || got.Items != items || got.Added != added || got.Modified != modified || got.Removed != removed {
		t.Errorf("got %v with %d items, +%d ~%d -%d; want %v with %d, +%d ~%d -%d", got.Outcome, got.Items, got.Added, got.Modified, got.Removed,
			outcome, items, added, modified, removed)
	}
}

func coverageOf(t *testing.T, v *Vault, configurationType *catalog.Type) *coverageEntry {
	t.Helper()
	var c coverage
	if err := json.Unmarshal([]byte(files(t, v)[coverageFile]), &c); err != nil {
		t.Fatal(err)
	}
	return c[configurationType.ID]
}

func TestCompleteReadings(t *testing.T) {
	v := newVault(t, nil)
	first := runSync(t, v, night, whole(groups, documents("a", "b", "c")))
	settledAs(t, first.settled[groups.ID], changed, 3, 3, 0, 0)

	same := runSync(t, v, night.Add(24*hour), whole(groups, documents("c", "b", "a")))
	settledAs(t, same.settled[groups.ID], unchanged, 3, 0, 0, 0)
	if same.snapshot.GetCreated() || same.snapshot.GetCommit() != first.snapshot.GetCommit() || same.snapshot.GetTree() != first.snapshot.GetTree() {
		t.Errorf("a commit without a change: %v", same.snapshot)
	}
	if got := same.settled[groups.ID].LastComplete; !got.Equal(night.Add(24 * hour)) {
		t.Errorf("last complete %v", got)
	}

	items := documents("a", "d")
	items["b"] = `{"id":"b","x":1}`
	next := runSync(t, v, night.Add(48*hour), whole(groups, items))
	settledAs(t, next.settled[groups.ID], changed, 3, 1, 1, 1)
	if got := itemsOf(files(t, v), groups); !slices.Equal(got, []string{"a", "b", "d"}) {
		t.Errorf("items %v", got)
	}
	if n := git(t, v.config.Directory, "rev-list", "--count", "main"); n != "2" {
		t.Errorf("%s commits", n)
	}
	checkRepository(t, v)
}

// Only the display name changed: the index has it, the items are the same.
func TestRename(t *testing.T) {
	v := newVault(t, nil)
	runSync(t, v, night, whole(groups, documents("a", "b")))
	staging, err := v.Begin(t.Context(), port.Turn{Attempt: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer staging.Close()
	for _, item := range []port.Item{{ID: "a", DisplayName: "<New> é", JSON: []byte(`{"id":"a"}`)}, {ID: "b", DisplayName: "Name of b", JSON: []byte(`{"id":"b"}`)}} {
		if err := staging.Add(groups, item); err != nil {
			t.Fatal(err)
		}
	}
	got, err := staging.Settle(groups, port.Reading{Outcome: complete, Identity: asServicePrincipal, Time: night.Add(hour)})
	if err != nil {
		t.Fatal(err)
	}
	settledAs(t, got, changed, 2, 0, 0, 0)
	if _, err := staging.Commit(t.Context(), port.CommitInfo{Time: night.Add(hour)}); err != nil {
		t.Fatal(err)
	}
	index := files(t, v)[groups.ID+"/"+indexFile]
	if !strings.Contains(index, `{"id":"a","display_name":"<New> é","file":"a.json"}`) {
		t.Errorf("index: %s", index)
	}
}

// What was not read completely keeps every file.
func TestOutcomesThatKeep(t *testing.T) {
	for _, outcome := range []understudyv1.ConfigurationOutcome{incomplete, failed, notBackedUp, notAvailable} {
		t.Run(outcome.String(), func(t *testing.T) {
			v := newVault(t, nil)
			runSync(t, v, night, whole(groups, documents("a", "b", "c")), whole(apps, documents("x")))
			before := files(t, v)

			s := runSync(t, v, night.Add(hour), ended(groups, outcome, nil))
			want := outcome
			if outcome == notAvailable {
				want = incomplete // nobody confirmed it: see vanished
			}
			settledAs(t, s.settled[groups.ID], want, 3, 0, 0, 0)
			if got := s.settled[groups.ID].LastComplete; !got.Equal(night) {
				t.Errorf("last complete %v", got)
			}
			after := files(t, v)
			delete(before, coverageFile)
			delete(after, coverageFile)
			if diff := cmp.Diff(before, after); diff != "" {
				t.Error(diff)
			}
			entry := coverageOf(t, v, groups)
			if entry.State == stateComplete || !entry.Since.Equal(night.Add(hour)) || entry.LastComplete == nil || !entry.LastComplete.Equal(night) {
				t.Errorf("coverage %+v", entry)
			}

			again := runSync(t, v, night.Add(2*hour), ended(groups, outcome, nil))
			if again.snapshot.GetCreated() {
				t.Error("a night that is degraded like the one before makes a commit")
			}
			good := runSync(t, v, night.Add(3*hour), whole(groups, documents("a", "b", "c")))
			settledAs(t, good.settled[groups.ID], unchanged, 3, 0, 0, 0)
			if entry := coverageOf(t, v, groups); entry.State != stateComplete || entry.LastComplete != nil {
				t.Errorf("coverage %+v", entry)
			}
			checkRepository(t, v)
		})
	}
}

// An incomplete type updates what was read, and removes nothing. A type that failed
// after some items does not even that, and its items do not enter the repository.
func TestPartOfAType(t *testing.T) {
	v := newVault(t, nil)
	runSync(t, v, night, whole(groups, documents("a", "b")), whole(apps, documents("a", "b")))
	s := runSync(t, v, night.Add(hour),
		ended(groups, incomplete, map[string]string{"b": `{"id":"b","new":1}`, "c": `{"id":"c"}`}),
		ended(apps, failed, map[string]string{"b": `{"id":"b","marker":"MARKER"}`, "c": `{"id":"c"}`}))
	settledAs(t, s.settled[groups.ID], incomplete, 3, 1, 1, 0)
	settledAs(t, s.settled[apps.ID], failed, 2, 0, 0, 0)
	now := files(t, v)
	if got := itemsOf(now, groups); !slices.Equal(got, []string{"a", "b", "c"}) || !strings.Contains(now["entra/groups/b.json"], "new") {
		t.Errorf("groups %v", got)
	}
	if index := now["entra/groups/_index.json"]; strings.Count(index, "Name of") != 3 {
		t.Errorf("index %s", index)
	}
	checkRepository(t, v) // which names objects that nothing needs
	if out := git(t, v.config.Directory, "fsck", "--unreachable"); out != "" {
		t.Errorf("what was not taken is in the repository: %s", out)
	}
	if n := git(t, v.config.Directory, "rev-list", "--count", "main"); n != "2" {
		t.Errorf("%s commits", n)
	}
}

func TestTypesThatWereNotSelected(t *testing.T) {
	v := newVault(t, nil)
	runSync(t, v, night, whole(groups, documents("a")), whole(scripts, documents("s")))
	runSync(t, v, night.Add(hour), whole(groups, documents("a", "b")))
	now := files(t, v)
	if itemsOf(now, scripts) == nil || coverageOf(t, v, scripts).State != stateComplete {
		t.Errorf("a type that was not selected is gone: %v", slices.Collect(maps.Keys(now)))
	}
}

func TestSwitchOfIdentityIsRecordedOnce(t *testing.T) {
	v := newVault(t, nil)
	byUser := whole(groups, documents("a"))
	byUser.reading.Identity = asUser
	runSync(t, v, night, whole(groups, documents("a")))
	s := runSync(t, v, night.Add(hour), byUser)
	settledAs(t, s.settled[groups.ID], unchanged, 1, 0, 0, 0)
	if entry := coverageOf(t, v, groups); !s.snapshot.GetCreated() || entry.Identity != "user" || !entry.Since.Equal(night.Add(hour)) {
		t.Errorf("coverage %+v", entry)
	}
	if runSync(t, v, night.Add(2*hour), byUser).snapshot.GetCreated() {
		t.Error("recorded twice")
	}
}

func TestDryRun(t *testing.T) {
	v := newVault(t, nil)
	runSync(t, v, night, whole(groups, documents("a", "b")))
	commit, tree, err := v.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	staging, err := v.Begin(t.Context(), port.Turn{Attempt: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := staging.Add(groups, port.Item{ID: "c", JSON: []byte(`{}`)}); err != nil {
		t.Fatal(err)
	}
	got, err := staging.Settle(groups, port.Reading{Outcome: complete, AcceptCollapse: true, Time: night.Add(hour)})
	if err != nil {
		t.Fatal(err)
	}
	settledAs(t, got, changed, 1, 1, 0, 2)
	snapshot, err := staging.Commit(t.Context(), port.CommitInfo{DryRun: true})
	if err != nil || snapshot != nil {
		t.Errorf("got %v, %v", snapshot, err)
	}
	if err := staging.Close(); err != nil {
		t.Fatal(err)
	}
	nowCommit, nowTree, err := v.Head(t.Context())
	if err != nil || nowCommit != commit || nowTree != tree {
		t.Errorf("the repository moved: %v", err)
	}
	s := runSync(t, v, night.Add(2*hour), ended(groups, failed, nil))
	if at := s.settled[groups.ID].LastComplete; !at.Equal(night) {
		t.Errorf("a dry run is remembered: %v", at)
	}
	checkRepository(t, v)
}

// The bytes do not depend on the order in which items arrive.
func TestDeterministic(t *testing.T) {
	var trees []string
	for range 3 {
		v := newVault(t, nil)
		s := runSync(t, v, night, whole(groups, documents(numbered(0, 50)...)), whole(apps, documents("Foo", "foo", "../x")))
		trees = append(trees, s.snapshot.GetTree())
	}
	if trees[0] != trees[1] || trees[1] != trees[2] {
		t.Errorf("trees %v", trees)
	}
}

func TestItemsThatCannotBeStored(t *testing.T) {
	v := newVault(t, nil)
	staging, err := v.Begin(t.Context(), port.Turn{Attempt: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer staging.Close()
	add := func(id, document string) error {
		return staging.Add(groups, port.Item{ID: id, DisplayName: "\xff", JSON: []byte(document)})
	}
	for _, id := range []string{"a", "A", "a~" /* safe and unsafe ones that look alike */, SafeName("A")} {
		if err := add(id, `{}`); err != nil {
			t.Errorf("%q: %v", id, err)
		}
	}
	if err := add("a", ` {} `); err != nil {
		t.Errorf("the same item again: %v", err)
	}
	for id, document := range map[string]string{"a": `{"x":1}`, "A": `{"x":1}`, "": `{}`, "\xff": `{}`, "b": `{`, "c": `{"x":1,"x":2}`} {
		var refused *port.ItemError
		if err := add(id, document); !errors.As(err, &refused) {
			t.Errorf("%q: %v", id, err)
		}
	}
	got, err := staging.Settle(groups, port.Reading{Outcome: complete, Time: night})
	if err != nil {
		t.Fatal(err)
	}
	settledAs(t, got, changed, 4, 4, 0, 0)
	if _, err := staging.Settle(groups, port.Reading{Outcome: complete}); err == nil {
		t.Error("settled twice")
	}
	if err := add("d", `{}`); err == nil {
		t.Error("added after settling")
	}
	if _, err := staging.Commit(t.Context(), port.CommitInfo{Time: night}); err != nil {
		t.Fatal(err)
	}
	checkRepository(t, v)
	if err := add("e", `{}`); err == nil {
		t.Error("added after the commit")
	}
	if _, err := staging.Commit(t.Context(), port.CommitInfo{Time: night}); err == nil {
		t.Error("committed twice")
	}
}

func TestHostileNamesInARepository(t *testing.T) {
	v := newVault(t, nil)
	items := map[string]string{}
	for _, id := range hostile {
		if id != "" && id == strings.ToValidUTF8(id, "") {
			items[id] = `{}`
		}
	}
	s := runSync(t, v, night, whole(groups, items))
	settledAs(t, s.settled[groups.ID], changed, len(items), len(items), 0, 0)
	checkRepository(t, v)
	work := t.TempDir() + "/work"
	git(t, t.TempDir(), "-c", "core.protectNTFS=true", "-c", "core.protectHFS=true", "clone", "-q", v.config.Directory, work)
	if out := git(t, work, "status", "--porcelain"); out != "" {
		t.Errorf("after checking out: %s", out)
	}
	seen := map[string]string{}
	for change, err := range v.Changes(t.Context(), s.snapshot.GetCommit(), groups.ID) {
		if err != nil {
			t.Fatal(err)
		}
		seen[change.GetId()] = change.GetDisplayName()
	}
	for id := range items {
		if !strings.HasPrefix("Name of "+id, seen[id]) || seen[id] == "" {
			t.Errorf("%q has the name %q", id, seen[id])
		}
	}
}
