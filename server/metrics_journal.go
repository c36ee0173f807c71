package main

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
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
	return &meteredLog{Log: log, metrics: s.metrics, name: name}, nil
}

// findLost counts the syncs that this process held and another one has by now.
func (s *meteredSyncs) findLost(ctx context.Context) {
	for _, name := range s.metrics.holding() {
		sync, err := s.Get(ctx, name)
		var gone *port.NotFoundError
		switch {
		case errors.As(err, &gone), err == nil && sync.GetEndTime() != nil && sync.GetWorker() == s.Worker():
			s.metrics.release(name) // another one ended it: it was being cancelled
		case err == nil && sync.GetWorker() != s.Worker() && s.metrics.release(name):
			s.metrics.lost.Inc()
		}
	}
}

// tenantID returns the id in `tenants/{tenant}`.
func tenantID(name string) string { return strings.TrimPrefix(name, "tenants/") }

// meteredLog counts what a worker stores.
type meteredLog struct {
	port.Log
	metrics *metrics
	name    string
}

// Append implements [port.Log].
func (l *meteredLog) Append(ctx context.Context, events ...*understudyv1.SyncEvent) error {
	began := time.Now()
	err := l.Log.Append(ctx, events...)
	l.metrics.stored(began, err)
	if err == nil {
		l.count(events)
	}
	return err
}

// count counts events that were stored.
func (l *meteredLog) count(events []*understudyv1.SyncEvent) {
	for _, event := range events {
		switch e := event.GetEvent().(type) {
		case *understudyv1.SyncEvent_Started:
			l.metrics.hold(l.name)
		case *understudyv1.SyncEvent_StateChanged:
			if e.StateChanged.GetWorker() != "" {
				l.metrics.hold(l.name)
				l.metrics.takeovers.Inc()
			}
		case *understudyv1.SyncEvent_Finished:
			l.metrics.release(l.name)
			l.metrics.finish(tenantID(engine.TenantOf(l.name)), e.Finished.GetSync())
		}
	}
}

// hold notes that a sync is this process's.
func (m *metrics) hold(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held[name] = true
}

// release notes that it is not any more, and says whether it was.
func (m *metrics) release(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	was := m.held[name]
	delete(m.held, name)
	return was
}

func (m *metrics) holding() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Keys(m.held))
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
