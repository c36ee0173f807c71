package main

import (
	"testing"
	"time"

	"understudy.internal/internal/simulator"
)

// deltaGroups is how many groups the tenant of BenchmarkDelta has.
const deltaGroups = 20_000

// BenchmarkDelta backs a tenant of 20,000 groups up, at 50 ms an answer: the list
// and four children of each group. It then changes ten of them and backs up again,
// by delta, and once more after the cursors are gone, in full. It reports
//
//   - x-of-full: the sync by delta against the full one, both with ten changes.
//     Goal: at most 0.6. Two of four children are covered by the delta query; the
//     others have to be read of every group;
//   - requests-of-full: the same of what was asked for, parts of batches counted.
//     Goal: at most 0.51.
func BenchmarkDelta(b *testing.B) {
	var delta, full time.Duration
	var deltaGets, fullGets int64
	for b.Loop() {
		ctx := b.Context()
		l := newProcessLab(ctx, b, simulator.Config{
			Seed: 1, Latency: benchLatency, Counts: map[string]int{groups: deltaGroups},
		}, []string{"entra/groups"})
		server := startServer(ctx, b, l.configFile())
		timed := func() (time.Duration, int64) {
			start, before := time.Now(), l.simulator.Stats().Gets
			if err := runOnce(ctx, server.client); err != nil {
				b.Fatal(err)
			}
			return time.Since(start), l.simulator.Stats().Gets - before
		}
		change := func() {
			for i := range 10 {
				if err := l.simulator.ChangeItem(groups, i*1999); err != nil {
					b.Fatal(err)
				}
			}
		}
		timed()
		change()
		took, gets := timed()
		delta, deltaGets = delta+took, deltaGets+gets
		forgetCursors(b, l.Folder)
		change()
		took, gets = timed()
		full, fullGets = full+took, fullGets+gets
		server.kill()
		l.simulator.Close()
	}
	b.ReportMetric(delta.Seconds()/full.Seconds(), "x-of-full")
	b.ReportMetric(float64(deltaGets)/float64(fullGets), "requests-of-full")
	b.ReportMetric(full.Seconds()/float64(b.N), "s/full")
}
