package journal_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
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

// TestKilledNode: while servers are killed (as with kill -9) and restarted, or frozen,
// the leaders first, no event that was acknowledged is lost, none is there twice, and a
// watcher of each replica sees each once.
func TestKilledNode(t *testing.T) {
	t.Parallel()
	c := journaltest.NewProcesses(t)
	all := []*journal.Journal{c.Open(t, c.Config("kill", "a")), c.Open(t, c.Config("kill", "b")), c.Open(t, c.Config("kill", "c"))}
	stop := make(chan struct{})
	var (
		work  sync.WaitGroup
		count atomic.Int64
	)
	for i, j := range all {
		name := create(t, j, fmt.Sprintf("tenants/t%d", i)).GetName()
		other, err := all[(i+1)%3].Watch(t.Context(), name, 0)
		if err != nil {
			t.Fatal(err)
		}
		acknowledged := map[string]bool{}
		work.Go(func() {
			log := porttest.Open(t, j, name)
			for n := 0; ; n++ {
				event := result(n)
				err := log.Append(context.Background(), event)
				switch {
				case err == nil:
					acknowledged[event.GetConfigurationCompleted().GetResult().GetConfigurationType()] = true
					count.Add(1)
				case errors.As(err, new(*port.StorageError)) || errors.As(err, new(*port.FencedError)):
					// What became of it is seen by who opens the log again.
					for err != nil {
						log, err = j.Open(context.Background(), name)
						if err != nil && !errors.As(err, new(*port.StorageError)) {
							t.Error(err)
							return
						}
					}
				default:
					t.Error(err)
					return
				}
				select {
				case <-stop:
					sync := log.Sync()
					sync.State, sync.EndTime = understudyv1.SyncState_SYNC_STATE_SUCCEEDED, sync.GetCreateTime()
					final := &understudyv1.SyncEvent{Event: &understudyv1.SyncEvent_Finished{Finished: &understudyv1.SyncFinished{Sync: sync}}}
					if err := log.Append(context.Background(), final); err != nil {
						t.Error(err)
					}
					return
				default:
				}
			}
		})
		work.Go(func() {
			defer other.Close()
			seen := map[string]bool{}
			last := int64(0)
			for _, event := range rest(t, other) {
				if event.GetSequence() == 0 {
					continue
				}
				if last++; event.GetSequence() != last {
					t.Errorf("%s: %d instead of %d", name, event.GetSequence(), last)
					return
				}
				id := event.GetConfigurationCompleted().GetResult().GetConfigurationType()
				if id != "" && seen[id] {
					t.Errorf("%s: %s twice", name, id)
				}
				seen[id] = true
			}
			for id := range acknowledged {
				if !seen[id] {
					t.Errorf("%s: %s was acknowledged, and is lost", name, id)
				}
			}
		})
	}
	for round, stream := range []string{"KILL_EVENTS", "KILL_SYNCS", "KILL_EVENTS"} {
		node := c.Leader(stream)
		if node < 0 {
			node = rand.IntN(journaltest.Nodes)
		}
		before, begin := count.Load(), time.Now()
		if round == 1 {
			c.Freeze(node)
		} else {
			c.Kill(node)
		}
		until(t, "it goes on without a server", func() bool { return count.Load() > before+20 })
		t.Logf("20 more events after %s", time.Since(begin).Round(time.Millisecond))
		if round == 1 {
			c.Thaw(node)
		} else if err := c.Restart(node); err != nil {
			t.Fatal(err)
		}
		// The next one is killed when this one has what it missed.
		until(t, "the server is back", c.Current)
	}
	close(stop)
	work.Wait()
	for i, j := range all {
		until(t, "everything is finished", func() bool {
			unfinished, err := j.Unfinished(t.Context())
			return err == nil && len(unfinished) == 0
		})
		for k := range all {
			finish(t, j, create(t, j, fmt.Sprintf("tenants/new-%d-%d", i, k)).GetName())
		}
	}
	t.Logf("%d events", count.Load())
}

// TestStorageRestartsUnderFollowers: the followers of an embedded engine go on when
// its storage was opened anew, without gap or duplicate.
func TestStorageRestartsUnderFollowers(t *testing.T) {
	t.Parallel()
	j := open(t, t.TempDir())
	name := create(t, j, "tenants/contoso").GetName()
	watcher, err := j.Watch(t.Context(), name, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.Close()
	log := porttest.Open(t, j, name)
	porttest.Append(t, log, started())
	for want := range int64(5) {
		if want > 1 {
			if err := j.RestartStorage(t.Context()); err != nil {
				t.Fatal(err)
			}
			// Appended by nobody that this process knows: only the follower can bring it.
			if err := j.LoseAnswer(t.Context(), name, nil, result(int(want))); err != nil {
				t.Fatal(err)
			}
		}
		if got := within(t, 20*time.Second, watcher); got.GetSequence() != want {
			t.Fatalf("%d instead of %d", got.GetSequence(), want)
		}
	}
}

// within returns the next event of a watcher.
func within(t *testing.T, limit time.Duration, watcher port.Watcher) *understudyv1.SyncEvent {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	event, err := watcher.Next(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return event
}
