package journal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

// live is the log of a sync that is not finished: its events in memory, once, for
// all its watchers. A watcher is a cursor; nothing is kept for it here, so that a
// slow one costs nothing and delays nobody.
type live struct {
	journal *Journal
	name    string
	record  *understudyv1.Sync
	// recordSequence is the stream sequence of the record.
	recordSequence uint64

	// writing is held while events are stored.
	writing        sync.Mutex
	streamSequence uint64
	// doubtful are events that may have been stored though nobody answered.
	doubtful []*understudyv1.SyncEvent

	mu     sync.Mutex
	sync   *understudyv1.Sync
	events []*understudyv1.SyncEvent
	// latest has the last ephemeral event of each kind, with its number.
	latest  map[kind]ephemeral
	counter uint64
	// changed is closed, and made anew, when there is something new.
	changed chan struct{}
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
}

var _ port.Log = (*live)(nil)

func newLive(j *Journal, name string, record *understudyv1.Sync) *live {
	return &live{
		journal: j, name: name, record: proto.CloneOf(record), sync: proto.CloneOf(record),
		latest: map[kind]ephemeral{}, changed: make(chan struct{}),
	}
}

// Append implements [port.Log].
func (l *live) Append(ctx context.Context, events ...*understudyv1.SyncEvent) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	if len(events) == 0 {
		return nil
	}
	if len(events) > maxBatch {
		return fmt.Errorf("%d events cannot be stored together: at most %d can", len(events), maxBatch)
	}
	if err := l.resolve(ctx); err != nil {
		return err
	}
	l.mu.Lock()
	sequence, over := l.sync.GetLastSequence(), l.sync.GetEndTime() != nil
	l.mu.Unlock()
	if over {
		return &port.FencedError{Sync: l.name}
	}
	stored := make([]*understudyv1.SyncEvent, len(events))
	for i, event := range events {
		event.Sequence = sequence + int64(i) + 1
		if event.GetEventTime() == nil {
			event.EventTime = timestamppb.Now()
		}
		stored[i] = proto.CloneOf(event)
	}
	last, err := l.put(ctx, stored)
	l.journal.stored(err)
	if fenced := (*port.FencedError)(nil); err != nil && !errors.As(err, &fenced) {
		l.doubtful = stored
	}
	if err != nil {
		return err
	}
	l.adopt(ctx, stored, last)
	return nil
}

// adopt takes stored events in, and shows them to the watchers. When `finished` is
// one of them the tenant is free before anybody can see it.
func (l *live) adopt(ctx context.Context, events []*understudyv1.SyncEvent, streamSequence uint64) {
	l.streamSequence, l.doubtful = streamSequence, nil
	finished := slices.ContainsFunc(events, func(e *understudyv1.SyncEvent) bool { return e.GetFinished() != nil })
	if finished {
		l.journal.release(l)
	}
	l.mu.Lock()
	for _, event := range events {
		l.addLocked(event)
	}
	l.wake()
	l.mu.Unlock()
	if finished {
		l.journal.markFinished(context.WithoutCancel(ctx), l)
	}
}

// resolve finds out what became of events that nobody answered.
func (l *live) resolve(ctx context.Context) error {
	if l.doubtful == nil {
		return nil
	}
	found, stream, err := l.journal.store.lastEvent(ctx, l.name)
	switch {
	case err != nil:
		return err
	case stream == l.streamSequence:
		l.doubtful = nil
	case proto.Equal(found, l.doubtful[len(l.doubtful)-1]):
		l.adopt(ctx, l.doubtful, stream)
	default:
		return &port.FencedError{Sync: l.name}
	}
	return nil
}

// put stores events. Where an answer did not come it looks whether they are there:
// an event is stored once, whatever the connection does.
func (l *live) put(ctx context.Context, events []*understudyv1.SyncEvent) (uint64, error) {
	var failure error
	for range publishAttempts {
		attempt, cancel := context.WithTimeout(ctx, publishTimeout)
		last, err := l.journal.store.append(attempt, l.name, l.streamSequence, events)
		cancel()
		if err == nil {
			return last, nil
		}
		failure = err
		found, stream, lookErr := l.journal.store.lastEvent(ctx, l.name)
		switch {
		case ctx.Err() != nil:
			return 0, context.Cause(ctx)
		case lookErr != nil:
		case stream == l.streamSequence: // not stored
			if errors.Is(err, errFenced) {
				return 0, &port.FencedError{Sync: l.name}
			}
		case proto.Equal(found, events[len(events)-1]):
			return stream, nil
		default:
			return 0, &port.FencedError{Sync: l.name}
		}
		select {
		case <-time.After(publishTimeout / 10):
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
	return 0, &port.StorageError{Err: failure}
}

// add puts a stored event into memory.
func (l *live) add(event *understudyv1.SyncEvent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.addLocked(event)
}

func (l *live) addLocked(event *understudyv1.SyncEvent) {
	l.events = append(l.events, event)
	l.sync = Apply(l.sync, event)
}

// wake tells the watchers that there is something new. The caller holds mu.
func (l *live) wake() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// Publish implements [port.Log].
func (l *live) Publish(event *understudyv1.SyncEvent) {
	event = proto.CloneOf(event)
	if event.GetEventTime() == nil {
		event.EventTime = timestamppb.Now()
	}
	k := kindOther
	switch e := event.GetEvent().(type) {
	case *understudyv1.SyncEvent_AuthenticationPrompt:
		k = kindPrompt
		if p := e.AuthenticationPrompt; p.GetUserCode() == "" && p.GetAuthorizationUri() == "" {
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
	l.counter++
	l.latest[k] = ephemeral{l.counter, event}
	l.wake()
}

// Sync implements [port.Log].
func (l *live) Sync() *understudyv1.Sync {
	l.mu.Lock()
	defer l.mu.Unlock()
	return proto.CloneOf(l.sync)
}

// Changed implements [port.Log].
func (l *live) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
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
