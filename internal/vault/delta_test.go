package vault

import (
	"slices"
	"strings"
	"testing"
	"time"

	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
)

// byDelta is a complete reading by delta on top of what the backup holds.
func byDelta(t *testing.T, v *Vault, configurationType *catalog.Type, items map[string]string, removed ...string) typeReading {
	t.Helper()
	return typeReading{t: configurationType, items: items, reading: port.Reading{
		Outcome: complete, Identity: asServicePrincipal, Since: basisOf(t, v, configurationType), Removed: removed,
	}}
}

func basisOf(t *testing.T, v *Vault, configurationType *catalog.Type) string {
	t.Helper()
	staging, err := v.Begin(t.Context(), port.Turn{Attempt: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer staging.Close()
	basis, err := staging.Basis(configurationType)
	if err != nil {
		t.Fatal(err)
	}
	return basis
}

// A reading by delta leaves the same tree as the full one that it stands for.
func TestReadingByDelta(t *testing.T) {
	v := newVault(t, nil)
	if basis := basisOf(t, v, groups); basis != "" {
		t.Errorf("an empty backup has the basis %q", basis)
	}
	first := runSync(t, v, night, whole(groups, documents("a", "b", "c", "d", "e", "f")))
	if got := basisOf(t, v, groups); got == "" || got != first.settled[groups.ID].Basis {
		t.Errorf("the backup has the basis %q, the settlement said %q", got, first.settled[groups.ID].Basis)
	}
	nothing := runSync(t, v, night.Add(hour), byDelta(t, v, groups, nil))
	settledAs(t, nothing.settled[groups.ID], unchanged, 6, 0, 0, 0)
	if nothing.snapshot.GetCreated() || !nothing.settled[groups.ID].LastComplete.Equal(night.Add(hour)) {
		t.Errorf("nothing changed: %v", nothing)
	}

	changes := documents("a", "g") // a is as it was
	changes["b"] = `{"id":"b","x":1}`
	some := runSync(t, v, night.Add(2*hour), byDelta(t, v, groups, changes, "c", "never known"))
	settledAs(t, some.settled[groups.ID], changed, 6, 1, 1, 1)

	all := documents("a", "d", "e", "f", "g")
	all["b"] = `{"id":"b","x":1}`
	other := newVault(t, nil)
	runSync(t, other, night, whole(groups, all))
	if got, want := basisOf(t, v, groups), basisOf(t, other, groups); got != want {
		t.Errorf("the backup is %s, after a full reading %s", got, want)
	}
	checkRepository(t, v)
}

// What builds on another tree, or on nothing, is refused: what it would take over is
// not what the tenant has.
func TestReadingByDeltaOnSomethingElse(t *testing.T) {
	v := newVault(t, nil)
	refused := func(since string) {
		t.Helper()
		staging, err := v.Begin(t.Context(), port.Turn{Attempt: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer staging.Close()
		_, err = staging.Settle(groups, port.Reading{Outcome: complete, Since: since, Time: night})
		if err == nil || !strings.Contains(err.Error(), "another backup") {
			t.Errorf("since %q: %v", since, err)
		}
	}
	refused("something")
	runSync(t, v, night, whole(groups, documents("a", "b")))
	old := basisOf(t, v, groups)
	runSync(t, v, night.Add(hour), whole(groups, documents("a", "b", "c")))
	refused(old)
	refused("something")
	v.config.FingerprintKey = []byte("another key of thirty-two bytes!")
	refused(strings.Split(old, ":")[0])
	if basisOf(t, v, groups) == basisOf(t, newVault(t, nil), groups) {
		t.Error("the key makes no difference")
	}
}

// An incomplete reading never removes anything, whatever it says of removals.
func TestIncompleteReadingByDelta(t *testing.T) {
	v := newVault(t, nil)
	runSync(t, v, night, whole(groups, documents("a", "b", "c")))
	reading := ended(groups, incomplete, documents("d"))
	reading.reading.Since, reading.reading.Removed = basisOf(t, v, groups), []string{"a"}
	got := runSync(t, v, night.Add(hour), reading)
	settledAs(t, got.settled[groups.ID], incomplete, 4, 1, 0, 0)
	if got.settled[groups.ID].Basis != "" {
		t.Error("an incomplete type is a basis")
	}
}

// The collapse guard counts what is gone by delta, too.
func TestCollapseByDelta(t *testing.T) {
	v := newVault(t, nil)
	ids := strings.Split("a b c d e f g h", " ")
	runSync(t, v, night, whole(groups, documents(ids...)))
	got := runSync(t, v, night.Add(time.Minute), byDelta(t, v, groups, nil, ids[:5]...))
	settledAs(t, got.settled[groups.ID], incomplete, 8, 0, 0, 0)
	if got.settled[groups.ID].Reason != collapsedCount {
		t.Errorf("reason %v", got.settled[groups.ID].Reason)
	}
	if items := itemsOf(files(t, v), groups); !slices.Equal(items, ids) {
		t.Errorf("items %v", items)
	}
}
