package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"understudy.internal/internal/catalog"
	"understudy.internal/internal/durable"
	"understudy.internal/internal/edge"
	"understudy.internal/internal/engine"
	"understudy.internal/internal/journal"
)

// service is everything that `serve` runs, wired together: configuration is data,
// newService makes it into parts, run runs them.
type service struct {
	logger  *slog.Logger
	journal *journal.Journal
	engine  *engine.Engine
	edge    *edge.Server
}

// newService opens what the configuration names. Close the service, also when it
// never ran.
func newService(ctx context.Context, cfg *config, logger *slog.Logger) (_ *service, err error) {
	s := &service{logger: logger}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	for _, warning := range cfg.warnings {
		logger.Warn("configuration", "warning", warning)
	}
	types, err := catalog.Load()
	if err != nil {
		return nil, fmt.Errorf("loading the catalog: %w", err)
	}
	// The journal comes first: its lock keeps a second process out of data_dir.
	s.journal, err = journal.Open(ctx, journal.Config{Directory: filepath.Join(cfg.DataDir, "journal"), Logger: logger})
	if err != nil {
		return nil, err
	}
	if err := removeLeftovers(cfg.DataDir); err != nil {
		return nil, fmt.Errorf("removing what a killed process left: %w", err)
	}
	keys, err := loadKeys(cfg, logger)
	if err != nil {
		return nil, err
	}
	tenants, err := newTenants(cfg, keys, types, logger)
	if err != nil {
		return nil, err
	}
	s.engine, err = engine.New(engine.Config{
		Tenants: tenants, Catalog: types, Syncs: s.journal, Logger: logger,
		MaxConcurrentSyncs: cfg.Limits.ConcurrentSyncs, MaxQueuedSyncs: cfg.Limits.QueuedSyncs, MaxSyncDuration: cfg.Limits.SyncTimeout,
	})
	if err != nil {
		return nil, err
	}
	security, err := serverTLS(cfg.GRPC.TLS)
	if err != nil {
		return nil, err
	}
	s.edge, err = edge.New(edge.Config{
		Engine: s.engine, Syncs: s.journal, Watches: s.journal, Catalog: types, Logger: logger, TLS: security,
		HelpBaseURL: cfg.HelpBaseURL, DrainDelay: cfg.GRPC.DrainDelay, DrainTimeout: cfg.GRPC.DrainTimeout,
	})
	return s, err
}

// removeLeftovers removes the half-written files of a process that was killed. The
// repositories are the vaults' own.
func removeLeftovers(dataDir string) error {
	folders, err := filepath.Glob(filepath.Join(dataDir, "cursors", "*"))
	for _, name := range []string{"keys", "tokens", "repositories"} {
		folders = append(folders, filepath.Join(dataDir, name))
	}
	for _, folder := range folders {
		err = errors.Join(err, durable.RemoveLeftovers(folder))
	}
	return err
}

// run serves on a listener, which it closes, until ctx is done. Syncs that an earlier
// process left are taken over meanwhile. At the end calls are drained first, then syncs
// that still run are left to whoever takes them over, but for a commit that began.
func (s *service) run(ctx context.Context, listener net.Listener) error {
	group, ctx := errgroup.WithContext(ctx)
	working, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWork()
	group.Go(func() error {
		defer stopWork()
		return s.edge.Serve(ctx, listener)
	})
	group.Go(func() error { return s.engine.Run(working) })
	group.Go(func() error { s.watchHealth(ctx); return nil })
	s.logger.Info("serving", "address", listener.Addr().String(), "version", version)
	return group.Wait()
}

// healthInterval is how often the service looks whether it can store.
const healthInterval = 5 * time.Second

// watchHealth says SERVING while the journal can store.
func (s *service) watchHealth(ctx context.Context) {
	ticker := time.NewTicker(healthInterval)
	defer ticker.Stop()
	for {
		err := s.journal.Healthy()
		if err != nil {
			s.logger.Error("not serving: the journal cannot store", "error", err)
		}
		s.edge.SetServing(err == nil)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// close frees what the service holds.
func (s *service) close() {
	if s.journal != nil {
		s.journal.Close()
		s.journal = nil
	}
}
