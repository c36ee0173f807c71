package journal_test

import (
	"context"
	"errors"
	"io"
	"runtime"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/journal"
	"understudy.internal/internal/port"
	"understudy.internal/internal/port/porttest"
)

// heap is how much memory is in use.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// TestStalledWatchers: of 1,000 watchers 200 never read. They keep nothing, and delay
// nobody.
func TestStalledWatchers(t *testing.T) {
	j := open(t, t.TempDir())
	log := porttest.Open(t, j, create(t, j, "tenants/contoso").GetName())
	name := log.Sync().GetName()
	const events = 1000
	before := heap()
	var stalled []port.Watcher
	for range 200 {
		watcher, err := j.Watch(t.Context(), name, 0)
		if err != nil {
			t.Fatal(err)
		}
		stalled = append(stalled, watcher)
	}
	var (
		readers sync.WaitGroup
		begun   sync.WaitGroup
	)
	for range 800 {
		watcher, err := j.Watch(t.Context(), name, 0)
		if err != nil {
			t.Fatal(err)
		}
		begun.Add(1)
		readers.Go(func() {
			defer watcher.Close()
			last := int64(0)
			for {
				event, err := watcher.Next(t.Context())
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Error(err)
					return
				}
				if event.GetCurrentState() != nil {
					begun.Done()
				}
				if event.GetSequence() == 0 {
					continue
				}
				if last++; event.GetSequence() != last {
					t.Errorf("%d instead of %d", event.GetSequence(), last)
					return
				}
			}
			if last != events+1 {
				t.Errorf("the last event was %d", last)
			}
		})
	}
	begun.Wait()
	for range events / 100 {
		batch := make([]*understudyv1.SyncEvent, 100)
		for i := range batch {
			batch[i] = result(i)
			batch[i].GetConfigurationCompleted().GetResult().Path = "a/path/that/has/about/the/usual/length"
		}
		porttest.Append(t, log, batch...)
		log.Publish(progress(1))
	}
	porttest.Finish(t, log)
	end := time.Now()
	readers.Wait()
	if took := time.Since(end); took > 10*time.Second {
		t.Errorf("the others had the last event %s after it was stored", took)
	}
	if grown := int64(heap()) - int64(before); grown > 16<<20 {
		t.Errorf("%d KiB for %d events and %d watchers that never read", grown>>10, events, len(stalled))
	}
	for _, watcher := range stalled {
		watcher.Close()
	}
}

// TestFinishedLogIsShared: who watches a finished sync does not hold a log of its own,
// and nobody does afterwards.
func TestFinishedLogIsShared(t *testing.T) {
	directory := t.TempDir()
	j := open(t, directory)
	name := create(t, j, "tenants/contoso").GetName()
	batch := make([]*understudyv1.SyncEvent, 1000)
	for i := range batch {
		batch[i] = result(i)
	}
	appendAll(t, j, name, batch...)
	finish(t, j, name)
	j.Close()
	j = open(t, directory) // one that just ended is in memory
	before := heap()
	watchers := make([]port.Watcher, 300)
	for i := range watchers {
		var err error
		if watchers[i], err = j.Watch(t.Context(), name, int64(i)); err != nil {
			t.Fatal(err)
		}
	}
	if grown := int64(heap()) - int64(before); grown > 8<<20 {
		t.Errorf("%d KiB for %d watchers", grown>>10, len(watchers))
	}
	for i, watcher := range watchers {
		if got := len(rest(t, watcher)); got != 1002-i {
			t.Errorf("after %d: %d events", i, got)
		}
	}
	runtime.KeepAlive(watchers)
	clear(watchers)
	until(t, "nothing is kept", func() bool {
		runtime.GC()
		return j.Replays() == 0
	})
}

// TestTrimmed: what is no longer kept is said, with the oldest that is.
func TestTrimmed(t *testing.T) {
	t.Parallel()
	j, err := journal.Open(t.Context(), journal.Config{Directory: t.TempDir(), Retention: 1500 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(j.Close)
	name := create(t, j, "tenants/contoso").GetName()
	appendAll(t, j, name, started(), result(1))
	until(t, "the first events expire", func() bool { return j.Stored(t.Context(), name) == 0 })
	appendAll(t, j, name, result(2), result(3))
	finish(t, j, name)
	trimmed := (*port.TrimmedError)(nil)
	until(t, "its log is no longer in memory", func() bool {
		_, err := j.Watch(t.Context(), name, 1)
		return errors.As(err, &trimmed)
	})
	if trimmed.Oldest != 3 || trimmed.After != 1 {
		t.Errorf("Watch = %v", trimmed)
	}
	for _, after := range []int64{2, 3, 5} {
		if got := drain(t, j, name, after); int64(len(got)) != 1+5-after {
			t.Errorf("after %d: %v", after, kinds(got))
		}
	}
	until(t, "the last events expire", func() bool { return j.Stored(t.Context(), name) == 0 })
	if _, err := j.Get(t.Context(), name); !errors.As(err, new(*port.NotFoundError)) {
		t.Errorf("Get = %v", err)
	}
	until(t, "it is forgotten", func() bool {
		runtime.GC() // a log that somebody watched is there until it is collected
		_, err := j.Watch(t.Context(), name, 0)
		return errors.As(err, new(*port.NotFoundError))
	})
}

// TestResume: whatever cuts there are, on whichever replica a reader goes on, and
// after whichever sequence, it gets each durable event once and in order.
func TestResume(t *testing.T) {
	t.Parallel()
	three := replicas(t, 3)
	number := 0
	rapid.Check(t, func(r *rapid.T) {
		number++
		name := create(t, three[0], "tenants/t"+time.Duration(number).String()).GetName()
		batches := rapid.SliceOfN(rapid.IntRange(1, 7), 1, 8).Draw(r, "batches")
		writer := rapid.IntRange(0, 2).Draw(r, "writer")
		total := int64(1)
		for _, n := range batches {
			total += int64(n)
		}
		var work sync.WaitGroup
		work.Go(func() {
			log := porttest.Open(t, three[writer], name)
			for _, n := range batches {
				events := make([]*understudyv1.SyncEvent, n)
				for i := range events {
					events[i] = result(i)
				}
				porttest.Append(t, log, events...)
				log.Publish(progress(1))
			}
			porttest.Finish(t, log)
		})
		readers := rapid.IntRange(1, 4).Draw(r, "readers")
		for range readers {
			replica := rapid.SliceOfN(rapid.IntRange(0, 2), 1, 6).Draw(r, "replicas")
			cuts := rapid.SliceOfN(rapid.IntRange(1, 9), len(replica), len(replica)).Draw(r, "cuts")
			work.Go(func() {
				last := int64(0)
				for i := 0; ; i++ {
					limit := 1 << 30 // the last one reads to the end
					if i < len(cuts)-1 {
						limit = cuts[i]
					}
					done, err := read(t.Context(), three[replica[min(i, len(replica)-1)]], name, &last, limit)
					if err != nil {
						t.Error(err)
						return
					}
					if done {
						break
					}
				}
				if last != total {
					t.Errorf("the last event was %d of %d", last, total)
				}
			})
		}
		work.Wait()
	})
}

// read reads at most limit events after a sequence, and says whether the log is over.
func read(ctx context.Context, j *journal.Journal, name string, last *int64, limit int) (bool, error) {
	watcher, err := j.Watch(ctx, name, *last)
	if err != nil {
		return false, err
	}
	defer watcher.Close()
	for range limit {
		event, err := watcher.Next(ctx)
		if errors.Is(err, io.EOF) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		if event.GetSequence() == 0 {
			continue
		}
		if event.GetSequence() != *last+1 {
			return false, errors.New("a gap, or a repetition")
		}
		*last++
	}
	return false, nil
}
