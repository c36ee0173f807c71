package identity

import (
	"encoding/pem"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"understudy.internal/internal/port"
)

// newTLSFixture is a fixture whose fake is a real server, trusted by a CA file.
func newTLSFixture(t *testing.T) *fixture {
	t.Helper()
	f := newFixture(t)
	server := httptest.NewUnstartedServer(f.entra)
	server.Config.ErrorLog = slog.NewLogLogger(slog.NewTextHandler(f.log, nil), slog.LevelInfo)
	server.StartTLS()
	t.Cleanup(server.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	content := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(ca, content, 0o600); err != nil {
		t.Fatal(err)
	}
	f.base, f.interval = server.URL, 1
	f.config.Cloud = Cloud{Name: "lab", Authority: server.URL, Graph: "https://graph.fake.example", CAFile: ca}
	client, err := NewHTTPClient(f.config.Cloud)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.CloseIdleConnections)
	f.config.HTTPClient = client
	return f
}

// TestAHangingTokenEndpoint ends with a timeout, whatever the method.
func TestAHangingTokenEndpoint(t *testing.T) {
	f := newTLSFixture(t)
	for _, kind := range []string{applications, passwords, refresh} {
		f.answerAlways(kind, reply{hang: true})
	}
	s, err := NewServicePrincipal(f.config, ServicePrincipalConfig{
		ClientID: clientID, Secret: func() (string, error) { return secret, nil }, SignInTimeout: 200 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	own := UserConfig{
		ClientID: clientID, Username: username, Method: ServiceAccount, SignInTimeout: 200 * time.Millisecond,
		Password: func() (string, error) { return password, nil },
	}
	account := f.userWith(own)
	own.Method, own.SignInTimeout = Delegated, 20*time.Second
	if _, err := f.userWith(own).SignIn(t.Context(), prompts(new([]*prompt))); err != nil {
		t.Fatal(err)
	}
	own.SignInTimeout = 200 * time.Millisecond
	for name, identity := range map[string]port.Identity{"service principal": s, "service account": account, "delegated": f.userWith(own)} {
		t.Run(name, func(t *testing.T) {
			begun := time.Now()
			_, err := identity.SignIn(t.Context(), prompts(new([]*prompt)))
			failure := reasonIs(t, err, "SIGN_IN_TIMED_OUT")
			if !failure.GetRetryable() || failure.GetRemedyActor() != nobody {
				t.Errorf("no person was late: %v", failure)
			}
			if took := time.Since(begun); took < 200*time.Millisecond || took > 5*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

// TestNoRedirectIsFollowed keeps the form with the secret at home.
func TestNoRedirectIsFollowed(t *testing.T) {
	asked := 0
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked++ }))
	t.Cleanup(elsewhere.Close)
	f := newTLSFixture(t)
	for _, status := range []int{302, 307, 308} {
		redirect := httptest.NewTLSServer(http.RedirectHandler(elsewhere.URL, status))
		f.config.HTTPClient.Transport.(*http.Transport).TLSClientConfig.RootCAs.AddCert(redirect.Certificate())
		f.config.Cloud.Authority = redirect.URL
		_, err := f.servicePrincipal().SignIn(t.Context(), port.SignInOptions{})
		reasonIs(t, err, "PROVIDER_UNAVAILABLE")
		redirect.Close()
	}
	if asked != 0 {
		t.Error("a redirect was followed")
	}
}

// TestAnUntrustedCertificate is logged in our own words.
func TestAnUntrustedCertificate(t *testing.T) {
	f := newTLSFixture(t)
	client, err := NewHTTPClient(Cloud{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.CloseIdleConnections)
	f.config.HTTPClient = client
	_, err = f.servicePrincipal().SignIn(t.Context(), port.SignInOptions{})
	reasonIs(t, err, "PROVIDER_UNAVAILABLE")
	if want := "the certificate of the sign-in service is not trusted"; !strings.Contains(f.log.String(), want) {
		t.Errorf("the log does not say %q", want)
	}
}
