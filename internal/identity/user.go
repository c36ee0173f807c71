package identity

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"time"

	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/public"
	"google.golang.org/protobuf/types/known/timestamppb"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

// Method is how a user signs in.
type Method string

// The methods.
const (
	// Delegated: a person signs in, with a device code; later the cached sign-in.
	Delegated Method = "delegated"
	// ServiceAccount: user name and password. It cannot pass MFA, and MSAL marks it
	// deprecated.
	ServiceAccount Method = "service_account"
)

// UserConfig is the user account of a tenant.
type UserConfig struct {
	ClientID, Username string
	Method             Method
	// Password is read at every sign-in of a service account.
	Password func() (string, error)
	// SignInTimeout is how long one sign-in may take.
	SignInTimeout time.Duration
}

// User is the user account of a tenant.
type User struct {
	base
	config  UserConfig
	cache   *tokenCache
	refused refusedPassword
}

var _ port.Identity = (*User)(nil)

// NewUser returns a user. It asks nobody before SignIn.
func NewUser(config Config, own UserConfig) (*User, error) {
	method := understudyv1.AuthenticationMethod_AUTHENTICATION_METHOD_CACHED_SIGN_IN
	switch {
	case own.Method == ServiceAccount && (own.Password == nil || own.Username == ""):
		return nil, errors.New("a service account has a username and a password")
	case own.Method == ServiceAccount:
		method = understudyv1.AuthenticationMethod_AUTHENTICATION_METHOD_USERNAME_PASSWORD
	case own.Method != Delegated:
		return nil, errors.New("user.method is delegated or service_account")
	}
	if own.SignInTimeout <= 0 {
		return nil, errors.New("sign_in_timeout must be positive")
	}
	b, err := newBase(config, understudyv1.Identity_IDENTITY_USER, method)
	if err != nil {
		return nil, err
	}
	owner := []string{config.Tenant, config.DirectoryID, own.ClientID, strings.ToLower(own.Username)}
	u := &User{base: b, config: own, cache: newTokenCache(config.CacheDir, config.Key, b.logger, owner...)}
	u.refused = refusedPassword{path: strings.TrimSuffix(u.cache.path, filepath.Ext(u.cache.path)) + ".refused", key: config.Key}
	return u, nil
}

// SignIn implements [port.Identity].
func (u *User) SignIn(parent context.Context, options port.SignInOptions) (understudyv1.AuthenticationMethod, error) {
	ctx, cancel := context.WithTimeoutCause(parent, u.config.SignInTimeout, errSignInDeadline)
	defer cancel()
	u.setLost(false)
	err := u.signIn(parent, ctx, options)
	u.setLost(err == nil)
	return u.method(), err
}

func (u *User) signIn(parent, ctx context.Context, options port.SignInOptions) error {
	if u.config.Method == ServiceAccount {
		_, err := u.Token(ctx, port.TokenRequest{})
		return u.orDeadline(parent, ctx, err)
	}
	u.setMethod(understudyv1.AuthenticationMethod_AUTHENTICATION_METHOD_CACHED_SIGN_IN)
	_, err := u.Token(ctx, port.TokenRequest{})
	if err == nil || parent.Err() != nil {
		return err
	}
	if !options.AllowPrompt || ctx.Err() != nil {
		return u.orDeadline(parent, ctx, err)
	}
	u.setMethod(understudyv1.AuthenticationMethod_AUTHENTICATION_METHOD_DEVICE_CODE)
	_, err = u.tokens.get(ctx, port.TokenRequest{Refused: u.tokens.current.Value}, func(ctx context.Context, _ string) (port.Token, error) {
		return u.prompt(parent, ctx, options)
	})
	return u.orDeadline(parent, ctx, err)
}

// orDeadline makes a failure of a deadline: waiting for another request of the same
// identity has no better error.
func (u *User) orDeadline(parent, ctx context.Context, err error) error {
	var failure *Failure
	if err == nil || errors.As(err, &failure) || parent.Err() != nil {
		return err
	}
	_, x := withExchange(ctx)
	return classify(ctx, u.who(), err, x)
}

// Token implements [port.Identity].
func (u *User) Token(ctx context.Context, request port.TokenRequest) (port.Token, error) {
	fetch := u.silently
	if u.config.Method == ServiceAccount {
		fetch = u.byPassword
	}
	return u.tokens.get(ctx, request, fetch)
}

func (u *User) client() (public.Client, error) {
	options := []public.Option{
		public.WithAuthority(u.authority()),
		public.WithHTTPClient(&client{http: u.http}),
		public.WithClientCapabilities([]string{"CP1"}),
	}
	if u.config.Method == Delegated {
		options = append(options, public.WithCache(u.cache))
	}
	if !u.cloud.builtIn() {
		options = append(options, public.WithInstanceDiscovery(false))
	}
	c, err := public.New(u.config.ClientID, options...)
	if err != nil {
		return c, u.who().failure(verdict{
			reason: understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_APPLICATION_MISCONFIGURED, actor: operator,
		})
	}
	return c, nil
}

// silently redeems the cached sign-in.
func (u *User) silently(parent context.Context, claims string) (port.Token, error) {
	ctx, cancel := context.WithTimeoutCause(parent, u.config.SignInTimeout, errSignInDeadline)
	defer cancel()
	ctx, x := withExchange(ctx)
	c, err := u.client()
	if err != nil {
		return port.Token{}, err
	}
	accounts, err := c.Accounts(ctx)
	if err != nil {
		return port.Token{}, u.failed(parent, ctx, err, x)
	}
	for _, account := range accounts {
		if u.config.Username != "" && !strings.EqualFold(account.PreferredUsername, u.config.Username) {
			continue
		}
		options := []public.AcquireSilentOption{public.WithSilentAccount(account)}
		if claims != "" {
			options = append(options, public.WithClaims(claims))
		}
		result, err := c.AcquireTokenSilent(ctx, u.scopes(), options...)
		if err != nil {
			return port.Token{}, u.failed(parent, ctx, err, x)
		}
		return u.accept(result)
	}
	return port.Token{}, u.who().failure(verdict{
		reason: understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_SIGN_IN_REQUIRED, actor: user,
	})
}

// prompt asks a person, with a device code (RFC 8628).
func (u *User) prompt(parent, ctx context.Context, options port.SignInOptions) (port.Token, error) {
	ctx, x := withExchange(ctx)
	c, err := u.client()
	if err != nil {
		return port.Token{}, err
	}
	device, err := c.AcquireTokenByDeviceCode(ctx, u.scopes())
	if err != nil {
		return port.Token{}, u.failed(parent, ctx, err, x)
	}
	expires := device.Result.ExpiresOn
	if deadline, ok := ctx.Deadline(); ok && deadline.Before(expires) {
		expires = deadline
	}
	options.Prompt(&understudyv1.AuthenticationPrompt{
		VerificationUri: device.Result.VerificationURL, UserCode: device.Result.UserCode, ExpireTime: timestamppb.New(expires),
	})
	result, err := device.AuthenticationResult(ctx)
	if err != nil {
		if parent.Err() == nil && !time.Now().Before(device.Result.ExpiresOn) {
			return port.Token{}, u.who().failure(verdict{
				reason: understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_SIGN_IN_TIMED_OUT, actor: user, exchange: x,
			})
		}
		return port.Token{}, u.failed(parent, ctx, err, x)
	}
	return u.accept(result)
}

// byPassword signs a service account in.
func (u *User) byPassword(parent context.Context, claims string) (port.Token, error) {
	ctx, cancel := context.WithTimeoutCause(parent, u.config.SignInTimeout, errSignInDeadline)
	defer cancel()
	ctx, x := withExchange(ctx)
	wrong := verdict{reason: understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_INVALID_CREDENTIAL, actor: operator, exchange: x}
	password, err := u.config.Password()
	if err != nil {
		u.logger.Error("the password of the service account cannot be read", "tenant", u.common.Tenant, "error", err)
		return port.Token{}, u.who().failure(wrong)
	}
	if u.refused.is(password) {
		return port.Token{}, u.who().failure(wrong)
	}
	c, err := u.client()
	if err != nil {
		return port.Token{}, err
	}
	var options []public.AcquireByUsernamePasswordOption
	if claims != "" {
		options = append(options, public.WithClaims(claims))
	}
	result, err := c.AcquireTokenByUsernamePassword(ctx, u.scopes(), u.config.Username, password, options...)
	if err != nil {
		err := u.failed(parent, ctx, err, x)
		var failure *Failure
		if errors.As(err, &failure) && refusesPassword(failure) {
			if err := u.refused.remember(password); err != nil {
				u.logger.Error("a refused password could not be remembered", "tenant", u.common.Tenant, "error", err)
			}
		}
		return port.Token{}, err
	}
	return u.accept(result)
}

func refusesPassword(f *Failure) bool {
	switch f.failure.GetReason() {
	case understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_INVALID_CREDENTIAL,
		understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_CREDENTIAL_EXPIRED,
		understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_ACCOUNT_LOCKED:
		return true
	}
	return false
}

// accept refuses a token of another tenant or user.
func (u *User) accept(result public.AuthResult) (port.Token, error) {
	id := result.IDToken
	switch {
	case !strings.EqualFold(id.TenantID, u.directoryID), id.Oid == "",
		u.config.Username != "" && !strings.EqualFold(id.PreferredUsername, u.config.Username),
		foreign(result.AccessToken, u.directoryID):
		if err := u.cache.forget(); err != nil {
			u.logger.Error("the sign-in of another account could not be removed", "tenant", u.common.Tenant, "error", err)
		}
		return port.Token{}, wrongAccount(u.who())
	}
	return port.Token{Value: result.AccessToken, ExpiresOn: result.ExpiresOn}, nil
}
