package journal_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/journal"
	"understudy.internal/internal/journal/journaltest"
	"understudy.internal/internal/port"
	"understudy.internal/internal/port/porttest"
)

// shared is one cluster for the tests that do not stop its servers. Each has streams
// of its own in it.
var shared struct {
	once    sync.Once
	cluster *journaltest.Cluster
	err     error
	number  atomic.Int64
}

func TestMain(m *testing.M) {
	code := journaltest.Main(m)
	if shared.cluster != nil {
		shared.cluster.Close()
	}
	os.Exit(code)
}

// onCluster returns the shared cluster, and a prefix that nobody else uses.
func onCluster(t testing.TB) (*journaltest.Cluster, string) {
	t.Helper()
	shared.once.Do(func() {
		directory, err := os.MkdirTemp("", "journal-cluster-")
		if err != nil {
			shared.err = err
			return
		}
		shared.cluster, shared.err = journaltest.Start(directory, false)
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.cluster, fmt.Sprintf("t%d", shared.number.Add(1))
}

// replicas opens the journal of several replicas.
func replicas(t testing.TB, n int) []*journal.Journal {
	t.Helper()
	c, prefix := onCluster(t)
	var all []*journal.Journal
	for i := range n {
		all = append(all, c.Open(t, c.Config(prefix, string(rune('a'+i)))))
	}
	return all
}

// until polls.
func until(t testing.TB, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !is() {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
		<-ticker.C
	}
}

func TestClusterConforms(t *testing.T) {
	t.Parallel()
	porttest.Syncs(t, func(t *testing.T) port.Syncs { return replicas(t, 1)[0] })
}

// TestTwoCreatesAtOnce: of two through two replicas one wins, and the other names it.
func TestTwoCreatesAtOnce(t *testing.T) {
	t.Parallel()
	rounds := 1000
	if testing.Short() || raceEnabled { // `make chaos` has 1,000 through gRPC
		rounds = 100
	}
	both := replicas(t, 2)
	begin := time.Now()
	for round := range rounds {
		tenant := fmt.Sprintf("tenants/t%d", round%20)
		var (
			group sync.WaitGroup
			syncs [2]*understudyv1.Sync
			errs  [2]error
		)
		for i, j := range both {
			group.Go(func() {
				syncs[i], _, errs[i] = j.Create(t.Context(), port.CreateRequest{Tenant: tenant, Sync: &understudyv1.Sync{}})
			})
		}
		group.Wait()
		winner := 0
		if errs[0] != nil {
			winner = 1
		}
		running := (*port.SyncRunningError)(nil)
		if errs[winner] != nil || !errors.As(errs[1-winner], &running) || running.Sync != syncs[winner].GetName() {
			t.Fatalf("round %d: %v, %v; %v", round, errs[0], errs[1], syncs[winner].GetName())
		}
		// The loser's replica can end it, and the tenant is free for both at once.
		porttest.Finish(t, porttest.Open(t, both[1-winner], syncs[winner].GetName()))
	}
	t.Logf("%d rounds in %s", rounds, time.Since(begin).Round(time.Millisecond))
}

// TestSharedAtOnce: what one replica accepted and stored the others know when they
// are asked.
func TestSharedAtOnce(t *testing.T) {
	t.Parallel()
	both := replicas(t, 2)
	a, b := both[0], both[1]
	if _, err := b.Watch(t.Context(), create(t, a, "tenants/fabrikam").GetName(), 1); !errors.As(err, new(*port.SequenceInFutureError)) {
		t.Fatal(err)
	}
	for range 30 {
		name := create(t, a, "tenants/contoso").GetName()
		watcher, err := b.Watch(t.Context(), name, 0)
		if err != nil {
			t.Fatal(err)
		}
		log := porttest.Open(t, a, name)
		porttest.Append(t, log, porttest.Take(a.Worker()), result(1), result(2))
		later, err := b.Watch(t.Context(), name, 3)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := b.Get(t.Context(), name); err != nil || got.GetLastSequence() != 3 || got.GetWorker() != a.Worker() {
			t.Fatal(got, err)
		}
		porttest.Finish(t, log)
		if got := len(dense(t, b, name)); got != 4 {
			t.Fatalf("%d events", got)
		}
		if got, err := b.Get(t.Context(), name); err != nil || got.GetEndTime() == nil {
			t.Fatal(got, err)
		}
		finish(t, b, create(t, b, "tenants/contoso").GetName())
		finish(t, a, create(t, a, "tenants/contoso").GetName()) // one that nobody had taken
		finish(t, b, create(t, b, "tenants/contoso").GetName())
		for _, w := range []port.Watcher{watcher, later} {
			events := rest(t, w)
			if events[len(events)-1].GetFinished() == nil {
				t.Fatal(kinds(events))
			}
			w.Close()
		}
	}
}

// TestRequestIDOfAnotherReplica: a request_id holds wherever it is repeated.
func TestRequestIDOfAnotherReplica(t *testing.T) {
	t.Parallel()
	both := replicas(t, 2)
	for i := range 30 {
		request := port.CreateRequest{Tenant: "tenants/contoso", Sync: &understudyv1.Sync{}, RequestID: fmt.Sprint(i), Digest: "d"}
		first, created, err := both[i%2].Create(t.Context(), request)
		if err != nil || !created {
			t.Fatal(created, err)
		}
		for range 2 {
			again, created, err := both[1-i%2].Create(t.Context(), request)
			if err != nil || created || again.GetName() != first.GetName() {
				t.Fatal(again, created, err)
			}
			if again.GetEndTime() == nil {
				finish(t, both[i%2], first.GetName())
				finish(t, both[i%2], create(t, both[i%2], "tenants/contoso").GetName()) // it is not the last one either
			}
		}
	}
}

// TestFencedWriter: who was taken over from by another replica cannot append, whether
// it heard of that or not.
func TestFencedWriter(t *testing.T) {
	t.Parallel()
	both := replicas(t, 2)
	a, b := both[0], both[1]
	for i := range 20 {
		name := create(t, a, fmt.Sprintf("tenants/t%d", i)).GetName()
		old := porttest.Open(t, a, name)
		porttest.Append(t, old, porttest.Take(a.Worker()))
		taken := porttest.Open(t, b, name)
		porttest.Append(t, taken, porttest.State(understudyv1.SyncState_SYNC_STATE_RUNNING, b.Worker()))
		if err := old.Append(t.Context(), result(1)); !errors.As(err, new(*port.FencedError)) {
			t.Fatalf("Append = %v", err)
		}
		porttest.Append(t, taken, result(1))
		porttest.Finish(t, taken)
		if err := old.Append(t.Context(), result(1)); !errors.As(err, new(*port.FencedError)) {
			t.Fatalf("Append = %v", err)
		}
		if got := len(dense(t, a, name)); got != 4 {
			t.Fatalf("%d events", got)
		}
	}
}

// TestOneTakesIt: of all that would take or take over a sync one does.
func TestOneTakesIt(t *testing.T) {
	t.Parallel()
	three := replicas(t, 3)
	for i := range 20 {
		name := create(t, three[0], fmt.Sprintf("tenants/t%d", i)).GetName()
		for attempt := range 3 {
			var (
				group sync.WaitGroup
				taken atomic.Int32
			)
			var logs []port.Log
			for _, j := range three {
				logs = append(logs, porttest.Open(t, j, name))
			}
			for i, j := range three {
				group.Go(func() {
					event := porttest.Take(j.Worker())
					if attempt > 0 {
						event = porttest.State(understudyv1.SyncState_SYNC_STATE_RUNNING, j.Worker())
					}
					err := logs[i].Append(t.Context(), event)
					if err == nil {
						taken.Add(1)
					} else if !errors.As(err, new(*port.FencedError)) {
						t.Error(err)
					}
				})
			}
			group.Wait()
			if taken.Load() != 1 {
				t.Fatalf("%d took it", taken.Load())
			}
		}
		if got, err := three[1].Get(t.Context(), name); err != nil || got.GetAttempt() != 3 {
			t.Fatal(got, err)
		}
	}
}

// TestCancelFromAnotherReplica: the worker hears of it, appends behind it, and does
// not commit.
func TestCancelFromAnotherReplica(t *testing.T) {
	t.Parallel()
	both := replicas(t, 2)
	a, b := both[0], both[1]
	var took []time.Duration
	for i := range 20 {
		name := create(t, a, fmt.Sprintf("tenants/t%d", i)).GetName()
		worker := porttest.Open(t, a, name)
		porttest.Append(t, worker, porttest.Take(a.Worker()))
		canceller := porttest.Open(t, b, name)
		porttest.Append(t, worker, result(1)) // of which the other has not heard
		changed := worker.Changed()
		porttest.Append(t, canceller, porttest.State(understudyv1.SyncState_SYNC_STATE_CANCELLING, ""))
		begin := time.Now()
		if i%2 == 0 {
			<-changed
			took = append(took, time.Since(begin))
		}
		if err := worker.Append(t.Context(), porttest.State(understudyv1.SyncState_SYNC_STATE_COMMITTING, "")); !errors.As(err, new(*port.SyncStateError)) {
			t.Fatalf("Append = %v", err)
		}
		porttest.Append(t, worker, result(2))
		porttest.Finish(t, worker)
		dense(t, b, name)
	}
	slices.Sort(took)
	t.Logf("a worker heard of it after %s, and at most %s", took[len(took)/2], took[len(took)-1])
	if took[len(took)/2] > time.Second {
		t.Error("that is too late")
	}
}

// TestPromptsOnOtherReplicas: an open prompt is shown to the watchers of every
// replica, those that come later too, once, and never when it was answered.
func TestPromptsOnOtherReplicas(t *testing.T) {
	t.Parallel()
	c, prefix := onCluster(t)
	a, b := c.Open(t, c.Config(prefix, "a")), c.Open(t, c.Config(prefix, "b"))
	name := create(t, a, "tenants/contoso").GetName()
	watcher, err := b.Watch(t.Context(), name, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.Close()
	log := porttest.Open(t, a, name)
	porttest.Append(t, log, porttest.Take(a.Worker()))
	seen := []*understudyv1.SyncEvent{next(t, watcher), next(t, watcher)}
	log.Publish(prompt("CODE", time.Hour))
	seen = append(seen, next(t, watcher))
	if got := fmt.Sprint(kinds(seen)); got != "[state 1 prompt CODE]" {
		t.Errorf("a watcher of another replica saw %s", got)
	}
	// A replica that is new hears of it when it is given again.
	third := c.Open(t, c.Config(prefix, "c"))
	late, err := third.Watch(t.Context(), name, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	seen = []*understudyv1.SyncEvent{next(t, late), next(t, late)}
	if got := fmt.Sprint(kinds(seen)); got != "[state prompt CODE]" {
		t.Errorf("a late watcher of another replica saw %s", got)
	}
	log.Publish(prompt("", 0))
	log.Publish(progress(7))
	seen = []*understudyv1.SyncEvent{next(t, watcher), next(t, late)}
	if got := fmt.Sprint(kinds(seen)); got != "[progress 7 progress 7]" {
		t.Errorf("afterwards they saw %s", got)
	}
	afterwards, err := third.Watch(t.Context(), name, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer afterwards.Close()
	seen = []*understudyv1.SyncEvent{next(t, afterwards), next(t, afterwards)}
	if got := fmt.Sprint(kinds(seen)); got != "[state progress 7]" {
		t.Errorf("when it was answered a watcher saw %s", got)
	}
	a.Announce(name, progress(8)) // for the watchers of its own process
	log.Publish(progress(9))
	if got := fmt.Sprint(kinds([]*understudyv1.SyncEvent{next(t, watcher)})); got != "[progress 9]" {
		t.Errorf("saw %s", got)
	}
}

// TestPromptOfALostWorker: a worker that was taken over from, and does not know it yet,
// neither takes back the prompt of the next one nor shows its own in its place.
func TestPromptOfALostWorker(t *testing.T) {
	t.Parallel()
	both := replicas(t, 2)
	a, b := both[0], both[1]
	name := create(t, a, "tenants/contoso").GetName()
	lost := porttest.Open(t, a, name)
	porttest.Append(t, lost, porttest.Take(a.Worker()))
	worker := porttest.Open(t, b, name)
	porttest.Append(t, worker, porttest.State(understudyv1.SyncState_SYNC_STATE_RUNNING, b.Worker()))
	worker.Publish(prompt("CODE", time.Hour))
	lost.Publish(prompt("OLD", time.Hour))
	lost.Publish(prompt("", 0))
	lost.Publish(progress(7))
	// What a process sends arrives in order: when this is there, so is the rest.
	marker := create(t, a, "tenants/marker").GetName()
	watcher, err := b.Watch(t.Context(), marker, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.Close()
	end := porttest.Open(t, a, marker)
	porttest.Append(t, end, porttest.Take(a.Worker()))
	seen := []*understudyv1.SyncEvent{next(t, watcher), next(t, watcher)}
	end.Publish(progress(8))
	seen = append(seen, next(t, watcher))
	if got := fmt.Sprint(kinds(seen)); got != "[state 1 progress 8]" {
		t.Fatalf("the marker's watcher saw %s", got)
	}
	late, err := b.Watch(t.Context(), name, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	seen = []*understudyv1.SyncEvent{next(t, late), next(t, late)}
	if got := fmt.Sprint(kinds(seen)); got != "[state prompt CODE]" {
		t.Errorf("a watcher saw %s", got)
	}
}

// TestStore: values are the same for every replica, and outlive them.
func TestStore(t *testing.T) {
	t.Parallel()
	both := replicas(t, 2)
	embedded := open(t, t.TempDir())
	for name, stores := range map[string][2]*journal.Store{
		"cluster":  {both[0].Store("tokens"), both[1].Store("tokens")},
		"embedded": {embedded.Store("tokens"), embedded.Store("tokens")},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := stores[0], stores[1]
			if value, err := a.Load("k"); value != nil || err != nil {
				t.Fatal(value, err)
			}
			for _, key := range []string{"", "k", "K", "a b*>.\x00", strings.Repeat("x", 100)} {
				for _, value := range []string{"1", key, strings.Repeat("2", 1<<20-2048)} {
					if err := a.Save(key, []byte(value)); err != nil {
						t.Fatal(err)
					}
					got, err := b.Load(key)
					if err != nil || string(got) != value {
						t.Fatalf("%q: %d bytes, %v", key, len(got), err)
					}
				}
				if err := b.Delete(key); err != nil {
					t.Fatal(err)
				}
				if value, err := a.Load(key); value != nil || err != nil {
					t.Fatal(value, err)
				}
				if err := b.Delete(key); err != nil {
					t.Fatal(err)
				}
			}
			if err := a.Save("k", make([]byte, 2<<20)); err == nil {
				t.Error("2 MiB were kept")
			}
		})
	}
}

// TestClusterConfig: what cannot work is refused, with a message that says what to do.
func TestClusterConfig(t *testing.T) {
	t.Parallel()
	c, prefix := onCluster(t)
	for name, test := range map[string]struct {
		change func(*journal.Cluster)
		want   string
	}{
		"no servers":         {func(c *journal.Cluster) { c.Servers = nil }, "no servers"},
		"no address":         {func(c *journal.Cluster) { c.Servers = []string{"http://x"} }, "nats://host:4222"},
		"a password in it":   {func(c *journal.Cluster) { c.Servers = []string{"nats://u:secret@x:1"} }, "user and password"},
		"two replicas":       {func(c *journal.Cluster) { c.Replicas = 2 }, "1, 3 or 5"},
		"too many replicas":  {func(c *journal.Cluster) { c.Replicas = 5 }, "fewer"},
		"a prefix":           {func(c *journal.Cluster) { c.Prefix = "a.b" }, "prefix"},
		"a certificate only": {func(c *journal.Cluster) { c.CertFile = "x" }, "without a key"},
		"no such CA":         {func(c *journal.Cluster) { c.CAFile = "/none" }, "/none"},
		"no such seed":       {func(c *journal.Cluster) { c.NkeyFile = "/none" }, "/none"},
	} {
		t.Run(name, func(t *testing.T) {
			config := c.Config(prefix, "a")
			test.change(config.Cluster)
			_, err := journal.Open(t.Context(), config)
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("Open = %v", err)
			}
		})
	}
}

// TestPrefixes: two installations on one cluster do not hear of each other.
func TestPrefixes(t *testing.T) {
	t.Parallel()
	a, b := replicas(t, 1)[0], replicas(t, 1)[0]
	name := create(t, a, "tenants/contoso").GetName()
	if _, err := b.Get(t.Context(), name); !errors.As(err, new(*port.NotFoundError)) {
		t.Error(err)
	}
	create(t, b, "tenants/contoso")
	if got := b.Alive(); len(got) != 1 {
		t.Error(got)
	}
}
