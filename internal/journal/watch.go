package journal

import (
	"cmp"
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

// Watch implements [port.Watches].
func (j *Journal) Watch(ctx context.Context, name string, after int64) (port.Watcher, error) {
	after = max(after, 0)
	l, err := j.find(ctx, name)
	if err != nil {
		return nil, err
	}
	if l != nil && after > l.state().GetLastSequence() {
		// The caller may have it from another process.
		if l, err = j.findFresh(ctx, name); err != nil {
			return nil, err
		}
	}
	if l == nil {
		// Over: a log of its own, which goes with the watcher.
		if l, err = j.replay(ctx, name, after); err != nil {
			return nil, err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if last := l.fold.Sync().GetLastSequence(); after > last {
		return nil, &port.SequenceInFutureError{After: after, Last: last}
	}
	w := &watcher{live: l, cursor: after, done: make(chan struct{})}
	w.first = &understudyv1.SyncEvent{
		EventTime: timestamppb.Now(),
		Event: &understudyv1.SyncEvent_CurrentState{CurrentState: &understudyv1.CurrentState{
			Sync: proto.CloneOf(l.fold.Sync()),
		}},
	}
	return w, nil
}

// replay reads the log of a finished sync.
func (j *Journal) replay(ctx context.Context, name string, after int64) (*live, error) {
	final, err := j.Get(ctx, name)
	if err != nil {
		return nil, err
	}
	l := newLive(j, name, final, 0)
	if after >= final.GetLastSequence() {
		return l, nil
	}
	for event, err := range j.store.eventsOf(ctx, name) {
		if err != nil {
			return nil, err
		}
		if event.event.GetSequence() > after {
			l.events = append(l.events, event.event)
		}
	}
	if len(l.events) == 0 || l.events[0].GetSequence() > after+1 {
		oldest := final.GetLastSequence()
		if len(l.events) > 0 {
			oldest = l.events[0].GetSequence()
		}
		return nil, &port.TrimmedError{After: after, Oldest: oldest}
	}
	// The cursor counts from the first event of the sync.
	l.events = append(make([]*understudyv1.SyncEvent, after), l.events...)
	return l, nil
}

// watcher is a cursor in a log.
type watcher struct {
	live *live
	// first is the current_state; nil when it was given.
	first *understudyv1.SyncEvent
	// cursor is the sequence of the last durable event given.
	cursor int64
	// seen is the number of the last ephemeral event given.
	seen uint64
	over bool

	once sync.Once
	done chan struct{}
}

// Next implements [port.Watcher].
func (w *watcher) Next(ctx context.Context) (*understudyv1.SyncEvent, error) {
	if w.first != nil {
		first := w.first
		w.first = nil
		sync := first.GetCurrentState().GetSync()
		w.over = sync.GetEndTime() != nil && sync.GetLastSequence() == w.cursor
		return first, nil
	}
	for {
		if w.over {
			return nil, io.EOF
		}
		event, changed := w.poll()
		if event != nil {
			return event, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-w.done:
			return nil, io.ErrClosedPipe
		case <-w.live.journal.closing:
			return nil, &port.StorageError{Err: errors.New("the journal is closed")}
		}
	}
}

// poll returns the next event, or what to wait for.
func (w *watcher) poll() (*understudyv1.SyncEvent, <-chan struct{}) {
	l := w.live
	l.mu.Lock()
	defer l.mu.Unlock()
	if w.seen == 0 {
		// The open prompt comes first, also where history is long.
		if prompt, ok := l.latest[kindPrompt]; ok && prompt.open() {
			w.seen = prompt.number
			return prompt.event, nil
		}
	}
	if w.cursor < int64(len(l.events)) {
		event := l.events[w.cursor]
		w.cursor++
		w.over = event.GetFinished() != nil
		return event, nil
	}
	unseen := slices.SortedFunc(maps.Values(l.latest), func(a, b ephemeral) int { return cmp.Compare(a.number, b.number) })
	for _, e := range unseen {
		if e.number > w.seen {
			w.seen = e.number
			if e.open() {
				return e.event, nil
			}
		}
	}
	return nil, l.changed
}

// open says whether an event still tells something: a prompt that expired does
// not.
func open(event *understudyv1.SyncEvent) bool {
	expires := event.GetAuthenticationPrompt().GetExpireTime()
	return expires == nil || time.Now().Before(expires.AsTime())
}

// Close implements [port.Watcher].
func (w *watcher) Close() { w.once.Do(func() { close(w.done) }) }
