package vault

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"

	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
)

// replica returns a vault on a machine of its own.
func replica(t *testing.T, remote string) *Vault {
	t.Helper()
	v, _ := remoteVault(t, Remote{URL: remote})
	v.config.Replicated = true
	return v
}

// A worker died after its commit. One on another machine asks whether there is one.
func TestCommittedElsewhere(t *testing.T) {
	path := bareRemote(t)
	first, second := replica(t, path), replica(t, path)
	if got, err := second.Committed(t.Context(), theSync); got != nil || err != nil {
		t.Fatalf("%v, %v", got, err)
	}
	wantPushed(t, runSync(t, first, night, whole(groups, documents("a"))))
	s := runNamedSync(t, first, theSync, night, whole(groups, documents("a", "b")))
	wantPushed(t, s)
	for range 2 {
		otherPush(t, path, "README.md", fmt.Sprint(rand.Int()))
	}
	for name, v := range map[string]*Vault{"on another machine": second, "on the same": first} {
		before, _, err := v.Head(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got, err := v.Committed(t.Context(), theSync)
		if err != nil || got.GetCommit() != s.snapshot.GetCommit() || got.GetTree() != s.snapshot.GetTree() || got.GetPushState() != pushed {
			t.Errorf("%s: %v, %v", name, got, err)
		}
		if now, _, err := v.Head(t.Context()); err != nil || now != before {
			t.Errorf("%s: the branch moved: %v", name, err)
		}
		if got, err := v.Committed(t.Context(), "tenants/x/syncs/none"); got != nil || err != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	// It committed and did not push: its own machine knows, and no other.
	const late = "tenants/x/syncs/late"
	unpushed := func(commitAndPush func()) { away(t, path, commitAndPush) }
	wantRefused(t, syncWith(t, second, late, night.Add(hour), unpushed, whole(groups, documents("a", "b", "c"))), RemoteNotFound)
	away(t, path, func() {
		got, err := second.Committed(t.Context(), late)
		if err != nil || got == nil || got.GetPushState() == pushed {
			t.Errorf("%v, %v", got, err)
		}
		// Nobody can say whether another one did.
		var failed *RemoteError
		if got, err := first.Committed(t.Context(), late); got != nil || !errors.As(err, &failed) {
			t.Errorf("%v, %v", got, err)
		}
	})
	if got, err := second.Committed(t.Context(), late); err != nil || got == nil || got.GetPushState() == pushed {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := first.Committed(t.Context(), late); got != nil || err != nil {
		t.Errorf("%v, %v", got, err)
	}
}

// Where several machines write, a sync does not begin on what may be old.
func TestBeginWithoutTheRemote(t *testing.T) {
	path := bareRemote(t)
	first, second := replica(t, path), replica(t, path)
	wantPushed(t, runSync(t, first, night, whole(groups, documents("a"))))
	away(t, path, func() {
		for name, v := range map[string]*Vault{"with a copy": first, "without one": second} {
			_, err := v.Begin(t.Context(), port.Turn{Sync: theSync, Attempt: 1})
			var storage *port.StorageError
			var failed *RemoteError
			if !errors.As(err, &storage) || !errors.As(err, &failed) || failed.Reason != RemoteNotFound {
				t.Errorf("%s: got %v", name, err)
			}
		}
	})
	wantPushed(t, runSync(t, second, night.Add(2*hour), whole(groups, documents("a", "b", "c"))))
	wantPushed(t, runSync(t, first, night.Add(3*hour), whole(groups, documents("a", "b", "c"))))
	sameBranch(t, first, path)
}

// A remote that is away for a moment is waited for, and one that stays away is not
// waited for long.
func TestWaitsForTheRemote(t *testing.T) {
	path := bareRemote(t)
	wanted, asked := 3, 0
	server := httpsServer(t, filepath.Dir(path), "secret")
	handler := server.Config.Handler
	server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked++; asked < wanted {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		handler.ServeHTTP(w, r)
	})
	v, _ := remoteVault(t, Remote{URL: server.URL + "/remote.git", Token: token("secret"), HTTPClient: server.Client()})
	v.config.Replicated, v.patience = true, time.Millisecond
	wantPushed(t, runSync(t, v, night, whole(groups, documents("a"))))
	wanted, asked = 1<<30, 0
	var failed *RemoteError
	if _, err := v.Begin(t.Context(), port.Turn{Sync: theSync, Attempt: 1}); !errors.As(err, &failed) || failed.Reason != RemoteUnreachable || asked != followTries {
		t.Errorf("got %v after %d tries", err, asked)
	}
}

// What was not pushed and does not go together with the remote gives way to it.
func TestReplicaGivesWay(t *testing.T) {
	path := bareRemote(t)
	v := replica(t, path)
	wantPushed(t, runSync(t, v, night, whole(groups, documents("a"))))
	wantRefused(t, syncUnpushed(t, v, path, night.Add(hour), whole(scripts, documents("s"))), RemoteNotFound)
	left := git(t, v.config.Directory, "rev-parse", "main")
	theirs := otherPush(t, path, "intune", "a file where our folder is")
	s := runSync(t, v, night.Add(2*hour), whole(groups, documents("a", "b")))
	wantPushed(t, s)
	sameBranch(t, v, path)
	if git(t, path, "rev-parse", "main~1") != theirs || git(t, v.config.Directory, "cat-file", "-t", left) != "commit" {
		t.Error("it is not on the remote's commit, or what was left out is gone")
	}
}

// The remote's branch is removed between two questions: there is nothing to give way to,
// and the branch here stays where it is.
func TestNothingToGiveWayTo(t *testing.T) {
	path := bareRemote(t)
	branch := filepath.Join(path, "refs", "heads", "main")
	remove := false
	server := httpsServer(t, filepath.Dir(path), "secret")
	handler := server.Config.Handler
	server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler.ServeHTTP(w, r)
		if remove && strings.HasSuffix(r.URL.Path, "/git-upload-pack") { // after the first fetch
			remove = false
			if err := os.Remove(branch); err != nil {
				t.Error(err)
			}
		}
	})
	v, _ := remoteVault(t, Remote{URL: server.URL + "/remote.git", Token: token("secret"), HTTPClient: server.Client()})
	v.config.Replicated = true
	wantPushed(t, runSync(t, v, night, whole(groups, documents("a"))))
	wantRefused(t, syncUnpushed(t, v, path, night.Add(hour), whole(scripts, documents("s"))), RemoteNotFound)
	ours := git(t, v.config.Directory, "rev-parse", "main")
	otherPush(t, path, "intune", "a file where our folder is")
	remove = true
	_, err := v.Begin(t.Context(), port.Turn{Sync: theSync, Attempt: 1})
	var storage *port.StorageError
	var failed *RemoteError
	if !errors.As(err, &storage) || !errors.As(err, &failed) || failed.Reason != RemoteMoved || remove {
		t.Errorf("got %v", err)
	}
	if now := git(t, v.config.Directory, "rev-parse", "main"); now != ours {
		t.Fatalf("the branch is %s, it was %s", now, ours)
	}
	// The next sync decides anew. A remote without the branch gets ours.
	wantPushed(t, runSync(t, v, night.Add(2*hour), whole(groups, documents("a", "b"))))
	sameBranch(t, v, path)
	if git(t, path, "rev-parse", "main~1") != ours {
		t.Error("what was not pushed is gone")
	}
}

// syncUnpushed carries out a sync whose remote goes away after the begin.
func syncUnpushed(t *testing.T, v *Vault, remote string, at time.Time, readings ...typeReading) (s synced) {
	t.Helper()
	return syncWith(t, v, fmt.Sprintf("tenants/x/syncs/%d", syncNumber.Add(1)), at, func(commitAndPush func()) { away(t, remote, commitAndPush) }, readings...)
}

// tenant is what a tenant has: a configuration that changes all the time. A version is
// never used twice, and what is deleted does not come back.
type changingTenant struct {
	random  *rand.Rand
	version int
	items   map[*catalog.Type]map[string]int
	// shortLived says how many sixths of the items are deleted each time.
	shortLived int
}

func (c *changingTenant) change() {
	for _, configurationType := range changingTypes { // in an order: the seed says it all
		items := c.items[configurationType]
		for range c.random.IntN(3) {
			c.version++
			items[fmt.Sprintf("item-%d", c.version)] = c.version
		}
		for _, id := range sortedKeys(items) {
			switch n := c.random.IntN(6); {
			case n < c.shortLived:
				delete(items, id)
			case n < c.shortLived+2:
				c.version++
				items[id] = c.version
			}
		}
	}
}

// reading is what a sync reads of a type now: all of it, or a part.
func (c *changingTenant) reading(configurationType *catalog.Type) typeReading {
	items := map[string]string{}
	some := c.random.IntN(3) == 0
	for _, id := range sortedKeys(c.items[configurationType]) {
		if !some || c.random.IntN(2) == 0 {
			items[id] = fmt.Sprintf(`{"version":%d}`, c.items[configurationType][id])
		}
	}
	r := whole(configurationType, items)
	r.reading.AcceptCollapse = true
	if some {
		r = ended(configurationType, incomplete, items)
	}
	return r
}

// versionsAt returns the version of every item of a commit.
func versionsAt(t *testing.T, storage *store, id string) map[string]int {
	t.Helper()
	commit, err := object.GetCommit(storage, plumbing.NewHash(id))
	if err != nil {
		t.Fatal(err)
	}
	files, err := commit.Files()
	if err != nil {
		t.Fatal(err)
	}
	versions := map[string]int{}
	err = files.ForEach(func(file *object.File) error {
		content, err := file.Contents()
		version := 0
		if n, _ := fmt.Sscanf(strings.Join(strings.Fields(content), ""), `{"version":%d}`, &version); n == 1 {
			versions[file.Name] = version
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return versions
}

// changingTypes are the types of a changing tenant, in an order: a seed says all of what
// happens.
var changingTypes = []*catalog.Type{groups, apps}

// The environment says how often replicas are let loose, and from which seed on, to see
// one again.
const (
	replicaRounds = "UNDERSTUDY_REPLICA_ROUNDS"
	replicaSeed   = "UNDERSTUDY_REPLICA_SEED"
)

// Whichever replicas read which part of a tenant while some of them cannot reach the
// remote: in the remote's history no item becomes an older one, and none that was
// removed comes back.
func TestReplicasNeverGoBack(t *testing.T) {
	t.Parallel()
	rounds, seed := 4, rand.Uint64()
	if text := os.Getenv(replicaRounds); text != "" {
		rounds, _ = strconv.Atoi(text)
	}
	if text := os.Getenv(replicaSeed); text != "" {
		seed, _ = strconv.ParseUint(text, 10, 64)
	}
	commits := 0
	for i := range rounds {
		commits += neverBack(t, seed+uint64(i))
		if t.Failed() {
			return
		}
	}
	if commits < 5*rounds || rounds == 0 {
		t.Errorf("%d commits in %d rounds show little", commits, rounds)
	}
}

// neverBack lets replicas back up a tenant that changes, looks at the history of the
// remote, and returns how long it is.
func neverBack(t *testing.T, seed uint64) (commits int) {
	tenant := &changingTenant{random: rand.New(rand.NewPCG(seed, 1)), items: map[*catalog.Type]map[string]int{groups: {}, apps: {}}}
	tenant.shortLived = 1 + tenant.random.IntN(4)
	path := bareRemote(t)
	var replicas []*Vault
	for range 2 + tenant.random.IntN(2) {
		v := replica(t, path)
		runSync(t, v, night, whole(scripts, documents("s"))) // each has a copy
		replicas = append(replicas, v)
	}
	for i := range 12 {
		tenant.change()
		v := replicas[tenant.random.IntN(len(replicas))]
		at := night.Add(time.Duration(i+1) * hour)
		var readings []typeReading
		for _, configurationType := range changingTypes {
			if tenant.random.IntN(4) > 0 {
				readings = append(readings, tenant.reading(configurationType))
			}
		}
		if tenant.random.IntN(2) == 0 {
			syncUnpushed(t, v, path, at, readings...)
		} else {
			wantPushed(t, runSync(t, v, at, readings...))
		}
	}
	for _, v := range replicas { // what they have left is pushed
		wantPushed(t, runSync(t, v, night.Add(100*hour)))
	}
	storage := replicas[len(replicas)-1].keptOpen() // has all of it
	defer storage.Close()
	newest, gone, last := map[string]int{}, map[string]bool{}, map[string]int{}
	for id := range strings.FieldsSeq(git(t, path, "rev-list", "--first-parent", "--reverse", "main")) {
		commits++
		now := versionsAt(t, storage, id)
		for item, version := range now {
			if version < newest[item] || gone[item] {
				t.Errorf("%s=%d, commit %s: %s is %d again; it was %d, removed: %v", replicaSeed, seed, id, item, version, newest[item], gone[item])
			}
			newest[item] = version
		}
		for item := range last {
			if _, ok := now[item]; !ok {
				gone[item] = true
			}
		}
		last = maps.Clone(now)
	}
	if t.Failed() {
		t.Log(git(t, path, "log", "--format=%h %ci %s"))
		return commits
	}
	if out := git(t, path, "fsck", "--full", "--strict", "--no-progress", "--no-dangling"); out != "" {
		t.Error(out)
	}
	return commits
}
