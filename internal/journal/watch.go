package journal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"sync"
	"time"
	"weak"

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
		err := l.await(ctx, freshTimeout, func() bool { return after <= l.fold.Sync().GetLastSequence() })
		if err != nil {
			// The caller is not wrong only because the journal cannot be asked.
			return nil, &port.StorageError{Err: fmt.Errorf("finding the events of %s after %d: %w", name, after, err)}
		}
	}
	if l == nil {
		// Over: its log is read once for all who watch it now.
		if l, err = j.replay(ctx, name); err != nil {
			return nil, err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if last := l.fold.Sync().GetLastSequence(); after > last {
		return nil, &port.SequenceInFutureError{After: after, Last: last}
	}
	if after < l.trimmed && after < l.fold.Sync().GetLastSequence() {
		return nil, &port.TrimmedError{After: after, Oldest: l.trimmed + 1}
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

// replay returns the log of a finished sync. It is in memory once, and goes with the
// last of its watchers.
func (j *Journal) replay(ctx context.Context, name string) (*live, error) {
	for {
		j.mu.Lock()
		if l := j.replays[name].Value(); l != nil {
			j.mu.Unlock()
			return l, nil
		}
		busy := j.replaying[name]
		if busy == nil {
			break
		}
		j.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	mine := make(chan struct{})
	j.replaying[name] = mine
	j.mu.Unlock()
	l, err := j.readFinished(ctx, name)
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.replaying, name)
	close(mine)
	if err != nil {
		return nil, err
	}
	j.replays[name] = weak.Make(l)
	runtime.AddCleanup(l, j.dropReplay, name)
	return l, nil
}

// dropReplay forgets a log that nobody watches any more.
func (j *Journal) dropReplay(name string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if l, ok := j.replays[name]; ok && l.Value() == nil {
		delete(j.replays, name)
	}
}

// readFinished reads the log of a finished sync. Where its first events are no longer
// kept there is nothing in their place.
func (j *Journal) readFinished(ctx context.Context, name string) (*live, error) {
	final, err := j.Get(ctx, name)
	if err != nil {
		return nil, err
	}
	l := newLive(j, name, final, 0)
	for event, err := range j.store.eventsOf(ctx, name) {
		if err != nil {
			return nil, err
		}
		if len(l.events) == 0 {
			l.trimmed = event.event.GetSequence() - 1
			l.events = make([]*understudyv1.SyncEvent, l.trimmed)
		}
		if event.event.GetSequence() != int64(len(l.events))+1 {
			return nil, &port.StorageError{Err: fmt.Errorf("the log of %s has a gap before its event %d", name, event.event.GetSequence())}
		}
		l.events = append(l.events, event.event)
	}
	if int64(len(l.events)) < final.GetLastSequence() {
		l.trimmed = final.GetLastSequence() // expired while it was read
	}
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
