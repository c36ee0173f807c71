package engine

import (
	"context"
	"fmt"
	"sync"
	"testing"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

// waitingSyncs is a journal in which many syncs wait.
type waitingSyncs struct {
	port.Syncs
	standings []port.Standing
}

func (w *waitingSyncs) Unfinished(context.Context) ([]port.Standing, error) { return w.standings, nil }
func (w *waitingSyncs) Worker() string                                      { return "a/1" }
func (w *waitingSyncs) Alive() []string                                     { return []string{"a/1", "b/1", "c/1"} }

// BenchmarkLook is what a worker does at every change of the journal while 1,000 syncs
// wait: with all of its places taken, and with a free one while every sync is left to
// others for a moment.
func BenchmarkLook(b *testing.B) {
	waiting := &waitingSyncs{}
	for i := range 1000 {
		waiting.standings = append(waiting.standings, port.Standing{
			Sync: fmt.Sprintf("tenants/%d/syncs/%d", i, i), State: understudyv1.SyncState_SYNC_STATE_PENDING,
		})
	}
	for name, free := range map[string]bool{"busy": false, "free": true} {
		b.Run(name, func(b *testing.B) {
			e, err := New(Config{Tenants: noTenants{}, Catalog: noTypes{}, Syncs: waiting, MaxConcurrentSyncs: 1})
			if err != nil {
				b.Fatal(err)
			}
			e.active["somebody"] = nil
			var work sync.WaitGroup
			e.look(b.Context(), &work) // sees them
			if free {
				delete(e.active, "somebody")
				for key, seen := range e.sightings {
					seen.notBefore = seen.since.AddDate(1, 0, 0)
					e.sightings[key] = seen
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				e.look(b.Context(), &work)
			}
		})
	}
}

type noTenants struct{ Tenants }

type noTypes struct{ Catalog }
