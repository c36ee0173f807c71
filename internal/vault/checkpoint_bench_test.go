package vault

import (
	"testing"
	"time"

	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
)

// BenchmarkCheckpoint compares a sync of 100,000 items that makes checkpoints with
// one that does not, and measures how long it takes to take over all of it.
func BenchmarkCheckpoint(b *testing.B) {
	types := benchCatalog()
	items := benchList(b, types, 100_000, 1)
	byType := map[string][]benchItem{}
	for _, item := range items {
		byType[item.t.ID] = append(byType[item.t.ID], item)
	}
	for name, interval := range map[string]time.Duration{"every_500ms": 500 * time.Millisecond, "a_tenth_of_the_time": 1} {
		b.Run(name, func(b *testing.B) {
			var floor, ours, takeover []time.Duration
			checkpoints := 0
			for b.Loop() {
				elapsed, _ := checkpointed(b, types, byType, -1, &checkpoints)
				floor = append(floor, elapsed)
				checkpoints = 0
				elapsed, again := checkpointed(b, types, byType, interval, &checkpoints)
				ours, takeover = append(ours, elapsed), append(takeover, again)
			}
			report(b, ours, floor, "x_of_none")
			b.ReportMetric(float64(checkpoints), "checkpoints")
			b.ReportMetric(float64(takeover[len(takeover)/2].Milliseconds()), "takeover_ms")
		})
	}
}

// checkpointed carries out a sync, a takeover of all of it, and the commit. It returns
// how long reading and committing took, and the takeover.
func checkpointed(b *testing.B, types []*catalog.Type, byType map[string][]benchItem, interval time.Duration, checkpoints *int) (elapsed, again time.Duration) {
	b.Helper()
	v := newVault(b, func(c *Config) { c.CheckpointInterval = interval })
	began := time.Now()
	s := begin(b, v, theSync)
	last := s.checkpoints.last
	count := func() {
		if s.checkpoints.last != last {
			last = s.checkpoints.last
			*checkpoints++
		}
	}
	for _, t := range types {
		for _, item := range byType[t.ID] {
			if err := s.Add(t, port.Item{ID: item.id, DisplayName: item.id, JSON: item.document}); err != nil {
				b.Fatal(err)
			}
			count()
		}
		if _, err := s.Settle(t, port.Reading{Outcome: complete, Time: night}); err != nil {
			b.Fatal(err)
		}
		count()
	}
	elapsed = time.Since(began)
	if interval > 0 {
		if err := s.Close(); err != nil { // keeps all of it
			b.Fatal(err)
		}
		began = time.Now()
		s = begin(b, v, theSync)
		for _, t := range types {
			if _, ok := s.Resumed(t); !ok {
				b.Fatal("not resumed: ", t.ID)
			}
		}
		again = time.Since(began)
	}
	began = time.Now()
	if _, err := s.Commit(b.Context(), port.CommitInfo{Sync: theSync, Time: night}); err != nil {
		b.Fatal(err)
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	return elapsed + time.Since(began), again
}
