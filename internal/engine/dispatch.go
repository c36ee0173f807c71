package engine

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

const (
	// preferenceStep is how much longer each worker waits before it takes a sync than
	// the one that is to be preferred to it.
	preferenceStep = 200 * time.Millisecond
	// lookInterval is how often it is looked which syncs can be taken when nothing
	// says that there is one.
	lookInterval = 10 * time.Second
	// pauseAfter is how long a sync is left alone that could not be taken.
	pauseAfter = time.Second
	// pauseAfterBug is the same where taking it hit a bug.
	pauseAfterBug = time.Minute
	// strangerPatience is how long a sync is left to the other workers, while there
	// are any, by one that cannot carry it out: its configuration or its version is
	// another one than that of who accepted the sync. They may be busy for long.
	strangerPatience = 10 * time.Minute
)

// sight is a sync that can be taken, at an attempt.
type sight struct {
	sync    string
	attempt int32
}

// sighting says when a sync was first seen that can be taken, and until when it is
// left alone.
type sighting struct{ since, notBefore time.Time }

// dispatch takes the syncs that this worker may take until ctx is done. Which those
// are is always asked of the journal: nothing is remembered of it but how long.
func (e *Engine) dispatch(ctx context.Context, work *sync.WaitGroup) {
	for ctx.Err() == nil {
		changed := e.syncs.Changed()
		timer := time.NewTimer(e.look(ctx, work))
		select {
		case <-ctx.Done():
		case <-changed:
		case <-e.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// signal puts a token into a channel that holds one.
func signal(channel chan struct{}) {
	select {
	case channel <- struct{}{}:
	default:
	}
}

// look takes what can be taken now, oldest first, and returns when it should look
// again. It waits for nothing.
func (e *Engine) look(ctx context.Context, work *sync.WaitGroup) time.Duration {
	standings, err := e.syncs.Unfinished(ctx)
	if err != nil {
		if ctx.Err() == nil {
			e.logger.Error("the journal cannot say which syncs there are", "error", err)
		}
		return lookInterval
	}
	self, alive := e.syncs.Worker(), e.syncs.Alive()
	e.mu.Lock()
	defer e.mu.Unlock()
	if !slices.Contains(alive, self) {
		// Cut off for so long that the others may think it dead.
		for _, a := range e.active {
			if a.run != nil {
				a.run.disown(errLost)
			}
		}
		return lookInterval
	}
	if e.stopping {
		return lookInterval
	}
	free := e.freeLocked(standings, alive)
	now, next := time.Now(), lookInterval
	sightings := make(map[sight]sighting)
	for _, s := range standings {
		if e.unended[s.Sync] != nil || !takeable(s, self, alive) {
			continue
		}
		key := sight{s.Sync, s.Attempt}
		seen, ok := e.sightings[key]
		if !ok {
			seen.since = now
		}
		sightings[key] = seen
		if _, busy := e.active[s.Sync]; busy || free <= 0 {
			continue
		}
		due := seen.since.Add(time.Duration(rank(TenantOf(s.Sync), self, alive)) * preferenceStep)
		if due.Before(seen.notBefore) {
			due = seen.notBefore
		}
		if wait := due.Sub(now); wait > 0 {
			next = min(next, wait)
			continue
		}
		free--
		e.active[s.Sync] = &attended{until: until(0)}
		work.Go(func() { e.attend(ctx, key, seen.since) })
	}
	e.sightings = sightings
	return next
}

// freeLocked returns how many more syncs may be taken.
func (e *Engine) freeLocked(standings []port.Standing, alive []string) int {
	free := e.workers - len(e.active)
	if e.total > 0 {
		free = min(free, e.total-e.runningLocked(standings, alive))
	}
	return free
}

// runningLocked returns how many syncs run in all processes, with those that are being
// taken here.
func (e *Engine) runningLocked(standings []port.Standing, alive []string) int {
	running := len(e.active)
	for _, s := range standings {
		_, own := e.active[s.Sync]
		if !own && s.State != understudyv1.SyncState_SYNC_STATE_PENDING && slices.Contains(alive, s.Worker) {
			running++
		}
	}
	return running
}

// crowded says whether others took so many syncs, since it was decided to take one,
// that it would be one too many.
func (e *Engine) crowded(ctx context.Context) (bool, error) {
	if e.total <= 0 {
		return false, nil
	}
	standings, err := e.syncs.Unfinished(ctx)
	if err != nil {
		return false, err
	}
	alive := e.syncs.Alive()
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.runningLocked(standings, alive) > e.total, nil
}

// takeable says whether nobody has a sync: it waits, its worker is not alive, or it
// is one of ours that is not attended to: we were cut off, or took it and did not
// hear that we did.
func takeable(s port.Standing, self string, alive []string) bool {
	return s.State == understudyv1.SyncState_SYNC_STATE_PENDING || s.Worker == self || !slices.Contains(alive, s.Worker)
}

// rank returns how many workers are to be preferred to one for a tenant. All workers
// that see the same ones alive agree, and a worker that comes or goes changes the
// order of the others nowhere (rendezvous hashing). What counts of a worker's name is
// the replica: it has its caches after a restart too.
func rank(tenant, self string, alive []string) int {
	weight := func(worker string) uint64 {
		if i := strings.LastIndexByte(worker, '/'); i >= 0 {
			worker = worker[:i]
		}
		hash := sha256.Sum256([]byte(worker + "\x00" + tenant))
		return binary.BigEndian.Uint64(hash[:])
	}
	own, before := weight(self), 0
	for _, other := range alive {
		if w := weight(other); w > own || (w == own && other < self) {
			before++
		}
	}
	return before
}

// attend takes one sync and carries it out. When its end cannot be recorded it is
// left to endRest.
func (e *Engine) attend(ctx context.Context, key sight, since time.Time) {
	name := key.sync
	err := recovering(func() error { return e.take(ctx, key, since) })
	pause := pauseAfter
	ended, bug, left := (*unended)(nil), (*panicError)(nil), (*leftError)(nil)
	switch {
	case err == nil:
	case errors.As(err, &ended):
		e.logger.Error("the end of a sync could not be recorded, and will be tried again", "sync", name, "error", ended.err)
	case errors.As(err, &bug):
		e.logger.Error("a bug kept a sync from running", "sync", name, "error", bug, "stack", string(bug.stack))
		ended, pause = &unended{sync: name, ending: failed(bugStatus(e.logger, bug))}, pauseAfterBug
	case errors.As(err, &left):
		pause = time.Until(left.until)
	case ctx.Err() == nil:
		e.logger.Warn("a sync could not be taken, and will be tried again", "sync", name, "error", err)
	}
	e.mu.Lock()
	delete(e.active, name)
	if ended != nil {
		e.unended[name] = ended
		signal(e.rest)
	}
	if seen, ok := e.sightings[key]; ok {
		seen.notBefore = time.Now().Add(pause)
		e.sightings[key] = seen
	}
	e.idleLocked()
	e.mu.Unlock()
	signal(e.wake)
}

// leftError says that a sync is left to other workers for a while.
type leftError struct{ until time.Time }

func (e *leftError) Error() string { return "it is left to other workers" }
