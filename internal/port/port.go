// Package port holds the small interfaces, and the data that crosses them,
// through which the engine talks to identities, the source, the vault and the
// journal.
//
// The engine depends on this package and on nothing that implements it; the
// implementations depend on this package and not on the engine. The messages of
// the contract (package understudyv1) are the vocabulary: what they can say is
// not said a second time here.
package port

import (
	"context"
	"iter"
	"time"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/catalog"
)

// Identity is one identity of one tenant: its service principal or its user.
//
// Every error of an identity that says why it has no access is or wraps an
// [AuthError]. The only other errors are those of a cancelled context. All
// methods may be called at the same time.
type Identity interface {
	// SignIn obtains the first token of a sync and returns how. It blocks until
	// the identity holds a token, failed, or its own deadline passed, which every
	// attempt has.
	SignIn(ctx context.Context, options SignInOptions) (understudyv1.AuthenticationMethod, error)
	// Token returns an access token for Microsoft Graph: the cached one while it
	// is valid, else a fresh one. Concurrent calls share one request.
	Token(ctx context.Context, request TokenRequest) (Token, error)
	// Fail returns an [AuthError] of this identity for a reason that the caller
	// observed itself, for example a permission that Graph says is missing or a
	// second claims challenge.
	Fail(reason understudyv1.AuthFailureReason, missingPermissions ...string) error
}

// SignInOptions says how an identity may sign in.
type SignInOptions struct {
	// AllowPrompt permits to ask a person. Without it only a cached sign-in, a
	// service account or a service principal's credential is used.
	AllowPrompt bool
	// Prompt is called when a person must sign in, from the goroutine that called
	// SignIn. It must not block. Nil is allowed when AllowPrompt is false.
	Prompt func(*understudyv1.AuthenticationPrompt)
}

// TokenRequest asks for an access token.
type TokenRequest struct {
	// Claims is a decoded claims challenge of continuous access evaluation. When
	// it is set the cached token is not used. It is never logged.
	Claims string
	// Refused is a token that the source answered with 401. A token equal to it
	// is not returned again: a fresh one is obtained.
	Refused string
}

// Token is an access token. Its value is never logged.
type Token struct {
	Value     string
	ExpiresOn time.Time
}

// String redacts the token, so that no formatting can show it.
func (Token) String() string { return "[redacted]" }

// GoString redacts the token, so that no formatting can show it.
func (Token) GoString() string { return "[redacted]" }

// Item is one item of a configuration type, read completely.
type Item struct {
	// ID is the stable id, as the source gives it: unsafe as a path.
	ID string
	// DisplayName is the name for people, or empty.
	DisplayName string
	// JSON is the document as the source sent it, the answers of child requests
	// put in under their names. Not yet canonical.
	JSON []byte
}

// SingletonID is the id of the only item of a singleton.
const SingletonID = "singleton"

// Source reads the configuration types of one tenant. It lives as long as the
// tenant's definition: its limits are shared by all syncs.
type Source interface {
	// Open starts the reading of one sync.
	Open() Session
}

// Session reads for one sync. Read may be called for many types at the same
// time; requests of all of them share batches, gates and connections.
type Session interface {
	// Read reads one configuration type as an identity. It gives every item that
	// was read completely, children included, to sink, one at a time. It returns
	// nil only when every page and every child request was answered: the type is
	// complete. Otherwise it returns an [AuthError] when the identity lost its
	// access, a [*ReadError] when the tenant or the network is the reason, the
	// error of sink, or the cause of the context.
	Read(ctx context.Context, configurationType *catalog.Type, identity Identity, sink func(Item) error) error
	// ReadSince reads like Read and says how. Where it can it reads only what changed
	// since a cursor that an earlier reading of the same type as the same kind of
	// identity returned; the backup must hold exactly what it held after that. It
	// reads in full without a cursor, with one that does not fit, and wherever the
	// source cannot say for certain what changed. A reading by delta is all or
	// nothing: sink got nothing when it failed.
	ReadSince(ctx context.Context, configurationType *catalog.Type, identity Identity, since Cursor, sink func(Item) error) (Increment, error)
	// Stats returns how far the session is.
	Stats() SourceStats
	// Close frees what the session holds. No Read may be running.
	Close()
}

// SourceStats says how far a session is.
type SourceStats struct {
	// ItemsRead counts items given to sinks.
	ItemsRead int64
	// Requests counts requests on the wire; a batch is one.
	Requests int64
	// Throttled counts answers (also parts of a batch) with 429.
	Throttled int64
	// ThrottleDelay is how long the tenant currently makes requests wait.
	ThrottleDelay time.Duration
}

// Vault is the backup of one tenant in Git.
type Vault interface {
	// Begin opens the repository, which it creates when there is none, and reads
	// the tree of the last commit of the branch. One staging at a time. What an earlier
	// worker of the same sync left is found: see [Staging.Committed] and
	// [Staging.Resumed].
	Begin(ctx context.Context, turn Turn) (Staging, error)
	// Committed returns the snapshot that a sync (its name) committed, or nil when
	// it made no commit. PushState is NO_REMOTE where that is so; PUSHED where the
	// remote was asked and has it; unset otherwise: whether the push was reached is not
	// known. An error means that it is not known whether there is a commit. It changes
	// nothing of the backup. Call it while no staging is open, for a sync that is ours,
	// or that is being cancelled and nobody runs.
	Committed(ctx context.Context, sync string) (*understudyv1.Snapshot, error)
	// Changes yields the items that a commit changed against its parent, ordered
	// by path; of one configuration type, or of all when the id is empty.
	Changes(ctx context.Context, commit, configurationType string) iter.Seq2[*understudyv1.ItemChange, error]
}

// Turn says for whom the repository of a tenant is opened.
type Turn struct {
	// Sync is the name of the sync; empty: of none that others know.
	Sync string
	// Attempt is the number of the worker that the sync has with this one, from 1 on.
	// Where several processes share a disk, one that is late, of an earlier attempt or
	// sync than the last one that began, is refused.
	Attempt int
	// Fate says what became of the commit of another sync, by its name. It is asked for
	// a commit that is on this machine alone, where a remote is the truth: of a sync
	// that was taken over after its commit, and then ended otherwise, it is not part of
	// the backup. nil: every commit is.
	Fate func(ctx context.Context, sync string) (Fate, error)
	// Owned fails when the sync is not this worker's any more, by what all workers
	// agree on. It is asked before every push. nil: it is.
	Owned func(ctx context.Context) error
}

// Fate is what became of the commit of a sync that is over.
type Fate struct {
	// Forgotten says that nobody remembers the sync.
	Forgotten bool
	// Committed says that it ended with a commit.
	Committed bool
	// Pushed is the id under which the remote took the commit; empty: it did not.
	Pushed string
}

// Staging collects what one sync read and makes at most one commit of it.
// Nothing that it does is visible in the backup before Commit. Add and Settle
// may be called at the same time for different types.
type Staging interface {
	// Committed returns what an earlier worker of the same sync committed, or nil. Then
	// there is nothing to read and to commit: Push it, and Close.
	Committed() *understudyv1.Snapshot
	// Add stages one complete item. An item that cannot be stored (not JSON, a
	// duplicate key, another item's id) is an [*ItemError]. The same item again is
	// staged once: a list that moves while it is read brings some twice.
	Add(configurationType *catalog.Type, item Item) error
	// Basis names what the last commit holds of a type, and the key that stands in
	// for its secrets: it is equal to an earlier [Settlement.Basis] only where the
	// backup is exactly what it was then. Empty when there is nothing.
	Basis(configurationType *catalog.Type) (string, error)
	// Resumed returns how an earlier worker of the same sync settled a type, whose
	// items are still here: the type need not be read again, and is settled already.
	// False: it has to be read. Call it before the first Add of the type.
	Resumed(configurationType *catalog.Type) (Settlement, bool)
	// Settle decides by the commit rules what the backup holds of a type, and
	// compares it with what it held. It is called once for every selected type,
	// after the last Add of the type.
	Settle(configurationType *catalog.Type, reading Reading) (Settlement, error)
	// Commit makes the commit, durably, unless the tree is equal to that of the
	// last commit. PushState is unset: see Push.
	Commit(ctx context.Context, info CommitInfo) (*understudyv1.Snapshot, error)
	// Push brings the branch to the remote, if there is one, and returns what
	// became of it. Where the remote moved meanwhile the commit is made again on top of
	// it, and the snapshot that Commit returned is changed to name the one that is
	// there now. The error says why it failed; the local commit stays.
	Push(ctx context.Context) (understudyv1.PushState, error)
	// Close frees what the staging holds. Without a Commit, be it one that failed or a
	// dry run, what was settled may be kept for another worker of the same sync; what
	// was not is discarded.
	Close() error
}

// Reading says how the reading of a type ended.
type Reading struct {
	// Outcome is how far the reading came. CHANGED and UNCHANGED both mean
	// complete: Settle finds out which of them it is.
	Outcome understudyv1.ConfigurationOutcome
	// Reason is why, when the type is not complete.
	Reason understudyv1.ConfigurationFailureReason
	// Identity is the identity that read, or would have read.
	Identity understudyv1.Identity
	// AcceptCollapse switches the collapse guard off for this type, and believes that
	// the tenant does not have it any more.
	AcceptCollapse bool
	// Time is when the reading ended.
	Time time.Time
	// Since is the [Staging.Basis] that a reading by delta builds on: what was
	// staged replaces what there was, Removed is taken out, and everything else of
	// the type stays as it was. Empty: what was staged is everything. Only a
	// complete reading can have it.
	Since string
	// Removed are the ids of the items that are gone, of a reading by delta. Ids
	// that the backup does not hold are none of its concern.
	Removed []string
	// Without is [Increment.Without].
	Without []string
}

// Settlement says what the backup holds of a type after a sync.
type Settlement struct {
	// Outcome is the final outcome: CHANGED or UNCHANGED for a complete type,
	// INCOMPLETE with the reason COUNT_COLLAPSED where the guard stepped in, or
	// FEATURE_NOT_AVAILABLE where the tenant says that it does not have what the
	// backup has of it.
	Outcome understudyv1.ConfigurationOutcome
	Reason  understudyv1.ConfigurationFailureReason
	// Items is how many items the backup holds now.
	Items int
	// Added, Modified and Removed count items against the previous backup.
	Added, Modified, Removed int
	// Path is the folder of the type in the tree.
	Path string
	// LastComplete is when the type was last read completely; zero if never.
	LastComplete time.Time
	// Basis names what the backup will hold of the type once it is committed; see
	// [Staging.Basis].
	Basis string
}

// CommitInfo is what a commit says about its sync.
type CommitInfo struct {
	// Sync is the name of the sync.
	Sync string
	// State is the state in which the sync will end.
	State understudyv1.SyncState
	// Counts are the counts of the sync.
	Counts *understudyv1.OutcomeCounts
	// Results are the results of all selected types.
	Results []*understudyv1.ConfigurationResult
	// Time is the commit time.
	Time time.Time
	// DryRun compares and commits nothing: the snapshot is nil.
	DryRun bool
}

// Log is the event log of one sync, for one writer. It is bound to what was known when
// it was opened: it appends behind those events and its own. Where others appended
// something else than a cancellation (a worker took the sync, or took it over), it is
// somebody else's, and a new one has to be opened.
//
// Many processes may share a journal. Two rules keep them apart. Every append
// carries the sequence that it follows, so that of two writers one is refused. And a
// process hears of what others append, in order, without asking.
type Log interface {
	// Append stores durable events, all or none, after the last one, and sets
	// their sequence, the last_sequence of the sync in a `finished`, and, where unset,
	// their time. It returns a [*FencedError] when
	// others appended, another worker took the sync over or it is finished, and for
	// `started` when the sync was taken already. A `state_changed` to CANCELLING of
	// somebody else is no reason: the events come after it. One that asks for a
	// cancellation and nothing else comes after whatever there is, whoever runs the
	// sync.
	//
	// A `state_changed` to COMMITTING is refused with a [*SyncStateError] once
	// anybody asked for a cancellation, whichever attempt that was in; one to
	// CANCELLING while the sync is COMMITTING; and one to any other state while it is
	// CANCELLING, also for one that takes it over: nothing leads back from there.
	//
	// After any other error it is open whether the events are, or will be, stored:
	// open the log anew, and look.
	Append(ctx context.Context, events ...*understudyv1.SyncEvent) error
	// Publish gives an ephemeral event to those who watch now. It does not block
	// and may be dropped in favour of a later one of its kind. A prompt is kept
	// for watchers that come later, until it expires or is published with no
	// codes in it.
	Publish(event *understudyv1.SyncEvent)
	// Sync returns the sync as the events so far leave it. The caller owns it.
	Sync() *understudyv1.Sync
	// Changed returns a channel that is closed when the next event is there, also one
	// that another process appended. Take it before Sync.
	Changed() <-chan struct{}
}

// Syncs is the part of the journal that starts and finds syncs.
type Syncs interface {
	// Create records a new sync in SYNC_STATE_PENDING and takes the tenant for
	// it, until the sync finishes. A repeated request returns the sync that the
	// first one created, and false. It fails with [*SyncRunningError] when the
	// tenant has a sync that is not finished, and with [*RequestIDReusedError]. When
	// ctx ends before it begins to record, nothing is recorded; from then on it goes on
	// without ctx, so that a caller who goes away has a sync or none.
	Create(ctx context.Context, request CreateRequest) (sync *understudyv1.Sync, created bool, err error)
	// Get returns a sync as its events leave it, or a [*NotFoundError].
	Get(ctx context.Context, name string) (*understudyv1.Sync, error)
	// Unfinished returns where the syncs stand that are not terminal, oldest first. It
	// copies no sync, and is called at every change.
	Unfinished(ctx context.Context) ([]Standing, error)
	// Open returns the log of a sync for writing, read to its end: what an earlier
	// append stored though nobody answered is there. It fails with a [*FencedError]
	// when the sync is finished, or a [*NotFoundError].
	Open(ctx context.Context, name string) (Log, error)
	// Reachable returns a [*StorageError] while it is known that others, on whom the
	// journal depends, do not answer: who need not store something had better not try.
	Reachable() error
	// Events yields the durable events of a sync after a sequence, in order,
	// until the last one there is now.
	Events(ctx context.Context, name string, after int64) iter.Seq2[*understudyv1.SyncEvent, error]
	// Announce gives an ephemeral event to those who watch a sync through this
	// process.
	Announce(name string, event *understudyv1.SyncEvent)
	// Worker is the name of this process among those that share the journal: that of
	// its replica, `/`, and a part that is new with every start of it.
	Worker() string
	// Alive returns the workers that are alive, sorted, this one among them: those
	// that were heard of within the lease time. A worker that left says so, and is
	// not among them at once.
	Alive() []string
	// Changed returns a channel that is closed when a sync was accepted, taken or
	// finished, or a worker came or went.
	Changed() <-chan struct{}
}

// Standing is where a sync stands that is not terminal.
type Standing struct {
	// Sync is its name.
	Sync string
	// State, Worker and Attempt are those of the sync.
	State   understudyv1.SyncState
	Worker  string
	Attempt int32
}

// CreateRequest asks for a new sync.
type CreateRequest struct {
	// Sync is the sync to record; the journal sets name, state, create_time and
	// last_sequence.
	Sync *understudyv1.Sync
	// Tenant is the `tenants/{tenant}` that the sync is of.
	Tenant string
	// RequestID makes the request idempotent for 24 hours; empty: it is not.
	RequestID string
	// Digest identifies the arguments that the RequestID was used with.
	Digest string
}

// Watches is the part of the journal that shows syncs to callers.
type Watches interface {
	// Watch follows a sync after a sequence. It fails with [*NotFoundError],
	// [*SequenceInFutureError] or [*TrimmedError].
	Watch(ctx context.Context, name string, after int64) (Watcher, error)
	// List returns at most limit syncs, newest first, of `tenants/{tenant}` or of
	// every tenant (`tenants/-`); those older than the sync named before, when it
	// is not empty.
	List(ctx context.Context, parent, before string, limit int) ([]*understudyv1.Sync, error)
}

// Watcher is one reader of a sync's events.
type Watcher interface {
	// Next returns the next event, in this order: a current_state; the prompt that
	// is open, if there is one; the durable events after the sequence asked for;
	// then what happens, durable events each once and in order, ephemeral ones
	// conflated by kind. It blocks until there is one. It returns io.EOF after
	// `finished`, or after current_state when `finished` was before it; a
	// [*SlowWatcherError] when the reader is too far behind; else the context's
	// cause. Ephemeral events have no sequence yet: the edge sets it. The event
	// is shared: clone it before changing it.
	Next(ctx context.Context) (*understudyv1.SyncEvent, error)
	// Close ends the watch.
	Close()
}
