package journal

import (
	"google.golang.org/protobuf/proto"

	understudyv1 "understudy.internal/gen/understudy/v1"
)

// Apply returns a sync as an event leaves it. It changes neither argument, and is
// the only place that says what an event means for the state of a sync. An event
// that it does not know has a sequence, and no other meaning. It has no memory: what
// earlier events mean for a later one is said by [Fold].
func Apply(sync *understudyv1.Sync, event *understudyv1.SyncEvent) *understudyv1.Sync {
	finished := event.GetFinished()
	if finished.GetSync() != nil {
		sync = finished.GetSync()
	}
	next := proto.CloneOf(sync)
	if next == nil {
		next = &understudyv1.Sync{}
	}
	next.LastSequence = event.GetSequence()
	if finished != nil {
		if next.GetEndTime() == nil {
			next.EndTime = event.GetEventTime() // it is what says that a log is over
		}
		return next
	}
	switch e := event.GetEvent().(type) {
	case *understudyv1.SyncEvent_Started:
		next.State = understudyv1.SyncState_SYNC_STATE_RUNNING
		next.StartTime = event.GetEventTime()
		next.CatalogVersion = e.Started.GetCatalogVersion()
		next.Worker, next.Attempt = e.Started.GetWorker(), 1
		next.Counts = &understudyv1.OutcomeCounts{Total: int32(len(e.Started.GetConfigurationTypes()))}
	case *understudyv1.SyncEvent_StateChanged:
		next.State = e.StateChanged.GetState()
		if worker := e.StateChanged.GetWorker(); worker != "" {
			next.Worker = worker
			next.Attempt++
		}
	case *understudyv1.SyncEvent_AuthenticationSucceeded:
		setIdentity(next, &understudyv1.IdentityOutcome{
			Identity: e.AuthenticationSucceeded.GetIdentity(),
			State:    understudyv1.IdentityState_IDENTITY_STATE_AUTHENTICATED,
		})
	case *understudyv1.SyncEvent_AuthenticationFailed:
		outcome := &understudyv1.IdentityOutcome{
			Identity: e.AuthenticationFailed.GetFailure().GetIdentity(),
			State:    understudyv1.IdentityState_IDENTITY_STATE_FAILED,
			Failure:  proto.CloneOf(e.AuthenticationFailed.GetFailure()),
		}
		for _, known := range next.GetIdentities() {
			if known.GetIdentity() == outcome.GetIdentity() &&
				known.GetState() == understudyv1.IdentityState_IDENTITY_STATE_AUTHENTICATED {
				outcome.State = understudyv1.IdentityState_IDENTITY_STATE_LOST
			}
		}
		setIdentity(next, outcome)
	case *understudyv1.SyncEvent_ConfigurationCompleted:
		count(next, e.ConfigurationCompleted.GetResult().GetOutcome(), 1)
	case *understudyv1.SyncEvent_SnapshotCommitted:
		next.Snapshot = proto.CloneOf(e.SnapshotCommitted.GetSnapshot())
	}
	return next
}

func setIdentity(sync *understudyv1.Sync, outcome *understudyv1.IdentityOutcome) {
	for i, known := range sync.GetIdentities() {
		if known.GetIdentity() == outcome.GetIdentity() {
			sync.Identities[i] = outcome
			return
		}
	}
	sync.Identities = append(sync.Identities, outcome)
}

// count adds to the number of types with an outcome.
func count(sync *understudyv1.Sync, outcome understudyv1.ConfigurationOutcome, n int32) {
	if sync.Counts == nil {
		sync.Counts = &understudyv1.OutcomeCounts{}
	}
	switch outcome {
	case understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_CHANGED:
		sync.Counts.Changed += n
	case understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_UNCHANGED:
		sync.Counts.Unchanged += n
	case understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_INCOMPLETE:
		sync.Counts.Incomplete += n
	case understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_FAILED:
		sync.Counts.Failed += n
	case understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_NOT_BACKED_UP:
		sync.Counts.NotBackedUp += n
	case understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_NOT_AVAILABLE:
		sync.Counts.NotAvailable += n
	}
}
