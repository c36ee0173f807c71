package vault

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
)

// Ids of objects in the tests of names.
const (
	sales   = "11111111-aaaa-4aaa-8aaa-000000000001"
	support = "22222222-aaaa-4aaa-8aaa-000000000002"
	policyA = "33333333-aaaa-4aaa-8aaa-00000000000a"
	policyB = "44444444-aaaa-4aaa-8aaa-00000000000b"
	nobody  = "55555555-aaaa-4aaa-8aaa-00000000000c"
)

var policies = &catalog.Type{ID: "intune/policies", Secrets: []catalog.SecretRule{{Property: "secret"}}}

// named are items with names: id → name and document.
type named map[string][2]string

func namedReading(t *catalog.Type, items named) typeReading {
	r := whole(t, map[string]string{})
	r.names = map[string]string{}
	for id, item := range items {
		r.names[id], r.items[id] = item[0], item[1]
	}
	return r
}

func groupsNamed(ofSales, ofSupport string) typeReading {
	return namedReading(groups, named{sales: {ofSales, `{"v":1}`}, support: {ofSupport, `{"v":1}`}})
}

func assignedTo(ids ...string) string {
	var assignments []string
	for _, id := range ids {
		assignments = append(assignments, fmt.Sprintf(`{"target":{"groupId":%q}}`, id))
	}
	return `{"assignments":[` + strings.Join(assignments, ",") + `]}`
}

// expectNames demands what is in the file of names of a type: id, type, name; nothing:
// there is no file.
func expectNames(t *testing.T, v *Vault, configurationType *catalog.Type, lines ...[3]string) {
	t.Helper()
	want := ""
	for i, line := range lines {
		want += []string{"{\n", ",\n"}[min(i, 1)] + fmt.Sprintf(`  %q:{"configuration_type":%q,"display_name":%q}`, line[0], line[1], line[2])
	}
	if want != "" {
		want += "\n}"
	}
	got := ""
	if path := configurationType.ID + "/" + namesFile; git(t, v.config.Directory, "ls-tree", v.ref().String(), path) != "" {
		got = git(t, v.config.Directory, "show", v.ref().String()+":"+path)
	}
	if got != want {
		t.Errorf("the names of %s are\n%s\nwant\n%s", configurationType.ID, got, want)
	}
}

func TestNamesBesideIDs(t *testing.T) {
	v := newVault(t, nil)
	got := runSync(t, v, night,
		groupsNamed("Sales", `Support "2" é`),
		namedReading(policies, named{
			policyA: {"A", `{"id":"` + policyA + `","groupId":"` + support + `","deep":[[{"x":"` + sales + `"}]],"unknown":"` + nobody + `"}`},
			policyB: {"B", `{"extends":"` + policyA + `","again":["` + sales + `","` + sales + `"]}`},
			"other": {"Other", `{"id":"other"}`},
		}))
	settledAs(t, got.settled[policies.ID], changed, 3, 3, 0, 0)
	expectNames(t, v, policies,
		[3]string{sales, groups.ID, "Sales"}, [3]string{support, groups.ID, `Support "2" é`}, [3]string{policyA, policies.ID, "A"})
	expectNames(t, v, groups)
	changes := map[string]bool{}
	for change, err := range v.Changes(t.Context(), got.snapshot.GetCommit(), policies.ID) {
		if err != nil {
			t.Fatal(err)
		}
		changes[change.GetId()] = true
	}
	if want := map[string]bool{policyA: true, policyB: true, "other": true}; !maps.Equal(changes, want) {
		t.Errorf("changes %v", changes)
	}
	checkRepository(t, v)
}

// What is no reference: names of properties, parts of texts, other spellings, ids of
// nothing, ids without names, and what is secret.
func TestNoNamesBesideWhatIsNoID(t *testing.T) {
	for name, document := range map[string]string{
		"a property":     `{"` + sales + `":1}`,
		"part of a text": `{"a":"/groups/` + sales + `","b":"\"` + sales + `\"","c":"x\"` + sales + `","d":"` + sales + `\"x"}`,
		"upper case":     `{"a":"` + strings.ToUpper(sales) + `","b":"{` + sales + `}","c":"` + strings.ReplaceAll(sales, "-", "") + `"}`,
		"unknown":        `{"a":"` + nobody + `"}`,
		"secret":         `{"secret":"` + sales + `"}`,
		"in a secret":    `{"secret":{"a":["` + sales + `"]}}`,
		"dropped":        `{"lastModifiedDateTime":"` + sales + `"}`,
		"itself":         `{"id":"` + policyA + `","a":"` + policyA + `"}`,
		"without a name": `{"a":"` + support + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			v := newVault(t, nil)
			runSync(t, v, night, groupsNamed("Sales", ""), namedReading(policies, named{policyA: {"A", document}}))
			expectNames(t, v, policies)
		})
	}
}

// A renamed object is renamed wherever it is referred to, which changes no item; what is
// the same is not committed again.
func TestNamesFollow(t *testing.T) {
	v := newVault(t, nil)
	policy := namedReading(policies, named{policyA: {"A", assignedTo(sales)}})
	first := runSync(t, v, night, groupsNamed("Sales", "Support"), policy)
	expectNames(t, v, policies, [3]string{sales, groups.ID, "Sales"})
	if again := runSync(t, v, night.Add(hour), policy, groupsNamed("Sales", "Support")); again.snapshot.GetCreated() {
		t.Error("a commit, though nothing changed")
	}

	renamed := runSync(t, v, night.Add(2*hour), policy, groupsNamed("Vertrieb", "Support"))
	settledAs(t, renamed.settled[policies.ID], unchanged, 1, 0, 0, 0)
	expectNames(t, v, policies, [3]string{sales, groups.ID, "Vertrieb"})
	if renamed.settled[policies.ID].Basis != first.settled[policies.ID].Basis || basisOf(t, v, policies) != first.settled[policies.ID].Basis {
		t.Error("a name is part of what delta readings build on")
	}
	for change, err := range v.Changes(t.Context(), renamed.snapshot.GetCommit(), policies.ID) {
		t.Errorf("a change of %v, %v", change, err)
	}
	if again := runSync(t, v, night.Add(3*hour), policy, groupsNamed("Vertrieb", "Support")); again.snapshot.GetCreated() {
		t.Error("a commit, though nothing changed")
	}

	// Types that are not in the sync have names too, and get none.
	runSync(t, v, night.Add(4*hour), namedReading(policies, named{policyA: {"A", assignedTo(support)}}))
	expectNames(t, v, policies, [3]string{support, groups.ID, "Support"})
	runSync(t, v, night.Add(5*hour), groupsNamed("Vertrieb", "Hilfe"))
	expectNames(t, v, policies, [3]string{support, groups.ID, "Support"})
	late := runSync(t, v, night.Add(6*hour), namedReading(policies, named{policyA: {"A", assignedTo(support)}}))
	settledAs(t, late.settled[policies.ID], unchanged, 1, 0, 0, 0)
	expectNames(t, v, policies, [3]string{support, groups.ID, "Hilfe"})

	// Nothing to name: no file.
	gone := runSync(t, v, night.Add(7*hour), namedReading(policies, named{policyA: {"A", assignedTo()}}))
	settledAs(t, gone.settled[policies.ID], changed, 1, 0, 1, 0)
	expectNames(t, v, policies)
	checkRepository(t, v)
}

// The first law: what was not read keeps its names as they are, though they are old. Of
// what was read incompletely the names are those of before and those of what was read.
func TestNamesOfWhatWasNotRead(t *testing.T) {
	v := newVault(t, nil)
	runSync(t, v, night, groupsNamed("Sales", "Support"), namedReading(policies, named{policyA: {"A", assignedTo(sales)}}))
	for i, outcome := range []typeReading{ended(policies, failed, nil), ended(policies, notBackedUp, nil), ended(policies, notAvailable, nil), ended(policies, incomplete, nil)} {
		runSync(t, v, night.Add(hour), outcome, groupsNamed(fmt.Sprintf("Sales %d", i), "Support"))
		expectNames(t, v, policies, [3]string{sales, groups.ID, "Sales"})
	}
	partly := namedReading(policies, named{policyB: {"B", assignedTo(support, policyA)}})
	partly.reading.Outcome = incomplete
	runSync(t, v, night.Add(2*hour), partly, groupsNamed("Vertrieb", "Support"))
	all := [][3]string{{sales, groups.ID, "Vertrieb"}, {support, groups.ID, "Support"}, {policyA, policies.ID, "A"}}
	expectNames(t, v, policies, all...)

	delta := byDelta(t, v, policies, map[string]string{policyB: assignedTo(support)})
	delta.names = map[string]string{policyB: "B"}
	runSync(t, v, night.Add(3*hour), delta)
	expectNames(t, v, policies, all...) // that B does not refer to A any more is not known of the others

	runSync(t, v, night.Add(4*hour), namedReading(policies, named{policyA: {"A", assignedTo(sales)}, policyB: {"B", assignedTo(support)}}))
	expectNames(t, v, policies, all[:2]...)
	// What is gone from the backup has no name.
	runSync(t, v, night.Add(5*hour), namedReading(groups, named{support: {"Support", `{"v":1}`}}).accepting(), byDelta(t, v, policies, nil))
	checkRepository(t, v)
}

// Many references are not held in memory, and come out as few ones do.
func TestNamesOfMany(t *testing.T) {
	t.Parallel()
	v := newVault(t, nil)
	const n, known = 2*maxReferences + 5000, 1500
	id := func(i int) string { return fmt.Sprintf("%08x-0000-4000-8000-%012x", i*2654435761%(1<<32), i) }
	members := named{}
	for i := range known {
		members[id(i)] = [2]string{fmt.Sprintf("Name %d", i), `{"v":1}`}
	}
	referring := named{}
	for i := range 100 {
		var ids []string
		for j := i; j < n; j += 100 {
			ids = append(ids, id(j), id((j*7)%n)) // each again, most of nobody
		}
		referring[fmt.Sprintf("policy-%d", i)] = [2]string{"P", assignedTo(ids...)}
	}
	readings := []typeReading{namedReading(groups, members), namedReading(policies, referring)}
	runSync(t, v, night, readings...)
	var want [][3]string
	for i := range known {
		want = append(want, [3]string{id(i), groups.ID, fmt.Sprintf("Name %d", i)})
	}
	slices.SortFunc(want, func(a, b [3]string) int { return strings.Compare(a[0], b[0]) })
	expectNames(t, v, policies, want...)
	if again := runSync(t, v, night.Add(hour), readings...); again.snapshot.GetCreated() {
		t.Error("a commit, though nothing changed")
	}
	checkRepository(t, v)
}

// Whatever somebody puts in the place of the names or of the index, the next sync is
// well, and makes the names anew.
func TestNamesChangedByHand(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, folder string){
		"broken": func(t *testing.T, folder string) { write(t, folder, namesFile, "{{\n  \"\n  \"1111\n\x00") },
		"empty":  func(t *testing.T, folder string) { write(t, folder, namesFile, "") },
		"gone":   func(t *testing.T, folder string) { remove(t, folder, namesFile) },
		"other name": func(t *testing.T, folder string) {
			write(t, folder, namesFile, "{\n  \""+sales+"\":{\"display_name\":\"x\"}\n}\n")
		},
		"a link": func(t *testing.T, folder string) {
			remove(t, folder, namesFile)
			if err := os.Symlink("../../etc/passwd", filepath.Join(folder, namesFile)); err != nil {
				t.Fatal(err)
			}
		},
		"a folder": func(t *testing.T, folder string) {
			remove(t, folder, namesFile)
			if err := os.Mkdir(filepath.Join(folder, namesFile), 0o700); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(folder, namesFile), "x", "x")
		},
		"a folder beside it": func(t *testing.T, folder string) {
			if err := os.Mkdir(filepath.Join(folder, "_names"), 0o700); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(folder, "_names"), "x", "x")
		},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVault(t, nil)
			policy := namedReading(policies, named{policyA: {"A", assignedTo(sales)}})
			first := runSync(t, v, night, groupsNamed("Sales", "Support"), policy)
			byHand(t, v, func(work string) { change(t, filepath.Join(work, filepath.FromSlash(policies.ID))) })

			delta := byDelta(t, v, policies, map[string]string{policyA: assignedTo(sales)})
			if name != "a link" && name != "a folder" && name != "a folder beside it" && delta.reading.Since != first.settled[policies.ID].Basis {
				t.Error("the names are part of what delta readings build on")
			}
			delta.names = map[string]string{policyA: "A"}
			runSync(t, v, night.Add(hour), delta)
			expectNames(t, v, policies, [3]string{sales, groups.ID, "Sales"})
			again := runSync(t, v, night.Add(2*hour), policy)
			expectNames(t, v, policies, [3]string{sales, groups.ID, "Sales"})
			if again.snapshot.GetCreated() {
				t.Error("a commit, though nothing changed")
			}
			checkRepository(t, v)
		})
	}
	t.Run("an index", func(t *testing.T) {
		v := newVault(t, nil)
		policy := namedReading(policies, named{policyA: {"A", assignedTo(sales, support)}})
		runSync(t, v, night, groupsNamed("Sales", "Support"), policy)
		byHand(t, v, func(work string) {
			write(t, filepath.Join(work, filepath.FromSlash(groups.ID)), indexFile, `[{"file":"`+support+`.json","id":"`+support+`","display_name":"By hand"},`+
				`{"file":"`+sales+`.json","id":"`+policyA+`","display_name":"Another id"}]`)
		})
		runSync(t, v, night.Add(hour), policy)
		expectNames(t, v, policies, [3]string{support, groups.ID, "By hand"})
	})
}

// byHand changes the backup as a person does, in a work tree.
func byHand(t *testing.T, v *Vault, change func(work string)) {
	t.Helper()
	work := filepath.Join(t.TempDir(), "work")
	git(t, ".", "clone", "--quiet", v.config.Directory, work)
	change(work)
	git(t, work, "add", "--all")
	git(t, work, "commit", "--quiet", "--allow-empty", "--message", "By hand")
	git(t, work, "push", "--quiet")
}

func write(t *testing.T, folder, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, folder, name string) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(folder, name)); err != nil {
		t.Fatal(err)
	}
}

// An item may be called like the file of names.
func TestItemNamedLikeTheNames(t *testing.T) {
	v := newVault(t, nil)
	runSync(t, v, night, groupsNamed("Sales", "Support"),
		namedReading(policies, named{"_names": {"A", assignedTo(sales)}, "_names.json": {"B", `{}`}}))
	expectNames(t, v, policies, [3]string{sales, groups.ID, "Sales"})
	if items := itemsOf(files(t, v), policies); len(items) != 2 {
		t.Errorf("items %v", items)
	}
	checkRepository(t, v)
}

// A dry run makes no names.
func TestNamesInADryRun(t *testing.T) {
	v := newVault(t, nil)
	staging, err := v.Begin(t.Context(), port.Turn{Attempt: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer staging.Close()
	for _, id := range []string{sales, support} {
		if err := staging.Add(groups, port.Item{ID: id, DisplayName: "N", JSON: []byte(assignedTo(support))}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := staging.Settle(groups, port.Reading{Outcome: complete, Time: night}); err != nil {
		t.Fatal(err)
	}
	snapshot, err := staging.Commit(t.Context(), port.CommitInfo{DryRun: true, Time: night})
	if err != nil || snapshot != nil {
		t.Errorf("%v, %v", snapshot, err)
	}
}

// A worker that takes a sync over makes the names of what an earlier one settled, as if
// that had made the commit: of new and of unchanged folders, in the last commit or not.
func TestNamesAfterATakeover(t *testing.T) {
	all := func(name string) []typeReading {
		return []typeReading{
			groupsNamed(name, "Support"),
			namedReading(policies, named{policyA: {"A", assignedTo(sales)}, policyB: {"B", assignedTo(support, policyA)}}),
			namedReading(apps, named{nobody: {"App", assignedTo(sales)}}),
		}
	}
	partly := namedReading(scripts, named{"s": {"S", assignedTo(sales)}})
	partly.reading.Outcome = incomplete
	for name, before := range map[string][]typeReading{
		"nothing":          nil,
		"other names":      all("Sales"),
		"the same":         all("Vertrieb"),
		"one type":         all("Sales")[1:2],
		"names, not types": {all("Sales")[0], namedReading(policies, named{policyA: {"A", assignedTo(sales)}})},
	} {
		t.Run(name, func(t *testing.T) {
			v, undisturbed := newVault(t, always), newVault(t, always)
			for _, v := range []*Vault{v, undisturbed} {
				runSync(t, v, night, append(slices.Clone(before), whole(roles, documents("r")))...)
			}
			runNamedSync(t, undisturbed, theSync, night.Add(hour), append(all("Vertrieb"), partly)...)

			s := begin(t, v, theSync)
			settled := read(t, s, night.Add(hour), all("Vertrieb")...)
			s.checkpoint()
			die(t, s)
			for range 2 {
				s = begin(t, v, theSync)
				for _, r := range all("Vertrieb") {
					if got, ok := s.Resumed(r.t); !ok || got != settled[r.t.ID] {
						t.Errorf("%s was settled %v, then %v, %v", r.t.ID, settled[r.t.ID], got, ok)
					}
				}
				if s.checkpoint(); t.Failed() {
					return
				}
				die(t, s)
			}
			s = begin(t, v, theSync)
			for _, r := range all("Vertrieb") {
				if _, ok := s.Resumed(r.t); !ok {
					t.Fatalf("%s is to be read again", r.t.ID)
				}
			}
			read(t, s, night.Add(hour), partly)
			commit(t, s, night.Add(hour))
			if got, want := files(t, v), files(t, undisturbed); !maps.Equal(got, want) {
				t.Errorf("the backup is\n%v\nundisturbed\n%v", got, want)
			}
			expectNames(t, v, apps, [3]string{sales, groups.ID, "Vertrieb"})
			expectNames(t, v, scripts, [3]string{sales, groups.ID, "Vertrieb"})
			nothingLeft(t, v)
			if unused := git(t, v.config.Directory, "fsck", "--unreachable", "--no-progress"); unused != "" && len(before) == 0 {
				t.Errorf("what was kept for the takeover is in the backup: %s", unused)
			}
		})
	}
}
