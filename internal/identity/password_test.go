package identity

import (
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"understudy.internal/internal/port"
)

// account is a service account whose password can change.
func (f *fixture) account(current *string) *User {
	f.t.Helper()
	return f.userWith(UserConfig{
		ClientID: clientID, Username: username, Method: ServiceAccount, SignInTimeout: time.Minute,
		Password: func() (string, error) { return *current, nil },
	})
}

func TestAServiceAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		u := f.user(ServiceAccount)
		method, err := u.SignIn(t.Context(), port.SignInOptions{})
		if err != nil || method != byPasswords {
			t.Fatalf("%v, %v", method, err)
		}
		if _, err := u.Token(t.Context(), port.TokenRequest{}); err != nil || len(f.requests(passwords)) != 1 {
			t.Errorf("%v, %d requests", err, len(f.requests(passwords)))
		}
		if _, err := u.SignIn(t.Context(), port.SignInOptions{}); err != nil || len(f.requests(passwords)) != 2 {
			t.Errorf("%v, %d requests: a sync gets its own token", err, len(f.requests(passwords)))
		}
		if n := len(f.files()); n != 0 {
			t.Errorf("%d files are kept of a service account", n)
		}
	})
}

// TestALockedAccountIsTriedAgain by the next sync: the password may be right, and the
// lock ends by itself.
func TestALockedAccountIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		current := password
		f.answer(passwords, refused(400, "invalid_grant", "", 50053))
		u := f.account(&current)
		_, err := u.SignIn(t.Context(), port.SignInOptions{})
		reasonIs(t, err, "ACCOUNT_LOCKED")
		if _, err := u.SignIn(t.Context(), port.SignInOptions{}); err != nil || len(f.requests(passwords)) != 2 {
			t.Errorf("after the lock ended: %v, %d requests", err, len(f.requests(passwords)))
		}
	})
}

// TestARefusedPasswordIsNotTriedAgain until its content changes, also after a
// restart.
func TestARefusedPasswordIsNotTriedAgain(t *testing.T) {
	for want, code := range map[string]int{"INVALID_CREDENTIAL": 50126, "CREDENTIAL_EXPIRED": 50055} {
		t.Run(want, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				current := password
				f.answer(passwords, refused(400, "invalid_grant", "", code))
				u := f.account(&current)
				_, first := u.SignIn(t.Context(), port.SignInOptions{})
				reasonIs(t, first, want)
				for range 3 {
					_, err := u.SignIn(t.Context(), port.SignInOptions{})
					reasonIs(t, err, want)
					_, err = u.Token(t.Context(), port.TokenRequest{})
					reasonIs(t, err, want)
				}
				_, err := f.account(&current).SignIn(t.Context(), port.SignInOptions{})
				again, before := reasonIs(t, err, want), failureOf(t, first)
				if again.GetProviderErrorCode() != before.GetProviderErrorCode() || again.GetRemedyActor() != before.GetRemedyActor() {
					t.Errorf("after a restart:\n%v, was\n%v", again, before)
				}
				// It says that nothing was tried, and how to try the password again.
				for _, part := range []string{"User authentication failed - The password was not tried now", "`understudy forget sign-in " + f.config.Tenant + " --config FILE`"} {
					if !strings.Contains(again.GetMessage(), part) || strings.Contains(before.GetMessage(), part) {
						t.Errorf("%q: %s; was %s", part, again.GetMessage(), before.GetMessage())
					}
				}
				if n := len(f.requests(passwords)); n != 1 {
					t.Fatalf("the password was sent %d times", n)
				}
				current += "2"
				if _, err := f.account(&current).SignIn(t.Context(), port.SignInOptions{}); err != nil || len(f.requests(passwords)) != 2 {
					t.Errorf("a new password: %v, %d requests", err, len(f.requests(passwords)))
				}
				f.noMarker()
				for path, content := range f.files() {
					if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 || len(content) == 0 {
						t.Errorf("%s: %v, %v", path, info, err)
					}
				}
			})
		})
	}
}

// TestAPolicyIsNotThePasswordsFault: these are tried again in the next sync.
func TestAPolicyIsNotThePasswordsFault(t *testing.T) {
	for want, answer := range map[string]reply{
		"MFA_REQUIRED":               refused(400, "interaction_required", "basic_action", 50076),
		"CONDITIONAL_ACCESS_BLOCKED": refused(400, "invalid_grant", "message_only", 53003),
		"ACCOUNT_DISABLED":           refused(400, "invalid_grant", "", 50057),
		"PROVIDER_UNAVAILABLE":       {status: 503},
		"THROTTLED":                  {status: 429, retryAfter: "1"},
		"SIGN_IN_TIMED_OUT":          {hang: true},
	} {
		t.Run(want, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				u := f.user(ServiceAccount)
				f.answer(passwords, answer)
				_, err := u.SignIn(t.Context(), port.SignInOptions{})
				reasonIs(t, err, want)
				if n := len(f.requests(passwords)); n != 1 {
					t.Errorf("the password was sent %d times in one sign-in", n)
				}
				if _, err := u.SignIn(t.Context(), port.SignInOptions{}); err != nil {
					t.Errorf("the next sync: %v", err)
				}
			})
		})
	}
}

// TestAPasswordIsSentOnce also when the answer is lost: it may have been read.
func TestAPasswordIsSentOnce(t *testing.T) {
	for name, answer := range map[string]reply{"dropped": {drop: true}, "500": {status: 500}, "429": {status: 429}} {
		t.Run(name, func(t *testing.T) {
			f := newTLSFixture(t)
			f.answer(passwords, answer, refused(400, "invalid_grant", "", 50126))
			_, err := f.user(ServiceAccount).SignIn(t.Context(), port.SignInOptions{})
			if !failureOf(t, err).GetRetryable() {
				t.Error(err)
			}
			if n := len(f.requests(passwords)); n != 1 {
				t.Errorf("the password was sent %d times", n)
			}
		})
	}
}

// TestAPasswordWhoseAnswerIsLate is given up by the transport before the deadline.
func TestAPasswordWhoseAnswerIsLate(t *testing.T) {
	f := newTLSFixture(t)
	f.config.HTTPClient.Transport.(*http.Transport).ResponseHeaderTimeout = 300 * time.Millisecond
	f.answerAlways(passwords, reply{hang: true})
	_, err := f.user(ServiceAccount).SignIn(t.Context(), port.SignInOptions{})
	reasonIs(t, err, "SIGN_IN_TIMED_OUT")
	if n := len(f.requests(passwords)); n != 1 {
		t.Errorf("the password was sent %d times", n)
	}
}

func TestManyCallersSendAWrongPasswordOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.answerAlways(passwords, refused(400, "invalid_grant", "", 50126))
		u := f.user(ServiceAccount)
		_, errs := together(20, func(int) (port.Token, error) { return u.Token(t.Context(), port.TokenRequest{}) })
		for _, err := range errs {
			reasonIs(t, err, "INVALID_CREDENTIAL")
		}
		if n := len(f.requests(passwords)); n != 1 {
			t.Errorf("the password was sent %d times", n)
		}
	})
}

// TestARefusalThatCannotBeWritten is remembered in memory.
func TestARefusalThatCannotBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		if err := os.WriteFile(f.config.CacheDir, nil, 0o600); err != nil { // a file where the folder should be
			t.Fatal(err)
		}
		f.answerAlways(passwords, refused(400, "invalid_grant", "", 50126))
		u := f.user(ServiceAccount)
		for range 3 {
			_, err := u.SignIn(t.Context(), port.SignInOptions{})
			reasonIs(t, err, "INVALID_CREDENTIAL")
		}
		if n := len(f.requests(passwords)); n != 1 {
			t.Errorf("the password was sent %d times", n)
		}
		if !strings.Contains(f.log.String(), "until the next start only") {
			t.Error("nobody was told")
		}
	})
}

func TestAPasswordThatCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		own := UserConfig{ClientID: clientID, Username: username, Method: ServiceAccount, SignInTimeout: time.Minute}
		for name, read := range map[string]func() (string, error){
			"an error": func() (string, error) { return "", errors.New("no such file") },
			"empty":    func() (string, error) { return "", nil },
		} {
			own.Password = read
			_, err := f.userWith(own).SignIn(t.Context(), port.SignInOptions{})
			if failure := reasonIs(t, err, "INVALID_CREDENTIAL"); failure.GetRemedyActor() != operator {
				t.Errorf("%s: %v", name, failure)
			}
		}
		if n := len(f.requests(passwords)); n != 0 {
			t.Errorf("%d requests", n)
		}
	})
}

// TestAFederatedAccount would send its password to another identity provider.
func TestAFederatedAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.answer(realm, reply{status: 200, body: map[string]any{
			"account_type": "Federated", "domain_name": "contoso.example", "cloud_instance_name": "fake", "cloud_audience_urn": "urn:fake",
			"federation_protocol": "WSTrust", "federation_metadata_url": "https://adfs.contoso.example/mex/" + marker,
		}})
		_, err := f.user(ServiceAccount).SignIn(t.Context(), port.SignInOptions{})
		if failure := reasonIs(t, err, "SIGN_IN_FLOW_BLOCKED"); failure.GetRemedyActor() != operator {
			t.Error(failure)
		}
		if len(f.requests(passwords)) != 0 || len(f.requests("/mex/"+marker)) != 0 {
			t.Error("another host was asked")
		}
	})
}

func TestAServiceAccountOfAnotherTenant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.says(func(e *entra) { e.home = otherTenant })
		_, err := f.user(ServiceAccount).SignIn(t.Context(), port.SignInOptions{})
		reasonIs(t, err, "ACCOUNT_NOT_FOUND")
	})
}
