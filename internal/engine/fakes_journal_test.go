package engine_test

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/journal"
	"understudy.internal/internal/port"
)

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
	// onGet changes what Get answers.
	onGet func(*understudyv1.Sync) (*understudyv1.Sync, error)
	// away says whether what is appended is tried for long, in vain.
	away func(events []*understudyv1.SyncEvent) bool
	// unreachable is why it is known that nothing can be stored.
	unreachable error
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
	if f.onGet != nil {
		return f.onGet(log.Sync())
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

func (f *fakeSyncs) Open(ctx context.Context, name string) (port.Log, error) {
	if f.beforeOpen != nil {
		f.beforeOpen()
	}
	if f.openErr != nil {
		if err := f.openErr(); err != nil {
			return nil, err
		}
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
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

func (f *fakeSyncs) Reachable() error {
	f.view.Lock()
	defer f.view.Unlock()
	return f.unreachable
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

// appendPatience is how long it is tried to store something in a journal that is away.
const appendPatience = 26 * time.Second

func (f *fakeHandle) Append(ctx context.Context, events ...*understudyv1.SyncEvent) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if f.syncs.away != nil && f.syncs.away(events) {
		select {
		case <-time.After(appendPatience):
			return errStorage
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
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
