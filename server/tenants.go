package main

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"

	"understudy.internal/internal/catalog"
	"understudy.internal/internal/cursor"
	"understudy.internal/internal/engine"
	"understudy.internal/internal/identity"
	"understudy.internal/internal/knowledge"
	"understudy.internal/internal/port"
	"understudy.internal/internal/source/graph"
	"understudy.internal/internal/tenant"
	"understudy.internal/internal/vault"
)

// tenants are the configured tenants, by `tenants/{tenant}`. They live as long as
// the service: what limits the requests to a tenant is shared by all its syncs.
type tenants map[string]*engine.Tenant

// Tenant implements [engine.Tenants].
func (t tenants) Tenant(name string) (*engine.Tenant, error) {
	if found, ok := t[name]; ok {
		return found, nil
	}
	return nil, &port.NotFoundError{Resource: name}
}

// newTenants makes the parts of every configured tenant. It makes no request.
func newTenants(cfg *config, keys keys, types *catalog.Catalog, signIns identity.Store, logger *slog.Logger) (tenants, error) {
	clients := map[string]*http.Client{} // tenants of a cloud share connections
	all := make(tenants, len(cfg.Tenants))
	for i := range cfg.Tenants {
		d := &cfg.Tenants[i]
		cloud, err := cfg.cloud(d.Cloud)
		if err != nil {
			return nil, fmt.Errorf("tenant %s: %w", d.ID, err)
		}
		if clients[d.Cloud] == nil {
			if clients[d.Cloud], err = identity.NewHTTPClient(cloud); err != nil {
				return nil, fmt.Errorf("cloud %s: %w", d.Cloud, err)
			}
		}
		b := tenantBuilder{
			cfg: cfg, keys: keys, types: types, definition: d, cloud: cloud, client: clients[d.Cloud], signIns: signIns,
			logger: logger.With("tenant", d.ID), plain: logger,
		}
		built, err := b.build()
		if err != nil {
			return nil, fmt.Errorf("tenant %s: %w", d.ID, err)
		}
		all[built.Name] = built
	}
	return all, nil
}

// tenantBuilder makes the parts of one tenant.
type tenantBuilder struct {
	cfg        *config
	keys       keys
	types      *catalog.Catalog
	definition *tenant.Definition
	cloud      identity.Cloud
	client     *http.Client
	signIns    identity.Store
	logger     *slog.Logger
	plain      *slog.Logger // of an identity, which names its tenant itself
}

func (b *tenantBuilder) build() (*engine.Tenant, error) {
	d := b.definition
	t := &engine.Tenant{Name: "tenants/" + d.ID, ConfigurationTypes: d.ConfigurationTypes, Policy: d.AuthenticationPolicy}
	common := b.common()
	var err error
	if t.Catalog, err = b.types.Narrow(d.Exclude, d.Filters); err != nil {
		return nil, err
	}
	if t.ServicePrincipal, err = b.servicePrincipal(common); err != nil {
		return nil, err
	}
	if d.User != nil {
		t.AllowPrompt = d.User.AllowPrompt
		if t.User, err = b.user(common); err != nil {
			return nil, err
		}
	}
	if t.Source, err = b.source(); err != nil {
		return nil, err
	}
	backup, err := b.vault()
	if err != nil {
		return nil, err
	}
	t.Vault, t.Digester = backup, backup
	if t.Cursors, err = b.cursors(); err != nil {
		return nil, err
	}
	t.Knowledge = knowledge.Open(b.inRepositories(".learned.json"), b.logger)
	t.Readers.ServicePrincipal = knowledge.Reader(d.DirectoryID, d.ServicePrincipal.ClientID, "")
	if d.User != nil {
		t.Readers.User = knowledge.Reader(d.DirectoryID, d.User.ClientID, d.User.Username)
	}
	return t, nil
}

// common is what both identities have in common.
func (b *tenantBuilder) common() identity.Config {
	d := b.definition
	return identity.Config{
		Tenant: d.ID, DirectoryID: d.DirectoryID, Cloud: b.cloud, HTTPClient: b.client, HelpBaseURL: b.cfg.HelpBaseURL,
		Store: b.signIns, CacheDir: filepath.Join(b.cfg.DataDir, "tokens"), Key: b.keys.encryption, Logger: b.plain,
	}
}

func (b *tenantBuilder) servicePrincipal(common identity.Config) (port.Identity, error) {
	own := b.definition.ServicePrincipal
	c := identity.ServicePrincipalConfig{ClientID: own.ClientID}
	if own.ClientSecret != nil {
		c.Secret = own.ClientSecret.Read
	}
	if own.Certificate != nil {
		c.Certificate = own.Certificate.ReadBytes
	}
	return identity.NewServicePrincipal(common, c)
}

func (b *tenantBuilder) user(common identity.Config) (*identity.User, error) {
	own := b.definition.User
	c := identity.UserConfig{
		ClientID: own.ClientID, Username: own.Username, Method: identity.Method(own.Method), SignInTimeout: own.SignInTimeout,
	}
	if own.Password != nil {
		c.Password = own.Password.Read
	}
	return identity.NewUser(common, c)
}

func (b *tenantBuilder) source() (port.Source, error) {
	limits := make(map[string]graph.Limit, len(b.cfg.Limits.Requests))
	for workload, limit := range b.cfg.Limits.Requests {
		limits[workload] = graph.Limit{Requests: limit.Requests, Per: limit.Per}
	}
	return graph.New(graph.Config{
		Endpoint: b.cloud.Graph, DirectoryID: b.definition.DirectoryID, HTTPClient: b.client, Logger: b.logger,
		NotAvailable: catalog.NotAvailableIn(b.cloud.Graph), UnknownPath: catalog.UnknownPathIn(b.cloud.Graph), Limits: limits,
	})
}

// repositoriesFolder is where the repositories are under data_dir.
const repositoriesFolder = "repositories"

// inRepositories returns a path of the tenant's among the repositories.
func (b *tenantBuilder) inRepositories(ending string) string {
	return filepath.Join(b.cfg.DataDir, repositoriesFolder, b.definition.ID+ending)
}

// cursors keep where the readings of the tenant left off.
func (b *tenantBuilder) cursors() (port.Cursors, error) {
	return cursor.New(cursor.Config{
		Directory: filepath.Join(b.cfg.DataDir, "cursors", b.definition.ID), Tenant: "tenants/" + b.definition.ID,
		Key: b.keys.encryption, Logger: b.logger,
	})
}

func (b *tenantBuilder) vault() (*vault.Vault, error) {
	own := b.definition.Repository
	c := vault.Config{
		Directory: b.inRepositories(".git"), Branch: own.Branch,
		FingerprintKey: b.keys.fingerprint, PreviousFingerprintKeys: b.keys.previousFingerprints,
		Recipients: b.definition.Secrets.Recipients, Shared: b.cfg.DataDirShared, Logger: b.logger,
		Replicated: b.cfg.Journal.Cluster != nil && !b.cfg.DataDirShared,
	}
	if own.Remote != "" {
		var err error
		if c.Remote, err = remoteOf(own); err != nil {
			return nil, err
		}
	}
	return vault.Open(c)
}

func remoteOf(own tenant.Repository) (*vault.Remote, error) {
	r := &vault.Remote{URL: own.Remote, KnownHosts: own.KnownHostsFile, Username: own.Username}
	if own.Token != nil {
		r.Token = own.Token.Read
	}
	if own.SSHKey != nil {
		r.SSHKey = own.SSHKey.ReadBytes
	}
	if own.CAFile != "" {
		roots, err := identity.Roots(own.CAFile)
		if err != nil {
			return nil, fmt.Errorf("repository: %w", err)
		}
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
		r.HTTPClient = &http.Client{Transport: transport}
	}
	return r, nil
}
