package identity

import (
	"context"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
	"time"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
	"understudy.internal/internal/simulator"
)

// simulated is a fixture against the simulated tenant, over the network.
func simulated(t *testing.T, certificates ...*x509.Certificate) (*fixture, *simulator.Simulator) {
	t.Helper()
	f := newFixture(t)
	tenant, err := simulator.New(simulator.Config{
		DirectoryID: directory, ClientID: clientID, ClientSecret: secret, Username: username, Password: password,
		Marker: marker, Certificates: certificates,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := tenant.Start(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tenant.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, tenant.CAPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	f.config.Cloud = Cloud{Name: "lab", Authority: tenant.URL(), Graph: tenant.URL(), CAFile: ca}
	client, err := NewHTTPClient(f.config.Cloud)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.CloseIdleConnections)
	f.config.HTTPClient = client
	return f, tenant
}

// completed answers the prompt as a person on the page does.
func completed(t *testing.T, tenant *simulator.Simulator, complete bool) port.SignInOptions {
	return port.SignInOptions{AllowPrompt: true, Prompt: func(p *prompt) {
		if err := tenant.AnswerDeviceCode(p.GetUserCode(), complete); err != nil {
			t.Error(err)
		}
	}}
}

func TestSimulatedTenant(t *testing.T) {
	registered, content := certificate(t, rsaKey(t), time.Now().Add(time.Hour))
	f, tenant := simulated(t, registered)
	if method, err := f.servicePrincipal().SignIn(t.Context(), port.SignInOptions{}); err != nil || method != bySecret {
		t.Errorf("secret: %v, %v", method, err)
	}
	if _, err := f.byCertificate(content).SignIn(t.Context(), port.SignInOptions{}); err != nil {
		t.Errorf("certificate: %v", err)
	}
	_, unknown := certificate(t, rsaKey(t), time.Now().Add(time.Hour))
	_, err := f.byCertificate(unknown).SignIn(t.Context(), port.SignInOptions{})
	reasonIs(t, err, "INVALID_CREDENTIAL")
	if method, err := f.user(ServiceAccount).SignIn(t.Context(), port.SignInOptions{}); err != nil || method != byPasswords {
		t.Errorf("service account: %v, %v", method, err)
	}
	if method, err := f.user(Delegated).SignIn(t.Context(), completed(t, tenant, true)); err != nil || method != byDeviceCode {
		t.Errorf("device code: %v, %v", method, err)
	}
	if method, err := f.user(Delegated).SignIn(t.Context(), port.SignInOptions{}); err != nil || method != byCache {
		t.Errorf("cached sign-in: %v, %v", method, err)
	}
}

func TestSimulatedScenarios(t *testing.T) {
	f, tenant := simulated(t)
	delegated := f.user(Delegated)
	if _, err := delegated.SignIn(t.Context(), completed(t, tenant, true)); err != nil {
		t.Fatal(err)
	}
	allowed := completed(t, tenant, true)
	cases := []struct {
		scenario string
		identity port.Identity
		options  port.SignInOptions
		reason   string
		method   understudyv1.AuthenticationMethod
	}{
		{"conditional-access-block", delegated, port.SignInOptions{}, "CONDITIONAL_ACCESS_BLOCKED", byCache},
		{"conditional-access-block", delegated, allowed, "CONDITIONAL_ACCESS_BLOCKED", byDeviceCode},
		{"mfa-required", f.user(ServiceAccount), allowed, "MFA_REQUIRED", byPasswords},
		{"mfa-enrolment-required", delegated, port.SignInOptions{}, "MFA_ENROLLMENT_REQUIRED", byCache},
		{"device-not-compliant", delegated, port.SignInOptions{}, "DEVICE_NOT_COMPLIANT", byCache},
		{"account-disabled", f.user(ServiceAccount), allowed, "ACCOUNT_DISABLED", byPasswords},
		{"refresh-token-expired", delegated, port.SignInOptions{}, "SIGN_IN_EXPIRED", byCache},
		{"secret-expired", f.servicePrincipal(), allowed, "CREDENTIAL_EXPIRED", bySecret},
		{"wrong-password", f.user(ServiceAccount), allowed, "INVALID_CREDENTIAL", byPasswords},
	}
	for _, c := range cases {
		if err := tenant.SetScenarios(simulator.Scenario{Name: c.scenario}); err != nil {
			t.Fatal(err)
		}
		method, err := c.identity.SignIn(t.Context(), c.options)
		if failure := reasonIs(t, err, c.reason); method != c.method || failure.GetMethod() != c.method {
			t.Errorf("%s: %v, %v", c.scenario, method, failure)
		}
	}
	if err := tenant.SetScenarios(); err != nil {
		t.Fatal(err)
	}
	if method, err := delegated.SignIn(t.Context(), port.SignInOptions{}); err != nil || method != byCache {
		t.Errorf("when all is well again: %v, %v", method, err)
	}
	_, err := f.user(ServiceAccount).SignIn(t.Context(), port.SignInOptions{})
	reasonIs(t, err, "INVALID_CREDENTIAL") // the password is as it was
}

func TestSimulatedSignInIsDeclined(t *testing.T) {
	f, tenant := simulated(t)
	method, err := f.user(Delegated).SignIn(t.Context(), completed(t, tenant, false))
	if reasonIs(t, err, "SIGN_IN_DECLINED"); method != byDeviceCode {
		t.Error(method)
	}
}

func TestSimulatedSignInIsNeverCompleted(t *testing.T) {
	f, _ := simulated(t)
	u := f.userWith(UserConfig{ClientID: clientID, Username: username, Method: Delegated, SignInTimeout: 1500 * time.Millisecond})
	method, err := u.SignIn(t.Context(), prompts(new([]*prompt)))
	if reasonIs(t, err, "SIGN_IN_TIMED_OUT"); method != byDeviceCode {
		t.Error(method)
	}
}
