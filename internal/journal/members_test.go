package journal_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/journal"
	"understudy.internal/internal/journal/journaltest"
	"understudy.internal/internal/port"
	"understudy.internal/internal/port/porttest"
)

// leased opens replicas with a lease time.
func leased(t *testing.T, c *journaltest.Cluster, prefix string, lease time.Duration, names ...string) []*journal.Journal {
	t.Helper()
	var all []*journal.Journal
	for _, name := range names {
		config := c.Config(prefix, name)
		config.Lease = lease
		all = append(all, c.Open(t, config))
	}
	return all
}

// TestAlive: workers come, leave, and fall silent.
func TestAlive(t *testing.T) {
	t.Parallel()
	c, prefix := onCluster(t)
	const lease = 4 * time.Second
	three := leased(t, c, prefix, lease, "a", "b", "c")
	a, b, gone := three[0], three[1], three[2]
	everybody := []string{a.Worker(), b.Worker(), gone.Worker()}
	slices.Sort(everybody)
	for _, j := range three {
		until(t, "everybody hears of everybody", func() bool { return slices.Equal(j.Alive(), everybody) })
	}
	// Who is there stays there.
	end := time.After(lease + lease/2)
	for steady := true; steady; {
		select {
		case <-end:
			steady = false
		case <-a.Changed():
			if got := a.Alive(); !slices.Equal(got, everybody) {
				t.Fatalf("alive = %v", got)
			}
		}
	}
	// Who leaves is gone at once, and the others hear of it.
	changed := a.Changed()
	begin := time.Now()
	gone.Close()
	<-changed
	until(t, "it is gone", func() bool { return !slices.Contains(a.Alive(), gone.Worker()) })
	if took := time.Since(begin); took > lease/2 {
		t.Errorf("one that left counted as alive for %s", took)
	}
	// Who falls silent is gone before the lease time is over.
	changed = a.Changed()
	begin = time.Now()
	b.Silence()
	<-changed
	until(t, "it is gone", func() bool { return !slices.Contains(a.Alive(), b.Worker()) })
	if took := time.Since(begin); took < lease/2 || took > 2*lease {
		t.Errorf("one that fell silent counted as alive for %s", took)
	}
	// It counts itself dead then, and nobody else.
	until(t, "it is cut off", func() bool { return b.Healthy() != nil })
	if got := b.Alive(); slices.Contains(got, b.Worker()) || !slices.Contains(got, a.Worker()) {
		t.Errorf("one that is cut off sees %v", got)
	}
	if err := b.Healthy(); !errors.As(err, new(*port.StorageError)) {
		t.Errorf("Healthy = %v", err)
	}
	// It accepts nothing, and says so at once.
	begin = time.Now()
	_, _, err := b.Create(t.Context(), port.CreateRequest{Tenant: "tenants/cut-off", Sync: &understudyv1.Sync{}})
	if took := time.Since(begin); !errors.As(err, new(*port.StorageError)) || took > lease/2 {
		t.Errorf("Create = %v after %s", err, took)
	}
	if err := a.Healthy(); err != nil {
		t.Errorf("Healthy = %v", err)
	}
}

// TestLeaseAtTheStart: who is named by a sync that is not finished has a lease of its
// own from the start of this process on.
func TestLeaseAtTheStart(t *testing.T) {
	t.Parallel()
	c, prefix := onCluster(t)
	const lease = 4 * time.Second // longer than a busy machine keeps a process from being heard
	a := leased(t, c, prefix, lease, "a")[0]
	log := porttest.Open(t, a, create(t, a, "tenants/contoso").GetName())
	porttest.Append(t, log, porttest.Take("dead/1"))
	begin := time.Now()
	b := leased(t, c, prefix, lease, "b")[0]
	if !slices.Contains(b.Alive(), "dead/1") {
		t.Errorf("alive = %v", b.Alive())
	}
	until(t, "it counts as dead", func() bool { return !slices.Contains(b.Alive(), "dead/1") })
	if took := time.Since(begin); took < lease*4/5 {
		t.Errorf("it had a lease of %s", took)
	}
}

// TestAliveAlone: with the directory to itself a process knows that every other worker
// is dead.
func TestAliveAlone(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	j := open(t, directory)
	before := j.Worker()
	porttest.Append(t, porttest.Open(t, j, create(t, j, "tenants/contoso").GetName()), porttest.Take(before))
	j.Close()
	j = open(t, directory)
	if got := j.Alive(); j.Worker() == before || !slices.Equal(got, []string{j.Worker()}) {
		t.Errorf("alive = %v; it was %s before", got, before)
	}
	j.Leave()
	if got := j.Alive(); len(got) != 0 {
		t.Errorf("afterwards: %v", got)
	}
}
