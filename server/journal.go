package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"

	"understudy.internal/internal/identity"
	"understudy.internal/internal/journal"
	"understudy.internal/internal/port"
)

// journalFolder is where the journal is under data_dir.
const journalFolder = "journal"

// openJournal opens the journal that the configuration names: one under data_dir, or
// one on a cluster.
func openJournal(ctx context.Context, cfg *config, logger *slog.Logger) (*journal.Journal, error) {
	c := journal.Config{
		Directory: filepath.Join(cfg.DataDir, journalFolder), Replica: cfg.Replica, Lease: cfg.Lease,
		Retention: cfg.Journal.Retention, MaxBytes: cfg.maxJournal, Logger: logger,
	}
	if cfg.Journal.Cluster != nil {
		var err error
		if c.Cluster, err = cfg.Journal.Cluster.journal(); err != nil {
			return nil, err
		}
	}
	if c.Cluster == nil {
		return journal.Open(ctx, c)
	}
	ctx, opened := context.WithCancel(ctx)
	defer opened()
	go sayWaiting(ctx, cfg.Journal.Cluster.Servers, logger)
	return backoff.Retry(ctx, func() (*journal.Journal, error) {
		j, err := journal.Open(ctx, c)
		if storage := (*port.StorageError)(nil); err == nil || errors.As(err, &storage) || errors.Is(err, context.DeadlineExceeded) {
			return j, err
		}
		return nil, backoff.Permanent(err)
	}, backoff.WithMaxElapsedTime(clusterPatience), backoff.WithNotify(func(err error, pause time.Duration) {
		logger.Warn("the journal's cluster cannot be read yet, and is tried again", "pause", pause, "error", err)
	}))
}

// waitingInterval is how often it is said that a cluster is waited for.
const waitingInterval = 10 * time.Second

// sayWaiting says that the cluster is connected to, and then that it is waited for, until
// ctx is done. Addresses hold no user and no password: the configuration refuses them.
func sayWaiting(ctx context.Context, servers []string, logger *slog.Logger) {
	logger.Info("connecting to the journal's cluster, and waiting until it can be read", "servers", servers)
	ticker := time.NewTicker(waitingInterval)
	defer ticker.Stop()
	for begin := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			logger.Warn("still waiting for the journal's cluster; does it run at these addresses?", "servers", servers, "since", now.Sub(begin).Round(time.Second))
		}
	}
}

// warnOfNamesakes says, once of each, which other workers have the name of this replica:
// in the log and in the events of syncs nobody could tell them apart. The one that this
// process replaced counts as alive for a lease at most, and is not looked for before.
func warnOfNamesakes(ctx context.Context, own string, alive func() []string, lease time.Duration, logger *slog.Logger) {
	nameOf := func(worker string) string { return worker[:max(0, strings.LastIndex(worker, "/"))] }
	ticker := time.NewTicker(lease)
	defer ticker.Stop()
	said := map[string]bool{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for _, worker := range alive() {
			if worker != own && nameOf(worker) == nameOf(own) && !said[worker] {
				said[worker] = true
				logger.Warn("another replica has the same name: give each its own `replica` in the configuration", "replica", nameOf(own), "worker", own, "other", worker)
			}
		}
	}
}

// clusterPatience is how long a start waits for a cluster: one that loses a node has
// another leader within seconds, but one stream after the other.
const clusterPatience = 2 * time.Minute

// journal returns the cluster for package journal, with what is in secrets.
func (c *clusterConfig) journal() (*journal.Cluster, error) {
	cluster := &journal.Cluster{CredentialsFile: c.CredentialsFile, User: c.User, Replicas: c.Replicas, Prefix: c.Prefix}
	for _, address := range c.Servers {
		scheme, rest, found := strings.Cut(address, "://")
		if !found {
			scheme, rest = "nats", address
		}
		if c.TLS != nil {
			scheme = "tls" // who writes the section wants it, whatever the server asks for
		}
		cluster.Servers = append(cluster.Servers, scheme+"://"+rest)
	}
	if c.TLS != nil {
		cluster.CAFile, cluster.CertFile, cluster.KeyFile = c.TLS.CAFile, c.TLS.CertificateFile, c.TLS.KeyFile
	}
	if c.Password != nil {
		var err error
		if cluster.Password, err = c.Password.Read(); err != nil {
			return nil, fmt.Errorf("journal.cluster.password: %w", err)
		}
	}
	return cluster, nil
}

// signInsStore is the name under which the journal keeps sign-ins.
const signInsStore = "sign-ins"

// signIns returns where sign-ins are kept: with a cluster in the journal, so that all
// replicas have them; else nil, which is in files under data_dir.
func signIns(cfg *config, j *journal.Journal) identity.Store {
	if cfg.Journal.Cluster == nil {
		return nil
	}
	return j.Store(signInsStore)
}
