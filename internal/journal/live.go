package journal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

// live is the log of a sync that is not finished: its events in memory, once, for
// all its watchers. A watcher is a cursor; nothing is kept for it here, so that a
// slow one costs nothing and delays nobody.
//
// Events come in by three ways: those that this process appends, those that the
// follower brings, and those that were read because one of the two was ahead of it.
// adopt takes each once and in order, whoever is first.
type live struct {
	journal *Journal
	name    string
	record  *understudyv1.Sync
	// recordSequence is the stream sequence of the record.
	recordSequence uint64

	// writing holds a token while events are stored, which may take as long as the engine
	// is waited for: see lock.
	writing chan struct{}

	mu   sync.Mutex
	fold *Fold
	// events are all events, the first with sequence 1.
	events []*understudyv1.SyncEvent
	// trimmed is how many of them are no longer kept; of a finished sync only.
	trimmed int64
	// streamSequence is the stream's sequence of the last of them.
	streamSequence uint64
	// pending is the append that was begun last.
	pending *pending
	// latest has the last ephemeral event of each kind, with its number.
	latest  map[kind]ephemeral
	counter uint64
	// changed is closed, and made anew, when there is something new.
	changed chan struct{}
}

// stored is an event as it lies in the stream.
type stored struct {
	event    *understudyv1.SyncEvent
	sequence uint64
	// id names the append that stored it.
	id string
}

// pending is an append that was begun. When nobody answered it, its events may be
// stored, or may be later.
type pending struct {
	id     string
	handle *handle
	// left is how many of its events have not been seen in the log.
	left int
	// settled says that it is known to be stored, or never will be.
	settled, stored bool
}

// kind tells ephemeral events apart: a later one replaces an earlier one.
type kind int

const (
	kindPrompt kind = iota
	kindProgress
	kindOther
)

type ephemeral struct {
	number uint64
	event  *understudyv1.SyncEvent
	// until is when it is over; zero: when the event says so.
	until time.Time
}

// open says whether an event still tells something.
func (e ephemeral) open() bool {
	return (e.until.IsZero() || time.Now().Before(e.until)) && open(e.event)
}

func newLive(j *Journal, name string, record *understudyv1.Sync, recordSequence uint64) *live {
	return &live{
		journal: j, name: name, record: proto.CloneOf(record), recordSequence: recordSequence, fold: NewFold(record),
		latest: map[kind]ephemeral{}, changed: make(chan struct{}), writing: make(chan struct{}, 1),
	}
}

// lock keeps others from storing until the function that it returns is called. Where it
// has to wait, the one that is waited for may find out that the cluster is away: who waits
// then fails too, and does not find it out once more.
func (l *live) lock(ctx context.Context) (unlock func(), err error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	unlock = func() { <-l.writing }
	select {
	case l.writing <- struct{}{}:
		return unlock, nil
	default:
	}
	select {
	case l.writing <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if err := l.journal.Reachable(); err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

// adopt takes stored events in, and shows them to the watchers. Those that are here
// already are passed over. It returns false, and takes nothing more in, where one is
// missing. When `finished` is one of them the tenant is free before anybody can see
// it.
func (l *live) adopt(events ...stored) bool {
	if slices.ContainsFunc(events, func(s stored) bool { return s.event.GetFinished() != nil }) {
		l.journal.release(l)
	}
	taken := slices.ContainsFunc(events, func(s stored) bool { return beginsAttempt(s.event) || s.event.GetFinished() != nil })
	l.mu.Lock()
	dense, grown := true, false
	for _, s := range events {
		if s.event.GetSequence() <= int64(len(l.events)) {
			continue
		}
		if dense = s.event.GetSequence() == int64(len(l.events))+1; !dense {
			break
		}
		grown = true
		l.addLocked(s)
	}
	if grown {
		l.wake()
	}
	worker := l.fold.Sync().GetWorker()
	l.mu.Unlock()
	if taken && grown {
		l.journal.members.hear(worker, 0) // who takes a sync is alive
		l.journal.signal()
	}
	return dense
}

func (l *live) addLocked(s stored) {
	l.streamSequence = s.sequence
	l.events = append(l.events, s.event)
	l.fold.Add(s.event)
	if p := l.pending; p != nil && p.id == s.id {
		p.left--
		p.stored = p.left == 0
		p.settled = p.settled || p.stored
		if p.handle.seen == s.event.GetSequence()-1 {
			p.handle.seen++
		}
	}
	if beginsAttempt(s.event) {
		delete(l.latest, kindPrompt) // nobody waits for its answer any more
	}
}

// beginsAttempt says whether a worker takes a sync with an event.
func beginsAttempt(event *understudyv1.SyncEvent) bool {
	return event.GetStarted() != nil || event.GetStateChanged().GetWorker() != ""
}

// catchUp reads what is stored behind what is known.
func (l *live) catchUp(ctx context.Context) error {
	for {
		l.mu.Lock()
		after := l.streamSequence
		l.mu.Unlock()
		next, err := l.journal.store.nextEvents(ctx, l.name, after)
		if err != nil || len(next) == 0 {
			return err
		}
		if !l.adopt(next...) {
			return fmt.Errorf("the log of %s has a gap before its event %d", l.name, next[0].event.GetSequence())
		}
	}
}

// prepare is catchUp for a writer. A cluster that does not answer for as long as it is
// waited for stores nothing either.
func (l *live) prepare(ctx context.Context) error {
	err := l.catchUp(ctx)
	if err != nil && l.journal.clustered() {
		l.journal.stored(l.journal.names.events, err)
	}
	return err
}

// await waits for what another process may have stored, for some time: the node that
// told it can be ahead of the leader, which is asked. is is called with mu. It returns
// an error when the leader did not answer last: then nothing is known for certain.
func (l *live) await(ctx context.Context, limit time.Duration, is func() bool) error {
	if !l.journal.clustered() {
		return nil // nobody else stores
	}
	waiting, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for pause := shortestPause / 10; ; pause *= 2 {
		err := l.catchUp(waiting)
		l.mu.Lock()
		done, changed := is(), l.changed
		l.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-time.After(pause):
		case <-waiting.Done():
			return err
		}
	}
}

// resolve finds out what became of an append that nobody answered. The caller holds
// writing.
func (l *live) resolve(ctx context.Context) error {
	l.mu.Lock()
	doubtful := l.pending != nil && !l.pending.settled
	l.mu.Unlock()
	if !doubtful {
		return nil
	}
	if err := l.prepare(ctx); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	// When it is stored only later the handles of now do not know it, and are
	// refused.
	l.pending.settled = true
	return nil
}

// put stores events behind the one with a stream sequence. Where an answer did not
// come it looks whether they are there: an event is stored once, whatever the
// connection does. It returns errFenced when others were stored before them; they
// are known then. The caller holds writing.
func (l *live) put(ctx context.Context, p *pending, expected uint64, events []*understudyv1.SyncEvent) error {
	l.mu.Lock()
	l.pending = p
	l.mu.Unlock()
	s, last := l.journal.store, expected
	begin, pause := time.Now(), shortestPause
	for {
		attempt, cancel := context.WithTimeout(ctx, publishTimeout)
		stored, err := s.append(attempt, l.name, p.id, last, events)
		cancel()
		if err == nil {
			l.adopt(storedAs(events, stored, p.id)...)
			l.journal.stored(l.journal.names.events, nil)
			return nil
		}
		if errors.Is(err, nats.ErrMaxPayload) {
			return fmt.Errorf("storing an event: it is too large for the engine: %w", err)
		}
		failure := err
		lookErr := l.catchUp(ctx)
		l.mu.Lock()
		found, others := p.stored, l.streamSequence != expected
		p.settled = found || (lookErr == nil && others)
		l.mu.Unlock()
		switch {
		case found:
			l.journal.stored(l.journal.names.events, nil)
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case lookErr == nil && others:
			return errFenced
		case time.Since(begin) > s.patience:
			err := &port.StorageError{Err: failure}
			l.journal.stored(l.journal.names.events, err)
			return err
		}
		if errors.Is(err, errFenced) {
			// Nobody was first: the event before may be older than what is kept.
			if event, lookErr := s.lastEvent(ctx, l.name); lookErr == nil && event == nil {
				last = 0
			}
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		pause = min(2*pause, longestPause)
	}
}

// storedAs are events that were stored together, the last message of them with a
// stream sequence.
func storedAs(events []*understudyv1.SyncEvent, last uint64, id string) []stored {
	all := make([]stored, len(events))
	for i, event := range events {
		all[i] = stored{event, last, id}
	}
	return all
}

// wake tells the watchers that there is something new. The caller holds mu.
func (l *live) wake() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// publish gives an ephemeral event to those who watch through this process. A prompt
// is open until a time, if there is one, and until it expires.
func (l *live) publish(event *understudyv1.SyncEvent, until time.Time) {
	event = proto.CloneOf(event)
	if event.GetEventTime() == nil {
		event.EventTime = timestamppb.Now()
	}
	k := kindOther
	switch e := event.GetEvent().(type) {
	case *understudyv1.SyncEvent_AuthenticationPrompt:
		k = kindPrompt
		if withdrawn(e.AuthenticationPrompt) {
			l.mu.Lock()
			delete(l.latest, kindPrompt) // it was answered
			l.mu.Unlock()
			return
		}
	case *understudyv1.SyncEvent_Progress:
		k = kindProgress
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if known, ok := l.latest[k]; ok && k == kindPrompt && proto.Equal(known.event.GetAuthenticationPrompt(), event.GetAuthenticationPrompt()) {
		known.until = until // who has seen it does not see it again
		l.latest[k] = known
		return
	}
	l.counter++
	l.latest[k] = ephemeral{l.counter, event, until}
	l.wake()
}

// withdrawn says whether a prompt takes an earlier one back.
func withdrawn(prompt *understudyv1.AuthenticationPrompt) bool {
	return prompt.GetUserCode() == "" && prompt.GetAuthorizationUri() == ""
}

// state returns the sync as it is. The caller owns it.
func (l *live) state() *understudyv1.Sync {
	l.mu.Lock()
	defer l.mu.Unlock()
	return proto.CloneOf(l.fold.Sync())
}

// standing returns where the sync stands.
func (l *live) standing() port.Standing {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.fold.Sync()
	return port.Standing{Sync: l.name, State: s.GetState(), Worker: s.GetWorker(), Attempt: s.GetAttempt()}
}

// over says whether the sync is finished.
func (l *live) over() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fold.Over()
}

// after returns the events after a sequence. They are shared.
func (l *live) after(sequence int64) []*understudyv1.SyncEvent {
	l.mu.Lock()
	defer l.mu.Unlock()
	sequence = max(sequence, 0)
	if sequence >= int64(len(l.events)) {
		return nil
	}
	return l.events[sequence:len(l.events):len(l.events)]
}
