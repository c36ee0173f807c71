package main

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/simulator"
)

// How many syncs a minute 1 and 3 replicas finish, each with room for two at a time,
// against a tenant that takes its time: more replicas do more while there is a processor
// for them.
func BenchmarkReplicas(b *testing.B) {
	rates := map[int]float64{}
	for _, count := range []int{1, 3} {
		b.Run(fmt.Sprintf("replicas=%d", count), func(b *testing.B) {
			ctx := b.Context()
			r := newReplicas(ctx, b, replicaSetup{
				nodes: 1, replicas: count, tenants: 12, concurrent: 2,
				directory: simulator.Config{Seed: 1, Items: 3, Latency: 400 * time.Millisecond},
			})
			var done atomic.Int64
			took := time.Duration(0)
			for b.Loop() {
				began := time.Now()
				var group sync.WaitGroup
				for i, tenant := range r.names {
					group.Go(func() {
						own := r.all[i%len(r.all)]
						stream, err := own.client.RunSync(ctx, &understudyv1.RunSyncRequest{Parent: "tenants/" + tenant})
						for err == nil {
							_, err = stream.Recv()
						}
						done.Add(1)
					})
				}
				group.Wait()
				took += time.Since(began)
			}
			rates[count] = float64(done.Load()) / took.Minutes()
			b.ReportMetric(rates[count], "syncs/min")
			if one := rates[1]; one > 0 && count > 1 {
				b.ReportMetric(rates[count]/one, "x-one-replica")
			}
		})
	}
}
