// Package simulator is a Microsoft 365 tenant to demo and test against: Microsoft
// Entra ID and Microsoft Graph, as a real HTTPS server with a certificate
// authority of its own. Nothing in the product knows that it is simulated.
//
// In: requests over TLS, and over a plain admin port what should go wrong. Out:
// deterministic answers: the same seed gives the same tenant, at any size. The
// simulator owns its listeners, and binds to loopback only.
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
	"sync"
	"time"

	"understudy.internal/internal/facts"
)

// Config is what a simulated tenant is. Zero values get the defaults.
type Config struct {
	// Listen and AdminListen are loopback addresses; a free port.
	Listen, AdminListen string
	// Directory is where `ca.pem` is written; nowhere when empty.
	Directory string
	// Seed makes the tenant; Items is how many items a collection has; 4.
	Seed  uint64
	Items int
	// Counts overrides Items for collections, by path with version:
	// `/v1.0/groups`.
	Counts map[string]int
	// Latency is waited before each answer.
	Latency time.Duration
	// The tenant and its accounts.
	DirectoryID, ClientID, ClientSecret, Username, Password string
	// Certificates may sign client assertions.
	Certificates []*x509.Certificate
	// Marker is put into every token, code and description, so that a test finds
	// what leaks; `SIM`.
	Marker string
	Logger *slog.Logger
}

// Simulator is a simulated tenant. Close it.
type Simulator struct {
	config Config
	logger *slog.Logger
	index  *facts.Index
	ca     *authority
	key    []byte

	listener, admin net.Listener
	servers         []*http.Server
	work            sync.WaitGroup

	mu sync.Mutex
	state
}

// New returns a tenant that does not listen yet.
func New(config Config) (*Simulator, error) {
	set := func(field *string, standard string) {
		if *field == "" {
			*field = standard
		}
	}
	set(&config.Listen, "127.0.0.1:0")
	set(&config.AdminListen, "127.0.0.1:0")
	set(&config.DirectoryID, "22222222-2222-4222-8222-222222222222")
	set(&config.ClientID, "33333333-3333-4333-8333-333333333333")
	set(&config.ClientSecret, "simulated-client-secret")
	set(&config.Username, "backup@contoso.example")
	set(&config.Password, "simulated-password")
	set(&config.Marker, "SIM")
	if config.Items == 0 {
		config.Items = 4
	}
	for _, address := range []string{config.Listen, config.AdminListen} {
		if err := loopback(address); err != nil {
			return nil, err
		}
	}
	endpoints, err := facts.Endpoints()
	if err != nil {
		return nil, err
	}
	ca, err := newAuthority()
	if err != nil {
		return nil, err
	}
	s := &Simulator{config: config, logger: config.Logger, index: facts.NewIndex(endpoints), ca: ca, key: make([]byte, 32)}
	if s.logger == nil {
		s.logger = slog.New(slog.DiscardHandler)
	}
	if _, err := rand.Read(s.key); err != nil {
		return nil, err
	}
	s.Reset()
	return s, nil
}

func loopback(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("the address %q is not host:port", address)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("the simulator listens on loopback only, not on %q", address)
	}
	return nil
}

// Start listens, and returns when requests are answered.
func (s *Simulator) Start(ctx context.Context) error {
	var config net.ListenConfig
	var err error
	if s.listener, err = config.Listen(ctx, "tcp", s.config.Listen); err != nil {
		return err
	}
	if s.admin, err = config.Listen(ctx, "tcp", s.config.AdminListen); err != nil {
		return errors.Join(err, s.listener.Close())
	}
	if s.config.Directory != "" {
		if err := os.MkdirAll(s.config.Directory, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(s.config.Directory, "ca.pem"), s.ca.pem, 0o644); err != nil {
			return err
		}
	}
	main := &http.Server{Handler: s.handler(), TLSConfig: s.ca.serverConfig(), ReadHeaderTimeout: 10 * time.Second}
	admin := &http.Server{Handler: s.adminHandler(), ReadHeaderTimeout: 10 * time.Second}
	s.servers = []*http.Server{main, admin}
	s.work.Go(func() { s.served(main.ServeTLS(s.listener, "", "")) })
	s.work.Go(func() { s.served(admin.Serve(s.admin)) })
	return nil
}

func (s *Simulator) served(err error) {
	if !errors.Is(err, http.ErrServerClosed) {
		s.logger.Error("the simulator stopped serving", "error", err)
	}
}

// URL is where Entra and Graph are; AdminURL where the admin port is.
func (s *Simulator) URL() string { return "https://" + s.listener.Addr().String() }

// AdminURL is where the admin port is.
func (s *Simulator) AdminURL() string { return "http://" + s.admin.Addr().String() }

// CAPEM is the certificate that clients have to trust.
func (s *Simulator) CAPEM() []byte { return s.ca.pem }

// Close stops listening and waits for the servers.
func (s *Simulator) Close() {
	s.mu.Lock()
	close(s.closed)
	s.mu.Unlock()
	for _, server := range s.servers {
		server.Close()
	}
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
	mux.HandleFunc("POST /v1.0/$batch", s.batch)
	mux.HandleFunc("POST /beta/$batch", s.batch)
	mux.HandleFunc("GET /v1.0/", s.graph)
	mux.HandleFunc("GET /beta/", s.graph)
	return mux
}
