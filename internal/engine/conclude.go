package engine

import (
	"errors"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"google.golang.org/genproto/googleapis/rpc/code"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

// terminal says whether a sync never leaves a state.
func terminal(state understudyv1.SyncState) bool {
	switch state {
	case understudyv1.SyncState_SYNC_STATE_SUCCEEDED, understudyv1.SyncState_SYNC_STATE_PARTIALLY_SUCCEEDED,
		understudyv1.SyncState_SYNC_STATE_FAILED, understudyv1.SyncState_SYNC_STATE_CANCELLED:
		return true
	}
	return false
}

// ending is how a sync ends.
type ending struct {
	state    understudyv1.SyncState
	causes   []understudyv1.PartialCause
	status   *rpcstatus.Status
	snapshot *understudyv1.Snapshot
	// identities are nil where the log knows them.
	identities []*understudyv1.IdentityOutcome
}

// failed is the ending of a sync that failed for a reason of its own.
func failed(status *rpcstatus.Status) *ending {
	return &ending{state: understudyv1.SyncState_SYNC_STATE_FAILED, status: status}
}

// apply completes a sync with how it ended.
func (e *ending) apply(sync *understudyv1.Sync) {
	sync.State, sync.PartialCauses, sync.Error = e.state, e.causes, e.status
	if e.snapshot != nil {
		sync.Snapshot = e.snapshot
	}
	if e.identities != nil {
		sync.Identities = e.identities
	}
}

// committedEnding is how the sync ends after its commit, or after a dry run.
func (r *run) committedEnding() *ending {
	how := &ending{snapshot: r.snapshot, identities: r.identities()}
	how.state, how.causes = r.ending(r.snapshot)
	return how
}

// failedEnding is how the sync ends when nothing was committed, for a reason.
func (r *run) failedEnding(err error) *ending {
	how := &ending{identities: r.identities()}
	how.state, how.status = r.failure(err)
	return how
}

// identities returns what both identities achieved; nil when they were not called
// yet.
func (r *run) identities() []*understudyv1.IdentityOutcome {
	if r.servicePrincipal == nil || r.user == nil {
		return nil
	}
	return []*understudyv1.IdentityOutcome{
		r.servicePrincipal.outcome(r.notBackedUpFor(r.servicePrincipal)), r.user.outcome(r.notBackedUpFor(r.user)),
	}
}

// report logs how the sync ended.
func (r *run) report(how *ending) {
	counts := r.log.Sync().GetCounts()
	r.logger.Info("sync finished", "state", how.state.String(), "total", counts.GetTotal(),
		"changed", counts.GetChanged(), "unchanged", counts.GetUnchanged(), "incomplete", counts.GetIncomplete(),
		"failed", counts.GetFailed(), "not_backed_up", counts.GetNotBackedUp(), "not_available", counts.GetNotAvailable())
	r.warnOfDominant(r.start, time.Now())
}

// ending returns the state of a sync that came to its commit, and why it is not
// SUCCEEDED.
func (r *run) ending(snapshot *understudyv1.Snapshot) (understudyv1.SyncState, []understudyv1.PartialCause) {
	_, userFailure := r.user.current()
	_, servicePrincipalFailure := r.servicePrincipal.current()
	r.mu.Lock()
	outlasted := r.outlasted
	r.mu.Unlock()
	return endingOf(course{
		results:              r.sortedResults(),
		userFailed:           userFailure != nil,
		servicePrincipalLost: servicePrincipalFailure != nil,
		outlasted:            outlasted,
		snapshot:             snapshot,
	})
}

// course is what decides how a sync ends that came to its commit.
type course struct {
	results                          []*understudyv1.ConfigurationResult
	userFailed, servicePrincipalLost bool
	// outlasted says that the time limit ended the user's sign-in.
	outlasted bool
	// snapshot is nil before the commit, and after a dry run.
	snapshot *understudyv1.Snapshot
}

// endingOf is the table of endings, from the commit on. Causes add up.
func endingOf(c course) (understudyv1.SyncState, []understudyv1.PartialCause) {
	var failed, interrupted bool
	for _, result := range c.results {
		switch result.GetOutcome() {
		case understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_FAILED,
			understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_INCOMPLETE:
			if result.GetReason() == understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_INTERRUPTED {
				interrupted = true
			} else {
				failed = true
			}
		}
	}
	var causes []understudyv1.PartialCause
	add := func(applies bool, cause understudyv1.PartialCause) {
		if applies {
			causes = append(causes, cause)
		}
	}
	add(c.userFailed, understudyv1.PartialCause_PARTIAL_CAUSE_USER_AUTHENTICATION_FAILED)
	add(failed, understudyv1.PartialCause_PARTIAL_CAUSE_CONFIGURATIONS_FAILED)
	add(c.servicePrincipalLost, understudyv1.PartialCause_PARTIAL_CAUSE_SERVICE_PRINCIPAL_LOST)
	add(interrupted || c.outlasted, understudyv1.PartialCause_PARTIAL_CAUSE_TIMED_OUT)
	add(c.snapshot.GetPushState() == understudyv1.PushState_PUSH_STATE_FAILED, understudyv1.PartialCause_PARTIAL_CAUSE_PUSH_FAILED)
	if len(causes) > 0 {
		return understudyv1.SyncState_SYNC_STATE_PARTIALLY_SUCCEEDED, causes
	}
	return understudyv1.SyncState_SYNC_STATE_SUCCEEDED, nil
}

// failure returns the state and the error of a sync that committed nothing.
func (r *run) failure(err error) (understudyv1.SyncState, *rpcstatus.Status) {
	var (
		lost   *identityError
		commit *commitError
		record *recordError
	)
	switch {
	case errors.Is(err, errCancelled):
		return understudyv1.SyncState_SYNC_STATE_CANCELLED, cancelledStatus(r.name)
	case errors.As(err, &record):
		r.logger.Error("what happened in the sync could not be stored", "error", err)
		return understudyv1.SyncState_SYNC_STATE_FAILED, unrecordedStatus(r.name)
	case errors.As(err, &lost):
		return understudyv1.SyncState_SYNC_STATE_FAILED, authStatus(lost.failure)
	case errors.As(err, &commit):
		r.logger.Error("the backup could not be stored", "error", err)
		c := code.Code_FAILED_PRECONDITION
		if storage := (*port.StorageError)(nil); errors.As(err, &storage) {
			c = code.Code_UNAVAILABLE
		}
		return understudyv1.SyncState_SYNC_STATE_FAILED, newStatus(c, understudyv1.ErrorReason_ERROR_REASON_BACKUP_FAILED,
			"The backup could not be stored: see the server's log. When its disk is full or away, mend that and sync again; "+
				"when the repository is damaged, stop the server and run `understudy repair`. The previous backup is unchanged.", map[string]string{"sync": r.name})
	}
	return understudyv1.SyncState_SYNC_STATE_FAILED, bugStatus(r.logger, err)
}

// bugStatus logs a bug and returns the error of the sync that it ended.
func bugStatus(logger *slog.Logger, err error) *rpcstatus.Status {
	id := uuid.NewString()
	attributes := []any{"error", err, "error_id", id}
	if bug := (*panicError)(nil); errors.As(err, &bug) {
		attributes = append(attributes, "stack", string(bug.stack))
	}
	logger.Error("the sync failed by a bug", attributes...)
	return newStatus(code.Code_INTERNAL, understudyv1.ErrorReason_ERROR_REASON_INTERNAL,
		"The sync failed by a bug of this service; its log has the details under the error id. The previous backup is unchanged.",
		map[string]string{"errorId": id})
}

// pushStatus is the error of a push. Text of the remote stays in the log.
func pushStatus(err error) *rpcstatus.Status {
	message := "The remote repository could not be reached, or refused the push. The commit is kept, and the next sync pushes it too."
	if errors.Is(err, errNotAsked) {
		message = "The server could not find out whether the sync was still its own, and pushed nothing. The commit is kept, and the next sync pushes it too."
	}
	if public := (interface{ PublicMessage() string })(nil); errors.As(err, &public) {
		message = public.PublicMessage()
	}
	return newStatus(code.Code_UNAVAILABLE, understudyv1.ErrorReason_ERROR_REASON_BACKUP_FAILED, message, nil)
}

// sortedResults returns the results so far, of all attempts, ordered by configuration
// type.
func (r *run) sortedResults() []*understudyv1.ConfigurationResult {
	r.mu.Lock()
	defer r.mu.Unlock()
	return sortedResults(r.results)
}

// sortedResults returns results ordered by configuration type.
func sortedResults(byType map[string]*understudyv1.ConfigurationResult) []*understudyv1.ConfigurationResult {
	results := make([]*understudyv1.ConfigurationResult, 0, len(byType))
	for _, id := range slices.Sorted(maps.Keys(byType)) {
		results = append(results, byType[id])
	}
	return results
}
