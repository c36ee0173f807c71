package engine

import (
	"context"
	"fmt"
	"iter"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

// Tenant is what the engine needs of a tenant. It is made by the wiring from the
// tenant's definition.
type Tenant struct {
	// Name is `tenants/{tenant}`.
	Name string
	// Catalog is what the tenant's definition leaves of the catalog; nil: all.
	Catalog Catalog
	// ConfigurationTypes are the patterns that are synced when a spec names none.
	ConfigurationTypes []string
	// Policy is the tenant's authentication policy; never UNSPECIFIED.
	Policy understudyv1.AuthenticationPolicy
	// AllowPrompt says whether a person may be asked when a spec does not say.
	AllowPrompt bool
	// ServicePrincipal is the service principal.
	ServicePrincipal port.Identity
	// User is the user, or nil where none is configured.
	User port.Identity
	// Source reads the tenant.
	Source port.Source
	// Vault holds its backup.
	Vault port.Vault
	// Cursors keep where its readings left off; nil: every type is read in full.
	Cursors port.Cursors
	// Knowledge remembers what probes taught of the tenant; Digester compares what
	// they read. Nothing is probed when one of them is nil.
	Knowledge port.Knowledge
	Digester  port.Digester
	// Readers names the identities, for Knowledge: what was learned with others does
	// not hold. Without a service principal's name nothing is probed, and nothing
	// that was learned holds.
	Readers port.Readers
}

// Tenants finds tenants.
type Tenants interface {
	// Tenant returns the tenant with a name `tenants/{tenant}`, or a
	// [*port.NotFoundError].
	Tenant(name string) (*Tenant, error)
}

// StartRequest asks for a sync.
type StartRequest struct {
	// Tenant is `tenants/{tenant}`.
	Tenant string
	// Spec says what to sync; nil is an empty one.
	Spec *understudyv1.SyncSpec
	// RequestID makes the request idempotent for 24 hours when it is not empty.
	RequestID string
	// Creator is the caller's identity.
	Creator string
}

// RetryRequest asks for a sync of what another one did not back up.
type RetryRequest struct {
	// Sync is the name of the finished sync.
	Sync string
	// Policy replaces that of the finished sync unless UNSPECIFIED.
	Policy understudyv1.AuthenticationPolicy
	// AllowPrompt replaces that of the finished sync when set.
	AllowPrompt *bool
	// Comment is for the history.
	Comment string
	// RequestID makes the request idempotent for 24 hours when it is not empty.
	RequestID string
	// Creator is the caller's identity.
	Creator string
}

// Service is what the engine offers to the edge. [Engine] implements it.
//
// Errors, beside those of a cancelled context: [*port.NotFoundError],
// [*port.SyncRunningError], [*port.SyncFinishedError],
// [*port.RequestIDReusedError], [*port.StorageError], [*SpecError],
// [*NothingToRetryError], [*LimitError].
type Service interface {
	// Start records a sync and queues it. It returns at once.
	Start(ctx context.Context, request StartRequest) (*understudyv1.Sync, error)
	// Retry starts a sync of every type that the finished one did not back up
	// completely.
	Retry(ctx context.Context, request RetryRequest) (*understudyv1.Sync, error)
	// Cancel asks a sync to stop and returns it as it then stands. It is no error
	// when the sync is cancelling or cancelled already.
	Cancel(ctx context.Context, name string) (*understudyv1.Sync, error)
	// Changes yields the items that a sync changed, ordered by path; of one
	// configuration type, or of all when it is empty. A sync that made no commit
	// has none.
	Changes(ctx context.Context, name, configurationType string) iter.Seq2[*understudyv1.ItemChange, error]
}

// SpecError says that a spec cannot be carried out for the tenant.
type SpecError struct {
	// Field is the path in SyncSpec: `configuration_types[2]`.
	Field string
	// Description says what is wrong and what to do.
	Description string
	// Resource is the unknown configuration type, if that is the reason.
	Resource string
}

// Error implements error.
func (e *SpecError) Error() string { return e.Field + ": " + e.Description }

// NothingToRetryError says that a sync is not finished, or that nothing of it is
// left to retry.
type NothingToRetryError struct {
	Sync  string
	State understudyv1.SyncState
}

// Error implements error.
func (e *NothingToRetryError) Error() string {
	return fmt.Sprintf("nothing of %s can be retried: it is %s", e.Sync, e.State)
}

// LimitError says that a limit of this server is reached; it may pass.
type LimitError struct {
	// Subject is what is limited: `queued syncs`.
	Subject string
	// Limit is how many there may be.
	Limit int
}

// Error implements error.
func (e *LimitError) Error() string {
	return fmt.Sprintf("the limit of %d %s is reached", e.Limit, e.Subject)
}
