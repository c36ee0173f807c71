package journal_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/journal"
	"understudy.internal/internal/port"
)

// BenchmarkOpen starts a journal with 10,000 syncs of history.
func BenchmarkOpen(b *testing.B) {
	directory := b.TempDir()
	if err := journal.Fill(b.Context(), directory, 10_000); err != nil {
		b.Fatal(err)
	}
	open(b, directory).Close()
	before := heap()
	for b.Loop() {
		j, err := journal.Open(b.Context(), journal.Config{Directory: directory})
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		syncs, err := j.List(b.Context(), "tenants/t7", "", 100)
		if err != nil || len(syncs) != 34 {
			b.Fatal(len(syncs), err)
		}
		b.ReportMetric(float64(int64(heap())-int64(before))/(1<<20), "MiB")
		j.Close()
		b.StartTimer()
	}
}

// BenchmarkDelivery appends events in batches of 50, as a worker does, and counts
// those that all watchers have. The floor is a slice in memory with a cursor each.
func BenchmarkDelivery(b *testing.B) {
	for _, watchers := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("floor/watchers=%d", watchers), func(b *testing.B) {
			deliver(b, watchers, 50, newFloor())
		})
		b.Run(fmt.Sprintf("embedded/watchers=%d", watchers), func(b *testing.B) {
			j := open(b, b.TempDir())
			deliver(b, watchers, 50, journalTarget(b, j, j))
		})
		b.Run(fmt.Sprintf("cluster/watchers=%d", watchers), func(b *testing.B) {
			both := replicas(b, 2)
			deliver(b, watchers, 50, journalTarget(b, both[0], both[1]))
		})
	}
}

// target is what events are appended to and watched in.
type target struct {
	append func(...*understudyv1.SyncEvent) error
	watch  func() (port.Watcher, error)
}

// journalTarget appends through one journal and watches through another.
func journalTarget(b *testing.B, writer, reader *journal.Journal) target {
	b.Helper()
	name := create(b, writer, "tenants/contoso").GetName()
	log, err := writer.Open(b.Context(), name)
	if err != nil {
		b.Fatal(err)
	}
	return target{
		append: func(events ...*understudyv1.SyncEvent) error { return log.Append(context.Background(), events...) },
		watch:  func() (port.Watcher, error) { return reader.Watch(context.Background(), name, 0) },
	}
}

func deliver(b *testing.B, watchers, batch int, t target) {
	b.Helper()
	var (
		readers sync.WaitGroup
		begun   sync.WaitGroup
		mu      sync.Mutex
		delays  []time.Duration
	)
	for i := range watchers {
		w, err := t.watch()
		if err != nil {
			b.Fatal(err)
		}
		begun.Add(1)
		readers.Go(func() {
			defer w.Close()
			var mine []time.Duration
			for {
				event, err := w.Next(context.Background())
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					b.Error(err)
					return
				}
				switch {
				case event.GetCurrentState() != nil:
					begun.Done()
				case event.GetFinished() != nil:
					mu.Lock()
					delays = append(delays, mine...)
					mu.Unlock()
					return
				case i%10 == 0:
					mine = append(mine, time.Since(event.GetEventTime().AsTime()))
				}
			}
		})
	}
	begun.Wait()
	n := 0
	for b.Loop() {
		events := make([]*understudyv1.SyncEvent, batch)
		for i := range events {
			events[i] = result(i)
			events[i].GetConfigurationCompleted().GetResult().Path = "tenants/contoso/entra/conditional-access-policies"
		}
		if err := t.append(events...); err != nil {
			b.Fatal(err)
		}
		n += batch
	}
	end := &understudyv1.SyncEvent{Event: &understudyv1.SyncEvent_Finished{Finished: &understudyv1.SyncFinished{Sync: &understudyv1.Sync{}}}}
	if err := t.append(end); err != nil {
		b.Fatal(err)
	}
	readers.Wait()
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
	slices.Sort(delays)
	if len(delays) > 0 {
		b.ReportMetric(float64(delays[len(delays)*99/100])/1e6, "p99-ms")
	}
}

// BenchmarkLatency appends at most 1,000 events a second, 10 at a time, and reports how
// long it takes from Append to a watcher.
func BenchmarkLatency(b *testing.B) {
	for _, watchers := range []int{1, 100} {
		b.Run(fmt.Sprintf("embedded/watchers=%d", watchers), func(b *testing.B) {
			j := open(b, b.TempDir())
			paced(b, watchers, journalTarget(b, j, j))
		})
		b.Run(fmt.Sprintf("cluster/watchers=%d", watchers), func(b *testing.B) {
			both := replicas(b, 2)
			paced(b, watchers, journalTarget(b, both[0], both[1]))
		})
	}
}

func paced(b *testing.B, watchers int, t target) {
	b.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	at := t
	at.append = func(events ...*understudyv1.SyncEvent) error {
		<-ticker.C
		return t.append(events...)
	}
	deliver(b, watchers, 10, at)
}

// floor is the least that fans events out.
type floor struct {
	mu      sync.Mutex
	events  []*understudyv1.SyncEvent
	changed chan struct{}
}

func newFloor() target {
	f := &floor{changed: make(chan struct{})}
	return target{append: f.append, watch: func() (port.Watcher, error) { return &floorWatcher{floor: f}, nil }}
}

func (f *floor) append(events ...*understudyv1.SyncEvent) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, event := range events {
		event = proto.CloneOf(event)
		event.EventTime = timestamppb.Now()
		f.events = append(f.events, event)
	}
	close(f.changed)
	f.changed = make(chan struct{})
	return nil
}

type floorWatcher struct {
	floor  *floor
	begun  bool
	cursor int
}

func (w *floorWatcher) Next(context.Context) (*understudyv1.SyncEvent, error) {
	if !w.begun {
		w.begun = true
		return &understudyv1.SyncEvent{Event: &understudyv1.SyncEvent_CurrentState{CurrentState: &understudyv1.CurrentState{}}}, nil
	}
	for {
		w.floor.mu.Lock()
		changed := w.floor.changed
		if w.cursor < len(w.floor.events) {
			event := w.floor.events[w.cursor]
			w.cursor++
			w.floor.mu.Unlock()
			return event, nil
		}
		w.floor.mu.Unlock()
		<-changed
	}
}

func (w *floorWatcher) Close() { runtime.KeepAlive(w) }
