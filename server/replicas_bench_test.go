package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/journal"
	"understudy.internal/internal/port"
	"understudy.internal/internal/simulator"
)

// How long a server takes from its start to SERVING with 1,000 syncs of history, and how
// much memory it has then. UNDERSTUDY_BENCH_HISTORY sets another number: 10,000 take some
// minutes to make, each event on the disk.
func BenchmarkStartWithHistory(b *testing.B) {
	const writers = 16
	history := fromEnvironment(b, "UNDERSTUDY_BENCH_HISTORY", 1000, strconv.Atoi)
	ctx := b.Context()
	l := newProcessLab(ctx, b, simulator.Config{Seed: 1, Items: 1}, harnessTypes)
	j, err := journal.Open(ctx, journal.Config{Directory: filepath.Join(l.Folder, "data", "journal")})
	if err != nil {
		b.Fatal(err)
	}
	var group sync.WaitGroup
	for i := range writers {
		group.Go(func() {
			for range history / writers {
				if err := finishedSync(ctx, j, fmt.Sprintf("tenants/t%d", i)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	j.Close()
	var took, memory []float64
	for b.Loop() {
		began := time.Now()
		server := startServer(ctx, b, l.configFile())
		took = append(took, float64(time.Since(began).Milliseconds()))
		page, err := server.client.ListSyncs(ctx, &understudyv1.ListSyncsRequest{Parent: "tenants/-", PageSize: 1000})
		if err != nil || len(page.GetSyncs()) != min(history/writers*writers, 1000) {
			b.Fatalf("%d syncs: %v", len(page.GetSyncs()), err)
		}
		memory = append(memory, server.peak(b))
	}
	b.ReportMetric(median(took), "ms-to-serving")
	b.ReportMetric(median(memory), "peak-MiB")
}

// finishedSync stores a sync that is over, with seven results.
func finishedSync(ctx context.Context, j *journal.Journal, tenant string) error {
	created, _, err := j.Create(ctx, port.CreateRequest{Tenant: tenant, Sync: &understudyv1.Sync{Spec: &understudyv1.SyncSpec{}}})
	if err != nil {
		return err
	}
	log, err := j.Open(ctx, created.GetName())
	if err != nil {
		return err
	}
	events := []*understudyv1.SyncEvent{{Event: &understudyv1.SyncEvent_Started{Started: &understudyv1.SyncStarted{
		ConfigurationTypes: harnessTypes, Worker: j.Worker(),
	}}}}
	for _, id := range harnessTypes {
		events = append(events, &understudyv1.SyncEvent{Event: &understudyv1.SyncEvent_ConfigurationCompleted{
			ConfigurationCompleted: &understudyv1.ConfigurationCompleted{Result: &understudyv1.ConfigurationResult{ConfigurationType: id}},
		}})
	}
	if err := log.Append(ctx, events...); err != nil {
		return err
	}
	final := log.Sync()
	final.State, final.EndTime = succeeded, timestamppb.Now()
	return log.Append(ctx, &understudyv1.SyncEvent{Event: &understudyv1.SyncEvent_Finished{Finished: &understudyv1.SyncFinished{Sync: final}}})
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

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
