package vault

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"understudy.internal/internal/port"
)

// benchNamesVariable is how many groups BenchmarkNames takes, in place of 10,000.
const benchNamesVariable = "UNDERSTUDY_BENCH_ITEMS"

// BenchmarkNames commits groups with 20 members each, half of them groups of the
// tenant, half unknown, and compares that with the same where no member is an id.
// MiB_heap is the most that was in use while committing, garbage included.
func BenchmarkNames(b *testing.B) {
	n := 10_000
	if text := os.Getenv(benchNamesVariable); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			b.Fatal(err)
		}
	}
	id := func(i int) string {
		return fmt.Sprintf("%08x-0000-4000-8000-%012x", uint32(i)*2654435761, i)
	}
	sync := func(format string) (took time.Duration, heap float64) {
		v := benchVault(b)
		for range 2 {
			staging, err := v.Begin(b.Context(), port.Turn{Attempt: 1})
			if err != nil {
				b.Fatal(err)
			}
			begin := time.Now()
			for i := range n {
				var members []string
				for j := range 10 {
					members = append(members, fmt.Sprintf(format, id((i*31+j*7919)%n)), fmt.Sprintf(format, id(n+(i*17+j*104729)%(4*n))))
				}
				document := `{"id":"` + id(i) + `","members":["` + strings.Join(members, `","`) + `"]}`
				if err := staging.Add(groups, port.Item{ID: id(i), DisplayName: fmt.Sprint("Group ", i), JSON: []byte(document)}); err != nil {
					b.Fatal(err)
				}
			}
			if _, err := staging.Settle(groups, port.Reading{Outcome: complete, Time: night}); err != nil {
				b.Fatal(err)
			}
			runtime.GC()
			peak := watchHeap()
			if _, err := staging.Commit(b.Context(), port.CommitInfo{Sync: "x", Time: night}); err != nil {
				b.Fatal(err)
			}
			heap = max(heap, float64(peak())/(1<<20))
			took = time.Since(begin) // of the second
			if err := staging.Close(); err != nil {
				b.Fatal(err)
			}
		}
		return took, heap
	}
	var with, without []time.Duration
	most := 0.0
	for b.Loop() {
		took, heap := sync("%s")
		with, most = append(with, took), max(most, heap)
		took, _ = sync("x%s")
		without = append(without, took)
	}
	slices.Sort(without)
	report(b, with, without, "x_of_no_ids")
	b.ReportMetric(most, "MiB_heap")
}

// watchHeap looks at the memory in use every millisecond; what it returns ends it and
// returns the most.
func watchHeap() func() uint64 {
	stop, most := make(chan struct{}), make(chan uint64)
	go func() {
		ticker := time.NewTicker(time.Millisecond)
		defer ticker.Stop()
		highest := uint64(0)
		for {
			var stats runtime.MemStats
			runtime.ReadMemStats(&stats)
			highest = max(highest, stats.HeapAlloc)
			select {
			case <-stop:
				most <- highest
				return
			case <-ticker.C:
			}
		}
	}()
	return func() uint64 {
		close(stop)
		return <-most
	}
}
