package journal

import (
	"context"
	"errors"
	"iter"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

// Create implements [port.Syncs]. One message is the whole acceptance: there is no
// moment at which a sync is half accepted or a tenant locked by nothing.
func (j *Journal) Create(ctx context.Context, request port.CreateRequest) (*understudyv1.Sync, bool, error) {
	release, err := j.claim(ctx, request.Tenant)
	if err != nil {
		return nil, false, err
	}
	defer release()

	j.mu.Lock()
	var repeated *entry
	if request.RequestID != "" {
		repeated = j.index.requests[requestKey(request.Tenant, request.RequestID)]
	}
	running := j.index.running[request.Tenant]
	j.mu.Unlock()
	if repeated != nil && time.Since(repeated.created()) < j.config.RequestIDTTL {
		if repeated.digest != request.Digest {
			return nil, false, &port.RequestIDReusedError{RequestID: request.RequestID}
		}
		sync, err := j.Get(ctx, repeated.name)
		return sync, false, err
	}
	if running != "" {
		return nil, false, &port.SyncRunningError{Sync: running}
	}

	sync := proto.CloneOf(request.Sync)
	sync.Name = request.Tenant + "/syncs/" + strings.ToLower(ulid.Make().String())
	sync.State = understudyv1.SyncState_SYNC_STATE_PENDING
	sync.CreateTime = timestamppb.Now()
	sync.LastSequence = 0
	e := &entry{name: sync.GetName(), tenant: request.Tenant, requestID: request.RequestID, digest: request.Digest}
	sequence, err := j.accept(ctx, e, sync)
	if err != nil {
		return nil, false, err
	}
	l := newLive(j, e.name, sync)
	l.recordSequence = sequence
	j.mu.Lock()
	j.index.add(e)
	j.index.running[e.tenant] = e.name
	j.live[e.name] = l
	j.mu.Unlock()
	return proto.CloneOf(sync), true, nil
}

// accept stores the record of a new sync. Where an answer did not come it looks
// whether the record is there. One of which that cannot be told is removed before
// the tenant gets another, so that a tenant never has two that are not finished.
func (j *Journal) accept(ctx context.Context, e *entry, sync *understudyv1.Sync) (uint64, error) {
	j.mu.Lock()
	doubtful := j.doubtful[e.tenant]
	j.mu.Unlock()
	if doubtful != "" {
		if err := j.store.removeRecord(ctx, doubtful); err != nil {
			return 0, err
		}
	}
	sequence, err := j.store.putRecord(ctx, e, sync, false, 0)
	j.stored(err)
	if err != nil {
		if _, found, lookErr := j.store.record(ctx, e.name); lookErr == nil {
			sequence, err = found, nil
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.doubtful, e.tenant)
	if err != nil {
		j.doubtful[e.tenant] = e.name
	}
	return sequence, err
}

// claim lets one Create at a time work on a tenant.
func (j *Journal) claim(ctx context.Context, tenant string) (func(), error) {
	for {
		j.mu.Lock()
		busy := j.creating[tenant]
		if busy == nil {
			mine := make(chan struct{})
			j.creating[tenant] = mine
			j.mu.Unlock()
			return func() {
				j.mu.Lock()
				delete(j.creating, tenant)
				j.mu.Unlock()
				close(mine)
			}, nil
		}
		j.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// find returns the live log of a sync, or nil when it is finished.
func (j *Journal) find(name string) (*live, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if l := j.live[name]; l != nil {
		return l, nil
	}
	if j.index.byName[name] == nil {
		return nil, &port.NotFoundError{Resource: name}
	}
	return nil, nil
}

// Get implements [port.Syncs].
func (j *Journal) Get(ctx context.Context, name string) (*understudyv1.Sync, error) {
	l, err := j.find(name)
	if err != nil {
		return nil, err
	}
	if l != nil {
		return l.Sync(), nil
	}
	event, _, err := j.store.lastEvent(ctx, name)
	if err != nil {
		return nil, err
	}
	if event.GetFinished() != nil {
		return Apply(nil, event), nil
	}
	return nil, &port.NotFoundError{Resource: name} // its events are no longer kept
}

// List implements [port.Watches].
func (j *Journal) List(ctx context.Context, parent, before string, limit int) ([]*understudyv1.Sync, error) {
	j.mu.Lock()
	entries := j.index.list(parent, before, limit)
	j.mu.Unlock()
	syncs := make([]*understudyv1.Sync, 0, len(entries))
	for _, e := range entries {
		sync, err := j.Get(ctx, e.name)
		if gone := (*port.NotFoundError)(nil); errors.As(err, &gone) {
			continue
		}
		if err != nil {
			return nil, err
		}
		syncs = append(syncs, sync)
	}
	return syncs, nil
}

// Unfinished implements [port.Syncs].
func (j *Journal) Unfinished(context.Context) ([]port.Standing, error) {
	j.mu.Lock()
	var logs []*live
	for _, e := range j.index.all {
		if l := j.live[e.name]; l != nil {
			logs = append(logs, l)
		}
	}
	j.mu.Unlock()
	standings := make([]port.Standing, 0, len(logs))
	for _, l := range logs {
		s := l.Sync()
		standings = append(standings, port.Standing{Sync: l.name, State: s.GetState(), Worker: s.GetWorker(), Attempt: s.GetAttempt()})
	}
	return standings, nil
}

// Open implements [port.Syncs].
func (j *Journal) Open(_ context.Context, name string) (port.Log, error) {
	l, err := j.find(name)
	if err != nil {
		return nil, err
	}
	if l == nil {
		return nil, &port.FencedError{Sync: name}
	}
	return l, nil
}

// Events implements [port.Syncs].
func (j *Journal) Events(ctx context.Context, name string, after int64) iter.Seq2[*understudyv1.SyncEvent, error] {
	return func(yield func(*understudyv1.SyncEvent, error) bool) {
		l, err := j.find(name)
		if err != nil {
			yield(nil, err)
			return
		}
		if l != nil {
			for _, event := range l.after(after) {
				if !yield(event, nil) {
					return
				}
			}
			return
		}
		for event, err := range j.store.eventsOf(ctx, name) {
			if err == nil && event.GetSequence() <= after {
				continue
			}
			if !yield(event, err) || err != nil {
				return
			}
		}
	}
}

// release gives the tenant of a finished sync free.
func (j *Journal) release(l *live) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.live, l.name)
	if e := j.index.byName[l.name]; e != nil {
		e.finished = true
		if j.index.running[e.tenant] == l.name {
			delete(j.index.running, e.tenant)
		}
	}
}

// markFinished marks the record of a finished sync as over. That it may fail is no
// harm: the next start finds `finished` in the events.
func (j *Journal) markFinished(ctx context.Context, l *live) {
	j.mu.Lock()
	e := j.index.byName[l.name]
	j.mu.Unlock()
	if e == nil {
		return
	}
	if _, err := j.store.putRecord(ctx, e, l.record, true, l.recordSequence); err != nil {
		j.logger.Warn("marking a sync as finished failed; the next start does it", "sync", l.name, "error", err)
	}
}

// Announce implements [port.Syncs].
func (j *Journal) Announce(name string, event *understudyv1.SyncEvent) {
	if l, err := j.find(name); err == nil && l != nil {
		l.Publish(event)
	}
}

// Worker implements [port.Syncs].
func (j *Journal) Worker() string { return "embedded" }

// Alive implements [port.Syncs].
func (j *Journal) Alive() []string { return []string{j.Worker()} }

// Changed implements [port.Syncs].
func (j *Journal) Changed() <-chan struct{} { return nil }
