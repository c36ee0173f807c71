package main

import (
	"context"
	"testing"
	"time"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/simulator"
)

// A replica that is killed is replaced within its lease, counted from its death: by
// another one that goes on with its sync. The bound here is loose: the machine may be
// busy. What it took is logged.
func TestDeadReplicaIsReplaced(t *testing.T) {
	t.Parallel()
	const lease = 5 * time.Second // that of the configuration
	ctx, cancel := context.WithTimeout(t.Context(), harnessTimeout)
	defer cancel()
	r := newReplicas(ctx, t, replicaSetup{
		nodes: 1, replicas: 2, tenants: 1, directory: simulator.Config{Seed: 1, Items: 3, Latency: 1500 * time.Millisecond},
	})
	started, err := r.all[0].client.StartSync(ctx, &understudyv1.StartSyncRequest{Parent: "tenants/t00"})
	if err != nil {
		t.Fatal(err)
	}
	w := &witness{name: started.GetSync().GetName()}
	var dead, other *replica
	first, stop := context.WithCancel(ctx)
	_ = watch(first, r.all[0].client, w.name, 0, func(event *understudyv1.SyncEvent) {
		if worker := event.GetStarted().GetWorker(); worker != "" {
			dead, other = r.byWorker(worker)
			stop()
		}
	})
	stop()
	if dead == nil {
		t.Fatal("nobody took the sync")
	}
	begin := time.Now()
	dead.kill()
	var took time.Duration
	err = watch(ctx, other.client, w.name, 0, func(event *understudyv1.SyncEvent) {
		if worker := event.GetStateChanged().GetWorker(); worker != "" && took == 0 {
			took = time.Since(begin)
		}
		w.see(event)
	})
	switch {
	case took == 0:
		t.Fatalf("nobody took the sync over: %v\n%s", err, w.story())
	case took > 4*lease:
		t.Errorf("it was taken over after %s, with a lease of %s", took, lease)
	}
	// On a busy machine with so short a lease it may be taken over once more.
	if !w.over() || w.final().GetState() != succeeded || w.final().GetAttempt() < 2 {
		t.Errorf("the sync ended with %v\n%s", err, w.story())
	}
	t.Logf("with a lease of %s a sync was taken over %s after the death of its worker", lease, took.Round(time.Millisecond))
}
