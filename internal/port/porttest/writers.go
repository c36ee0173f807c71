package porttest

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

// Take returns the event by which a worker takes a sync.
func Take(worker string) *understudyv1.SyncEvent {
	event := Started("a/b")
	event.GetStarted().Worker = worker
	return event
}

// State returns the event of a new state, and of a takeover where a worker is named.
func State(state understudyv1.SyncState, worker string) *understudyv1.SyncEvent {
	return &understudyv1.SyncEvent{Event: &understudyv1.SyncEvent_StateChanged{
		StateChanged: &understudyv1.StateChanged{State: state, Worker: worker},
	}}
}

// isFenced fails unless an append was refused because the log is somebody else's.
func isFenced(t *testing.T, err error) {
	t.Helper()
	if !errors.As(err, new(*port.FencedError)) {
		t.Errorf("err = %v, want a FencedError", err)
	}
}

func testTaking(t *testing.T, syncs port.Syncs) {
	name := Create(t, syncs, "tenants/contoso").GetName()
	first, second := Open(t, syncs, name), Open(t, syncs, name)
	Append(t, first, Take("a"))
	isFenced(t, second.Append(t.Context(), Take("b")))
	isFenced(t, Open(t, syncs, name).Append(t.Context(), Take("c")))
	Append(t, first, Result("a/b", 1))
	if got := first.Sync(); got.GetWorker() != "a" || got.GetAttempt() != 1 || got.GetLastSequence() != 2 {
		t.Errorf("sync = %v", got)
	}
}

func testTakingOver(t *testing.T, syncs port.Syncs) {
	name := Create(t, syncs, "tenants/contoso").GetName()
	first := Open(t, syncs, name)
	Append(t, first, Take("a"), Result("a/b", 1))
	second, third := Open(t, syncs, name), Open(t, syncs, name)
	Append(t, second, State(understudyv1.SyncState_SYNC_STATE_RUNNING, "b"))
	isFenced(t, third.Append(t.Context(), State(understudyv1.SyncState_SYNC_STATE_RUNNING, "c")))
	isFenced(t, first.Append(t.Context(), Result("a/c", 1)))
	isFenced(t, first.Append(t.Context(), State(understudyv1.SyncState_SYNC_STATE_COMMITTING, "")))
	if got := first.Sync(); got.GetWorker() != "b" || got.GetAttempt() != 2 {
		t.Errorf("the earlier worker sees %v", got)
	}
	// Who asks for a cancellation need not know who runs the sync; and is no worker
	// of it thereby.
	Append(t, first, State(understudyv1.SyncState_SYNC_STATE_CANCELLING, ""))
	isFenced(t, first.Append(t.Context(), Result("a/c", 1)))
	Append(t, second, Result("a/c", 1))
	Finish(t, second)
}

func testUnknownEnd(t *testing.T, syncs port.Syncs) {
	name := Create(t, syncs, "tenants/contoso").GetName()
	first, second := Open(t, syncs, name), Open(t, syncs, name)
	Append(t, first, Result("a/b", 1))
	isFenced(t, second.Append(t.Context(), Result("a/b", 1)))
	Append(t, Open(t, syncs, name), Result("a/c", 1))
	if got := len(events(t, syncs, name, 0)); got != 2 {
		t.Errorf("%d events", got)
	}
}

func testCancelling(t *testing.T, syncs port.Syncs) {
	name := Create(t, syncs, "tenants/contoso").GetName()
	worker, other := Open(t, syncs, name), Open(t, syncs, name)
	Append(t, worker, Take("a"))
	changed := worker.Changed()
	Append(t, other, State(understudyv1.SyncState_SYNC_STATE_CANCELLING, ""))
	<-changed
	if got := worker.Sync().GetState(); got != understudyv1.SyncState_SYNC_STATE_CANCELLING {
		t.Errorf("the worker sees %v", got)
	}
	result := Result("a/b", 1)
	Append(t, worker, result)
	if result.GetSequence() != 3 {
		t.Errorf("the event after it has the sequence %d", result.GetSequence())
	}
	Finish(t, worker)
	isFenced(t, other.Append(t.Context(), State(understudyv1.SyncState_SYNC_STATE_CANCELLING, "")))
}

func testCancellingOrCommitting(t *testing.T, syncs port.Syncs) {
	refused := func(err error, state understudyv1.SyncState) {
		t.Helper()
		if is := (*port.SyncStateError)(nil); !errors.As(err, &is) || is.State != state {
			t.Errorf("err = %v, want a SyncStateError of %v", err, state)
		}
	}
	cancelling, committing := understudyv1.SyncState_SYNC_STATE_CANCELLING, understudyv1.SyncState_SYNC_STATE_COMMITTING
	name := Create(t, syncs, "tenants/contoso").GetName()
	worker, other := Open(t, syncs, name), Open(t, syncs, name)
	Append(t, worker, Take("a"))
	Append(t, other, State(cancelling, ""))
	refused(worker.Append(t.Context(), Result("a/b", 1), State(committing, "")), cancelling)
	if got := worker.Sync().GetLastSequence(); got != 2 {
		t.Errorf("%d events: part of what was refused was stored", got)
	}
	// Also for the next worker, who ends it.
	next := Open(t, syncs, name)
	refused(next.Append(t.Context(), State(understudyv1.SyncState_SYNC_STATE_RUNNING, "b")), cancelling)
	refused(next.Append(t.Context(), State(committing, "b")), cancelling)
	Finish(t, next)

	name = Create(t, syncs, "tenants/contoso").GetName()
	worker, other = Open(t, syncs, name), Open(t, syncs, name)
	Append(t, worker, Take("a"))
	Append(t, worker, State(committing, ""))
	refused(other.Append(t.Context(), State(cancelling, "")), committing)
	Finish(t, worker)
}

func testCompletedAgain(t *testing.T, syncs port.Syncs) {
	changed, failed := understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_CHANGED, understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_FAILED
	name := Create(t, syncs, "tenants/contoso").GetName()
	Append(t, Open(t, syncs, name), Started("a/b", "a/c"), Result("a/b", changed), Result("a/c", changed))
	log := Open(t, syncs, name)
	Append(t, log, State(understudyv1.SyncState_SYNC_STATE_RUNNING, "b"), Result("a/b", failed), Result("a/c", changed))
	want := &understudyv1.OutcomeCounts{Total: 2, Changed: 1, Failed: 1}
	if diff := cmp.Diff(want, log.Sync().GetCounts(), protocmp.Transform()); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
}

func testChanged(t *testing.T, syncs port.Syncs) {
	heard := func(what string, changed <-chan struct{}) {
		t.Helper()
		select {
		case <-changed:
		default:
			t.Errorf("%s was not heard of", what)
		}
	}
	changed := syncs.Changed()
	name := Create(t, syncs, "tenants/contoso").GetName()
	heard("a new sync", changed)
	log := Open(t, syncs, name)
	changed, event := syncs.Changed(), log.Changed()
	Append(t, log, Take("a"))
	heard("a sync that was taken", changed)
	heard("an event", event)
	changed = syncs.Changed()
	Append(t, Open(t, syncs, name), State(understudyv1.SyncState_SYNC_STATE_RUNNING, "b"))
	heard("a sync that was taken over", changed)
	changed = syncs.Changed()
	Finish(t, Open(t, syncs, name))
	heard("a sync that finished", changed)
}

func testWorkers(t *testing.T, syncs port.Syncs) {
	worker := syncs.Worker()
	if worker == "" || worker != syncs.Worker() {
		t.Errorf("the worker is %q, then %q", worker, syncs.Worker())
	}
	if alive := syncs.Alive(); !slices.Contains(alive, worker) || !slices.IsSorted(alive) {
		t.Errorf("alive = %v", alive)
	}
}
