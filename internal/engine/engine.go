package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

// Config is what an engine is made of. Zero limits get the defaults.
type Config struct {
	Tenants Tenants
	Catalog Catalog
	Syncs   port.Syncs
	// MaxConcurrentSyncs is how many syncs run at a time; 8.
	MaxConcurrentSyncs int
	// MaxQueuedSyncs is how many may wait; 1,000.
	MaxQueuedSyncs int
	// MaxSyncDuration is how long a sync may run; 6 hours.
	MaxSyncDuration time.Duration
	Logger          *slog.Logger
}

// Engine runs syncs. It implements [Service].
type Engine struct {
	tenants     Tenants
	catalog     Catalog
	syncs       port.Syncs
	maxDuration time.Duration
	workers     int
	logger      *slog.Logger
	queue       *queue

	mu      sync.Mutex
	running map[string]*run
	// cancelled are syncs that were cancelled between the queue and their run.
	cancelled map[string]bool
	// unended are syncs that nobody runs and whose end could not be recorded yet,
	// each with the error that it ends with.
	unended map[string]*rpcstatus.Status
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
		logger:      config.Logger,
		queue:       newQueue(orDefault(config.MaxQueuedSyncs, 1000)),
		running:     make(map[string]*run),
		cancelled:   make(map[string]bool),
		unended:     make(map[string]*rpcstatus.Status),
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

// Run carries out queued syncs until ctx is done. It then stops those that run,
// except where a commit began, and returns when none is left.
func (e *Engine) Run(ctx context.Context) error {
	var work sync.WaitGroup
	for range e.workers {
		work.Go(func() {
			for {
				name, err := e.queue.next(ctx)
				if err != nil {
					return
				}
				e.attend(ctx, name)
			}
		})
	}
	work.Go(func() { e.showQueue(ctx) })
	work.Go(func() { e.endRest(ctx) })
	work.Wait()
	return nil
}

// attend carries one queued sync out. When its end cannot be recorded it is left
// to endRest.
func (e *Engine) attend(ctx context.Context, name string) {
	err := recovering(func() error { return e.perform(ctx, name) })
	e.mu.Lock()
	delete(e.running, name)
	delete(e.cancelled, name)
	e.mu.Unlock()
	if err != nil {
		e.logger.Error("the end of a sync could not be recorded, and will be tried again", "sync", name, "error", err)
		e.endLater(name, unrecordedStatus(name))
	}
}

// perform carries one queued sync out, up to and including `finished`. An error
// says that it has none.
func (e *Engine) perform(ctx context.Context, name string) error {
	log, err := e.syncs.Open(ctx, name)
	if err != nil {
		return fmt.Errorf("opening a queued sync: %w", err)
	}
	r, status := e.prepare(ctx, log, e.logger.With("sync", name))
	if status != nil {
		return e.end(context.WithoutCancel(ctx), log, understudyv1.SyncState_SYNC_STATE_FAILED, status)
	}
	return r.perform()
}

// prepare makes a run of a queued sync. The status says why it cannot run: the
// tenant's definition changed while it waited.
func (e *Engine) prepare(ctx context.Context, log port.Log, logger *slog.Logger) (*run, *rpcstatus.Status) {
	s := log.Sync()
	name := s.GetName()
	tenant, err := e.tenants.Tenant(TenantOf(name))
	if err != nil {
		return nil, newStatus(code.Code_NOT_FOUND, understudyv1.ErrorReason_ERROR_REASON_RESOURCE_NOT_FOUND,
			"The tenant is no longer configured on this server, or its definition cannot be used.",
			map[string]string{"resource": TenantOf(name)})
	}
	plan, err := e.newPlan(tenant, s.GetSpec())
	if err != nil {
		return nil, newStatus(code.Code_FAILED_PRECONDITION, understudyv1.ErrorReason_ERROR_REASON_REQUEST_INVALID,
			"The tenant's definition changed since the sync was accepted: "+err.Error(), nil)
	}
	r := &run{
		engine: e, tenant: tenant, name: name, log: log, plan: plan, spec: s.GetSpec(), logger: logger,
		unread: readers(plan), reading: make(map[string]bool),
	}
	// The server's end interrupts a sync with a cause of its own.
	r.ctx, r.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	r.detach = context.AfterFunc(ctx, func() { r.cancel(errShutdown) })
	r.events = &recorder{log: log, fail: r.cancel}
	e.mu.Lock()
	e.running[name] = r
	cancelled := e.cancelled[name]
	e.mu.Unlock()
	if cancelled {
		if _, err := r.requestCancel(); err != nil {
			logger.Warn("recording a cancellation failed", "error", err)
		}
	}
	return r, nil
}

// showQueue tells the watchers of queued syncs how many are before theirs.
func (e *Engine) showQueue(ctx context.Context) {
	ticker := time.NewTicker(queueInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for position, name := range e.queue.waiting() {
			log, err := e.syncs.Open(ctx, name)
			if err != nil {
				continue // it was cancelled meanwhile
			}
			log.Publish(&understudyv1.SyncEvent{
				EventTime: timestamppb.Now(),
				Event: &understudyv1.SyncEvent_Progress{Progress: &understudyv1.Progress{
					Phase: understudyv1.SyncPhase_SYNC_PHASE_QUEUED, QueuePosition: int32(position),
				}},
			})
		}
	}
}

// queueInterval is how often the watchers of queued syncs hear of their place.
const queueInterval = 2 * time.Second
