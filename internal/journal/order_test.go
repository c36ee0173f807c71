package journal_test

import (
	"errors"
	"testing"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/journal"
	"understudy.internal/internal/port"
	"understudy.internal/internal/port/porttest"
)

// These are about a process that hears of the records of a tenant in another order than
// they were stored in: it lags behind, and somebody asks it for one by its name.

// endUnmarked ends a sync whose record is not marked as over.
func endUnmarked(t *testing.T, j *journal.Journal, name string) {
	t.Helper()
	final := porttest.Open(t, j, name).Sync()
	final.State, final.EndTime, final.LastSequence = understudyv1.SyncState_SYNC_STATE_SUCCEEDED, final.GetCreateTime(), 1
	end := &understudyv1.SyncEvent{Event: &understudyv1.SyncEvent_Finished{Finished: &understudyv1.SyncFinished{Sync: final}}}
	if err := j.LoseAnswer(t.Context(), name, nil, end); err != nil {
		t.Fatal(err)
	}
	until(t, "it hears of the end", func() bool { return !j.IsLive(name) })
}

// isRunning fails unless a tenant has a sync that a process answers StartSync with.
func isRunning(t *testing.T, j *journal.Journal, tenant, name string) {
	t.Helper()
	sync, _, err := j.Create(t.Context(), port.CreateRequest{Tenant: tenant, Sync: &understudyv1.Sync{}})
	if running := (*port.SyncRunningError)(nil); !errors.As(err, &running) || running.Sync != name {
		t.Errorf("%s runs, and Create = %v, %v", name, sync.GetName(), err)
	}
}

// TestLateMark: the mark of an earlier sync is the last record of its tenant. Who knows
// it does not know the sync that was accepted before it.
func TestLateMark(t *testing.T) {
	t.Parallel()
	both := replicas(t, 2)
	a, b := both[0], both[1]
	b.StopFollowing()
	const tenant = "tenants/contoso"
	one := create(t, a, tenant).GetName()
	endUnmarked(t, a, one)
	two := create(t, a, tenant).GetName()
	if err := a.Mark(t.Context(), one); err != nil {
		t.Fatal(err)
	}
	if sync, err := b.Get(t.Context(), one); err != nil || sync.GetEndTime() == nil {
		t.Fatal(sync, err)
	}
	isRunning(t, b, tenant, two)
	finish(t, b, two)
	create(t, b, tenant) // free again
}

// TestRequestIDOutOfOrder: who was asked for a later sync does not know the earlier one,
// which a request_id created.
func TestRequestIDOutOfOrder(t *testing.T) {
	t.Parallel()
	both := replicas(t, 2)
	a, b := both[0], both[1]
	b.StopFollowing()
	request := port.CreateRequest{Tenant: "tenants/contoso", Sync: &understudyv1.Sync{}, RequestID: "r", Digest: "d"}
	first, _, err := a.Create(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	finish(t, a, first.GetName())
	second := create(t, a, request.Tenant).GetName()
	finish(t, a, second)
	if _, err := b.Get(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	again, created, err := b.Create(t.Context(), request)
	if err != nil || created || again.GetName() != first.GetName() {
		t.Errorf("the request was answered with %s (created %t, %v), and at first with %s", again.GetName(), created, err, first.GetName())
	}
}

// TestEarlierSyncIsHeardOfLater: a sync that ended, and is heard of after the next one,
// does not stand in its place.
func TestEarlierSyncIsHeardOfLater(t *testing.T) {
	t.Parallel()
	both := replicas(t, 2)
	a, b := both[0], both[1]
	b.StopFollowing()
	const tenant = "tenants/contoso"
	one := create(t, a, tenant).GetName()
	endUnmarked(t, a, one) // and is never marked
	two := create(t, a, tenant).GetName()
	for _, name := range []string{two, one} {
		watcher, err := b.Watch(t.Context(), name, 0) // that does not look for events
		if err != nil {
			t.Fatal(err)
		}
		watcher.Close()
	}
	isRunning(t, b, tenant, two)
	if sync, err := b.Get(t.Context(), one); err != nil || sync.GetEndTime() == nil {
		t.Fatal(sync, err)
	}
	isRunning(t, b, tenant, two)
	finish(t, a, two)
	create(t, b, tenant)
}

// TestRepeatedRequestIDs: of the syncs of one request_id the newest counts, in whatever
// order they are heard of.
func TestRepeatedRequestIDs(t *testing.T) {
	for name, order := range map[string][]string{
		"in order": {"01aaaaaaaaaaaaaaaaaaaaaaaa", "01bbbbbbbbbbbbbbbbbbbbbbbb"},
		"not":      {"01bbbbbbbbbbbbbbbbbbbbbbbb", "01aaaaaaaaaaaaaaaaaaaaaaaa"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := journal.Requested("tenants/contoso", "r", order...); got != "01bbbbbbbbbbbbbbbbbbbbbbbb" {
				t.Errorf("the request_id stands for %s", got)
			}
		})
	}
}
