package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"time"

	"golang.org/x/sync/errgroup"

	"understudy.internal/internal/catalog"
	"understudy.internal/internal/edge"
	"understudy.internal/internal/engine"
	"understudy.internal/internal/journal"
)

// service is everything that `serve` runs, wired together: configuration is data,
// newService makes it into parts, run runs them.
type service struct {
	logger *slog.Logger
	// unlock gives data_dir free.
	unlock  func() error
	journal *journal.Journal
	// lease is that of the replicas on a cluster, zero without one.
	lease   time.Duration
	engine  *engine.Engine
	edge    *edge.Server
	metrics *metrics
	// last is what is told of the last syncs; metricsListener where: nil when nobody
	// asks.
	last            *lastSyncs
	metricsListener net.Listener
	security        *tls.Config
	// watchHung returns an error when a sync hangs that only the end of the process ends.
	watchHung func(context.Context) error
	// giveUp says that the service ends for a reason of its own. It is called before anything
	// is waited for.
	giveUp func(error)
}

// newService opens what the configuration names. Close the service, also when it
// never ran.
func newService(ctx context.Context, cfg *config, logger *slog.Logger) (_ *service, err error) {
	s := &service{logger: logger, metrics: newMetrics(), giveUp: func(error) {}}
	if cfg.Journal.Cluster != nil {
		s.lease = cfg.Lease
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	s.metrics.begin(cfg.Tenants)
	for _, warning := range cfg.warnings {
		logger.Warn("configuration", "warning", warning)
	}
	types, err := catalog.Load()
	if err != nil {
		return nil, fmt.Errorf("loading the catalog: %w", err)
	}
	logger.Info("starting", "data_dir", cfg.DataDir, "version", version)
	if s.unlock, err = lockDataDir(cfg); err != nil {
		return nil, err
	}
	if s.journal, err = openJournal(ctx, cfg, logger); err != nil {
		return nil, err
	}
	if err := removeLeftovers(cfg); err != nil {
		return nil, fmt.Errorf("removing what a killed process left: %w", err)
	}
	if cfg.Journal.Cluster != nil {
		if err := checkSharedDataDir(s.journal.Store(keysStore), cfg); err != nil {
			return nil, err
		}
	}
	keys, err := loadKeys(cfg, logger)
	if err != nil {
		return nil, err
	}
	if cfg.Journal.Cluster != nil {
		if err := checkSharedKeys(s.journal.Store(keysStore), keys); err != nil {
			return nil, err
		}
	}
	tenants, err := newTenants(cfg, keys, types, signIns(cfg, s.journal), logger)
	if err != nil {
		return nil, err
	}
	s.engine, err = engine.New(engine.Config{
		Tenants: tenants, Catalog: types, Syncs: &meteredSyncs{s.journal, s.metrics}, Logger: logger,
		MaxConcurrentSyncs: cfg.Limits.ConcurrentSyncs, MaxConcurrentSyncsTotal: cfg.Limits.ConcurrentSyncsTotal,
		MaxQueuedSyncs: cfg.Limits.QueuedSyncs, MaxSyncDuration: cfg.Limits.SyncTimeout,
	})
	if err != nil {
		return nil, err
	}
	s.watchHung = s.engine.WatchHung
	if s.security, err = serverTLS(cfg.GRPC.TLS); err != nil {
		return nil, err
	}
	s.edge, err = edge.New(edge.Config{
		Engine: s.engine, Syncs: s.journal, Watches: s.journal, Catalog: types, Logger: logger, TLS: s.security, Observe: s.metrics.observe,
		HelpBaseURL: cfg.HelpBaseURL, DrainDelay: cfg.GRPC.DrainDelay, DrainTimeout: cfg.GRPC.DrainTimeout,
	})
	if err != nil {
		return nil, err
	}
	return s, s.openMetrics(ctx, cfg)
}

// openMetrics listens where metrics are asked for, if they are.
func (s *service) openMetrics(ctx context.Context, cfg *config) error {
	if cfg.Metrics.Listen == "" {
		return nil
	}
	names := make([]string, len(cfg.Tenants))
	for i := range cfg.Tenants {
		names[i] = "tenants/" + cfg.Tenants[i].ID
	}
	s.last = newLastSyncs(s.journal, names, s.logger)
	state := &stateCollector{syncs: &meteredSyncs{s.journal, s.metrics}, healthy: s.journal.Healthy, watchers: s.edge.Watchers, last: s.last}
	if err := s.metrics.registry.Register(state); err != nil {
		return fmt.Errorf("making metrics: %w", err)
	}
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", cfg.Metrics.Listen)
	if err != nil {
		return fmt.Errorf("listening on metrics.listen: %w", takenAddress(err, "write another address"))
	}
	s.metricsListener = listener
	return nil
}

// run serves on a listener, which it closes, until ctx is done. Syncs that an earlier
// process left are taken over meanwhile. At the end no more syncs are taken, calls are
// drained first, then syncs that still run are left to whoever takes them over, but for a
// commit that began. The others are told as soon as no sync is left here. A sync that
// hangs, or a part that fails, is an end like that, with an error.
func (s *service) run(ctx context.Context, listener net.Listener) error {
	parts, ctx := errgroup.WithContext(ctx)
	group := &mortalGroup{parts, s.giveUp}
	working, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWork()
	group.Go(func() error {
		defer stopWork()
		return s.edge.Serve(ctx, listener)
	})
	group.Go(func() error {
		defer s.journal.Leave()
		return s.engine.Run(working)
	})
	group.Go(func() error {
		<-ctx.Done()
		select {
		case <-s.engine.StopTaking():
			s.journal.Leave()
		case <-working.Done(): // Run leaves when it returns
		}
		return nil
	})
	group.Go(func() error { s.watchHealth(ctx); return nil })
	if s.lease > 0 {
		group.Go(func() error { warnOfNamesakes(ctx, s.journal.Worker(), s.journal.Alive, s.lease, s.logger); return nil })
	}
	group.Go(func() error {
		err := s.watchHung(ctx)
		if err != nil {
			s.logger.Error("a sync hangs; the service ends, so that others take its syncs over and it can be started again", "error", err)
		}
		return err
	})
	if s.metricsListener != nil {
		group.Go(func() error { s.last.run(ctx); return nil })
		group.Go(func() error { return s.metrics.serve(ctx, s.metricsListener, s.security, s.logger) })
		s.logger.Info("serving metrics", "address", s.metricsListener.Addr().String())
	}
	s.logger.Info("serving", "address", listener.Addr().String(), "version", version)
	return group.Wait()
}

// mortalGroup is a group whose first error is told at once: the others may not end.
type mortalGroup struct {
	*errgroup.Group
	giveUp func(error)
}

// Go runs a part of the service.
func (g *mortalGroup) Go(part func() error) {
	g.Group.Go(func() error {
		err := part()
		if err != nil {
			g.giveUp(err)
		}
		return err
	})
}

// healthInterval is how often the service looks whether it can store.
const healthInterval = 2 * time.Second

// watchHealth says SERVING while the journal can store.
func (s *service) watchHealth(ctx context.Context) {
	ticker := time.NewTicker(healthInterval)
	defer ticker.Stop()
	for healthy := true; ; {
		err := s.journal.Healthy()
		switch {
		case err != nil && healthy:
			s.logger.Error("not serving: the journal cannot store", "error", err)
		case err == nil && !healthy:
			s.logger.Info("serving again: the journal stores")
		}
		healthy = err == nil
		s.edge.SetServing(healthy)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// close frees what the service holds.
func (s *service) close() {
	if s.metricsListener != nil {
		s.metricsListener.Close() // closed already when it served
	}
	if s.journal != nil {
		s.journal.Close()
		s.journal = nil
	}
	if s.unlock != nil {
		if err := s.unlock(); err != nil {
			s.logger.Warn("unlocking data_dir failed", "error", err)
		}
		s.unlock = nil
	}
}
