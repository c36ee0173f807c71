package main

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"time"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/engine"
	"understudy.internal/internal/port"
)

// meteredSyncs counts what an engine stores in a journal.
type meteredSyncs struct {
	port.Syncs
	metrics *metrics
}

// Create implements [port.Syncs].
func (s *meteredSyncs) Create(ctx context.Context, request port.CreateRequest) (*understudyv1.Sync, bool, error) {
	began := time.Now()
	sync, created, err := s.Syncs.Create(ctx, request)
	if err != nil || created {
		s.metrics.stored(began, err)
	}
	return sync, created, err
}

// Open implements [port.Syncs].
func (s *meteredSyncs) Open(ctx context.Context, name string) (port.Log, error) {
	log, err := s.Syncs.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	return &meteredLog{Log: log, metrics: s.metrics, worker: s.Worker(), tenant: tenantID(engine.TenantOf(name))}, nil
}

// tenantID returns the id in `tenants/{tenant}`.
func tenantID(name string) string { return strings.TrimPrefix(name, "tenants/") }

// meteredLog counts what a worker stores.
type meteredLog struct {
	port.Log
	metrics *metrics
	worker  string
	tenant  string
	// held says that the sync was this worker's; lost that it is not any more.
	held, lost atomic.Bool
}

// Append implements [port.Log].
func (l *meteredLog) Append(ctx context.Context, events ...*understudyv1.SyncEvent) error {
	began := time.Now()
	err := l.Log.Append(ctx, events...)
	var fenced *port.FencedError
	switch {
	case err == nil:
		l.metrics.stored(began, nil)
		l.count(events)
	case !errors.As(err, &fenced):
		l.metrics.stored(began, err)
	default:
		l.lose()
	}
	return err
}

// Sync implements [port.Log]. A worker finds out by it, too, that it lost its sync.
func (l *meteredLog) Sync() *understudyv1.Sync {
	sync := l.Log.Sync()
	if sync.GetWorker() != l.worker {
		l.lose()
	}
	return sync
}

func (l *meteredLog) lose() {
	if l.held.Load() && l.lost.CompareAndSwap(false, true) {
		l.metrics.lost.Inc()
	}
}

// count counts events that were stored.
func (l *meteredLog) count(events []*understudyv1.SyncEvent) {
	for _, event := range events {
		switch e := event.GetEvent().(type) {
		case *understudyv1.SyncEvent_Started:
			l.held.Store(true)
		case *understudyv1.SyncEvent_StateChanged:
			if e.StateChanged.GetWorker() != "" {
				l.held.Store(true)
				l.metrics.takeovers.Inc()
			}
		case *understudyv1.SyncEvent_Finished:
			l.held.Store(false) // what comes after it is refused to everybody
			l.metrics.finish(l.tenant, e.Finished.GetSync())
		}
	}
}

// stored counts one attempt to store.
func (m *metrics) stored(began time.Time, err error) {
	var storage *port.StorageError
	switch {
	case err == nil:
		m.appends.Observe(time.Since(began).Seconds())
	case errors.As(err, &storage):
		m.appendErrors.Inc()
	}
}
