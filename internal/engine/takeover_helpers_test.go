package engine_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	understudyv1 "understudy.internal/gen/understudy/v1"
)

// restart returns a new engine on the journal and the vault of another one, which
// is as if that had been killed.
func (s *stage) restart() *stage {
	next := s.replica(s.syncs.worker + "'")
	next.syncs.setAlive(next.syncs.worker)
	return next
}

// replica returns another worker on the same journal and vault.
func (s *stage) replica(worker string) *stage {
	next := newStage(s.t)
	next.syncs.fakeJournal, next.syncs.worker = s.syncs.fakeJournal, worker
	next.vault, next.tenant.Vault = s.vault, s.tenant.Vault
	next.syncs.setAlive(append(s.syncs.alive, worker)...)
	return next
}

// append stores events as the worker of a sync that will be killed.
func (s *stage) append(log *fakeLog, events ...*understudyv1.SyncEvent) {
	s.t.Helper()
	if err := log.Append(s.t.Context(), events...); err != nil {
		s.t.Fatal(err)
	}
}

func errorReason(t *testing.T, sync *understudyv1.Sync) string {
	t.Helper()
	var info errdetails.ErrorInfo
	for _, detail := range sync.GetError().GetDetails() {
		if detail.MessageIs(&info) {
			if err := detail.UnmarshalTo(&info); err != nil {
				t.Fatal(err)
			}
		}
	}
	return strings.TrimPrefix(info.GetReason(), "ERROR_REASON_")
}

func eventStarted(ids ...string) *understudyv1.SyncEvent {
	return &understudyv1.SyncEvent{Event: &understudyv1.SyncEvent_Started{Started: &understudyv1.SyncStarted{ConfigurationTypes: ids}}}
}

func eventState(state understudyv1.SyncState) *understudyv1.SyncEvent {
	return &understudyv1.SyncEvent{Event: &understudyv1.SyncEvent_StateChanged{StateChanged: &understudyv1.StateChanged{State: state}}}
}

func eventSnapshot(push understudyv1.PushState) *understudyv1.SyncEvent {
	return &understudyv1.SyncEvent{Event: &understudyv1.SyncEvent_SnapshotCommitted{SnapshotCommitted: &understudyv1.SnapshotCommitted{
		Snapshot: &understudyv1.Snapshot{Commit: "c0ffee", PushState: push},
	}}}
}

func eventFailed(identity understudyv1.Identity) *understudyv1.SyncEvent {
	return &understudyv1.SyncEvent{Event: &understudyv1.SyncEvent_AuthenticationFailed{AuthenticationFailed: &understudyv1.AuthenticationFailed{
		Failure: &understudyv1.AuthFailure{Identity: identity},
	}}}
}

func eventAuthenticated(identity understudyv1.Identity) *understudyv1.SyncEvent {
	return &understudyv1.SyncEvent{Event: &understudyv1.SyncEvent_AuthenticationSucceeded{
		AuthenticationSucceeded: &understudyv1.AuthenticationSucceeded{Identity: identity},
	}}
}

func eventResult(
	id string, identity understudyv1.Identity, outcome understudyv1.ConfigurationOutcome, reason understudyv1.ConfigurationFailureReason,
) *understudyv1.SyncEvent {
	return &understudyv1.SyncEvent{Event: &understudyv1.SyncEvent_ConfigurationCompleted{
		ConfigurationCompleted: &understudyv1.ConfigurationCompleted{Result: &understudyv1.ConfigurationResult{
			ConfigurationType: id, Identity: identity, Outcome: outcome, Reason: reason,
		}},
	}}
}

// checkDense checks that a log has no gap, and its end once.
func (s *stage) checkDense(log *fakeLog) {
	s.t.Helper()
	all := log.stored()
	for i, event := range all {
		if event.GetSequence() != int64(i+1) || (event.GetFinished() != nil) != (i == len(all)-1) {
			s.t.Errorf("event %d: %v", i, event)
		}
	}
	if got := log.Sync().GetLastSequence(); got != int64(len(all)) {
		s.t.Errorf("last_sequence = %d, want %d", got, len(all))
	}
}

// checkCounts checks that each type counts once, by its last result, also in the
// commit.
func (s *stage) checkCounts(final *understudyv1.Sync, log *fakeLog) {
	s.t.Helper()
	last := map[string]understudyv1.ConfigurationOutcome{}
	for _, event := range log.stored() {
		if r := event.GetConfigurationCompleted().GetResult(); r != nil {
			last[r.GetConfigurationType()] = r.GetOutcome()
		}
	}
	want := &understudyv1.OutcomeCounts{Total: int32(len(last))}
	for _, outcome := range last {
		switch outcome {
		case understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_CHANGED:
			want.Changed++
		case understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_FAILED:
			want.Failed++
		case understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_NOT_BACKED_UP:
			want.NotBackedUp++
		}
	}
	if diff := cmp.Diff(want, final.GetCounts(), protocmp.Transform()); diff != "" {
		s.t.Errorf("counts (-want +got):\n%s", diff)
	}
	commit := s.vault.commits[len(s.vault.commits)-1]
	if diff := cmp.Diff(want, commit.Counts, protocmp.Transform()); diff != "" || len(commit.Results) != len(last) || commit.State != final.GetState() {
		s.t.Errorf("the commit says %s of %d results, counts (-want +got):\n%s", commit.State, len(commit.Results), diff)
	}
}

func clones(events []*understudyv1.SyncEvent) []*understudyv1.SyncEvent {
	all := make([]*understudyv1.SyncEvent, len(events))
	for i, event := range events {
		all[i] = proto.CloneOf(event)
	}
	return all
}

func stateChangedBy(state understudyv1.SyncState, worker string) *understudyv1.SyncEvent {
	event := eventState(state)
	event.GetStateChanged().Worker = worker
	return event
}

// complete is the outcome of a type that is new in the backup.
const complete = understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_CHANGED
