package journal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"understudy.internal/internal/port"
)

const (
	// followExpiry bounds one request of a follower; followHeartbeat is how often the
	// engine says that it is there: after two that are missing the follower asks
	// another node.
	followExpiry    = 10 * time.Second
	followHeartbeat = 500 * time.Millisecond
	// longestFollowPause is between two attempts to follow.
	longestFollowPause = 2 * time.Second
)

// follower reads a stream from where it is on, for as long as the journal is open:
// it brings what other processes append. Whatever happens to the connection, the
// engine or its leader, it goes on behind the last message that was taken in.
type follower struct {
	journal *Journal
	what    string
	stream  jetstream.Stream
	// position is the stream's sequence of the last message that was taken in.
	position atomic.Uint64
	take     func(context.Context, jetstream.Msg) error

	mu sync.Mutex
	// again ends what runs, which then begins anew.
	again context.CancelFunc
	// checked is the position at the last check, and last the end of the stream then;
	// begun is the end for which it was begun anew.
	checked, last, begun uint64
}

// check begins anew, at another node, when nothing came since the last check though
// there is more: the node that answers may not hear of it. end is the end of the
// stream by its leader.
func (f *follower) check(end uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	position := f.position.Load()
	// Once for each end: there can be something there that was removed.
	if position < f.last && position == f.checked && f.begun != f.last && f.again != nil {
		f.begun = f.last
		f.again()
	}
	f.checked, f.last = position, end
}

// run follows until the context is done.
func (f *follower) run(ctx context.Context) {
	for pause := shortestPause; ctx.Err() == nil; {
		before := f.position.Load()
		err := f.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		if f.position.Load() != before {
			pause = shortestPause
		}
		f.journal.logger.Warn("following the journal was interrupted, and goes on", "stream", f.what, "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, longestFollowPause)
	}
}

func (f *follower) follow(ctx context.Context) error {
	ctx, again := context.WithCancel(ctx)
	defer again()
	f.mu.Lock()
	f.again = again
	f.mu.Unlock()
	// Not an ordered consumer of the library: that one begins anew by itself, and
	// cannot be ended while it does.
	consumer, err := f.stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: f.position.Load() + 1,
		AckPolicy: jetstream.AckNonePolicy, MaxDeliver: 1, MemoryStorage: true, Replicas: 1, InactiveThreshold: time.Minute,
	})
	if err != nil {
		return err
	}
	messages, err := consumer.Messages(jetstream.PullExpiry(followExpiry), jetstream.PullHeartbeat(followHeartbeat))
	if err != nil {
		return err
	}
	defer messages.Stop()
	defer context.AfterFunc(ctx, messages.Stop)()
	for want := uint64(1); ; want++ {
		message, err := messages.Next()
		if err != nil {
			return err
		}
		meta, err := message.Metadata()
		if err != nil {
			return err
		}
		if meta.Sequence.Consumer != want {
			return fmt.Errorf("message %d was lost on its way", want)
		}
		if err := f.take(ctx, message); err != nil {
			return fmt.Errorf("message %d: %w", meta.Sequence.Stream, err)
		}
		f.position.Store(meta.Sequence.Stream)
	}
}

// followRecord takes in a record that the follower brought.
func (j *Journal) followRecord(_ context.Context, message jetstream.Msg) error {
	if message.Subject() == j.names.record(probe) {
		return nil
	}
	record, err := j.store.recordOf(message, message.Data())
	if err != nil {
		j.logger.Error("a record in the journal cannot be read, and is left out", "subject", message.Subject(), "error", err)
		return nil
	}
	j.adoptRecord(record, true)
	return nil
}

// followEvent takes in an event that the follower brought.
func (j *Journal) followEvent(ctx context.Context, message jetstream.Msg) error {
	if message.Subject() == j.names.event(probe) {
		return nil
	}
	events, err := unpackMessage(message)
	if err != nil {
		j.logger.Error("an event in the journal cannot be read, and is left out", "subject", message.Subject(), "error", err)
		return nil
	}
	l, err := j.find(ctx, nameOf(strings.TrimPrefix(message.Subject(), j.names.event(""))))
	if err != nil && isNotFound(err) {
		return nil // its record is no longer kept
	}
	if err != nil || l == nil {
		return err
	}
	if l.adopt(events...) {
		return nil
	}
	err = l.catchUp(ctx)
	if err != nil && ctx.Err() == nil && !errors.As(err, new(*port.StorageError)) {
		// It is the log of this one sync: the others go on to be heard of.
		j.logger.Error("the log of a sync cannot be read", "sync", l.name, "error", err)
		return nil
	}
	return err
}

// adoptRecord takes a record in, whoever brings it first, and returns the log of its
// sync, or nil when that is finished. It comes in order when every record of the tenant
// before it was taken in: not when somebody asked for it by its name.
func (j *Journal) adoptRecord(record *kept, inOrder bool) *live {
	j.mu.Lock()
	e := record.entry
	if inOrder {
		j.index.known(e.tenant, record.sequence)
	}
	if known := j.index.byName[e.name]; known != nil {
		// It is over, by its record; its log is here until its last event is.
		known.finished = known.finished || e.finished
		l := cmp.Or(j.live[e.name], j.ended[e.name])
		j.mu.Unlock()
		return l
	}
	j.index.add(e)
	var l *live
	if !e.finished {
		l = newLive(j, e.name, record.sync, record.sequence)
		j.live[e.name] = l
	}
	j.mu.Unlock()
	j.signal()
	return l
}

// find returns the live log of a sync, or nil when it is finished and not just now. One that this
// process has not heard of is looked for.
func (j *Journal) find(ctx context.Context, name string) (*live, error) {
	j.mu.Lock()
	l, known := cmp.Or(j.live[name], j.ended[name]), j.index.byName[name] != nil
	j.mu.Unlock()
	if l != nil || known {
		return l, nil
	}
	if strings.ContainsAny(name, "*>. ") || strings.Count(name, "/") != 3 {
		return nil, &port.NotFoundError{Resource: name} // it would name many, or none
	}
	record, err := j.store.record(ctx, name)
	if err != nil {
		return nil, err
	}
	return j.adoptRecord(record, false), nil
}

// findFresh is find, for those who ask what is: they hear of what other processes
// appended before they asked. Where the engine does not answer in time they get what
// is known here.
func (j *Journal) findFresh(ctx context.Context, name string) (*live, error) {
	l, err := j.find(ctx, name)
	if err != nil || l == nil || !j.clustered() || l.over() {
		return l, err
	}
	looking, cancel := context.WithTimeout(ctx, freshTimeout)
	defer cancel()
	if err := l.catchUp(looking); err != nil {
		j.logger.Debug("whether others appended to a sync cannot be found out", "sync", name, "error", err)
	}
	return l, nil
}

// freshTimeout is how long a reader waits to hear of what other processes appended.
const freshTimeout = 2 * time.Second

// catchUpTenant takes in the records of a tenant that are stored now, and returns the
// sequence of the last, or 0.
func (j *Journal) catchUpTenant(ctx context.Context, tenant string) (uint64, error) {
	last, err := j.store.lastRecord(ctx, tenant)
	if err != nil || last == nil {
		return 0, err
	}
	for {
		j.mu.Lock()
		known := j.index.last[tenant]
		j.mu.Unlock()
		if known >= last.sequence {
			return last.sequence, nil
		}
		next, err := j.store.nextRecord(ctx, tenant, known)
		if err != nil {
			return 0, err
		}
		if next == nil || next.sequence > last.sequence {
			next = last // those between were replaced meanwhile
		}
		j.adoptRecord(next, true)
	}
}
