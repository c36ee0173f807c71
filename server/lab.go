package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"understudy.internal/internal/simulator"
	"understudy.internal/internal/tenant"
)

// lab is a simulated tenant with the service beside it, in one process, on
// loopback. The service gets a configuration file like any other: it does not know
// that the tenant is simulated.
type lab struct {
	labConfig
	simulator *simulator.Simulator
	service   *service
	listener  net.Listener
}

// labConfig says where a lab is.
type labConfig struct {
	// Folder holds the CA, the secrets, the configuration file and data_dir.
	Folder string
	// GRPC, Entra and Admin are the addresses of the service, of the simulated
	// tenant and of its admin port.
	GRPC, Entra, Admin string
	// SignInTimeout is that of the delegated tenant.
	SignInTimeout time.Duration
	// Items is how many items a simulated collection has; Latency how long Graph
	// thinks about each answer.
	Items   int
	Latency time.Duration
	// Limits makes the simulated tenant throttle as the real one does. Requests is then
	// the value of limits.requests; without it the service keeps its own.
	Limits   bool
	Requests string
	// Hostile adds items with hostile names and ids.
	Hostile bool
	// Types are the configuration types that are synced; all when empty. Exclude and
	// Filters are those of a tenant's definition.
	Types   []string
	Exclude []string
	Filters tenant.Filters
	// Settings are more sections of the configuration file.
	Settings string
	// Marker is in everything that the simulated tenant keeps secret.
	Marker string
	Logger *slog.Logger
}

// newLab starts the simulator, writes the configuration and opens the service. Run
// the lab, then close it.
func newLab(ctx context.Context, c labConfig) (_ *lab, err error) {
	l := &lab{labConfig: c}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	l.simulator, err = simulator.New(simulator.Config{
		Listen: c.Entra, AdminListen: c.Admin, Directory: c.Folder, Seed: 1, Items: c.Items, Latency: c.Latency, Limits: c.Limits,
		Marker: c.Marker, Hostile: c.Hostile, Logger: c.Logger,
	})
	if err != nil {
		return nil, err
	}
	if err := l.simulator.Start(ctx); err != nil {
		return nil, fmt.Errorf("starting the simulated tenant: %w", err)
	}
	if err := l.writeFiles(); err != nil {
		return nil, err
	}
	cfg, err := loadConfig(l.configFile())
	if err != nil {
		return nil, err
	}
	if l.service, err = newService(ctx, cfg, c.Logger); err != nil {
		return nil, err
	}
	var listen net.ListenConfig
	if l.listener, err = listen.Listen(ctx, "tcp", cfg.GRPC.Listen); err != nil {
		return nil, fmt.Errorf("listening: %w", err)
	}
	return l, nil
}

// run serves until ctx is done, and calls play when the service takes calls; the
// lab ends when play does.
func (l *lab) run(ctx context.Context, play func(context.Context) error) error {
	group, ctx := errgroup.WithContext(ctx)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	group.Go(func() error { return l.service.run(ctx, l.listener) })
	group.Go(func() error {
		defer stop()
		return play(ctx)
	})
	return group.Wait()
}

func (l *lab) close() {
	if l.listener != nil {
		l.listener.Close() // closed already when it served
	}
	if l.service != nil {
		l.service.close()
	}
	if l.simulator != nil {
		l.simulator.Close()
	}
}

func (l *lab) configFile() string { return filepath.Join(l.Folder, "understudy.yaml") }

// address is where the service is.
func (l *lab) address() string { return l.listener.Addr().String() }

// repository is the folder of a tenant's backup.
func (l *lab) repository(tenant string) string {
	return filepath.Join(l.Folder, "data", "repositories", tenant+".git")
}

// writeFiles writes the configuration of two tenants: contoso, whose user is a
// service account, and fabrikam, whose user signs in with a device code. Both are
// the same simulated directory.
func (l *lab) writeFiles() error {
	account := l.simulator.Account()
	err := errors.Join(
		os.MkdirAll(l.Folder, 0o700),
		os.WriteFile(filepath.Join(l.Folder, "client-secret"), []byte(account.ClientSecret+"\n"), 0o600),
		os.WriteFile(filepath.Join(l.Folder, "password"), []byte(account.Password+"\n"), 0o600),
	)
	if err != nil {
		return fmt.Errorf("writing the lab's files: %w", err)
	}
	selection, err := l.selection()
	if err != nil {
		return fmt.Errorf("writing the lab's configuration: %w", err)
	}
	content := fmt.Sprintf(labConfiguration, l.GRPC, filepath.Join(l.Folder, "data"), l.simulator.URL(),
		account.DirectoryID, account.ClientID, account.Username, l.SignInTimeout, selection, l.requests(), l.Settings)
	return os.WriteFile(l.configFile(), []byte(content), 0o600)
}

// selection is what the definitions of the tenants select, a line for each key that
// is set: JSON is YAML.
func (l *lab) selection() (string, error) {
	var lines strings.Builder
	for _, key := range []struct {
		name  string
		set   bool
		value any
	}{
		{"configuration_types", len(l.Types) > 0, l.Types},
		{"exclude", len(l.Exclude) > 0, l.Exclude},
		{"filters", len(l.Filters) > 0, l.Filters},
	} {
		if !key.set {
			continue
		}
		value, err := json.Marshal(key.value)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&lines, "    %s: %s\n", key.name, value)
	}
	return lines.String(), nil
}

// requests is the value of limits.requests.
func (l *lab) requests() string {
	switch {
	case l.Requests != "":
		return l.Requests
	case l.Limits:
		return "{}"
	}
	// A tenant without limits does not mind being asked fast; Microsoft's would.
	const fast = "{requests: 100000, per: 1s}"
	return "{conditional-access: " + fast + ", directory: " + fast + ", entra: " + fast + ", intune: " + fast + "}"
}

const labConfiguration = `# Written by understudy: a simulated tenant to play with.
grpc: {listen: "%[1]s"}
data_dir: "%[2]s"
limits:
  requests: %[9]s
%[10]sclouds:
  lab: {authority: "%[3]s", graph: "%[3]s", ca_file: ca.pem}
tenants:
  - id: contoso
    display_name: Contoso
    directory_id: %[4]s
    cloud: lab
%[8]s    service_principal:
      client_id: %[5]s
      client_secret: {file: client-secret}
    user:
      method: service_account
      username: %[6]s
      password: {file: password}
      sign_in_timeout: 10s
  - id: fabrikam
    display_name: Fabrikam
    directory_id: %[4]s
    cloud: lab
%[8]s    service_principal:
      client_id: %[5]s
      client_secret: {file: client-secret}
    user:
      method: delegated
      username: %[6]s
      sign_in_timeout: %[7]s
`
