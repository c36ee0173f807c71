package port

import (
	"fmt"

	understudyv1 "understudy.internal/gen/understudy/v1"
)

// AuthError says why an identity has no access. Use it with errors.As:
//
//	var authError port.AuthError
//	if errors.As(err, &authError) { authError.AuthFailure() … }
type AuthError interface {
	error
	// AuthFailure returns the failure without affected types, which only the
	// engine knows. The caller owns it.
	AuthFailure() *understudyv1.AuthFailure
}

// ReadError says why a configuration type was not read completely though its
// identity holds a token.
type ReadError struct {
	// Reason is never UNSPECIFIED. FEATURE_NOT_AVAILABLE says that the tenant
	// does not have the type.
	Reason understudyv1.ConfigurationFailureReason
	// HTTPStatus is the status of the answer, or 0 when there was none.
	HTTPStatus int
	// RequestID is the id to quote in a support case with Microsoft, or empty.
	RequestID string
	// Operation is the request, without host and query: `GET /v1.0/groups`.
	Operation string
	// NeedsUser says that the source refuses application-only access here.
	NeedsUser bool
	// Detail says what was wrong, in this service's own words; never text of the
	// provider.
	Detail string
}

// Error implements error.
func (e *ReadError) Error() string {
	return fmt.Sprintf("%s: %s (%s, HTTP %d)", e.Operation, e.Detail, e.Reason, e.HTTPStatus)
}

// ItemError says that one item cannot be stored.
type ItemError struct {
	// Detail says why, without content of the item.
	Detail string
}

// Error implements error.
func (e *ItemError) Error() string { return "the item cannot be stored: " + e.Detail }

// SyncRunningError says that the tenant has a sync that is not finished.
type SyncRunningError struct{ Sync string }

// Error implements error.
func (e *SyncRunningError) Error() string { return e.Sync + " is running" }

// SyncFinishedError says that a sync is in a terminal state already.
type SyncFinishedError struct {
	Sync  string
	State understudyv1.SyncState
}

// Error implements error.
func (e *SyncFinishedError) Error() string { return fmt.Sprintf("%s is %s", e.Sync, e.State) }

// SyncStateError says that a sync is in a state from which a change does not lead: one
// that commits cannot be cancelled, and one that is being cancelled does not commit.
type SyncStateError struct {
	Sync  string
	State understudyv1.SyncState
}

// Error implements error.
func (e *SyncStateError) Error() string { return fmt.Sprintf("%s is %s", e.Sync, e.State) }

// RequestIDReusedError says that a request_id was used with other arguments.
type RequestIDReusedError struct{ RequestID string }

// Error implements error.
func (e *RequestIDReusedError) Error() string {
	return "request_id " + e.RequestID + " was used with other arguments"
}

// NotFoundError says that a resource does not exist.
type NotFoundError struct{ Resource string }

// Error implements error.
func (e *NotFoundError) Error() string { return e.Resource + " does not exist" }

// FencedError says that a worker may not write to a sync any more.
type FencedError struct{ Sync string }

// Error implements error.
func (e *FencedError) Error() string { return e.Sync + " is written by somebody else or finished" }

// StorageError says that the service cannot store: disk full, engine down.
type StorageError struct{ Err error }

// Error implements error.
func (e *StorageError) Error() string { return "storage: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *StorageError) Unwrap() error { return e.Err }

// SequenceInFutureError says that a watcher asked for events after a sequence
// that does not exist yet.
type SequenceInFutureError struct{ After, Last int64 }

// Error implements error.
func (e *SequenceInFutureError) Error() string {
	return fmt.Sprintf("after_sequence %d is greater than the last sequence %d", e.After, e.Last)
}

// TrimmedError says that events are no longer kept.
type TrimmedError struct{ After, Oldest int64 }

// Error implements error.
func (e *TrimmedError) Error() string {
	return fmt.Sprintf("the events after %d are no longer kept; the oldest is %d", e.After, e.Oldest)
}

// SlowWatcherError says that a watcher read too slowly and has to resume.
type SlowWatcherError struct{ Last int64 }

// Error implements error.
func (e *SlowWatcherError) Error() string {
	return fmt.Sprintf("the watcher read too slowly; resume after %d", e.Last)
}
