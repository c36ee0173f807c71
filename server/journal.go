package main

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"

	"understudy.internal/internal/identity"
	"understudy.internal/internal/journal"
)

// openJournal opens the journal that the configuration names: one under data_dir, or
// one on a cluster.
func openJournal(ctx context.Context, cfg *config, logger *slog.Logger) (*journal.Journal, error) {
	c := journal.Config{
		Directory: filepath.Join(cfg.DataDir, "journal"), Replica: cfg.Replica, Lease: cfg.Lease,
		Retention: cfg.Journal.Retention, MaxBytes: cfg.maxJournal, Logger: logger,
	}
	if cfg.Journal.Cluster != nil {
		var err error
		if c.Cluster, err = cfg.Journal.Cluster.journal(); err != nil {
			return nil, err
		}
	}
	return journal.Open(ctx, c)
}

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

// signIns returns where sign-ins are kept: with a cluster in the journal, so that all
// replicas have them; else nil, which is in files under data_dir.
func signIns(cfg *config, j *journal.Journal) identity.Store {
	if cfg.Journal.Cluster == nil {
		return nil
	}
	return j.Store("sign-ins")
}
