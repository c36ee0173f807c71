package simulator_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"path/filepath"
	"testing"
	"time"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/identity"
	"understudy.internal/internal/port"
	"understudy.internal/internal/simulator"
)

// identities makes the identities of the product for a tenant: MSAL asks it.
func (x *tenant) identities(certificate []byte) (application *identity.ServicePrincipal, account, person *identity.User) {
	x.t.Helper()
	account1 := x.Account()
	config := identity.Config{
		Tenant: "contoso", DirectoryID: account1.DirectoryID, HTTPClient: x.client, CacheDir: filepath.Join(x.t.TempDir(), "tokens"),
		Cloud: identity.Cloud{Name: "lab", Authority: x.URL(), Graph: x.URL()},
	}
	own := identity.ServicePrincipalConfig{ClientID: account1.ClientID}
	if certificate == nil {
		own.Secret = func() (string, error) { return account1.ClientSecret, nil }
	} else {
		own.Certificate = func() ([]byte, error) { return certificate, nil }
	}
	application, err := identity.NewServicePrincipal(config, own)
	if err != nil {
		x.t.Fatal(err)
	}
	user := identity.UserConfig{
		ClientID: account1.ClientID, Username: account1.Username, Method: identity.ServiceAccount, SignInTimeout: 20 * time.Second,
		Password: func() (string, error) { return account1.Password, nil },
	}
	if account, err = identity.NewUser(config, user); err != nil {
		x.t.Fatal(err)
	}
	user.Method, user.Password = identity.Delegated, nil
	if person, err = identity.NewUser(config, user); err != nil {
		x.t.Fatal(err)
	}
	return application, account, person
}

// signIn signs in and uses the token.
func (x *tenant) signIn(who port.Identity, options port.SignInOptions) understudyv1.AuthenticationMethod {
	x.t.Helper()
	method, err := who.SignIn(x.t.Context(), options)
	if err != nil {
		x.t.Fatalf("%s: %v", method, err)
	}
	token, err := who.Token(x.t.Context(), port.TokenRequest{})
	if err != nil {
		x.t.Fatal(err)
	}
	if a := x.get("/v1.0/groups", token.Value); a.status != 200 {
		x.t.Errorf("%s: the token got %d", method, a.status)
	}
	return method
}

// TestMSAL signs in with every grant that the product uses.
func TestMSAL(t *testing.T) {
	t.Parallel()
	certificate, pemText := newCertificate(t)
	x := start(t, simulator.Config{Certificates: []*x509.Certificate{certificate}})
	bySecret, account, person := x.identities(nil)
	byCertificate, _, _ := x.identities(pemText)
	complete := port.SignInOptions{AllowPrompt: true, Prompt: func(p *understudyv1.AuthenticationPrompt) {
		if p.GetUserCode() == "" {
			return
		}
		if a := x.visit(p.GetUserCode(), "complete"); a.status != 200 {
			t.Errorf("the page: %d", a.status)
		}
	}}
	for _, c := range []struct {
		who     port.Identity
		options port.SignInOptions
		want    understudyv1.AuthenticationMethod
	}{
		{bySecret, port.SignInOptions{}, understudyv1.AuthenticationMethod_AUTHENTICATION_METHOD_CLIENT_SECRET},
		{byCertificate, port.SignInOptions{}, understudyv1.AuthenticationMethod_AUTHENTICATION_METHOD_CERTIFICATE},
		{account, port.SignInOptions{}, understudyv1.AuthenticationMethod_AUTHENTICATION_METHOD_USERNAME_PASSWORD},
		{person, complete, understudyv1.AuthenticationMethod_AUTHENTICATION_METHOD_DEVICE_CODE},
		{person, port.SignInOptions{}, understudyv1.AuthenticationMethod_AUTHENTICATION_METHOD_CACHED_SIGN_IN},
	} {
		if got := x.signIn(c.who, c.options); got != c.want {
			t.Errorf("signed in by %s, want %s", got, c.want)
		}
	}
	// A challenge makes the refresh token be redeemed.
	before, err := person.Token(t.Context(), port.TokenRequest{})
	if err != nil {
		t.Fatal(err)
	}
	after, err := person.Token(t.Context(), port.TokenRequest{Refused: before.Value, Claims: `{"access_token":{"nbf":{"essential":true,"value":"1"}}}`})
	if err != nil || after.Value == before.Value {
		t.Errorf("no new token for the challenge: %v", err)
	}
}

// TestMSALIsRefused says that an unknown certificate is none, and that the page's
// refusal reaches the one who polls.
func TestMSALIsRefused(t *testing.T) {
	t.Parallel()
	_, pemText := newCertificate(t)
	x := start(t, simulator.Config{})
	byCertificate, _, person := x.identities(pemText)
	if _, err := byCertificate.SignIn(t.Context(), port.SignInOptions{}); err == nil {
		t.Error("a certificate that is not registered was accepted")
	}
	if err := x.SetScenarios(simulator.Scenario{Name: "conditional-access-block"}); err != nil {
		t.Fatal(err)
	}
	_, err := person.SignIn(t.Context(), port.SignInOptions{AllowPrompt: true, Prompt: func(p *understudyv1.AuthenticationPrompt) {
		if p.GetUserCode() != "" {
			x.visit(p.GetUserCode(), "complete")
		}
	}})
	var authError port.AuthError
	if !errors.As(err, &authError) ||
		authError.AuthFailure().GetReason() != understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_CONDITIONAL_ACCESS_BLOCKED {
		t.Errorf("got %v, want CONDITIONAL_ACCESS_BLOCKED", err)
	}
}

// newCertificate makes a certificate, and its PEM form with the key.
func newCertificate(t *testing.T) (*x509.Certificate, []byte) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	form := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "understudy"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, form, form, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return certificate, append(text, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...)
}
