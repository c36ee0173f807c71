package main

import (
	"context"
	"testing"
	"time"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/simulator"
)

// A cluster that is gone for so long that a replica gives an append up, and not for the
// lease, costs the sync that runs nothing but the time.
func TestStorageIsGoneForAWhile(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), harnessTimeout)
	defer cancel()
	// Nothing is read before the cluster is gone: so the sync is not over by then, and has
	// something to append.
	hold := make(chan struct{})
	r := newReplicas(ctx, t, replicaSetup{
		nodes: 1, replicas: 1, tenants: 1, lease: harnessTimeout, directory: simulator.Config{Seed: 1, Items: 3, Hold: hold},
	})
	own := r.all[0]
	s := &storageStory{T: t, client: own.client, connection: own.connection}
	started, err := own.client.StartSync(ctx, &understudyv1.StartSyncRequest{Parent: "tenants/t00"})
	if err != nil {
		t.Fatal(err)
	}
	w := &witness{name: started.GetSync().GetName()}
	taken, stop := context.WithCancel(ctx)
	defer stop()
	_ = watch(taken, own.client, w.name, 0, func(*understudyv1.SyncEvent) { stop() })
	r.nats.nodes[0].kill()
	close(hold)
	eventually(t, time.Minute, "an append is given up", func() bool {
		return s.health(ctx) == healthpb.HealthCheckResponse_NOT_SERVING
	})
	r.nats.nodes[0].start(t)
	if err := w.attend(ctx, func() understudyv1.SyncServiceClient { return own.client }); err != nil {
		t.Fatalf("%v\n%s", err, own.complaints())
	}
	if final := w.final(); final.GetState() != succeeded || final.GetAttempt() != 1 {
		t.Errorf("the sync ended as %v\n%s\n%s", final, w.story(), own.complaints())
	}
	own.waitServing(ctx, t)
	w.same(ctx, t, own)
}
