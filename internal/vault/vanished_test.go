package vault

import (
	"testing"
	"time"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

const vanishedReason = understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_FEATURE_NOT_AVAILABLE

// A type that was backed up is not believed to be gone because the tenant says so, and
// for however long: a path that was renamed answers like a licence that was withdrawn.
// Who confirms it is asked once.
func TestCollapseOfAWholeType(t *testing.T) {
	v := newVault(t, nil)
	at := night
	step := func(name string, reading typeReading, outcome understudyv1.ConfigurationOutcome, items int, state string) {
		t.Helper()
		at = at.Add(24 * time.Hour)
		got := runSync(t, v, at, reading).settled[groups.ID]
		if got.Outcome != outcome || got.Items != items || got.Removed != 0 || (got.Outcome == incomplete && got.Reason != vanishedReason) {
			t.Errorf("%s: %+v", name, got)
		}
		if entry := coverageOf(t, v, groups); entry.State != state || (state == stateStale && entry.Reason == "") {
			t.Errorf("%s: coverage %+v", name, entry)
		}
		if got := itemsOf(files(t, v), groups); len(got) != items {
			t.Errorf("%s: items %v", name, got)
		}
	}
	gone := ended(groups, notAvailable, nil)
	gone.reading.Reason = vanishedReason
	three := whole(groups, documents("a", "b", "c"))
	step("never backed up", gone, notAvailable, 0, stateNotAvailable)
	step("there", three, changed, 3, stateComplete)
	step("gone", gone, incomplete, 3, stateStale)
	step("gone for another night", gone, incomplete, 3, stateStale)
	step("confirmed", gone.accepting(), notAvailable, 3, stateNotAvailable)
	step("not asked again", gone, notAvailable, 3, stateNotAvailable)
	runSync(t, v, at, ended(groups, failed, nil))
	step("not asked again after a failure", gone, notAvailable, 3, stateNotAvailable)
	step("there again", three, unchanged, 3, stateComplete)
	step("gone again", gone, incomplete, 3, stateStale)
	step("confirmed again", gone.accepting(), notAvailable, 3, stateNotAvailable)
	runSync(t, v, at, ended(groups, incomplete, documents("a")))
	step("gone after it was read in part", gone, incomplete, 3, stateStale)
	checkRepository(t, v)
}

// The last commit decides, not the coverage: what was called not available before this
// rule is asked for, too.
func TestCollapseThatWasBelievedBefore(t *testing.T) {
	v := newVault(t, nil)
	runSync(t, v, night, whole(groups, documents("a")))
	begun, err := v.Begin(t.Context(), port.Turn{Attempt: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer begun.Close()
	begun.(*staging).coverage[groups.ID] = &coverageEntry{State: stateNotAvailable}
	got, err := begun.Settle(groups, ended(groups, notAvailable, nil).reading)
	if err != nil || got.Outcome != incomplete || got.Items != 1 {
		t.Errorf("%+v, %v", got, err)
	}
}

// A parent that is listed but says that it does not have the type takes nothing away
// that was backed up of it. One that never had it, or is not listed any more, is none of
// that.
func TestCollapseOfAParent(t *testing.T) {
	before := documents("a/1", "a/2", "b/1", "b", "b.c", "bb/1", "c/d/1", "odd/1")
	for name, test := range map[string]struct {
		without []string
		read    []string
		kept    bool
	}{
		"the items of a parent":          {[]string{"a"}, []string{"b/1", "b", "b.c", "bb/1", "c/d/1", "odd/1"}, true},
		"the only one of a parent":       {[]string{"bb"}, []string{"a/1", "a/2", "b/1", "b", "b.c", "c/d/1", "odd/1"}, true},
		"the object of a parent":         {[]string{"b.c"}, []string{"a/1", "a/2", "b/1", "b", "bb/1", "c/d/1", "odd/1"}, true},
		"a parent with a slash":          {[]string{"c/d"}, []string{"a/1", "a/2", "b/1", "b", "b.c", "bb/1", "odd/1"}, true},
		"one of many parents":            {[]string{"x", "y", "a", "z"}, []string{"a/1", "b/1", "b", "b.c", "bb/1", "c/d/1", "odd/1"}, true},
		"parents that never had it":      {[]string{"x", "o", "a/1/2"}, []string{"a/1", "a/2", "b/1", "b", "b.c", "bb/1", "c/d/1"}, false},
		"a parent whose items were read": {[]string{"a"}, []string{"a/1", "a/2", "b/1", "b", "b.c", "bb/1", "c/d/1"}, false},
		"no parent":                      {nil, []string{"a/1", "b/1", "b", "b.c", "bb/1", "c/d/1", "odd/1"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newVault(t, nil)
			runSync(t, v, night, whole(groups, before))
			reading := whole(groups, documents(append(test.read, "new/1")...))
			reading.reading.Without = test.without
			for i := range 2 {
				got := runSync(t, v, night.Add(time.Duration(i+1)*24*time.Hour), reading).settled[groups.ID]
				items := itemsOf(files(t, v), groups)
				switch {
				case test.kept && (got.Outcome != incomplete || got.Reason != vanishedReason || got.Removed != 0 || len(items) != len(before)+1):
					t.Errorf("%+v, items %v", got, items)
				case !test.kept && (got.Reason != 0 || len(items) != len(test.read)+1):
					t.Errorf("%+v, items %v", got, items)
				}
			}
			if got := runSync(t, v, night.Add(100*time.Hour), reading.accepting()).settled[groups.ID]; got.Reason != 0 || got.Items != len(test.read)+1 {
				t.Errorf("confirmed: %+v", got)
			}
			if got := runSync(t, v, night.Add(200*time.Hour), reading).settled[groups.ID]; got.Outcome != unchanged {
				t.Errorf("it is asked again: %+v", got)
			}
			checkRepository(t, v)
		})
	}
}

// An index that was broken by hand does not say whose an item is: it is kept.
func TestCollapseOfAParentThatIsNotKnown(t *testing.T) {
	for line, want := range map[string]bool{
		`  {"id":"a/1","file":"x"}`: true, `  {"id":"a","file":"x"}`: true, `  {"id":"ab/1","file":"x"}`: false,
		`  {"id":"","file":"x"}`: true, `{`: true, ``: true, `  {"id":"\u0061/1","file":"x"}`: true,
	} {
		if got := isBelow([]byte(line), map[string]bool{"a": true}); got != want {
			t.Errorf("%s: %v", line, got)
		}
	}
}
