package engine_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/catalog"
	"understudy.internal/internal/engine"
	"understudy.internal/internal/journal"
	"understudy.internal/internal/port"
)

// authError is an AuthError of a fake identity.
type authError struct{ failure *understudyv1.AuthFailure }

func (e *authError) Error() string                          { return e.failure.GetReason().String() }
func (e *authError) AuthFailure() *understudyv1.AuthFailure { return proto.CloneOf(e.failure) }

// fakeIdentity signs in as signIn says.
type fakeIdentity struct {
	identity understudyv1.Identity
	signIn   func(ctx context.Context, options port.SignInOptions) error
	signIns  int
}

func (f *fakeIdentity) SignIn(ctx context.Context, options port.SignInOptions) (understudyv1.AuthenticationMethod, error) {
	f.signIns++
	method := understudyv1.AuthenticationMethod_AUTHENTICATION_METHOD_CLIENT_SECRET
	if f.identity == understudyv1.Identity_IDENTITY_USER {
		method = understudyv1.AuthenticationMethod_AUTHENTICATION_METHOD_DEVICE_CODE
	}
	if f.signIn == nil {
		return method, nil
	}
	return method, f.signIn(ctx, options)
}

func (f *fakeIdentity) Token(context.Context, port.TokenRequest) (port.Token, error) {
	return port.Token{}, nil
}

func (f *fakeIdentity) Fail(reason understudyv1.AuthFailureReason, missing ...string) error {
	return &authError{&understudyv1.AuthFailure{
		Identity: f.identity, Reason: reason, Message: reason.String(), MissingPermissions: missing,
	}}
}

// refuse makes a sign-in fail.
func (f *fakeIdentity) refuse(reason understudyv1.AuthFailureReason) {
	f.signIn = func(context.Context, port.SignInOptions) error { return f.Fail(reason) }
}

// readFunc reads one type.
type readFunc func(ctx context.Context, identity port.Identity, sink func(port.Item) error) error

// items reads items completely.
func items(ids ...string) readFunc {
	return func(_ context.Context, _ port.Identity, sink func(port.Item) error) error {
		for _, id := range ids {
			if err := sink(port.Item{ID: id, JSON: []byte(`{}`)}); err != nil {
				return err
			}
		}
		return nil
	}
}

// fails reads items, then fails.
func fails(err error, ids ...string) readFunc {
	return func(ctx context.Context, identity port.Identity, sink func(port.Item) error) error {
		if err := items(ids...)(ctx, identity, sink); err != nil {
			return err
		}
		return err
	}
}

// blocks reads items, then waits for the end of the context.
func blocks(ids ...string) readFunc {
	return func(ctx context.Context, identity port.Identity, sink func(port.Item) error) error {
		if err := items(ids...)(ctx, identity, sink); err != nil {
			return err
		}
		<-ctx.Done()
		return context.Cause(ctx)
	}
}

// fakeSource reads what reads says, or two items.
type fakeSource struct {
	reads map[string]readFunc
	// without is [port.Increment.Without] by type.
	without map[string][]string
}

func (f *fakeSource) Open() port.Session { return &fakeSession{f} }

type fakeSession struct{ source *fakeSource }

func (f *fakeSession) Read(ctx context.Context, t *catalog.Type, identity port.Identity, sink func(port.Item) error) error {
	if read := f.source.reads[t.ID]; read != nil {
		return read(ctx, identity, sink)
	}
	return items("a", "b")(ctx, identity, sink)
}

func (f *fakeSession) ReadSince(
	ctx context.Context, t *catalog.Type, identity port.Identity, _ port.Cursor, sink func(port.Item) error,
) (port.Increment, error) {
	err := f.Read(ctx, t, identity, sink)
	return port.Increment{Mode: understudyv1.ReadMode_READ_MODE_FULL, Without: f.source.without[t.ID]}, err
}

func (f *fakeSession) Stats() port.SourceStats { return port.SourceStats{} }
func (f *fakeSession) Close()                  {}

// fakeVault keeps the ids of items by type, and what it was told.
type fakeVault struct {
	mu       sync.Mutex
	backup   map[string][]string
	readings map[string]port.Reading
	commits  []port.CommitInfo

	collapse     map[string]bool
	beginErr     error
	commitErr    error
	committedErr error
	pushErr      error
	// pushState is that of commits whose sync was interrupted.
	pushState understudyv1.PushState
	onBegin   func(port.Turn)
	onCommit  func()
	// afterCommit is called when the commit is made and before it is pushed.
	afterCommit func()
	pushes      int
	// begun counts stagings: who began later took the repository over.
	begun int
	// stopped is how many commits were stopped by their context.
	stopped int
	// kept are types that a sync settled and whose items are still there; nil: none
	// is kept.
	kept map[string]keptType
}

// keptType is a type that an earlier worker of a sync settled.
type keptType struct {
	sync       string
	settlement port.Settlement
	items      []string
}

func (f *fakeVault) Begin(ctx context.Context, turn port.Turn) (port.Staging, error) {
	if f.beginErr != nil {
		return nil, f.beginErr
	}
	if f.onBegin != nil {
		f.onBegin(turn)
	}
	var committed *understudyv1.Snapshot
	if turn.Attempt > 1 {
		committed, _ = f.Committed(ctx, turn.Sync)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.readings = map[string]port.Reading{}
	f.begun++
	return &fakeStaging{
		vault: f, turn: turn, sync: turn.Sync, committed: committed, parent: len(f.commits), begun: f.begun,
		staged: map[string][]string{}, settled: map[string][]string{},
	}, nil
}

func (f *fakeVault) Changes(context.Context, string, string) iter.Seq2[*understudyv1.ItemChange, error] {
	return func(yield func(*understudyv1.ItemChange, error) bool) {
		yield(&understudyv1.ItemChange{Id: "a"}, nil)
	}
}

func (f *fakeVault) Committed(_ context.Context, name string) (*understudyv1.Snapshot, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, info := range f.commits {
		if info.Sync == name && !info.DryRun {
			return &understudyv1.Snapshot{Commit: "c0ffee", Created: true, PushState: f.pushState}, nil
		}
	}
	return nil, f.committedErr
}

type fakeStaging struct {
	vault           *fakeVault
	turn            port.Turn
	sync            string
	committed       *understudyv1.Snapshot
	parent, begun   int
	mu              sync.Mutex
	staged, settled map[string][]string
	closed          bool
}

func (f *fakeStaging) Add(t *catalog.Type, item port.Item) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch item.ID {
	case "unstorable":
		return &port.ItemError{Detail: "a duplicate key"}
	case "disk full":
		return &port.StorageError{Err: fmt.Errorf("no space")}
	case "panic":
		panic("a bug")
	}
	f.staged[t.ID] = append(f.staged[t.ID], item.ID)
	return nil
}

func (f *fakeStaging) Resumed(t *catalog.Type) (port.Settlement, bool) {
	f.vault.mu.Lock()
	defer f.vault.mu.Unlock()
	kept, ok := f.vault.kept[t.ID]
	if !ok || kept.sync != f.sync {
		return port.Settlement{}, false
	}
	f.settled[t.ID] = kept.items
	return kept.settlement, true
}

func (f *fakeStaging) Basis(*catalog.Type) (string, error) { return "", nil }

func (f *fakeStaging) Settle(t *catalog.Type, reading port.Reading) (port.Settlement, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.vault.mu.Lock()
	defer f.vault.mu.Unlock()
	f.vault.readings[t.ID] = reading
	s := port.Settlement{Outcome: reading.Outcome, Reason: reading.Reason, Path: t.ID, Items: len(f.staged[t.ID])}
	gone := reading.Outcome == understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_NOT_AVAILABLE || len(reading.Without) > 0
	if gone && f.vault.collapse[t.ID] && !reading.AcceptCollapse {
		s.Outcome = understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_INCOMPLETE
		s.Reason = understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_FEATURE_NOT_AVAILABLE
		return s, nil
	}
	if reading.Outcome == understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_CHANGED {
		if f.vault.collapse[t.ID] && !reading.AcceptCollapse {
			s.Outcome = understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_INCOMPLETE
			s.Reason = understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_COUNT_COLLAPSED
			return s, nil
		}
		if slices.Equal(f.vault.backup[t.ID], f.staged[t.ID]) {
			s.Outcome = understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_UNCHANGED
		}
		f.settled[t.ID] = f.staged[t.ID]
		if f.vault.kept != nil {
			f.vault.kept[t.ID] = keptType{f.sync, s, f.staged[t.ID]}
		}
	}
	return s, nil
}

func (f *fakeStaging) Commit(ctx context.Context, info port.CommitInfo) (*understudyv1.Snapshot, error) {
	if f.vault.onCommit != nil {
		f.vault.onCommit()
	}
	if ctx.Err() != nil {
		f.vault.stopped++
		return nil, context.Cause(ctx)
	}
	if f.vault.afterCommit != nil {
		defer f.vault.afterCommit()
	}
	f.vault.mu.Lock()
	defer f.vault.mu.Unlock()
	if len(f.vault.commits) != f.parent || f.vault.begun != f.begun {
		return nil, errors.New("somebody else has the repository")
	}
	if f.vault.commitErr != nil {
		return nil, f.vault.commitErr
	}
	f.vault.commits = append(f.vault.commits, info)
	if info.DryRun {
		return nil, nil
	}
	for id, ids := range f.settled {
		f.vault.backup[id] = ids
	}
	return &understudyv1.Snapshot{Commit: "c0ffee", Created: true}, nil
}

func (f *fakeStaging) Committed() *understudyv1.Snapshot { return f.committed }

func (f *fakeStaging) Push(ctx context.Context) (understudyv1.PushState, error) {
	if err := f.turn.Owned(ctx); err != nil {
		return understudyv1.PushState_PUSH_STATE_FAILED, err
	}
	f.vault.pushes++
	if f.vault.pushErr != nil {
		return understudyv1.PushState_PUSH_STATE_FAILED, f.vault.pushErr
	}
	return understudyv1.PushState_PUSH_STATE_NO_REMOTE, nil
}

func (f *fakeStaging) Close() error {
	f.closed = true
	return nil
}

// fakeJournal is a journal in memory, for all workers that share it.
type fakeJournal struct {
	mu    sync.Mutex
	logs  map[string]*fakeLog
	order []string
	// onAppend may refuse an append.
	onAppend func(sync string, events []*understudyv1.SyncEvent) error
	alive    []string
	changed  chan struct{}
}

// fakeSyncs is a journal as one worker sees it.
type fakeSyncs struct {
	*fakeJournal
	worker string

	view sync.Mutex
	// cutOff is what the worker thinks that is alive; nil: what is.
	cutOff []string
	// frozen is closed when the worker goes on that hears of nothing; nil: it hears.
	frozen chan struct{}
	// beforeAppend is called before this worker appends.
	beforeAppend func(events []*understudyv1.SyncEvent)
	// beforeOpen is called before this worker opens a log, and openErr says how that fails;
	// beforeEvents is called before it reads one.
	beforeOpen, beforeEvents func()
	openErr                  func() error
	// refusal may keep an append of this worker from being stored; unanswered may say
	// that one failed that was stored.
	refusal, unanswered failure
}

// failure says why an append fails, or nil.
type failure func(events []*understudyv1.SyncEvent) error

func newFakeSyncs(worker string) *fakeSyncs {
	return &fakeSyncs{
		fakeJournal: &fakeJournal{logs: map[string]*fakeLog{}, alive: []string{worker}, changed: make(chan struct{})},
		worker:      worker,
	}
}

// setAlive says which workers are alive.
func (f *fakeJournal) setAlive(workers ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.alive = workers
	f.signalLocked()
}

func (f *fakeJournal) signalLocked() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// see makes the worker think that only these are alive.
func (f *fakeSyncs) see(workers ...string) {
	f.view.Lock()
	f.cutOff = workers
	f.view.Unlock()
	f.setAlive(f.alive...)
}

// freeze lets the worker hear of nothing that others append, until thaw.
func (f *fakeSyncs) freeze() {
	f.view.Lock()
	defer f.view.Unlock()
	f.frozen = make(chan struct{})
}

func (f *fakeSyncs) thaw() {
	f.view.Lock()
	defer f.view.Unlock()
	close(f.frozen)
	f.frozen = nil
}

func (f *fakeSyncs) ice() chan struct{} {
	f.view.Lock()
	defer f.view.Unlock()
	return f.frozen
}

// refuse lets appends of this worker fail as refusal says; nil: as it is.
func (f *fakeSyncs) refuse(refusal failure) {
	f.view.Lock()
	defer f.view.Unlock()
	f.refusal = refusal
}

func (f *fakeSyncs) failures() (refusal, unanswered failure) {
	f.view.Lock()
	defer f.view.Unlock()
	return f.refusal, f.unanswered
}

func (f *fakeSyncs) Create(_ context.Context, request port.CreateRequest) (*understudyv1.Sync, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, name := range f.order {
		log := f.logs[name]
		if request.RequestID != "" && log.request.RequestID == request.RequestID && log.request.Tenant == request.Tenant {
			if log.request.Digest != request.Digest {
				return nil, false, &port.RequestIDReusedError{RequestID: request.RequestID}
			}
			return log.Sync(), false, nil
		}
		if log.request.Tenant == request.Tenant && log.Sync().GetEndTime() == nil {
			return nil, false, &port.SyncRunningError{Sync: name}
		}
	}
	s := proto.CloneOf(request.Sync)
	s.Name = fmt.Sprintf("%s/syncs/%03d", request.Tenant, len(f.order))
	s.State = understudyv1.SyncState_SYNC_STATE_PENDING
	s.CreateTime, s.LastSequence = timestamppb.Now(), 0
	f.logs[s.Name] = &fakeLog{journal: f.fakeJournal, request: request, fold: journal.NewFold(s), changed: make(chan struct{})}
	f.order = append(f.order, s.GetName())
	f.signalLocked()
	return proto.CloneOf(s), true, nil
}

func (f *fakeJournal) log(name string) (*fakeLog, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if log, ok := f.logs[name]; ok {
		return log, nil
	}
	return nil, &port.NotFoundError{Resource: name}
}

func (f *fakeSyncs) Get(_ context.Context, name string) (*understudyv1.Sync, error) {
	log, err := f.log(name)
	if err != nil {
		return nil, err
	}
	return log.Sync(), nil
}

func (f *fakeSyncs) Unfinished(context.Context) ([]port.Standing, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var standings []port.Standing
	for _, name := range f.order {
		log := f.logs[name]
		log.mu.Lock()
		s := log.fold.Sync()
		log.mu.Unlock()
		if s.GetEndTime() == nil {
			standings = append(standings, port.Standing{Sync: name, State: s.GetState(), Worker: s.GetWorker(), Attempt: s.GetAttempt()})
		}
	}
	return standings, nil
}

func (f *fakeSyncs) Open(_ context.Context, name string) (port.Log, error) {
	if f.beforeOpen != nil {
		f.beforeOpen()
	}
	if f.openErr != nil {
		if err := f.openErr(); err != nil {
			return nil, err
		}
	}
	log, err := f.log(name)
	if err != nil {
		return nil, err
	}
	s := log.Sync()
	if s.GetEndTime() != nil {
		return nil, &port.FencedError{Sync: name}
	}
	return &fakeHandle{fakeLog: log, syncs: f, known: s.GetLastSequence(), seen: s}, nil
}

func (f *fakeSyncs) Events(_ context.Context, name string, after int64) iter.Seq2[*understudyv1.SyncEvent, error] {
	return func(yield func(*understudyv1.SyncEvent, error) bool) {
		if f.beforeEvents != nil {
			f.beforeEvents()
		}
		log, err := f.log(name)
		if err != nil {
			yield(nil, err)
			return
		}
		events := log.stored()
		for _, event := range events[min(max(after, 0), int64(len(events))):] {
			if !yield(event, nil) {
				return
			}
		}
	}
}

func (f *fakeSyncs) Announce(name string, event *understudyv1.SyncEvent) {
	if log, err := f.log(name); err == nil {
		log.Publish(event)
	}
}

func (f *fakeSyncs) Worker() string { return f.worker }

func (f *fakeSyncs) Alive() []string {
	f.view.Lock()
	defer f.view.Unlock()
	if f.cutOff != nil {
		return f.cutOff
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.alive)
}

func (f *fakeSyncs) Changed() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}

// fakeHandle is a log as one writer has it.
type fakeHandle struct {
	*fakeLog
	syncs *fakeSyncs

	view sync.Mutex
	// known is the sequence up to which the writer knows the log.
	known int64
	seen  *understudyv1.Sync
}

func (f *fakeHandle) Append(_ context.Context, events ...*understudyv1.SyncEvent) error {
	if f.syncs.beforeAppend != nil && len(events) > 0 {
		f.syncs.beforeAppend(events)
	}
	refuse, unanswered := f.syncs.failures()
	if refuse != nil {
		if err := refuse(events); err != nil {
			return err
		}
	}
	f.view.Lock()
	defer f.view.Unlock()
	known, err := f.append(f.known, events...)
	f.known = known
	if err == nil {
		f.seen = f.fakeLog.Sync() // it knows what it appended, and what is before that
	}
	if err == nil && unanswered != nil {
		err = unanswered(events)
	}
	return err
}

func (f *fakeHandle) Sync() *understudyv1.Sync {
	ice := f.syncs.ice()
	f.view.Lock()
	defer f.view.Unlock()
	if ice == nil {
		f.seen = f.fakeLog.Sync()
	}
	return proto.CloneOf(f.seen)
}

func (f *fakeHandle) Changed() <-chan struct{} {
	if ice := f.syncs.ice(); ice != nil {
		return ice
	}
	return f.fakeLog.Changed()
}

// fakeLog is a log in memory.
type fakeLog struct {
	journal *fakeJournal
	request port.CreateRequest

	mu        sync.Mutex
	fold      *journal.Fold
	events    []*understudyv1.SyncEvent
	ephemeral []*understudyv1.SyncEvent
	changed   chan struct{}
}

// Append stores events as whoever has the sync.
func (f *fakeLog) Append(_ context.Context, events ...*understudyv1.SyncEvent) error {
	_, err := f.append(f.Sync().GetLastSequence(), events...)
	return err
}

// append stores events of a writer who knows the log up to a sequence, and returns up
// to which it knows it then.
func (f *fakeLog) append(known int64, events ...*understudyv1.SyncEvent) (int64, error) {
	f.mu.Lock()
	before := f.fold.Sync()
	known, err := f.appendLocked(known, events)
	after := f.fold.Sync()
	f.mu.Unlock()
	if before.GetAttempt() != after.GetAttempt() || before.GetEndTime() != after.GetEndTime() {
		f.journal.mu.Lock()
		f.journal.signalLocked()
		f.journal.mu.Unlock()
	}
	return known, err
}

func (f *fakeLog) appendLocked(known int64, events []*understudyv1.SyncEvent) (int64, error) {
	name := f.fold.Sync().GetName()
	if onAppend := f.journal.onAppend; onAppend != nil {
		if err := onAppend(name, events); err != nil {
			return known, err
		}
	}
	if len(events) == 0 {
		return known, nil
	}
	if err := f.fold.Refuses(events); err != nil {
		return known, err
	}
	cancels := journal.IsCancellation(events)
	for !cancels && known < int64(len(f.events)) {
		if !journal.IsCancellation(f.events[known : known+1]) {
			return known, &port.FencedError{Sync: name}
		}
		known++
	}
	for _, event := range events {
		event.Sequence = int64(len(f.events) + 1)
		if event.GetEventTime() == nil {
			event.EventTime = timestamppb.Now()
		}
		if final := event.GetFinished().GetSync(); final != nil {
			final.LastSequence = event.GetSequence()
		}
		event = proto.CloneOf(event)
		f.events = append(f.events, event)
		f.fold.Add(event)
		if !cancels {
			known = event.GetSequence()
		}
	}
	close(f.changed)
	f.changed = make(chan struct{})
	return known, nil
}

func (f *fakeLog) Publish(event *understudyv1.SyncEvent) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ephemeral = append(f.ephemeral, proto.CloneOf(event))
}

func (f *fakeLog) Sync() *understudyv1.Sync {
	f.mu.Lock()
	defer f.mu.Unlock()
	return proto.CloneOf(f.fold.Sync())
}

func (f *fakeLog) Changed() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}

func (f *fakeLog) stored() []*understudyv1.SyncEvent {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.events)
}

// shown returns the ephemeral events.
func (f *fakeLog) shown() []*understudyv1.SyncEvent {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.ephemeral)
}

// until waits for an event.
func (f *fakeLog) until(ctx context.Context, match func(*understudyv1.SyncEvent) bool) bool {
	for {
		f.mu.Lock()
		found, changed := slices.ContainsFunc(f.events, match), f.changed
		f.mu.Unlock()
		if found {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// fakeTenants knows one tenant, or more.
type fakeTenants struct {
	tenant *engine.Tenant
	more   map[string]*engine.Tenant
	// onTenant is called at every look-up.
	onTenant func()
}

func (f *fakeTenants) Tenant(name string) (*engine.Tenant, error) {
	if f.onTenant != nil {
		f.onTenant()
	}
	if f.tenant != nil && name == f.tenant.Name {
		return f.tenant, nil
	}
	if tenant := f.more[name]; tenant != nil {
		return tenant, nil
	}
	return nil, &port.NotFoundError{Resource: name}
}

// fakeCatalog has the types of the tests.
type fakeCatalog struct{ types []*catalog.Type }

func (f *fakeCatalog) Select(patterns []string) ([]*catalog.Type, error) {
	var selected []*catalog.Type
	for _, t := range f.types {
		if slices.Contains(patterns, "*") || slices.Contains(patterns, t.ID) {
			selected = append(selected, t)
		}
	}
	for i, pattern := range patterns {
		if _, ok := f.Get(pattern); !ok && pattern != "*" {
			return nil, &catalog.UnknownPatternError{Index: i, Pattern: pattern}
		}
	}
	return selected, nil
}

func (f *fakeCatalog) Get(id string) (*catalog.Type, bool) {
	i := slices.IndexFunc(f.types, func(t *catalog.Type) bool { return t.ID == id })
	if i < 0 {
		return nil, false
	}
	return f.types[i], true
}

func (f *fakeCatalog) Version() string { return "test" }

const waitLimit = time.Hour
