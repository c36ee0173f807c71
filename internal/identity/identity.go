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
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/cache"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

// Config is what the identities of a tenant have in common.
type Config struct {
	// Tenant is the id in this service: `contoso`.
	Tenant string
	// DirectoryID is the id of the tenant's directory, a UUID.
	DirectoryID string
	Cloud       Cloud
	// HTTPClient is that of [NewHTTPClient].
	HTTPClient *http.Client
	// Store keeps sign-ins and refusals, encrypted with Key. Processes that share it
	// have the same Key. Default: files in CacheDir, for one process.
	Store    Store
	CacheDir string
	Key      [32]byte
	// HelpBaseURL is where the help pages are published; empty: nowhere.
	HelpBaseURL string
	Logger      *slog.Logger
}

// base is what both identities are made of.
type base struct {
	common Config
	http   *client
	logger *slog.Logger
	tokens *tokens

	mu   sync.Mutex
	self who
}

// newBase checks a configuration. The directory must be named by its id: `common`
// would let a user of any tenant in, and MSAL cannot use a name with "token" in it.
func newBase(config Config, identity understudyv1.Identity, method understudyv1.AuthenticationMethod) (*base, error) {
	if !uuid.MatchString(config.DirectoryID) {
		return nil, errors.New("directory_id must be the id of one directory, like 22222222-2222-4222-8222-222222222222")
	}
	if err := config.Cloud.Check(); err != nil {
		return nil, err
	}
	if config.HTTPClient == nil {
		client, err := NewHTTPClient(config.Cloud)
		if err != nil {
			return nil, err
		}
		config.HTTPClient = client
	}
	b := &base{
		common: config,
		http:   &client{http: config.HTTPClient, hosts: config.Cloud.signInHosts()},
		logger: config.Logger,
		tokens: &tokens{},
		self:   who{identity: identity, method: method, helpBase: config.HelpBaseURL, tenant: config.Tenant},
	}
	if b.logger == nil {
		b.logger = slog.New(slog.DiscardHandler)
	}
	b.logger = b.logger.With("tenant", config.Tenant)
	return b, nil
}

func (b *base) authority() string { return b.common.Cloud.Authority + "/" + b.common.DirectoryID }
func (b *base) scopes() []string  { return []string{b.common.Cloud.Graph + "/.default"} }

func (b *base) who() who {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.self
}

func (b *base) method() understudyv1.AuthenticationMethod { return b.who().method }

// setLost says that the identity holds a token: what fails from now on loses it.
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
	w := b.who()
	v := w.standard(reason)
	v.missing = missingPermissions
	return w.failure(v)
}

// token returns the current token, or the one that fetch gets.
func (b *base) token(ctx context.Context, request port.TokenRequest, fetch fetch) (port.Token, error) {
	if request.Claims != "" && !isObject(request.Claims) {
		request.Claims = "" // a fresh token is the best answer; the next challenge ends it
	}
	token, err := b.tokens.get(ctx, want{TokenRequest: request, way: unattended, fetch: fetch})
	if err == nil && token.Value == request.Refused {
		return port.Token{}, b.Fail(understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_SIGN_IN_REVOKED)
	}
	return token, err
}

func isObject(text string) bool {
	var object map[string]json.RawMessage
	return json.Unmarshal([]byte(text), &object) == nil && object != nil
}

// attempt runs one way of signing in until a deadline, and turns what MSAL says
// into a [Failure]. The end of the caller's context stays what it is.
func (b *base) attempt(
	caller context.Context, deadline time.Time, acquire func(context.Context, *exchange) (port.Token, error),
) (port.Token, error) {
	ctx, cancel := context.WithDeadlineCause(caller, deadline, errSignInDeadline)
	defer cancel()
	ctx, x := withExchange(ctx)
	token, err := acquire(ctx, x)
	switch {
	case err == nil:
		return token, nil
	case caller.Err() != nil:
		return port.Token{}, context.Cause(caller)
	}
	failure := classify(b.who(), err, x)
	b.logger.Warn("a sign-in failed", "failure", failure, "cause", x.why())
	return port.Token{}, failure
}

var errSignInDeadline = fmt.Errorf("the sign-in was not completed in time: %w", context.DeadlineExceeded)

// noCache makes MSAL forget everything before each use, so that a client that is
// kept never returns a token that was refused.
type noCache struct{}

var _ cache.ExportReplace = noCache{}

// Replace implements MSAL's cache.
func (noCache) Replace(_ context.Context, into cache.Unmarshaler, _ cache.ReplaceHints) error {
	return into.Unmarshal([]byte("{}"))
}

// Export implements MSAL's cache.
func (noCache) Export(context.Context, cache.Marshaler, cache.ExportHints) error { return nil }
