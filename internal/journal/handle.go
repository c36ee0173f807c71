package journal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

// handle is the log of a sync for one writer. It knows the events that were there
// when it was opened and those that it appended. What others append behind them, a
// cancellation excepted, ends it: so a writer never appends behind something that it
// has not taken into account, whether that came before it asked or meanwhile.
type handle struct {
	live *live
	// seen is the sequence up to which the writer knows the log; guarded by live.mu.
	seen int64
}

var _ port.Log = (*handle)(nil)

// open returns a handle on a log that was read to its end.
func (l *live) open(ctx context.Context) (*handle, error) {
	unlock, err := l.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := l.resolve(ctx); err != nil {
		return nil, err
	}
	if l.journal.clustered() {
		if err := l.prepare(ctx); err != nil {
			return nil, err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fold.Over() {
		return nil, &port.FencedError{Sync: l.name}
	}
	return &handle{live: l, seen: int64(len(l.events))}, nil
}

// Append implements [port.Log].
func (h *handle) Append(ctx context.Context, events ...*understudyv1.SyncEvent) error {
	l := h.live
	if len(events) == 0 {
		return nil
	}
	if len(events) > maxBatch {
		return fmt.Errorf("%d events cannot be stored together: at most %d can", len(events), maxBatch)
	}
	unlock, err := l.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := l.resolve(ctx); err != nil {
		return err
	}
	for {
		expected, err := h.admit(events)
		if err != nil {
			return err
		}
		clones := make([]*understudyv1.SyncEvent, len(events))
		for i, event := range events {
			clones[i] = proto.CloneOf(event)
		}
		err = l.put(ctx, &pending{id: nuid.Next(), handle: h, left: len(events)}, expected, clones)
		if errors.Is(err, errFenced) {
			continue // others were first: look whether it may follow them
		}
		if err == nil && slices.ContainsFunc(events, func(e *understudyv1.SyncEvent) bool { return e.GetFinished() != nil }) {
			l.journal.markFinished(context.WithoutCancel(ctx), l)
		}
		return err
	}
}

// admit gives events their sequences, and returns the stream's sequence of the one
// that they follow, or why they may not.
func (h *handle) admit(events []*understudyv1.SyncEvent) (uint64, error) {
	l := h.live
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.fold.Refuses(events); err != nil {
		return 0, err
	}
	if !IsCancellation(events) {
		for _, event := range l.events[h.seen:] {
			if !IsCancellation([]*understudyv1.SyncEvent{event}) {
				return 0, &port.FencedError{Sync: l.name}
			}
			h.seen = event.GetSequence()
		}
	}
	for i, event := range events {
		event.Sequence = int64(len(l.events) + i + 1)
		if event.GetEventTime() == nil {
			event.EventTime = timestamppb.Now()
		}
		if final := event.GetFinished().GetSync(); final != nil {
			final.LastSequence = event.GetSequence()
		}
	}
	return l.streamSequence, nil
}

// Publish implements [port.Log].
func (h *handle) Publish(event *understudyv1.SyncEvent) {
	h.live.publish(event, time.Time{})
	h.live.journal.show(h.live.name, event)
}

// Sync implements [port.Log].
func (h *handle) Sync() *understudyv1.Sync { return h.live.state() }

// Changed implements [port.Log].
func (h *handle) Changed() <-chan struct{} {
	h.live.mu.Lock()
	defer h.live.mu.Unlock()
	return h.live.changed
}
