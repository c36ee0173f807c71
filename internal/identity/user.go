package identity

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/public"

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
	// Username is the user principal name. A delegated sign-in may leave it empty:
	// then every member of the tenant may sign in.
	ClientID, Username string
	Method             Method
	// Password is read at every sign-in of a service account.
	Password func() (string, error)
	// SignInTimeout is how long one sign-in may take.
	SignInTimeout time.Duration
}

// User is the user account of a tenant.
type User struct {
	*base
	config    UserConfig
	msal      public.Client
	cache     *tokenCache
	passwords *refusedPasswords
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
	store := config.Store
	if store == nil {
		store = files{config.CacheDir}
	}
	name := ownerName(config.Tenant, strings.ToLower(config.DirectoryID), own.ClientID, strings.ToLower(own.Username))
	u := &User{
		base: b, config: own,
		cache:     &tokenCache{store: store, name: name + ".token", box: box{tokenForm, config.Key}, logger: b.logger},
		passwords: &refusedPasswords{store: store, name: name + ".refused", box: box{refusalForm, config.Key}, logger: b.logger},
	}
	u.msal, err = u.client()
	return u, err
}

// client returns MSAL's client. It is made once: it keeps where the endpoints are,
// and its memory is what the cache gives it.
func (u *User) client() (public.Client, error) {
	options := []public.Option{
		public.WithAuthority(u.authority()),
		public.WithHTTPClient(u.http),
		public.WithClientCapabilities([]string{"CP1"}),
		public.WithInstanceDiscovery(false),
	}
	if u.config.Method == Delegated {
		options = append(options, public.WithCache(u.cache))
	} else {
		options = append(options, public.WithCache(noCache{}))
	}
	c, err := public.New(u.config.ClientID, options...)
	if err != nil {
		return c, errors.New("MSAL refuses the authority or the client_id")
	}
	return c, nil
}

// SignIn implements [port.Identity]. The token is always a fresh one. A cached
// sign-in comes first; when a person can do better, and may be asked, it is asked.
func (u *User) SignIn(ctx context.Context, options port.SignInOptions) (understudyv1.AuthenticationMethod, error) {
	u.setLost(false)
	err := u.signIn(ctx, options)
	u.setLost(err == nil)
	return u.method(), err
}

func (u *User) signIn(ctx context.Context, options port.SignInOptions) error {
	deadline := time.Now().Add(u.config.SignInTimeout)
	if u.config.Method == ServiceAccount {
		_, err := u.tokens.get(ctx, want{way: unattended, renew: true, fetch: u.byPassword})
		return err
	}
	u.setMethod(understudyv1.AuthenticationMethod_AUTHENTICATION_METHOD_CACHED_SIGN_IN)
	_, err := u.tokens.get(ctx, want{way: unattended, renew: true, fetch: u.silently})
	if err == nil || !options.AllowPrompt || options.Prompt == nil || !aPersonHelps(err) {
		return err
	}
	u.setMethod(understudyv1.AuthenticationMethod_AUTHENTICATION_METHOD_DEVICE_CODE)
	_, err = u.tokens.get(ctx, want{way: attended, renew: true, fetch: func(ctx context.Context, _ string) (port.Token, error) {
		return u.prompt(ctx, deadline, options.Prompt)
	}})
	return err
}

// aPersonHelps says whether a failure of the cached sign-in is worth asking a
// person: not when the sign-in service is away, or the caller is.
func aPersonHelps(err error) bool {
	var failure *Failure
	if !errors.As(err, &failure) {
		return false
	}
	switch failure.failure.GetReason() {
	case timedOutReason,
		understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_THROTTLED,
		understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_PROVIDER_UNAVAILABLE:
		return !failure.failure.GetRetryable()
	}
	return true
}

// Token implements [port.Identity].
func (u *User) Token(ctx context.Context, request port.TokenRequest) (port.Token, error) {
	if u.config.Method == ServiceAccount {
		return u.token(ctx, request, u.byPassword)
	}
	return u.token(ctx, request, u.silently)
}

// silently redeems the cached sign-in.
func (u *User) silently(ctx context.Context, claims string) (port.Token, error) {
	return u.attempt(ctx, time.Now().Add(u.config.SignInTimeout), func(ctx context.Context, x *exchange) (port.Token, error) {
		account, found, err := u.account(ctx)
		if err != nil {
			return port.Token{}, err
		}
		if !found {
			return port.Token{}, u.Fail(understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_SIGN_IN_REQUIRED)
		}
		options := []public.AcquireSilentOption{public.WithSilentAccount(account)}
		if claims != "" {
			options = append(options, public.WithClaims(claims))
		}
		result, err := u.msal.AcquireTokenSilent(ctx, u.scopes(), options...)
		switch {
		case err == nil:
			return u.accept(result)
		case ctx.Err() != nil && !x.wasAsked():
			return port.Token{}, context.Cause(ctx)
		case !x.wasTried():
			// The cache has no refresh token of the account.
			return port.Token{}, u.Fail(understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_SIGN_IN_REQUIRED)
		}
		return port.Token{}, err
	})
}

// account returns the cached account that the definition means.
func (u *User) account(ctx context.Context) (public.Account, bool, error) {
	accounts, err := u.msal.Accounts(ctx)
	if err != nil {
		return public.Account{}, false, err
	}
	for _, account := range accounts {
		if u.config.Username == "" || strings.EqualFold(account.PreferredUsername, u.config.Username) {
			return account, true, nil
		}
	}
	return public.Account{}, false, nil
}

// accept refuses a token of another tenant or user, and forgets its sign-in.
func (u *User) accept(result public.AuthResult) (port.Token, error) {
	id := result.IDToken
	if id.TenantID == "" || id.Oid == "" {
		return port.Token{}, wrongAccount(u.who()) // nobody says whose it is
	}
	if !strings.EqualFold(id.TenantID, u.common.DirectoryID) || u.another(id.PreferredUsername, id.UPN) ||
		guest(result.Account.HomeAccountID, u.common.DirectoryID) || foreign(result.AccessToken, u.common.DirectoryID) {
		if err := u.cache.forget(); err != nil {
			u.logger.Error("the sign-in of another account could not be removed", "error", err)
		}
		return port.Token{}, wrongAccount(u.who())
	}
	return port.Token{Value: result.AccessToken, ExpiresOn: result.ExpiresOn}, nil
}

// another says whether a token is of another user than the definition names.
func (u *User) another(names ...string) bool {
	for _, name := range names {
		if strings.EqualFold(name, u.config.Username) {
			return false
		}
	}
	return u.config.Username != ""
}

// guest says whether an account has its home in another tenant. MSAL's id of it is
// `<object id>.<tenant id>`, both of the home.
func guest(homeAccountID, directoryID string) bool {
	_, home, found := strings.Cut(homeAccountID, ".")
	return found && uuid.MatchString(home) && !strings.EqualFold(home, directoryID)
}
