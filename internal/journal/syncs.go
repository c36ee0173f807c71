package journal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

// Create implements [port.Syncs]. One message is the whole acceptance: there is no
// moment at which a sync is half accepted or a tenant locked by nothing. It is stored
// only where the last record of the tenant is the one that was looked at: so of two
// processes one is refused, and looks again.
func (j *Journal) Create(ctx context.Context, request port.CreateRequest) (*understudyv1.Sync, bool, error) {
	if err := j.Reachable(); err != nil {
		return nil, false, err
	}
	release, err := j.claim(ctx, request.Tenant)
	if err != nil {
		return nil, false, err
	}
	defer release()
	// The one that was waited for may have found out that nothing can be stored, and the
	// caller may have gone.
	if err := cmp.Or(j.Reachable(), context.Cause(ctx)); err != nil {
		return nil, false, err
	}
	ctx = context.WithoutCancel(ctx) // from here on there is a sync or none, and not half of one
	var (
		e              *entry
		sync, accepted *understudyv1.Sync
		created        bool
		// doubtful says that what was tried last may be stored.
		doubtful bool
	)
	try := func(ctx context.Context) error {
		last, err := j.catchUpTenant(ctx, request.Tenant)
		if err != nil {
			return err
		}
		if accepted, err = j.earlier(ctx, request, e); err != nil || accepted != nil {
			return err
		}
		if !doubtful {
			e, sync = j.newSync(request)
		}
		sequence, err := j.store.putRecord(ctx, e, sync, false, fence{j.names.record(tenantKey(e.tenant)), last})
		doubtful = doubtful || err != nil && !errors.Is(err, errFenced)
		if err == nil {
			j.adoptRecord(&kept{entry: e, sync: sync, sequence: sequence}, true)
			accepted, created = proto.CloneOf(sync), true
		}
		return err
	}
	err = j.trying(ctx, try)
	if e != nil && accepted.GetName() == e.name {
		created = true // it was stored though nobody answered
	}
	return accepted, created, err
}

// Reachable implements [port.Syncs]: why there is no use in trying to store in a cluster
// now. One that is known to be away is not waited for, because ask and mend find out when
// it is back.
func (j *Journal) Reachable() error {
	if !j.clustered() {
		return nil
	}
	return j.Healthy()
}

// newSync returns a sync that a request asks for. Its name sorts behind those of the
// tenant's other syncs, also where the clocks of the processes differ; not where it is
// stored at a second try, after one that nobody answered, and another came between.
func (j *Journal) newSync(request port.CreateRequest) (*entry, *understudyv1.Sync) {
	now := time.Now()
	j.mu.Lock()
	if all := j.index.byTenant[request.Tenant]; len(all) > 0 {
		if newest := all[len(all)-1].created(); !newest.Before(now.Truncate(time.Millisecond)) {
			now = newest.Add(time.Millisecond)
		}
	}
	j.mu.Unlock()
	id := ulid.MustNew(ulid.Timestamp(now), ulid.DefaultEntropy())
	sync := proto.CloneOf(request.Sync)
	sync.Name = request.Tenant + "/syncs/" + strings.ToLower(id.String())
	sync.State = understudyv1.SyncState_SYNC_STATE_PENDING
	sync.CreateTime = timestamppb.Now()
	sync.LastSequence = 0
	return &entry{name: sync.GetName(), tenant: request.Tenant, requestID: request.RequestID, digest: request.Digest}, sync
}

// trying tries to store a record until it is clear whether it is: where others were
// first, or nobody answered, it looks again.
func (j *Journal) trying(ctx context.Context, try func(context.Context) error) error {
	begin, pause := time.Now(), shortestPause/10
	for {
		attempt, cancel := context.WithTimeout(ctx, publishTimeout)
		err := try(attempt)
		cancel()
		if err == nil {
			j.stored(j.names.syncs, nil)
			return nil
		}
		if isRefusal(err) {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if time.Since(begin) > j.store.patience {
			err = &port.StorageError{Err: fmt.Errorf("storing a sync: %w", err)}
			j.stored(j.names.syncs, err)
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		pause = min(2*pause, longestPause)
	}
}

// isRefusal says whether an error is an answer to the caller.
func isRefusal(err error) bool {
	return errors.As(err, new(*port.SyncRunningError)) || errors.As(err, new(*port.RequestIDReusedError)) || isNotFound(err)
}

// endedTimeout is how long it is waited for the end of a running sync, of which the
// caller may know already.
const endedTimeout = 100 * time.Millisecond

// earlier returns the sync that a request is answered with, or nil: the one that the
// same request_id created, or own, which may be stored. It returns a [*port.SyncRunningError]
// when the tenant has one that is not finished.
func (j *Journal) earlier(ctx context.Context, request port.CreateRequest, own *entry) (*understudyv1.Sync, error) {
	j.mu.Lock()
	var repeated *entry
	if request.RequestID != "" {
		repeated = j.index.requests[requestKey(request.Tenant, request.RequestID)]
	}
	running := j.liveOf(request.Tenant)
	stored := own != nil && j.index.byName[own.name] != nil
	j.mu.Unlock()
	if stored {
		return j.Get(ctx, own.name)
	}
	if repeated != nil && time.Since(repeated.created()) < j.config.RequestIDTTL {
		if repeated.digest != request.Digest {
			return nil, &port.RequestIDReusedError{RequestID: request.RequestID}
		}
		return j.Get(ctx, repeated.name)
	}
	for _, l := range running {
		// Another process may have ended it.
		if err := l.catchUp(ctx); err != nil {
			return nil, err
		}
		if l.state().GetAttempt() > 0 {
			_ = l.await(ctx, endedTimeout, l.fold.Over)
		}
		if !l.over() {
			return nil, &port.SyncRunningError{Sync: l.name}
		}
	}
	return nil, nil
}

// liveOf returns the logs of a tenant that are not known to be over, newest first. One at
// most is not over; of the others this process has not heard it yet. The caller holds mu.
func (j *Journal) liveOf(tenant string) []*live {
	var logs []*live
	for _, l := range j.live {
		if tenantOf(l.name) == tenant {
			logs = append(logs, l)
		}
	}
	slices.SortFunc(logs, func(a, b *live) int { return strings.Compare(b.name, a.name) })
	return logs
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

// Get implements [port.Syncs].
func (j *Journal) Get(ctx context.Context, name string) (*understudyv1.Sync, error) {
	l, err := j.findFresh(ctx, name)
	if err != nil {
		return nil, err
	}
	if l != nil {
		return l.state(), nil
	}
	event, err := j.store.lastEvent(ctx, name)
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
		standings = append(standings, l.standing())
	}
	return standings, nil
}

// Open implements [port.Syncs].
func (j *Journal) Open(ctx context.Context, name string) (port.Log, error) {
	l, err := j.find(ctx, name)
	if err != nil {
		return nil, err
	}
	if l == nil {
		return nil, &port.FencedError{Sync: name}
	}
	log, err := l.open(ctx)
	if err != nil {
		return nil, err // no handle that is nil in an interface that is not
	}
	return log, nil
}

// Events implements [port.Syncs].
func (j *Journal) Events(ctx context.Context, name string, after int64) iter.Seq2[*understudyv1.SyncEvent, error] {
	return func(yield func(*understudyv1.SyncEvent, error) bool) {
		l, err := j.findFresh(ctx, name)
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
		if l, err = j.replay(ctx, name); err != nil {
			yield(nil, err)
			return
		}
		for _, event := range l.after(max(after, l.trimmed)) {
			if !yield(event, nil) {
				return
			}
		}
	}
}

// release gives the tenant of a finished sync free.
func (j *Journal) release(l *live) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.live[l.name] != l {
		return
	}
	delete(j.live, l.name)
	j.ended[l.name] = l
	time.AfterFunc(min(endedTTL, j.config.Retention/100), func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		delete(j.ended, l.name)
	})
	if e := j.index.byName[l.name]; e != nil {
		e.finished = true
	}
}

// endedTTL is how long a log stays in memory after its end.
const endedTTL = 10 * time.Second

// markFinished marks the record of a finished sync as over, in one short attempt. That
// it may fail is no harm: the next start finds `finished` in the events. In a cluster it
// says nothing of its health either: a stream may only have changed its leader.
func (j *Journal) markFinished(ctx context.Context, l *live) {
	j.mu.Lock()
	e := j.index.byName[l.name]
	j.mu.Unlock()
	if e == nil {
		return
	}
	marking, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	_, err := j.store.putRecord(marking, e, l.record, true, fence{j.names.record(key(l.name)), l.recordSequence})
	switch {
	case err == nil:
		j.stored(j.names.syncs, nil)
	case errors.Is(err, errFenced): // another process did it
	default:
		if !j.clustered() {
			j.stored(j.names.syncs, &port.StorageError{Err: fmt.Errorf("marking a sync as finished: %w", err)})
		}
		j.logger.Warn("marking a sync as finished failed; the next start does it", "sync", l.name, "error", err)
	}
}

// Announce implements [port.Syncs].
func (j *Journal) Announce(name string, event *understudyv1.SyncEvent) {
	j.mu.Lock()
	l := j.live[name]
	j.mu.Unlock()
	if l != nil {
		l.publish(event, time.Time{})
	}
}
