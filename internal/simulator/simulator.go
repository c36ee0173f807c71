// Package simulator is a Microsoft 365 tenant to demo and test against: Microsoft
// Entra ID and Microsoft Graph, as a real HTTPS server with a certificate
// authority of its own. Nothing in the product knows that it is simulated.
//
// In: requests over TLS, and over a plain admin port what should go wrong. Out:
// deterministic answers: the same seed gives the same tenant, at any size, because
// an item is made from its id when it is asked for. The paths, their kinds and
// permissions are those of package facts. The simulator owns its listeners, and
// binds to loopback only.
package simulator

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"understudy.internal/internal/facts"
)

// Config is what a simulated tenant is. Zero values get the defaults.
type Config struct {
	// Listen and AdminListen are loopback addresses; a free port.
	Listen, AdminListen string
	// Directory is where `ca.pem` is written; nowhere when empty.
	Directory string
	// Seed makes the tenant. Items is how many items a collection has; 4. Children
	// is the most that a collection below an item has; 2.
	Seed            uint64
	Items, Children int
	// Counts overrides Items for collections, by path with version: `/v1.0/groups`.
	Counts map[string]int
	// PageSize is how many items a page has when nobody asks for less; 100.
	PageSize int
	// Latency is waited before each answer of Graph; once for a batch.
	Latency time.Duration
	// Hold keeps Graph from answering until it is closed; nil: it answers.
	Hold <-chan struct{}
	// Hostile makes the first items of every collection ones with names and ids
	// that a backup must survive: `../../x`, `CON`, 1,000 characters.
	Hostile bool
	// Limits makes Graph throttle as it documents for Conditional Access, Intune, and,
	// by resource units, the directory of a small tenant.
	Limits bool
	// NotAvailable lists paths, as in [Scenario], that the tenant does not have.
	NotAvailable []string
	// ApplicationRoles and DelegatedScopes are the permissions that were granted;
	// all that Microsoft documents when nil.
	ApplicationRoles, DelegatedScopes []string
	// The tenant and its accounts.
	DirectoryID, ClientID, ClientSecret, Username, Password string
	// Certificates may sign client assertions.
	Certificates []*x509.Certificate
	// TokenLifetime is how long access tokens are valid; 1 hour.
	TokenLifetime time.Duration
	// Marker is put into every token, code, secret and description, so that a test
	// finds what leaks; `SIM`.
	Marker string
	Logger *slog.Logger
}

// Simulator is a simulated tenant. Close it.
type Simulator struct {
	config      Config
	logger      *slog.Logger
	ca          *authority
	key         []byte
	trees       map[string]*node
	grants      map[string]map[string]bool
	unavailable []pathPattern
	counts      map[uint64]int
	limits      *limits

	listener, admin net.Listener
	servers         []*http.Server
	// work is the servers and the requests that they answer.
	work   sync.WaitGroup
	closed chan struct{}
	close  sync.Once

	turn   atomic.Uint64
	active atomic.Pointer[[]*active]
	data   data
	deltas deltas
	mu     sync.Mutex
	state
}

// New returns a tenant that does not listen yet.
func New(config Config) (*Simulator, error) {
	if err := config.complete(); err != nil {
		return nil, err
	}
	endpoints, err := facts.Endpoints()
	if err != nil {
		return nil, err
	}
	ca, err := newAuthority()
	if err != nil {
		return nil, err
	}
	s := &Simulator{
		config: config, logger: config.Logger, ca: ca, key: make([]byte, 32), closed: make(chan struct{}),
		limits: &limits{on: config.Limits, windows: map[string]*window{}},
		trees:  map[string]*node{}, counts: map[uint64]int{},
		grants: map[string]map[string]bool{application: set(config.ApplicationRoles), user: set(config.DelegatedScopes)},
	}
	if _, err := rand.Read(s.key); err != nil {
		return nil, fmt.Errorf("making the simulator's key: %w", err)
	}
	for _, version := range []string{"v1.0", "beta"} {
		s.trees[version] = newTree(version, endpoints, config.DirectoryID)
	}
	for _, path := range config.NotAvailable {
		s.unavailable = append(s.unavailable, parsePattern(path))
	}
	s.Reset()
	for path, n := range config.Counts {
		if err := s.SetCount(path, n); err != nil {
			return nil, err
		}
	}
	s.counts = s.data.counts
	s.Reset()
	return s, nil
}

// set returns the names as a set; nil for nil.
func set(names []string) map[string]bool {
	if names == nil {
		return nil
	}
	out := make(map[string]bool, len(names))
	for _, name := range names {
		out[name] = true
	}
	return out
}

// complete sets the defaults.
func (c *Config) complete() error {
	for _, d := range []struct {
		field    *string
		standard string
	}{
		{&c.Listen, "127.0.0.1:0"},
		{&c.AdminListen, "127.0.0.1:0"},
		{&c.DirectoryID, "22222222-2222-4222-8222-222222222222"},
		{&c.ClientID, "33333333-3333-4333-8333-333333333333"},
		{&c.ClientSecret, "simulated-client-secret"},
		{&c.Username, "backup@contoso.example"},
		{&c.Password, "simulated-password"},
		{&c.Marker, "SIM"},
	} {
		if *d.field == "" {
			*d.field = d.standard
		}
	}
	for _, d := range []struct {
		field    *int
		standard int
	}{{&c.Items, 4}, {&c.Children, 2}, {&c.PageSize, 100}} {
		if *d.field == 0 {
			*d.field = d.standard
		}
		if *d.field < 0 {
			return errors.New("the simulator's sizes must not be negative")
		}
	}
	if c.TokenLifetime == 0 {
		c.TokenLifetime = time.Hour
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return errors.Join(loopback(c.Listen), loopback(c.AdminListen))
}

func loopback(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("the address %q is not host:port", address)
	}
	if !isLoopback(host) {
		return fmt.Errorf("the simulator listens on loopback only, not on %q", address)
	}
	return nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

// Start listens, and returns when requests are answered. When it fails nothing is
// left open.
func (s *Simulator) Start(ctx context.Context) error {
	var config net.ListenConfig
	main, err := config.Listen(ctx, "tcp", s.config.Listen)
	if err != nil {
		return fmt.Errorf("listening for Entra and Graph: %w", err)
	}
	admin, err := config.Listen(ctx, "tcp", s.config.AdminListen)
	if err != nil {
		return errors.Join(fmt.Errorf("listening for the admin port: %w", err), main.Close())
	}
	if err := s.writeCA(); err != nil {
		return errors.Join(err, main.Close(), admin.Close())
	}
	s.listener, s.admin = main, admin
	tenant := &http.Server{
		Handler: s.tracked(s.handler()), TLSConfig: s.ca.serverConfig(), ReadHeaderTimeout: 10 * time.Second,
		ErrorLog: slog.NewLogLogger(s.logger.Handler(), slog.LevelDebug),
	}
	control := &http.Server{Handler: s.tracked(s.adminHandler()), ReadHeaderTimeout: 10 * time.Second}
	s.servers = []*http.Server{tenant, control}
	s.work.Go(func() { s.served(tenant.ServeTLS(main, "", "")) })
	s.work.Go(func() { s.served(control.Serve(admin)) })
	return nil
}

func (s *Simulator) writeCA() error {
	if s.config.Directory == "" {
		return nil
	}
	if err := os.MkdirAll(s.config.Directory, 0o755); err != nil {
		return fmt.Errorf("making the simulator's directory: %w", err)
	}
	if err := os.WriteFile(filepath.Join(s.config.Directory, "ca.pem"), s.ca.pem, 0o644); err != nil {
		return fmt.Errorf("writing the simulator's CA: %w", err)
	}
	return nil
}

func (s *Simulator) served(err error) {
	if !errors.Is(err, http.ErrServerClosed) {
		s.logger.Error("the simulator stopped serving", "error", err)
	}
}

// tracked makes Close wait for requests.
func (s *Simulator) tracked(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.begin() {
			panic(http.ErrAbortHandler)
		}
		defer s.work.Done()
		next.ServeHTTP(w, r)
	})
}

// begin counts a request, unless the simulator is closed.
func (s *Simulator) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.closed:
		return false
	default:
		s.work.Add(1)
		return true
	}
}

// URL is where Entra and Graph are, after Start.
func (s *Simulator) URL() string { return "https://" + s.listener.Addr().String() }

// AdminURL is where the admin port is, after Start.
func (s *Simulator) AdminURL() string { return "http://" + s.admin.Addr().String() }

// CAPEM is the certificate that clients have to trust.
func (s *Simulator) CAPEM() []byte { return s.ca.pem }

// Account is who may sign in, and what the tenant puts into all that is secret.
type Account struct {
	DirectoryID, ClientID, ClientSecret, Username, Password, Marker string
}

// Account returns the credentials of the tenant, defaults included.
func (s *Simulator) Account() Account {
	c := &s.config
	return Account{c.DirectoryID, c.ClientID, c.ClientSecret, c.Username, c.Password, c.Marker}
}

// Close stops listening, ends the requests that hang, and waits for all. It may be
// called again, and without Start.
func (s *Simulator) Close() {
	s.close.Do(func() {
		s.mu.Lock()
		close(s.closed)
		s.mu.Unlock()
		for _, server := range s.servers {
			if err := server.Close(); err != nil {
				s.logger.Debug("closing a listener", "error", err)
			}
		}
	})
	s.work.Wait()
}

func (s *Simulator) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{tenant}/v2.0/.well-known/openid-configuration", s.openID)
	mux.HandleFunc("POST /{tenant}/oauth2/v2.0/token", s.token)
	mux.HandleFunc("POST /{tenant}/oauth2/v2.0/devicecode", s.deviceCode)
	mux.HandleFunc("GET /common/userrealm/{user}", s.userRealm)
	mux.HandleFunc("GET /common/UserRealm/{user}", s.userRealm)
	mux.HandleFunc("GET /devicelogin", s.devicePage)
	mux.HandleFunc("POST /devicelogin", s.deviceAnswer)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Not through the mux, which would clean `..` out of paths that name an item.
		if strings.HasPrefix(r.URL.Path, "/v1.0/") || strings.HasPrefix(r.URL.Path, "/beta/") {
			s.serveGraph(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}
