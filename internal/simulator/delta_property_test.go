package simulator_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"pgregory.net/rapid"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
	"understudy.internal/internal/simulator"
	"understudy.internal/internal/vault"
)

// continued is a backup of one type that is continued from where the last reading
// left off, as the engine does it.
type continued struct {
	t     *rapid.T
	entry *catalog.Type
	r     *reader
	vault *vault.Vault
	// cursor is where a reading left off, basis what the backup held then.
	cursor port.Cursor
	basis  string
	// modes counts how it was read.
	modes map[understudyv1.ReadMode]int
}

// How a sync may end.
const (
	stored    = "stored"
	forgotten = "killed before the cursor was stored"
	dryRun    = "a dry run"
	inFull    = "in full"
)

// sync reads the type and commits. It returns what the backup then holds.
func (c *continued) sync(end string) string {
	c.t.Helper()
	staging, err := c.vault.Begin(c.t.Context(), port.Turn{Attempt: 1})
	if err != nil {
		c.t.Fatal(err)
	}
	defer staging.Close()
	basis, err := staging.Basis(c.entry)
	if err != nil {
		c.t.Fatal(err)
	}
	var since port.Cursor
	if basis != "" && basis == c.basis && end != inFull {
		since = c.cursor
	}
	increment, err := c.r.session.ReadSince(c.t.Context(), c.entry, c.r.application, since, func(i port.Item) error {
		return staging.Add(c.entry, i)
	})
	if err != nil {
		c.t.Fatalf("reading %s: %v", c.entry.ID, err)
	}
	c.modes[increment.Mode]++
	reading := port.Reading{
		Outcome: understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_CHANGED, Identity: c.entry.Reader(),
		Time: time.Now(), AcceptCollapse: true,
	}
	if increment.Mode == understudyv1.ReadMode_READ_MODE_DELTA {
		if since == nil {
			c.t.Fatal("a delta since nothing")
		}
		reading.Since, reading.Removed = basis, increment.Removed
	}
	settlement, err := staging.Settle(c.entry, reading)
	if err != nil {
		c.t.Fatal(err)
	}
	_, err = staging.Commit(c.t.Context(), port.CommitInfo{
		Sync: "tenants/contoso/syncs/one", Time: time.Now(), Counts: &understudyv1.OutcomeCounts{}, DryRun: end == dryRun,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	if end == stored || end == inFull {
		c.cursor, c.basis = increment.Cursor, settlement.Basis
	}
	return settlement.Basis
}

// Whatever changes in a tenant, and however syncs by delta and in full follow each
// other, are killed, lose their cursors or begin again from old ones: after each of
// them the backup holds what one full reading brings.
func TestDeltaIsAsGoodAsFull(t *testing.T) {
	t.Parallel()
	modes := map[understudyv1.ReadMode]int{}
	x := start(t, simulator.Config{Seed: 5, Items: 30, PageSize: 7, Counts: map[string]int{}})
	r := x.reader()
	runs, folder := 0, t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		x.Reset()
		runs++
		open := func(name string) *vault.Vault {
			v, err := vault.Open(vault.Config{
				Directory: filepath.Join(folder, fmt.Sprintf("%s-%d.git", name, runs)), FingerprintKey: make([]byte, 32),
			})
			if err != nil {
				rt.Fatal(err)
			}
			return v
		}
		entry := typeOf(t, rapid.SampledFrom([]string{
			"entra/groups", "entra/groups", "entra/oauth2-permission-grants", "entra/administrative-units", "entra/directory-roles",
		}).Draw(rt, "type"))
		c := &continued{t: rt, entry: entry, r: r, vault: open("delta"), modes: modes}
		c.sync(stored)
		for i := range rapid.IntRange(1, 4).Draw(rt, "syncs") {
			for range rapid.IntRange(0, 4).Draw(rt, "changes") {
				change(rt, x, entry)
			}
			end := rapid.SampledFrom([]string{stored, stored, stored, forgotten, dryRun, inFull}).Draw(rt, "end")
			got := c.sync(end)
			full := &continued{t: rt, entry: entry, r: r, vault: open(fmt.Sprintf("full-%d", i)), modes: map[understudyv1.ReadMode]int{}}
			if want := full.sync(inFull); got != want {
				rt.Fatalf("sync %d (%s): the backup holds %s, and a full reading brings %s", i, end, got, want)
			}
		}
	})
	if modes[understudyv1.ReadMode_READ_MODE_DELTA] < 15 {
		t.Errorf("%v: too few readings by delta for this to show something", modes)
	}
	t.Log(modes)
}

// change does something to the tenant that the type may have to do with.
func change(t *rapid.T, x *tenant, entry *catalog.Type) {
	path := "/v1.0" + entry.Path
	item := rapid.IntRange(0, 33).Draw(t, "item")
	what := rapid.IntRange(0, 7).Draw(t, "what")
	var err error
	switch {
	case what == 0:
		err = x.RemoveItem(path, item)
	case what == 1:
		err = x.SetCount(path, rapid.IntRange(20, 34).Draw(t, "count"))
	case what == 2:
		x.ExpireDeltas()
	case what < 5 || len(entry.Children) == 0:
		err = x.ChangeItem(path, item)
	default:
		child := rapid.SampledFrom(entry.Children).Draw(t, "child")
		id, ok := x.ItemID(path, item)
		if !ok {
			return // nobody can change what is not there
		}
		below := path + "/" + id + "/" + child.Path
		if rapid.Bool().Draw(t, "content") {
			err = x.ChangeItem(below, 0)
		} else {
			err = x.SetCount(below, rapid.IntRange(0, 3).Draw(t, "children"))
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}
