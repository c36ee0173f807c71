package identity

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"understudy.internal/internal/port"
)

func TestNoCachedSignIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		for name, options := range map[string]port.SignInOptions{
			"prompts are not allowed": {},
			"nobody shows the prompt": {AllowPrompt: true},
		} {
			method, err := f.user(Delegated).SignIn(t.Context(), options)
			failure := reasonIs(t, err, "SIGN_IN_REQUIRED")
			if method != byCache || failure.GetMethod() != byCache || failure.GetRemedyActor() != user {
				t.Errorf("%s: %v, %v", name, method, failure)
			}
		}
		if len(f.requests(openID))+len(f.requests(refresh))+len(f.requests(deviceCode)) != 0 {
			t.Error("somebody was asked")
		}
	})
}

func TestTheCachedSignIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.signedIn()
		next := f.user(Delegated) // as after a restart
		var seen []*prompt
		for i := range 3 {
			method, err := next.SignIn(t.Context(), prompts(&seen))
			if err != nil || method != byCache || len(seen) != 0 {
				t.Fatalf("%v, %v, %d prompts", method, err, len(seen))
			}
			if n := len(f.requests(refresh)); n != i+1 {
				t.Fatalf("%d refreshes, want %d: a sync gets its own token", n, i+1)
			}
		}
		// Each refresh token is used once: the rotated one is kept.
		used := map[string]bool{}
		for _, r := range f.requests(refresh) {
			used[r.form.Get("refresh_token")] = true
		}
		if len(used) != 3 {
			t.Errorf("%d refresh tokens were used in 3 refreshes", len(used))
		}
		if n := len(f.requests(openID)); n != 2 {
			t.Errorf("2 identities asked for the endpoints %d times", n)
		}
	})
}

func TestAnExpiredSignIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		u := f.signedIn()
		f.answer(refresh, refused(400, "invalid_grant", "", 700082))
		method, err := u.SignIn(t.Context(), port.SignInOptions{})
		if reasonIs(t, err, "SIGN_IN_EXPIRED"); method != byCache {
			t.Error(method)
		}
		// With a prompt the failure of the cached sign-in is not the outcome.
		f.answer(refresh, refused(400, "invalid_grant", "", 700082))
		var seen []*prompt
		if method, err = u.SignIn(t.Context(), prompts(&seen)); err != nil || method != byDeviceCode || len(seen) != 1 {
			t.Fatalf("%v, %v, %d prompts", method, err, len(seen))
		}
		if method, err = u.SignIn(t.Context(), port.SignInOptions{}); err != nil || method != byCache {
			t.Errorf("after it: %v, %v", method, err)
		}
	})
}

// TestNoPromptWhenTheServiceIsAway says that nobody is asked to sign in for a fault
// that passes.
func TestNoPromptWhenTheServiceIsAway(t *testing.T) {
	for want, answer := range map[string]reply{
		"THROTTLED": {status: 429, retryAfter: "120"}, "PROVIDER_UNAVAILABLE": {status: 503}, "SIGN_IN_TIMED_OUT": {hang: true},
	} {
		t.Run(want, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				u := f.signedIn()
				f.answerAlways(refresh, answer)
				var seen []*prompt
				method, err := u.SignIn(t.Context(), prompts(&seen))
				if failure := reasonIs(t, err, want); method != byCache || !failure.GetRetryable() || len(seen) != 0 {
					t.Errorf("%v, %v, %d prompts", method, failure, len(seen))
				}
			})
		})
	}
}

// TestACachedSignInThatWasNotAnswered: what kept the service from being asked is the
// reason, and not that there is no sign-in.
func TestACachedSignInThatWasNotAnswered(t *testing.T) {
	for name, c := range map[string]struct {
		answer reply
		kind   string
		want   string
	}{
		"it hangs":        {reply{hang: true}, refresh, "SIGN_IN_TIMED_OUT"},
		"discovery hangs": {reply{hang: true}, openID, "SIGN_IN_TIMED_OUT"},
		"another host": {reply{status: 200, body: map[string]any{
			"issuer": "https://login.fake.example/" + directory + "/v2.0", "authorization_endpoint": "https://evil.example/authorize",
			"token_endpoint": "https://evil.example/" + marker + "/token",
		}}, openID, "APPLICATION_MISCONFIGURED"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				f.signedIn()
				u := f.userWith(UserConfig{ClientID: clientID, Username: username, Method: Delegated, SignInTimeout: 10 * time.Second})
				f.answerAlways(c.kind, c.answer)
				for range 2 { // MSAL keeps the endpoints, and does not ask for them again
					began := time.Now()
					_, err := u.SignIn(t.Context(), port.SignInOptions{})
					reasonIs(t, err, c.want)
					if took := time.Since(began); took > 10*time.Second {
						t.Errorf("it took %s", took)
					}
				}
				f.says(func(e *entra) { delete(e.always, c.kind) })
				if _, err := f.user(Delegated).SignIn(t.Context(), port.SignInOptions{}); err != nil {
					t.Errorf("afterwards: %v", err)
				}
			})
		})
	}
}

// TestTokensInMidRun are refreshed with the cached sign-in, and lost with it.
func TestTokensInMidRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		u := f.signedIn()
		first, err := u.Token(t.Context(), port.TokenRequest{})
		if err != nil || len(f.requests(refresh)) != 0 {
			t.Fatalf("%v, %d refreshes", err, len(f.requests(refresh)))
		}
		second, err := u.Token(t.Context(), port.TokenRequest{Refused: first.Value, Claims: tokenClaims})
		if err != nil || second == first || !strings.Contains(f.requests(refresh)[0].form.Get("claims"), marker+"CLAIMS") {
			t.Fatalf("%v, %v", second, err)
		}
		f.answer(refresh, refused(400, "invalid_grant", "", 50173))
		_, err = u.Token(t.Context(), port.TokenRequest{Refused: second.Value})
		if failure := reasonIs(t, err, "SIGN_IN_REVOKED"); failure.GetMethod() != byDeviceCode {
			t.Errorf("the identity of this sync signed in by device code: %v", failure)
		}
	})
}

// TestAPromptIsNotAnsweredByAFailureOfAnotherWay has a reader who asks for a token
// between the cached sign-in and the prompt.
func TestAPromptIsNotAnsweredByAFailureOfAnotherWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		u := f.signedIn()
		dead := refused(400, "invalid_grant", "", 700082)
		held, open := gate()
		held.status, held.body = dead.status, dead.body
		f.answer(refresh, held)
		u.tokens.held.Token = port.Token{}
		var readers sync.WaitGroup
		readers.Go(func() {
			_, err := u.Token(t.Context(), port.TokenRequest{})
			reasonIs(t, err, "SIGN_IN_EXPIRED")
		})
		synctest.Wait()
		readers.Go(func() {
			_, err := u.tokens.get(t.Context(), want{way: attended, renew: true, fetch: func(ctx context.Context, _ string) (port.Token, error) {
				return u.prompt(ctx, time.Now().Add(time.Minute), func(*prompt) {})
			}})
			if err != nil {
				t.Errorf("the prompt got the reader's failure: %v", err)
			}
		})
		synctest.Wait()
		open()
		readers.Wait()
	})
}

// TestWrongAccounts are refused, and their sign-in is forgotten.
func TestWrongAccounts(t *testing.T) {
	for name, change := range map[string]func(*entra){
		"another tenant":                   func(e *entra) { e.tenant = otherTenant },
		"an access token of another":       func(e *entra) { e.accessTokenClaim = otherTenant },
		"another user":                     func(e *entra) { e.name = "eve@contoso.example" },
		"a guest":                          func(e *entra) { e.home = otherTenant },
		"nobody says who":                  func(e *entra) { e.noIDToken = true },
		"a tenant in another form of word": func(e *entra) { e.tenant = "contoso.example" },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				f.says(change)
				u := f.user(Delegated)
				_, err := u.SignIn(t.Context(), prompts(new([]*prompt)))
				if failure := reasonIs(t, err, "ACCOUNT_NOT_FOUND"); failure.GetMethod() != byDeviceCode {
					t.Error(failure)
				}
				for path := range f.files() {
					if strings.HasSuffix(path, ".token") && !f.noIDToken {
						t.Errorf("the sign-in is kept in %s", path)
					}
				}
				if token, err := u.Token(t.Context(), port.TokenRequest{}); err == nil {
					t.Errorf("a token was given out: %v", token)
				}
				_, err = u.SignIn(t.Context(), port.SignInOptions{})
				reasonIs(t, err, "SIGN_IN_REQUIRED")
			})
		})
	}
}

func TestTheSameAccountInAnotherSpelling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.says(func(e *entra) {
			e.name, e.tenant, e.accessTokenClaim = "Backup@Contoso.Example", strings.ToUpper(directory), strings.ToUpper(directory)
		})
		u := f.signedIn()
		if _, err := u.SignIn(t.Context(), port.SignInOptions{}); err != nil {
			t.Error(err)
		}
	})
}

func TestAnyMemberWhereNoUserIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.says(func(e *entra) { e.name = "anybody@contoso.example" })
		u := f.userWith(UserConfig{ClientID: clientID, Method: Delegated, SignInTimeout: time.Minute})
		if _, err := u.SignIn(t.Context(), prompts(new([]*prompt))); err != nil {
			t.Error(err)
		}
	})
}

// TestASignInOfAnotherDefinition is not used: the files are keyed by tenant,
// directory, client and user.
func TestASignInOfAnotherDefinition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.signedIn()
		standard := UserConfig{ClientID: clientID, Username: username, Method: Delegated, SignInTimeout: time.Minute}
		for name, change := range map[string]func(*Config, *UserConfig){
			"tenant": func(c *Config, _ *UserConfig) { c.Tenant = "fabrikam" },
			"client": func(_ *Config, o *UserConfig) { o.ClientID = otherTenant },
			"user":   func(_ *Config, o *UserConfig) { o.Username = "eve@contoso.example" },
		} {
			config, own := f.config, standard
			change(&config, &own)
			u, err := NewUser(config, own)
			if err != nil {
				t.Fatal(err)
			}
			_, err = u.SignIn(t.Context(), port.SignInOptions{})
			if reasonIs(t, err, "SIGN_IN_REQUIRED"); len(f.requests(refresh)) != 0 {
				t.Errorf("another %s used the sign-in", name)
			}
		}
	})
}

func TestNewUserRefuses(t *testing.T) {
	f := newFixture(t)
	good := UserConfig{
		ClientID: clientID, Username: username, Method: ServiceAccount, SignInTimeout: time.Second,
		Password: func() (string, error) { return "", nil },
	}
	for name, change := range map[string]func(*Config, *UserConfig){
		"no method":           func(_ *Config, o *UserConfig) { o.Method = "" },
		"no password":         func(_ *Config, o *UserConfig) { o.Password = nil },
		"no user name":        func(_ *Config, o *UserConfig) { o.Username = "" },
		"no timeout":          func(_ *Config, o *UserConfig) { o.SignInTimeout = 0 },
		"the common tenant":   func(c *Config, _ *UserConfig) { c.DirectoryID = "common" },
		"a tenant by name":    func(c *Config, _ *UserConfig) { c.DirectoryID = "token.onmicrosoft.com" },
		"a cloud without TLS": func(c *Config, _ *UserConfig) { c.Cloud.Authority = "http://login.example.com" },
	} {
		config, own := f.config, good
		change(&config, &own)
		if _, err := NewUser(config, own); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	if _, err := NewUser(f.config, good); err != nil {
		t.Error(err)
	}
}
