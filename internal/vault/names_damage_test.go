package vault

import (
	"bytes"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"understudy.internal/internal/port"
)

// What is damaged of a type that is not in the sync stops no commit: the others keep the
// names that they had of it, and a warning says so.
func TestNamesBesideDamage(t *testing.T) {
	index, names := groups.ID+"/"+indexFile, policies.ID+"/"+namesFile
	object := func(path string) func(*testing.T, *Vault) {
		return func(t *testing.T, v *Vault) { damageObject(t, v, "main:"+path) }
	}
	brokenBy := func(content string) func(*testing.T, *Vault) {
		return func(t *testing.T, v *Vault) {
			byHand(t, v, func(work string) { write(t, filepath.Join(work, filepath.FromSlash(groups.ID)), indexFile, content) })
		}
	}
	oldApp, newApp := [3]string{support, apps.ID, "App"}, [3]string{support, apps.ID, "New app"}
	const salesName = `Sales","display_name":"x"},` // what a line is built of may be in a name
	kept, newScript := [3]string{sales, groups.ID, salesName}, [3]string{policyB, scripts.ID, "New script"}
	readApps := namedReading(apps, named{support: {"New app", `{"v":1}`}})
	for name, test := range map[string]struct {
		damage func(*testing.T, *Vault)
		read   []typeReading
		// says is whose damage the log names, and want the names after it.
		says string
		want [][3]string
	}{
		"the index":         {object(index), []typeReading{readApps}, groups.ID, [][3]string{kept, newApp, newScript}},
		"the folder":        {object(groups.ID), []typeReading{readApps}, groups.ID, [][3]string{kept, newApp, newScript}},
		"the workload":      {object("entra"), nil, "entra", [][3]string{kept, oldApp, newScript}},
		"an index by hand":  {brokenBy(`[{"id":`), []typeReading{readApps}, groups.ID, [][3]string{kept, newApp, newScript}},
		"an index cut off":  {brokenBy("[\n"), []typeReading{readApps}, groups.ID, [][3]string{kept, newApp, newScript}},
		"an empty index":    {brokenBy(""), []typeReading{readApps}, groups.ID, [][3]string{kept, newApp, newScript}},
		"the names as well": {func(t *testing.T, v *Vault) { brokenBy("[")(t, v); object(names)(t, v) }, []typeReading{readApps}, groups.ID, [][3]string{{sales, scripts.ID, "New other"}, newApp, newScript}},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			v := newVault(t, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
			runSync(t, v, night, groupsNamed(salesName, "Support"),
				namedReading(apps, named{support: {"App", `{"v":1}`}}),
				namedReading(scripts, named{policyB: {"Script", `{"v":1}`}, sales: {"Other", `{"v":1}`}}),
				namedReading(policies, named{policyA: {"A", assignedTo(sales, support, policyB)}}))
			expectNames(t, v, policies, kept, oldApp, [3]string{policyB, scripts.ID, "Script"})
			test.damage(t, v)
			log.Reset()

			readings := append(test.read,
				namedReading(scripts, named{policyB: {"New script", `{"v":1}`}, sales: {"New other", `{"v":1}`}}),
				namedReading(policies, named{policyA: {"A", assignedTo(sales, support, policyB)}}))
			runSync(t, v, night.Add(hour), readings...)
			expectNames(t, v, policies, test.want...)
			if said := log.String(); strings.Count(said, "configuration_type="+test.says+" ") != 1 || strings.Contains(said, "Sales") {
				t.Errorf("log: %s", said)
			}
			if again := runSync(t, v, night.Add(2*hour), readings...); again.snapshot.GetCreated() {
				t.Error("a commit, though nothing changed")
			}
			// What nobody refers to any more is not kept.
			runSync(t, v, night.Add(3*hour), append(readings[:len(readings)-1], namedReading(policies, named{policyA: {"A", assignedTo(policyB)}}))...)
			expectNames(t, v, policies, newScript)
		})
	}
}

// A name that is kept gives way to that of an object of the same id whose type comes
// before, as it would if its own could be read.
func TestKeptNamesHaveNoPriority(t *testing.T) {
	v := newVault(t, nil)
	policy := namedReading(policies, named{policyA: {"A", assignedTo(sales, support)}})
	runSync(t, v, night, groupsNamed("Sales", "Support"), policy)
	damageObject(t, v, "main:"+groups.ID+"/"+indexFile)
	runSync(t, v, night.Add(hour), policy, namedReading(apps, named{support: {"App", `{"v":1}`}}), namedReading(scripts, named{sales: {"Script", `{"v":1}`}}))
	expectNames(t, v, policies, [3]string{sales, groups.ID, "Sales"}, [3]string{support, apps.ID, "App"})
}

// The damaged index of a type that is read is another matter. A complete list does not
// need it. Else it says what the items are called that were not read: without it there
// is no commit.
func TestDamagedIndexOfWhatIsRead(t *testing.T) {
	for name, test := range map[string]struct {
		reading func(*testing.T, *Vault) typeReading
		commits bool
	}{
		"complete":   {func(*testing.T, *Vault) typeReading { return groupsNamed("New", "Support") }, true},
		"incomplete": {func(*testing.T, *Vault) typeReading { return ended(groups, incomplete, documents("a")) }, false},
		"by delta":   {func(t *testing.T, v *Vault) typeReading { return byDelta(t, v, groups, documents("a")) }, false},
		"failed":     {func(*testing.T, *Vault) typeReading { return ended(groups, failed, nil) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVault(t, nil)
			runSync(t, v, night, groupsNamed("Sales", "Support"))
			damageObject(t, v, "main:"+groups.ID+"/"+indexFile)
			r := test.reading(t, v)
			s := begin(t, v, "")
			for id, document := range r.items {
				if err := s.Add(groups, port.Item{ID: id, DisplayName: r.nameOf(id), JSON: []byte(document)}); err != nil {
					t.Fatal(err)
				}
			}
			r.reading.Time = night.Add(hour)
			_, err := s.Settle(groups, r.reading)
			if (err == nil) != test.commits {
				t.Errorf("settled: %v", err)
			}
			if err != nil {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
				return
			}
			commit(t, s, night.Add(hour))
			if name == "complete" {
				runSync(t, v, night.Add(2*hour), namedReading(policies, named{policyA: {"A", assignedTo(sales)}}))
				expectNames(t, v, policies, [3]string{sales, groups.ID, "New"})
			}
		})
	}
}
