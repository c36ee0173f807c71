package vault

import (
	"slices"
	"testing"
	"time"

	"understudy.internal/internal/port"
)

// BenchmarkCheckpoint measures what ten checkpoints cost a sync of 100,000 items, from
// begin to commit, against the same sync without that time; and how long it takes to
// take over all of it.
func BenchmarkCheckpoint(b *testing.B) {
	types := benchCatalog()
	byType := map[string][]benchItem{}
	for _, item := range benchList(b, types, 100_000, 1) {
		byType[item.t.ID] = append(byType[item.t.ID], item)
	}
	var ratios, takeovers []float64
	for b.Loop() {
		v := newVault(b, func(c *Config) { c.CheckpointInterval = -1 })
		began := time.Now()
		s := begin(b, v, theSync)
		var cost time.Duration
		for i, t := range types {
			for _, item := range byType[t.ID] {
				if err := s.Add(t, port.Item{ID: item.id, DisplayName: item.id, JSON: item.document}); err != nil {
					b.Fatal(err)
				}
			}
			if _, err := s.Settle(t, port.Reading{Outcome: complete, Time: night}); err != nil {
				b.Fatal(err)
			}
			if i%(len(types)/10) == len(types)/10-1 {
				now := time.Now()
				s.checkpoint()
				cost += time.Since(now)
			}
		}
		elapsed := time.Since(began)
		die(b, s)
		began = time.Now()
		s = begin(b, v, theSync)
		for _, t := range types {
			if _, ok := s.Resumed(t); !ok {
				b.Fatal("not resumed: ", t.ID)
			}
		}
		takeovers = append(takeovers, time.Since(began).Seconds())
		began = time.Now()
		commit(b, s, night)
		elapsed += time.Since(began)
		ratios = append(ratios, elapsed.Seconds()/(elapsed-cost).Seconds())
	}
	slices.Sort(ratios)
	slices.Sort(takeovers)
	b.ReportMetric(ratios[len(ratios)/2], "x_of_none")
	b.ReportMetric(takeovers[len(takeovers)/2], "takeover_s")
	b.ReportMetric(0, "ns/op")
}
