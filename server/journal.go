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
