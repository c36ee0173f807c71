package main

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

// stateCollector says how things are now, when it is asked.
type stateCollector struct {
	syncs    port.Syncs
	healthy  func() error
	watchers func() (open, slow int64)
	last     *lastSyncs
}

// The metrics of the state.
var (
	syncsDescription     = prometheus.NewDesc("understudy_syncs", "Syncs of all replicas that are not finished, by state; pending ones wait.", []string{"state"}, nil)
	runningDescription   = prometheus.NewDesc("understudy_replica_syncs", "Syncs that this process runs.", nil, nil)
	aliveDescription     = prometheus.NewDesc("understudy_replicas_alive", "Replicas that this process hears of, itself among them.", nil, nil)
	healthyDescription   = prometheus.NewDesc("understudy_journal_healthy", "1 when the journal can store, as far as is known.", nil, nil)
	watchersDescription  = prometheus.NewDesc("understudy_watchers", "Open streams of RunSync and WatchSync.", nil, nil)
	slowDescription      = prometheus.NewDesc("understudy_slow_watchers_total", "Streams that were ended because their client did not read.", nil, nil)
	lastSyncsDescription = prometheus.NewDesc("understudy_tenant_last_sync_timestamp_seconds",
		"When the last sync of a tenant ended in a state, on any replica; 0: none is known.", []string{"tenant", "state"}, nil)
)

// Describe implements [prometheus.Collector].
func (c *stateCollector) Describe(descriptions chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		syncsDescription, runningDescription, aliveDescription, healthyDescription, watchersDescription, slowDescription, lastSyncsDescription,
	} {
		descriptions <- d
	}
}

// unfinishedStates are those in which syncs are before they end.
var unfinishedStates = []understudyv1.SyncState{
	understudyv1.SyncState_SYNC_STATE_PENDING, understudyv1.SyncState_SYNC_STATE_RUNNING,
	understudyv1.SyncState_SYNC_STATE_PENDING_AUTHENTICATION, understudyv1.SyncState_SYNC_STATE_CANCELLING,
	understudyv1.SyncState_SYNC_STATE_COMMITTING,
}

// Collect implements [prometheus.Collector].
func (c *stateCollector) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	ctx, cancel := context.WithTimeout(context.Background(), metricsTimeout/2)
	defer cancel()
	if unfinished, err := c.syncs.Unfinished(ctx); err == nil {
		states, running := map[understudyv1.SyncState]int{}, 0
		for _, s := range unfinished {
			states[s.State]++
			if s.Worker != "" && s.Worker == c.syncs.Worker() {
				running++
			}
		}
		for _, state := range unfinishedStates {
			gauge(syncsDescription, float64(states[state]), stateLabel(state))
		}
		gauge(runningDescription, float64(running))
	}
	gauge(aliveDescription, float64(len(c.syncs.Alive())))
	healthy := 1.0
	if c.healthy() != nil {
		healthy = 0
	}
	gauge(healthyDescription, healthy)
	open, slow := c.watchers()
	gauge(watchersDescription, float64(open))
	out <- prometheus.MustNewConstMetric(slowDescription, prometheus.CounterValue, float64(slow))
	for key, when := range c.last.times() {
		seconds := 0.0
		if !when.IsZero() {
			seconds = float64(when.UnixMilli()) / 1000
		}
		gauge(lastSyncsDescription, seconds, key.tenant, stateLabel(key.state))
	}
}

// lastSyncs knows when each tenant was last synced, by any replica.
type lastSyncs struct {
	watches port.Watches
	tenants []string
	logger  *slog.Logger

	looking sync.Mutex
	// newest is the sync of each tenant before which everything is known.
	newest map[string]string

	mu    sync.Mutex
	known map[lastSync]time.Time
}

type lastSync struct {
	tenant string
	state  understudyv1.SyncState
}

const (
	// lastSyncsInterval is how often it is looked for new syncs.
	lastSyncsInterval = 15 * time.Second
	// lastSyncsDepth is how many syncs of a tenant are looked through at most.
	lastSyncsDepth, lastSyncsPage = 200, 20
)

func newLastSyncs(watches port.Watches, tenants []string, logger *slog.Logger) *lastSyncs {
	return &lastSyncs{watches: watches, tenants: tenants, logger: logger, newest: map[string]string{}, known: map[lastSync]time.Time{}}
}

func (l *lastSyncs) times() map[lastSync]time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.known)
}

// run follows the journal until ctx is done.
func (l *lastSyncs) run(ctx context.Context) {
	ticker := time.NewTicker(lastSyncsInterval)
	defer ticker.Stop()
	for {
		l.lookNow(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// lookNow looks for new syncs of all tenants.
func (l *lastSyncs) lookNow(ctx context.Context) {
	l.looking.Lock()
	defer l.looking.Unlock()
	for _, tenant := range l.tenants {
		err := l.look(ctx, tenant)
		if err == nil || ctx.Err() != nil {
			continue
		}
		l.logger.Warn("looking for the last syncs of a tenant failed", "tenant", tenantID(tenant), "error", err)
		var storage *port.StorageError
		if errors.As(err, &storage) {
			return // it is no better for the others
		}
	}
}

// look goes through the syncs of a tenant, the newest first, until it finds one that
// succeeded, or one that it knows.
func (l *lastSyncs) look(ctx context.Context, tenant string) error {
	newest, before := "", ""
	found := map[lastSync]time.Time{}
	for range lastSyncsDepth / lastSyncsPage {
		limit := lastSyncsPage
		if before == "" {
			limit = 1 // mostly there is nothing new
		}
		syncs, err := l.watches.List(ctx, tenant, before, limit)
		if err != nil {
			return err
		}
		if len(syncs) == 0 {
			break
		}
		over := false
		for _, s := range syncs {
			before = s.GetName()
			if over = s.GetName() == l.newest[tenant]; over {
				break
			}
			if s.GetEndTime() == nil {
				continue
			}
			if newest == "" {
				newest = s.GetName()
			}
			if key := (lastSync{tenantID(tenant), s.GetState()}); found[key].IsZero() {
				found[key] = s.GetEndTime().AsTime()
			}
			if over = s.GetState() == understudyv1.SyncState_SYNC_STATE_SUCCEEDED; over {
				break
			}
		}
		if over {
			break
		}
	}
	l.take(tenant, newest, found)
	return nil
}

func (l *lastSyncs) take(tenant, newest string, found map[lastSync]time.Time) {
	if newest != "" {
		l.newest[tenant] = newest
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, state := range finalStates {
		key := lastSync{tenantID(tenant), state}
		if when := found[key]; when.After(l.known[key]) {
			l.known[key] = when
		} else if _, ok := l.known[key]; !ok {
			l.known[key] = time.Time{}
		}
	}
}
