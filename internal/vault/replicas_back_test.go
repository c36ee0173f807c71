package vault

import (
	"slices"
	"testing"
	"time"
)

// What other replicas added and removed again leaves their folder as it was before. That
// is no reason to take what an older commit of ours has: it would bring back what is
// gone.
func TestRemovedAgainStaysRemoved(t *testing.T) {
	path := bareRemote(t)
	first, second := replica(t, path), replica(t, path)
	wantPushed(t, runSync(t, first, night, whole(groups, documents("kept")), whole(apps, documents("app"))))
	syncUnpushed(t, first, path, night.Add(hour), ended(groups, incomplete, documents("short-lived")), whole(apps, documents("app", "new")))
	wantPushed(t, runSync(t, second, night.Add(2*hour), whole(groups, documents("kept", "short-lived"))))
	wantPushed(t, runSync(t, second, night.Add(3*hour), whole(groups, documents("kept"))))
	wantPushed(t, runSync(t, first, night.Add(4*hour), whole(scripts, documents("s"))))
	sameBranch(t, first, path)
	all := files(t, first)
	if got := itemsOf(all, groups); !slices.Equal(got, []string{"kept"}) {
		t.Errorf("groups: %v", got)
	}
	if got := itemsOf(all, apps); !slices.Equal(got, []string{"app", "new"}) {
		t.Errorf("what nobody else read is not there: %v", got)
	}
}

// The clocks of two machines differ a little: what another one read completely by its
// clock just before us may have been after us, and counts.
func TestClocksThatDiffer(t *testing.T) {
	for name, test := range map[string]struct {
		before time.Duration
		want   []string
	}{
		"a little": {clockDifference / 2, []string{"kept"}},
		"clearly":  {2 * clockDifference, []string{"kept", "short-lived"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := bareRemote(t)
			first, second := replica(t, path), replica(t, path)
			wantPushed(t, runSync(t, first, night, whole(groups, documents("kept"))))
			at := night.Add(hour)
			syncUnpushed(t, first, path, at, ended(groups, incomplete, documents("short-lived")))
			wantPushed(t, runSync(t, second, at.Add(-test.before), whole(groups, map[string]string{"kept": `{"new":1}`})))
			wantPushed(t, runSync(t, first, night.Add(4*hour), whole(scripts, documents("s"))))
			if got := itemsOf(files(t, first), groups); !slices.Equal(got, test.want) {
				t.Errorf("groups: %v", got)
			}
			sameBranch(t, first, path)
		})
	}
}
