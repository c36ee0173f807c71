package engine

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

// Config is what an engine is made of. Zero limits get the defaults.
type Config struct {
	Tenants Tenants
	Catalog Catalog
	Syncs   port.Syncs
	// MaxConcurrentSyncs is how many syncs run at a time in this process; 8.
	MaxConcurrentSyncs int
	// MaxConcurrentSyncsTotal is how many syncs run at a time in all processes that
	// share the journal; 0: no limit. Each counts what the journal shows it: when
	// several take a sync within the milliseconds that they need to hear of each other,
	// there are more, until these end.
	MaxConcurrentSyncsTotal int
	// MaxQueuedSyncs is how many may wait, in all processes; 1,000. Here too there
	// may be a few more when several accept one at the same moment.
	MaxQueuedSyncs int
	// MaxSyncDuration is how long a sync may run; 6 hours.
	MaxSyncDuration time.Duration
	Logger          *slog.Logger
}

// Engine runs syncs, as one of the workers that share a journal. It implements
// [Service].
type Engine struct {
	tenants     Tenants
	catalog     Catalog
	syncs       port.Syncs
	maxDuration time.Duration
	workers     int
	total       int
	maxQueued   int
	logger      *slog.Logger
	// wake has a token when it should be looked which syncs can be taken, and rest
	// when there is a sync whose end could not be recorded.
	wake, rest chan struct{}
	// idle is closed when the engine takes no more syncs and has none.
	idle chan struct{}

	mu sync.Mutex
	// accepting is how many syncs are being recorded.
	accepting int
	// active are the syncs that somebody here attends to.
	active map[string]*attended
	// sightings are the syncs that can be taken, as of the last look.
	sightings map[sight]sighting
	// unended are syncs of this worker whose end could not be recorded yet.
	unended map[string]*unended
	// stopping says that no more syncs are taken, isIdle that idle is closed.
	stopping, isIdle bool
}

var _ Service = (*Engine)(nil)

// New returns an engine that runs nothing before Run.
func New(config Config) (*Engine, error) {
	if config.Tenants == nil || config.Catalog == nil || config.Syncs == nil {
		return nil, errors.New("an engine needs tenants, a catalog and a journal")
	}
	e := &Engine{
		tenants:     config.Tenants,
		catalog:     config.Catalog,
		syncs:       config.Syncs,
		maxDuration: orDefault(config.MaxSyncDuration, 6*time.Hour),
		workers:     orDefault(config.MaxConcurrentSyncs, 8),
		total:       config.MaxConcurrentSyncsTotal,
		maxQueued:   orDefault(config.MaxQueuedSyncs, 1000),
		logger:      config.Logger,
		wake:        make(chan struct{}, 1),
		rest:        make(chan struct{}, 1),
		idle:        make(chan struct{}),
		active:      make(map[string]*attended),
		unended:     make(map[string]*unended),
	}
	if e.logger == nil {
		e.logger = slog.New(slog.DiscardHandler)
	}
	return e, nil
}

func orDefault[T int | time.Duration](value, standard T) T {
	if value <= 0 {
		return standard
	}
	return value
}

// Run takes syncs and carries them out until ctx is done: those that wait, and those
// whose worker is not alive any more. Then it stops those that run, except where a
// commit began, and returns when none is left. What it stopped is not ended: another
// worker, or the next start, takes it over.
func (e *Engine) Run(ctx context.Context) error {
	var work sync.WaitGroup
	work.Go(func() { e.dispatch(ctx, &work) })
	work.Go(func() { e.showQueue(ctx) })
	work.Go(func() { e.endRest(ctx) })
	work.Wait()
	return nil
}

// showQueue tells those who watch a sync that waits, through this process, how many
// are before it.
func (e *Engine) showQueue(ctx context.Context) {
	for ctx.Err() == nil {
		changed := e.syncs.Changed()
		standings, _ := e.syncs.Unfinished(ctx) // dispatch says when it cannot
		var position int32
		for _, s := range standings {
			if s.State != understudyv1.SyncState_SYNC_STATE_PENDING {
				continue
			}
			e.syncs.Announce(s.Sync, &understudyv1.SyncEvent{
				EventTime: timestamppb.Now(),
				Event: &understudyv1.SyncEvent_Progress{Progress: &understudyv1.Progress{
					Phase: understudyv1.SyncPhase_SYNC_PHASE_QUEUED, QueuePosition: position,
				}},
			})
			position++
		}
		interval := queueInterval
		if position == 0 {
			interval = idleInterval
		} else {
			changed = nil // once in the interval is enough
		}
		timer := time.NewTimer(interval)
		select {
		case <-timer.C:
		case <-changed:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// queueInterval is how often the watchers of queued syncs hear of their place, and
// idleInterval how often it is looked whether there are any when nothing says so.
const (
	queueInterval = 2 * time.Second
	idleInterval  = time.Minute
)
