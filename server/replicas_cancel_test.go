package main

import (
	"context"
	"testing"
	"time"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/simulator"
)

// CancelSync through a replica that does not run the sync ends what the other one reads:
// the request goes through the journal, within a second as a rule.
func TestCancelOnAnotherReplica(t *testing.T) {
	t.Parallel()
	const limit = time.Minute // for a busy machine, which must not lose the sync meanwhile either
	ctx, cancel := context.WithTimeout(t.Context(), harnessTimeout)
	defer cancel()
	// No request of the sync is answered before it is cancelled.
	r := newReplicas(ctx, t, replicaSetup{
		nodes: 1, replicas: 2, tenants: 1, lease: harnessTimeout, directory: simulator.Config{Seed: 1, Items: 1, Hold: make(chan struct{})},
	})
	started, err := r.all[0].client.StartSync(ctx, &understudyv1.StartSyncRequest{Parent: "tenants/t00"})
	if err != nil {
		t.Fatal(err)
	}
	w := &witness{name: started.GetSync().GetName()}
	var own, other *replica
	until, stop := context.WithCancel(ctx)
	defer stop()
	_ = watch(until, r.all[0].client, w.name, 0, func(event *understudyv1.SyncEvent) {
		if worker := event.GetStarted().GetWorker(); worker != "" {
			own, other = r.byWorker(worker)
			stop()
		}
	})
	if own == nil {
		t.Fatal("nobody took the sync")
	}
	begin := time.Now()
	if _, err := other.client.CancelSync(ctx, &understudyv1.CancelSyncRequest{Name: w.name}); err != nil {
		t.Fatal(err)
	}
	if err := w.attend(ctx, func() understudyv1.SyncServiceClient { return own.client }); err != nil {
		t.Fatal(err)
	}
	took := time.Since(begin)
	final := w.final()
	if final.GetState() != understudyv1.SyncState_SYNC_STATE_CANCELLED || final.GetAttempt() != 1 {
		t.Errorf("the sync ended as %v\n%s", final, w.story())
	}
	if took > limit {
		t.Errorf("it took %s", took)
	}
	w.same(ctx, t, other)
	again, err := other.client.StartSync(ctx, &understudyv1.StartSyncRequest{Parent: "tenants/t00"})
	if err != nil {
		t.Errorf("its tenant is not free: %v", err)
	} else if _, err := own.client.CancelSync(ctx, &understudyv1.CancelSyncRequest{Name: again.GetSync().GetName()}); err != nil {
		t.Error(err)
	}
	t.Logf("cancelled within %s", took)
}
