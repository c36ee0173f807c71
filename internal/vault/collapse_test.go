package vault

import (
	"slices"
	"testing"
	"time"
)

// A complete list that is short, by how much, and whether it is believed at once.
func TestCollapseGuardSteps(t *testing.T) {
	for name, test := range map[string]struct {
		before, after []string
		collapsed     bool
	}{
		"all of one":                       {numbered(0, 1), nil, true},
		"all of four":                      {numbered(0, 4), nil, true},
		"all of many":                      {numbered(0, 100), nil, true},
		"all of three, others came":        {numbered(0, 3), numbered(10, 13), true},
		"three of four":                    {numbered(0, 4), numbered(0, 1), false},
		"four of five":                     {numbered(0, 5), numbered(0, 1), false},
		"five of six":                      {numbered(0, 6), numbered(0, 1), true},
		"exactly a fifth, five of 25":      {numbered(0, 25), numbered(0, 20), false},
		"five of 24 is more than a fifth":  {numbered(0, 24), numbered(0, 19), true},
		"exactly a fifth, 20 of 100":       {numbered(0, 100), numbered(0, 80), false},
		"21 of 100":                        {numbered(0, 100), numbered(0, 79), true},
		"growth does not hide it":          {numbered(0, 10), append(numbered(0, 4), numbered(20, 60)...), true},
		"nothing before, nothing now":      {nil, nil, false},
		"four of four hundred":             {numbered(0, 400), numbered(0, 396), false},
		"nothing is removed":               {numbered(0, 5), numbered(0, 9), false},
		"four of 19 are fewer than five":   {numbered(0, 19), numbered(0, 15), false},
		"one of one, another one is there": {[]string{"a"}, []string{"b"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newVault(t, nil)
			staged := func(at time.Time, ids []string) synced { return runSync(t, v, at, whole(groups, documents(ids...))) }
			staged(night, test.before)
			got := staged(night.Add(hour), test.after).settled[groups.ID]
			if collapsed := got.Reason == collapsedCount; collapsed != test.collapsed || (collapsed != (got.Outcome == incomplete)) {
				t.Fatalf("got %+v", got)
			}
			want := test.after
			if test.collapsed { // what it lists is updated, nothing is removed
				want = slices.Concat(test.before, test.after)
				slices.Sort(want)
				want = slices.Compact(want)
			}
			if items := itemsOf(files(t, v), groups); !slices.Equal(items, want) && len(items)+len(want) > 0 {
				t.Errorf("items %v", items)
			}
		})
	}
}

func TestCollapseIsBelievedLater(t *testing.T) {
	v := newVault(t, nil)
	at := night
	read := func(after time.Duration, reading typeReading) synced {
		at = at.Add(after)
		return runSync(t, v, at, reading)
	}
	short, other := whole(groups, documents("a", "b")), whole(groups, documents("a", "c"))
	read(0, whole(groups, documents("a", "b", "c", "d", "e", "f", "g", "h")))
	at = at.Add(300 * time.Millisecond) // no wait is shortened by rounding

	first := read(hour, short)
	settledAs(t, first.settled[groups.ID], incomplete, 8, 0, 0, 0)
	if entry := coverageOf(t, v, groups); !first.snapshot.GetCreated() || entry.State != stateStale || entry.Reason != "count_collapsed" || entry.Collapse.Items != 2 {
		t.Errorf("coverage %+v", entry)
	}
	if read(hour-time.Millisecond, short).snapshot.GetCreated() {
		t.Error("two nights that are equal make a commit")
	}
	// Another short list: the wait begins anew.
	if got := read(hour, other).settled[groups.ID]; got.Reason != collapsedCount {
		t.Errorf("another list is believed: %+v", got)
	}
	// A reading that is not complete confirms nothing, and forgets nothing.
	if got := read(10*time.Minute, ended(groups, incomplete, documents("a", "c"))).settled[groups.ID]; got.Outcome != incomplete || got.Removed != 0 {
		t.Errorf("%+v", got)
	}
	if got := read(10*time.Minute, ended(groups, failed, nil)).settled[groups.ID]; got.Items != 8 {
		t.Errorf("%+v", got)
	}
	if got := read(39*time.Minute, other).settled[groups.ID]; got.Reason != collapsedCount {
		t.Errorf("believed after 59 minutes: %+v", got)
	}
	settledAs(t, read(time.Minute+time.Second, other).settled[groups.ID], changed, 2, 0, 0, 6)
	if entry := coverageOf(t, v, groups); entry.Collapse != nil || entry.State != stateComplete {
		t.Errorf("coverage %+v", entry)
	}
	checkRepository(t, v)
}

func TestAGoodListForgetsACollapse(t *testing.T) {
	v := newVault(t, func(c *Config) { c.CollapseWait = 10 * time.Minute })
	full, short := whole(groups, documents(numbered(0, 10)...)), whole(groups, documents(numbered(0, 2)...))
	runSync(t, v, night, full)
	runSync(t, v, night.Add(hour), short)
	runSync(t, v, night.Add(2*hour), full)
	if got := runSync(t, v, night.Add(3*hour), short).settled[groups.ID]; got.Reason != collapsedCount {
		t.Errorf("an old collapse confirms a new one: %+v", got)
	}
	settledAs(t, runSync(t, v, night.Add(3*hour+11*time.Minute), short).settled[groups.ID], changed, 2, 0, 0, 8)
}

func TestAcceptCollapse(t *testing.T) {
	v := newVault(t, nil)
	runSync(t, v, night, whole(groups, documents("a", "b")), whole(apps, documents("x")))
	accepted := whole(groups, nil)
	accepted.reading.AcceptCollapse = true
	s := runSync(t, v, night.Add(time.Minute), accepted, whole(apps, nil))
	settledAs(t, s.settled[groups.ID], changed, 0, 0, 0, 2)
	if got := s.settled[apps.ID]; got.Reason != collapsedCount || got.Items != 1 {
		t.Errorf("accepting one type accepted another: %+v", got)
	}
	checkRepository(t, v)
}

// Updates of a collapsed list are stored.
func TestCollapsedListUpdates(t *testing.T) {
	v := newVault(t, nil)
	runSync(t, v, night, whole(groups, documents(numbered(0, 10)...)))
	items := map[string]string{"item-000": `{"new":true}`, "extra": `{}`}
	settledAs(t, runSync(t, v, night.Add(hour), whole(groups, items)).settled[groups.ID], incomplete, 11, 1, 1, 0)
	if now := files(t, v); len(itemsOf(now, groups)) != 11 || now["entra/groups/item-000.json"] != "{\n  \"new\": true\n}" {
		t.Errorf("%v", now)
	}
}
