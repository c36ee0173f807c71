package engine

import (
	"errors"
	"slices"
	"strings"
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

// conclude completes a sync with how it ended. err is the reason why nothing was
// committed, or nil.
func (r *run) conclude(sync *understudyv1.Sync, snapshot *understudyv1.Snapshot, err error) {
	sync.Identities = nil
	for _, who := range []*actor{r.servicePrincipal, r.user} {
		if who != nil {
			sync.Identities = append(sync.Identities, who.outcome(r.notBackedUpFor(who)))
		}
	}
	if err != nil {
		sync.State, sync.Error = r.failure(err)
	} else {
		sync.State, sync.PartialCauses = r.ending(snapshot)
		sync.Snapshot = snapshot
	}
	counts := sync.GetCounts()
	r.logger.Info("sync finished", "state", sync.GetState().String(), "total", counts.GetTotal(),
		"changed", counts.GetChanged(), "unchanged", counts.GetUnchanged(), "incomplete", counts.GetIncomplete(),
		"failed", counts.GetFailed(), "not_backed_up", counts.GetNotBackedUp(), "not_available", counts.GetNotAvailable())
	if start := sync.GetStartTime(); start != nil {
		r.warnOfDominant(start.AsTime(), time.Now())
	}
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
	)
	switch {
	case errors.Is(err, errCancelled):
		return understudyv1.SyncState_SYNC_STATE_CANCELLED, cancelledStatus(r.name)
	case errors.Is(err, errShutdown):
		return understudyv1.SyncState_SYNC_STATE_FAILED, interruptedStatus(r.name)
	case errors.As(err, &lost):
		return understudyv1.SyncState_SYNC_STATE_FAILED, authStatus(lost.failure)
	case errors.As(err, &commit):
		r.logger.Error("the backup could not be stored", "error", err)
		c := code.Code_FAILED_PRECONDITION
		if storage := (*port.StorageError)(nil); errors.As(err, &storage) {
			c = code.Code_UNAVAILABLE
		}
		return understudyv1.SyncState_SYNC_STATE_FAILED, newStatus(c, understudyv1.ErrorReason_ERROR_REASON_BACKUP_FAILED,
			"The backup could not be stored: see the server's log, mend its storage, and sync again. "+
				"The previous backup is unchanged.", map[string]string{"sync": r.name})
	}
	id := uuid.NewString()
	attributes := []any{"error", err, "error_id", id}
	if bug := (*panicError)(nil); errors.As(err, &bug) {
		attributes = append(attributes, "stack", string(bug.stack))
	}
	r.logger.Error("the sync failed by a bug", attributes...)
	return understudyv1.SyncState_SYNC_STATE_FAILED, newStatus(code.Code_INTERNAL, understudyv1.ErrorReason_ERROR_REASON_INTERNAL,
		"The sync failed by a bug of this service; its log has the details under the error id. The previous backup is unchanged.",
		map[string]string{"errorId": id})
}

// pushStatus is the error of a push. Text of the remote stays in the log.
func pushStatus(err error) *rpcstatus.Status {
	message := "The remote repository could not be reached, or refused the push. The commit is kept, and the next sync pushes it too."
	if public := (interface{ PublicMessage() string })(nil); errors.As(err, &public) {
		message = public.PublicMessage()
	}
	return newStatus(code.Code_UNAVAILABLE, understudyv1.ErrorReason_ERROR_REASON_BACKUP_FAILED, message, nil)
}

// sortedResults returns the results so far, ordered by configuration type.
func (r *run) sortedResults() []*understudyv1.ConfigurationResult {
	r.mu.Lock()
	results := slices.Clone(r.results)
	r.mu.Unlock()
	slices.SortFunc(results, func(a, b *understudyv1.ConfigurationResult) int {
		return strings.Compare(a.GetConfigurationType(), b.GetConfigurationType())
	})
	return results
}
