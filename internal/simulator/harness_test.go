package simulator_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
	"understudy.internal/internal/simulator"
	"understudy.internal/internal/source/graph"
)

func TestMain(m *testing.M) {
	// A check of a property here is several backups of a tenant, so that 30 are made in
	// place of 100, unless the command line says otherwise: `make chaos` does.
	if err := flag.Set("rapid.checks", "30"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// tenant is a simulator with a client that trusts it.
type tenant struct {
	*simulator.Simulator
	t      *testing.T
	client *http.Client
}

func start(t *testing.T, config simulator.Config) *tenant {
	t.Helper()
	s, err := simulator.New(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(s.CAPEM()) {
		t.Fatal("the CA is no certificate")
	}
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 16,
	}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		s.Close()
	})
	return &tenant{Simulator: s, t: t, client: &http.Client{Transport: transport}}
}

const (
	directory = "22222222-2222-4222-8222-222222222222"
	clientID  = "33333333-3333-4333-8333-333333333333"
	username  = "backup@contoso.example"
)

// answer is the JSON of an answer, with its status.
type answer struct {
	status int
	header http.Header
	body   []byte
	json   map[string]any
}

func (x *tenant) do(method, address, token, body string) answer {
	x.t.Helper()
	request, err := http.NewRequestWithContext(x.t.Context(), method, address, strings.NewReader(body))
	if err != nil {
		x.t.Fatal(err)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" && !strings.HasPrefix(body, "{") && !strings.HasPrefix(body, "[") {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	response, err := x.client.Do(request)
	if err != nil {
		x.t.Fatal(err)
	}
	defer response.Body.Close()
	a := answer{status: response.StatusCode, header: response.Header}
	if a.body, err = io.ReadAll(response.Body); err != nil {
		x.t.Fatal(err)
	}
	_ = json.Unmarshal(a.body, &a.json)
	return a
}

// grant asks the token endpoint.
func (x *tenant) grant(form url.Values) answer {
	x.t.Helper()
	return x.do(http.MethodPost, x.URL()+"/"+directory+"/oauth2/v2.0/token", "", "client_id="+clientID+"&"+form.Encode())
}

var (
	bySecret   = url.Values{"grant_type": {"client_credentials"}, "client_secret": {"simulated-client-secret"}}
	byPassword = url.Values{"grant_type": {"password"}, "username": {username}, "password": {"simulated-password"}}
)

func (x *tenant) token(form url.Values) string {
	x.t.Helper()
	a := x.grant(form)
	token, _ := a.json["access_token"].(string)
	if a.status != http.StatusOK || token == "" {
		x.t.Fatalf("no token: %d %s", a.status, a.body)
	}
	return token
}

func (x *tenant) get(path, token string) answer {
	x.t.Helper()
	return x.do(http.MethodGet, x.URL()+path, token, "")
}

func (x *tenant) code(a answer) string {
	e, _ := a.json["error"].(map[string]any)
	code, _ := e["code"].(string)
	return code
}

// bearer is an identity that has one token, or gets a new one from the tenant when
// it is refused.
type bearer struct {
	tenant *tenant
	form   url.Values
	first  string
}

var errRefused = errors.New("the identity was refused")

type authError struct{ error }

func (authError) AuthFailure() *understudyv1.AuthFailure { return &understudyv1.AuthFailure{} }

func (b *bearer) SignIn(context.Context, port.SignInOptions) (understudyv1.AuthenticationMethod, error) {
	return 0, nil
}

func (b *bearer) Token(_ context.Context, r port.TokenRequest) (port.Token, error) {
	if b.first == "" || r.Refused == b.first || r.Claims != "" {
		a := b.tenant.grant(b.form)
		token, _ := a.json["access_token"].(string)
		if token == "" {
			return port.Token{}, authError{errRefused}
		}
		b.first = token
	}
	return port.Token{Value: b.first, ExpiresOn: time.Now().Add(time.Hour)}, nil
}

func (b *bearer) Fail(understudyv1.AuthFailureReason, ...string) error { return authError{errRefused} }

// reader reads types of the catalog as the product does.
type reader struct {
	session     port.Session
	application *bearer
	user        *bearer
}

func (x *tenant) reader() *reader {
	x.t.Helper()
	source, err := graph.New(graph.Config{
		Endpoint: x.URL(), DirectoryID: directory, HTTPClient: x.client, NotAvailable: catalog.DefaultNotAvailable(),
		RetryDelay: time.Millisecond, Limits: unlimited(x.t),
	})
	if err != nil {
		x.t.Fatal(err)
	}
	r := &reader{
		session: source.Open(), application: &bearer{tenant: x, form: bySecret}, user: &bearer{tenant: x, form: byPassword},
	}
	x.t.Cleanup(r.session.Close)
	return r
}

// unlimited lifts the limits that the product keeps of its own accord.
func unlimited(t *testing.T) map[string]graph.Limit {
	t.Helper()
	limits := map[string]graph.Limit{}
	for _, entry := range types(t) {
		limits[entry.GateName()] = graph.Limit{Requests: 1_000_000, Per: time.Second}
	}
	return limits
}

func types(t *testing.T) []*catalog.Type {
	t.Helper()
	c, err := catalog.Load()
	if err != nil {
		t.Fatal(err)
	}
	return c.Types()
}

func typeOf(t *testing.T, id string) *catalog.Type {
	t.Helper()
	for _, entry := range types(t) {
		if entry.ID == id {
			return entry
		}
	}
	t.Fatalf("the catalog has no %s", id)
	return nil
}

func (r *reader) identity(entry *catalog.Type) *bearer {
	if entry.Reader() == understudyv1.Identity_IDENTITY_USER {
		return r.user
	}
	return r.application
}

func (r *reader) read(ctx context.Context, entry *catalog.Type, identity *bearer) ([]port.Item, error) {
	var items []port.Item
	err := r.session.Read(ctx, entry, identity, func(i port.Item) error {
		items = append(items, i)
		return nil
	})
	return items, err
}
