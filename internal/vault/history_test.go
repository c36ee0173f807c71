package vault

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
)

// countedObjects counts how often each object is read.
type countedObjects struct {
	*store
	reads map[plumbing.Hash]int
}

// EncodedObject implements [storer.EncodedObjectStorer].
func (c countedObjects) EncodedObject(kind plumbing.ObjectType, id plumbing.Hash) (plumbing.EncodedObject, error) {
	c.reads[id]++
	return c.store.EncodedObject(kind, id)
}

// What many commits did is found out with one reading of each commit, and of each folder
// that changed.
func TestHistoryReadsOnce(t *testing.T) {
	v := newVault(t, nil)
	const syncs = 6
	for i := range syncs {
		readings := []typeReading{whole(groups, documents(numbered(0, i+1)...))}
		if i%3 == 0 {
			readings = append(readings, whole(apps, documents(numbered(10+i, 12+i)...)).accepting())
		}
		runSync(t, v, night.Add(time.Duration(i)*hour), readings...)
	}
	id := func(name string) plumbing.Hash {
		return plumbing.NewHash(git(t, v.config.Directory, "rev-parse", name))
	}
	storage := v.keptOpen()
	defer storage.Close()
	counted := countedObjects{storage, map[plumbing.Hash]int{}}
	changes, err := changesSince(t.Context(), counted, nil, id("main"))
	if err != nil || len(changes) != syncs {
		t.Fatalf("%d changes, %v", len(changes), err)
	}
	for i, change := range changes { // the last first
		n := syncs - 1 - i
		want := []string{groups.ID + "/" + indexFile, groups.ID + "/" + numbered(n, n+1)[0] + fileEnding}
		if n%3 == 0 {
			before, now := numbered(max(n+7, 10), n+10), numbered(n+10, n+12)
			want = append(want, apps.ID+"/"+indexFile)
			for _, name := range append(before[:min(len(before), 2)], now...) {
				want = append(want, apps.ID+"/"+name+fileEnding)
			}
		}
		slices.Sort(want)
		if got := sortedKeys(change.files); !slices.Equal(got, want) {
			t.Errorf("commit %d changed %v, want %v", n, got, want)
		}
	}
	for i := range syncs {
		commit := fmt.Sprintf("main~%d", i)
		for _, name := range []string{commit, commit + "^{tree}", commit + ":" + groups.ID, commit + ":" + apps.ID} {
			if n := counted.reads[id(name)]; n != 1 {
				t.Errorf("%s is read %d times", name, n)
			}
		}
	}
}
