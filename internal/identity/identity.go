// Package identity signs in with the two identities of a tenant, and says why
// when one cannot.
//
// In: the credentials of a tenant, read by functions so that a new one is taken
// up, and a cloud. Out: access tokens for Microsoft Graph, and [Failure]s that say
// what failed, why, who can mend it, and what it means for the backup. It is the
// only package that knows MSAL. Nothing that MSAL or Microsoft Entra ID wrote
// leaves it, but for codes and ids: their texts hold tokens, forms and names.
package identity

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"

	understudyv1 "understudy.internal/gen/understudy/v1"
)

// Config is what the identities of a tenant have in common.
type Config struct {
	// Tenant is the id in this service: `contoso`.
	Tenant string
	// DirectoryID is the id of the tenant's directory.
	DirectoryID string
	Cloud       Cloud
	// HTTPClient is that of [NewHTTPClient].
	HTTPClient *http.Client
	// CacheDir is where sign-ins are kept, encrypted with Key.
	CacheDir string
	Key      [32]byte
	// HelpBaseURL is where the help pages are published; empty: nowhere.
	HelpBaseURL string
	Logger      *slog.Logger
}

// base is what both identities are made of.
type base struct {
	common      Config
	directoryID string
	cloud       Cloud
	http        *http.Client
	logger      *slog.Logger
	tokens      *tokens

	mu   *sync.Mutex
	self *who
}

func newBase(config Config, identity understudyv1.Identity, method understudyv1.AuthenticationMethod) (base, error) {
	if config.DirectoryID == "" || strings.EqualFold(config.DirectoryID, "common") || strings.EqualFold(config.DirectoryID, "organizations") {
		return base{}, errors.New("directory_id must be the id of one directory")
	}
	if err := config.Cloud.Check(); err != nil {
		return base{}, err
	}
	b := base{
		common: config, directoryID: config.DirectoryID, cloud: config.Cloud, http: config.HTTPClient, logger: config.Logger,
		tokens: newTokens(), mu: &sync.Mutex{}, self: &who{identity: identity, method: method, helpBase: config.HelpBaseURL},
	}
	if b.http == nil {
		client, err := NewHTTPClient(config.Cloud)
		if err != nil {
			return base{}, err
		}
		b.http = client
	}
	if b.logger == nil {
		b.logger = slog.New(slog.DiscardHandler)
	}
	return b, nil
}

func (b *base) shared() Config    { return b.common }
func (b *base) authority() string { return b.cloud.Authority + "/" + b.directoryID }
func (b *base) scopes() []string  { return []string{b.cloud.Graph + "/.default"} }

func (b *base) who() who {
	b.mu.Lock()
	defer b.mu.Unlock()
	return *b.self
}

func (b *base) method() understudyv1.AuthenticationMethod { return b.who().method }

func (b *base) setLost(lost bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.self.lost = lost
}

func (b *base) setMethod(method understudyv1.AuthenticationMethod) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.self.method = method
}

// Fail implements [port.Identity].
func (b *base) Fail(reason understudyv1.AuthFailureReason, missingPermissions ...string) error {
	return b.who().failure(verdict{reason: reason, missing: missingPermissions})
}

// failed turns the failure of MSAL into one of ours; that of the caller's context
// stays what it is.
func (b *base) failed(parent, ctx context.Context, err error, x *exchange) error {
	if parent.Err() != nil {
		return context.Cause(parent)
	}
	failure := classify(ctx, b.who(), err, x)
	b.logger.Warn("a sign-in failed", "tenant", b.common.Tenant, "failure", failure)
	return failure
}
