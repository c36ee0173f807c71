package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

// certificate makes a certificate and its key, in PEM.
func certificate(t *testing.T, key *rsa.PrivateKey, notAfter time.Time) (*x509.Certificate, []byte) {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "understudy"}, NotBefore: notAfter.AddDate(-1, 0, 0), NotAfter: notAfter,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return parsed, append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...)
}

func rsaKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (f *fixture) byCertificate(pem []byte) *ServicePrincipal {
	f.t.Helper()
	s, err := NewServicePrincipal(f.config, ServicePrincipalConfig{
		ClientID: clientID, Certificate: func() ([]byte, error) { return pem, nil },
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

func TestASecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		s := f.servicePrincipal()
		for range 3 {
			if method, err := s.SignIn(t.Context(), port.SignInOptions{}); err != nil || method != bySecret {
				t.Fatalf("%v, %v", method, err)
			}
		}
		sent := f.requests(applications)
		if len(sent) != 3 || sent[0].form.Get("client_secret") != secret || sent[0].form.Get("scope") != "https://graph.fake.example/.default openid offline_access profile" {
			t.Errorf("%d requests, the first %v", len(sent), sent[0].form)
		}
		if n := len(f.requests(openID)); n != 1 {
			t.Errorf("the endpoints were asked for %d times", n)
		}
	})
}

func TestANewSecretIsTakenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		current, failure := secret, error(nil)
		s, err := NewServicePrincipal(f.config, ServicePrincipalConfig{
			ClientID: clientID, Secret: func() (string, error) { return current, failure },
		})
		if err != nil {
			t.Fatal(err)
		}
		f.answer(applications, refused(401, "invalid_client", "", 7000222))
		_, err = s.SignIn(t.Context(), port.SignInOptions{})
		if got := reasonIs(t, err, "CREDENTIAL_EXPIRED"); got.GetRemedyActor() != operator || got.GetMethod() != bySecret {
			t.Error(got)
		}
		current += "2"
		if _, err := s.SignIn(t.Context(), port.SignInOptions{}); err != nil {
			t.Fatal(err)
		}
		if sent := f.requests(applications); sent[1].form.Get("client_secret") != current {
			t.Error("the old secret was sent")
		}
		failure = errors.New("no such file")
		_, err = s.SignIn(t.Context(), port.SignInOptions{})
		reasonIs(t, err, "INVALID_CREDENTIAL")
		current, failure = "", nil
		_, err = s.SignIn(t.Context(), port.SignInOptions{})
		reasonIs(t, err, "INVALID_CREDENTIAL")
		if n := len(f.requests(applications)); n != 2 {
			t.Errorf("%d requests, want 2", n)
		}
	})
}

// TestACertificateThatEnded has the same code as one that is wrong.
func TestACertificateThatEnded(t *testing.T) {
	key := rsaKey(t)
	for want, notAfter := range map[string]time.Time{
		"CREDENTIAL_EXPIRED": time.Now().Add(-time.Hour), "INVALID_CREDENTIAL": time.Now().Add(time.Hour),
	} {
		f := newFixture(t)
		f.answerAlways(applications, refused(401, "invalid_client", "", 700027))
		_, content := certificate(t, key, notAfter)
		_, err := f.byCertificate(content).SignIn(t.Context(), port.SignInOptions{})
		failure := reasonIs(t, err, want)
		if failure.GetMethod() != understudyv1.AuthenticationMethod_AUTHENTICATION_METHOD_CERTIFICATE || failure.GetProviderErrorCode() != "AADSTS700027" {
			t.Error(failure)
		}
	}
}

func TestCertificateFilesThatCannotBeUsed(t *testing.T) {
	key := rsaKey(t)
	_, good := certificate(t, key, time.Now().Add(time.Hour))
	_, other := certificate(t, rsaKey(t), time.Now().Add(time.Hour))
	certificateOnly, keyOnly, _ := strings.Cut(string(other), "-----BEGIN PRIVATE")
	elliptical, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(elliptical)
	if err != nil {
		t.Fatal(err)
	}
	_, goodKey, _ := strings.Cut(string(good), "-----BEGIN PRIVATE")
	for name, content := range map[string]string{
		"nothing":       "",
		"no PEM":        marker,
		"no key":        certificateOnly,
		"only a key":    "-----BEGIN PRIVATE" + keyOnly,
		"another's key": certificateOnly + "-----BEGIN PRIVATE" + goodKey,
		"not RSA":       certificateOnly + string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	} {
		f := newFixture(t)
		_, err := f.byCertificate([]byte(content)).SignIn(t.Context(), port.SignInOptions{})
		reasonIs(t, err, "INVALID_CREDENTIAL")
		if len(f.seen) != 0 {
			t.Errorf("%s: somebody was asked", name)
		}
	}
}

func TestWhatPassesIsTriedAgain(t *testing.T) {
	for name, c := range map[string]struct {
		answers []reply
		took    time.Duration
	}{
		"a 503":                   {[]reply{{status: 503}}, 500 * time.Millisecond},
		"two dropped connections": {[]reply{{drop: true}, {drop: true}}, 1500 * time.Millisecond},
		"429 with Retry-After":    {[]reply{{status: 429, retryAfter: "7"}}, 7 * time.Second},
		"a hanging request":       {[]reply{{hang: true}}, 30*time.Second + 500*time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				f.answer(applications, c.answers...)
				begun := time.Now()
				if _, err := f.servicePrincipal().SignIn(t.Context(), port.SignInOptions{}); err != nil {
					t.Error(err)
				}
				if took := time.Since(begun); took != c.took || len(f.requests(applications)) != len(c.answers)+1 {
					t.Errorf("%v, want %v; %d requests", took, c.took, len(f.requests(applications)))
				}
			})
		})
	}
}

func TestWhatIsNotTriedAgain(t *testing.T) {
	for name, c := range map[string]struct {
		answer         reply
		requests       int
		reason         string
		delay          time.Duration
		within, atMost time.Duration
	}{
		"a refusal":                      {refused(401, "invalid_client", "", 7000215), 1, "INVALID_CREDENTIAL", 0, 0, 0},
		"a fourth 500":                   {reply{status: 500}, 3, "PROVIDER_UNAVAILABLE", time.Minute, 0, 2 * time.Second},
		"longer than we wait":            {reply{status: 429, retryAfter: "600"}, 1, "THROTTLED", 10 * time.Minute, 0, 0},
		"a hanging endpoint to the end":  {reply{hang: true}, 2, "SIGN_IN_TIMED_OUT", time.Minute, time.Minute, time.Minute},
		"a date a day and more in a day": {reply{status: 429, retryAfter: "Wed, 01 Jan 2020 00:00:00 GMT"}, 1, "THROTTLED", 24 * time.Hour, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				f.answerAlways(applications, c.answer)
				begun := time.Now()
				_, err := f.servicePrincipal().SignIn(t.Context(), port.SignInOptions{})
				failure := reasonIs(t, err, c.reason)
				if failure.GetRetryDelay().AsDuration() != c.delay || failure.GetRetryable() != (c.delay > 0) {
					t.Errorf("retry after %v, want %v", failure.GetRetryDelay().AsDuration(), c.delay)
				}
				if took := time.Since(begun); took < c.within || took > c.atMost {
					t.Errorf("it took %v", took)
				}
				if n := len(f.requests(applications)); n != c.requests {
					t.Errorf("%d requests, want %d", n, c.requests)
				}
			})
		})
	}
}

// TestNoWaitBeyondTheDeadline says that an answer is better than a timeout.
func TestNoWaitBeyondTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.answerAlways(applications, reply{status: 503, retryAfter: "15"})
		s := f.servicePrincipal()
		s.config.SignInTimeout = 20 * time.Second
		begun := time.Now()
		_, err := s.SignIn(t.Context(), port.SignInOptions{})
		reasonIs(t, err, "PROVIDER_UNAVAILABLE")
		if took := time.Since(begun); took != 15*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// TestAFailedSignInGivesNoTokenOfBefore also while that would be valid.
func TestAFailedSignInGivesNoTokenOfBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		s := f.servicePrincipal()
		if _, err := s.SignIn(t.Context(), port.SignInOptions{}); err != nil {
			t.Fatal(err)
		}
		f.answerAlways(applications, refused(401, "invalid_client", "", 7000222))
		_, err := s.SignIn(t.Context(), port.SignInOptions{})
		reasonIs(t, err, "CREDENTIAL_EXPIRED")
		_, err = s.Token(t.Context(), port.TokenRequest{})
		reasonIs(t, err, "CREDENTIAL_EXPIRED")
	})
}

func TestATokenOfAnotherTenant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.says(func(e *entra) { e.accessTokenClaim = otherTenant })
		s := f.servicePrincipal()
		_, err := s.SignIn(t.Context(), port.SignInOptions{})
		if failure := reasonIs(t, err, "ACCOUNT_NOT_FOUND"); failure.GetRemedyActor() != operator {
			t.Error(failure)
		}
		if token, err := s.Token(t.Context(), port.TokenRequest{}); err == nil {
			t.Errorf("a token was given out: %v", token)
		}
	})
}

// TestLosingTheServicePrincipal says what it means in mid-run.
func TestLosingTheServicePrincipal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		s := f.servicePrincipal()
		if _, err := s.SignIn(t.Context(), port.SignInOptions{}); err != nil {
			t.Fatal(err)
		}
		token, _ := s.Token(t.Context(), port.TokenRequest{})
		f.answerAlways(applications, refused(401, "invalid_client", "", 7000222))
		_, err := s.Token(t.Context(), port.TokenRequest{Refused: token.Value})
		if failure := reasonIs(t, err, "CREDENTIAL_EXPIRED"); strings.Contains(failure.GetMessage(), "could not start") {
			t.Error(failure)
		}
		_, err = s.SignIn(t.Context(), port.SignInOptions{})
		if failure := reasonIs(t, err, "CREDENTIAL_EXPIRED"); !strings.Contains(failure.GetMessage(), "could not start") {
			t.Error(failure)
		}
	})
}

func TestTheEnvironmentDoesNotChooseARegion(t *testing.T) {
	t.Setenv("MSAL_FORCE_REGION", "westeurope")
	f := newFixture(t)
	if _, err := f.servicePrincipal().SignIn(t.Context(), port.SignInOptions{}); err != nil {
		t.Error(err)
	}
}

func TestNewServicePrincipalRefuses(t *testing.T) {
	f := newFixture(t)
	secretOf := func() (string, error) { return secret, nil }
	certificateOf := func() ([]byte, error) { return nil, nil }
	if _, err := NewServicePrincipal(f.config, ServicePrincipalConfig{ClientID: clientID}); err == nil {
		t.Error("no credential is accepted")
	}
	if _, err := NewServicePrincipal(f.config, ServicePrincipalConfig{ClientID: clientID, Secret: secretOf, Certificate: certificateOf}); err == nil {
		t.Error("two credentials are accepted")
	}
}
