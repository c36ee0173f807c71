package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"understudy.internal/internal/identity"
	"understudy.internal/internal/tenant"
)

// config is the configuration file. Its tags are those of package tenant;
// docs/configuration.md is the page for people, and a test holds the two together.
type config struct {
	// GRPC is the listener.
	GRPC grpcConfig `yaml:"grpc"`
	// DataDir holds everything that the service stores. A relative path begins at
	// the working directory; loadConfig makes it absolute.
	DataDir string `yaml:"data_dir" default:"./data"`
	// DataDirShared declares that all replicas have one data_dir, on a file system
	// that they share.
	DataDirShared bool `yaml:"data_dir_shared" default:"false"`
	// Replica is the name of this process among those that share a journal; empty:
	// the name of the machine.
	Replica string `yaml:"replica"`
	// Lease is how long a process may be silent before others take its syncs over.
	Lease time.Duration `yaml:"lease" default:"30s"`
	// Journal says where syncs and their events are kept.
	Journal journalConfig `yaml:"journal"`
	// HelpBaseURL is where docs/help is published; empty: nowhere.
	HelpBaseURL string `yaml:"help_base_url" default:""`
	// Keys are the keys of the service itself.
	Keys keysConfig `yaml:"keys"`
	// Clouds are clouds beside those of Microsoft, by name.
	Clouds map[string]cloudConfig `yaml:"clouds"`
	// Tenants are the tenants that are backed up.
	Tenants []tenant.Definition `yaml:"tenants" required:"[{id: contoso, …}]"`
	// Limits bound what runs at the same time.
	Limits limitsConfig `yaml:"limits"`
	// Metrics says where metrics are.
	Metrics metricsConfig `yaml:"metrics"`
	// Log says what is logged, and how.
	Log logConfig `yaml:"log"`

	// warnings are for the log: what is not wrong, but should be known.
	warnings []string
	// maxJournal is how many bytes a journal under data_dir may have, for tests of a
	// full disk; 0: no limit.
	maxJournal int64
}

// grpcConfig is the listener.
type grpcConfig struct {
	// Listen is the address. Without TLS only loopback addresses are accepted.
	Listen string `yaml:"listen" default:"127.0.0.1:8443"`
	// TLS secures the listener; nil: plain text.
	TLS *tlsConfig `yaml:"tls"`
	// DrainDelay is how long the server goes on after it said NOT_SERVING.
	DrainDelay time.Duration `yaml:"drain_delay" default:"0s"`
	// DrainTimeout is how long calls may then take to end.
	DrainTimeout time.Duration `yaml:"drain_timeout" default:"10s"`
}

// tlsConfig is the server's certificate, and who may be a client.
type tlsConfig struct {
	// CertificateFile has the server's certificate and its chain in PEM form.
	CertificateFile string `yaml:"certificate_file" required:"/etc/understudy/tls.crt" path:"file"`
	// KeyFile has the private key in PEM form.
	KeyFile string `yaml:"key_file" required:"/etc/understudy/tls.key" path:"file"`
	// ClientCAFile has the certificates, in PEM form, that have to have signed those
	// of clients; empty: clients need none.
	ClientCAFile string `yaml:"client_ca_file" path:"file"`
}

// keysConfig says where the keys of the service are; nil: made under data_dir.
type keysConfig struct {
	// Encryption encrypts what is kept of sign-ins.
	Encryption *tenant.Secret `yaml:"encryption"`
	// Fingerprint makes the fingerprints that stand for secrets in backups.
	Fingerprint *tenant.Secret `yaml:"fingerprint"`
	// FingerprintPrevious are the keys before it, newest first: fingerprints by them
	// stay while their secrets do.
	FingerprintPrevious []tenant.Secret `yaml:"fingerprint_previous"`
}

// cloudConfig is a cloud that is not one of Microsoft's.
type cloudConfig struct {
	// Authority is the address of Entra ID.
	Authority string `yaml:"authority" required:"https://login.example.com"`
	// Graph is the address of Microsoft Graph.
	Graph string `yaml:"graph" required:"https://graph.example.com"`
	// CAFile has certificates, in PEM form, to trust beside those of the system.
	CAFile string `yaml:"ca_file" path:"file"`
}

// limitsConfig bounds what runs at the same time.
type limitsConfig struct {
	// ConcurrentSyncs is how many syncs run at a time in this process.
	ConcurrentSyncs int `yaml:"concurrent_syncs" default:"8"`
	// ConcurrentSyncsTotal is how many run at a time in all replicas; 0: no limit.
	ConcurrentSyncsTotal int `yaml:"concurrent_syncs_total" default:"0"`
	// QueuedSyncs is how many may wait.
	QueuedSyncs int `yaml:"queued_syncs" default:"1000"`
	// SyncTimeout is how long one sync may run.
	SyncTimeout time.Duration `yaml:"sync_timeout" default:"6h"`
	// Requests replaces limits of requests to Microsoft Graph in each tenant, by
	// workload: lower ones leave room for the tenant's other applications.
	Requests map[string]requestLimit `yaml:"requests"`
}

// requestLimit is how many requests may begin within any window of time.
type requestLimit struct {
	// Requests is how many requests may begin.
	Requests int `yaml:"requests" required:"1000"`
	// Per is the length of the window.
	Per time.Duration `yaml:"per" required:"20s"`
}

// logConfig says what is logged, and how.
type logConfig struct {
	// Level is the least severe level that is logged.
	Level slog.Level `yaml:"level" default:"info"`
	// Format is the form of a record.
	Format logFormat `yaml:"format" default:"text"`
}

// logFormat is the form of a log record.
type logFormat string

const (
	logText logFormat = "text"
	logJSON logFormat = "json"
)

// configProblem is one mistake in a configuration file.
type configProblem struct {
	place
	file, key, detail string
}

// String returns `file:line:column: path.to.key: what is wrong. What to write.`
func (p configProblem) String() string {
	if p.key == "" {
		return fmt.Sprintf("%s:%d:%d: %s", p.file, p.line, p.column, p.detail)
	}
	return fmt.Sprintf("%s:%d:%d: %s: %s", p.file, p.line, p.column, p.key, p.detail)
}

// configError is all that is wrong with a configuration file, in the order of its
// lines. It never has a secret.
type configError struct{ problems []configProblem }

// Error returns a line for each problem.
func (e *configError) Error() string { return joinProblems(e.problems, "\n") }

func joinProblems(problems []configProblem, separator string) string {
	lines := make([]string, len(problems))
	for i, p := range problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, separator)
}

// maxConfig bounds the size of a configuration file.
const maxConfig = 16 << 20

// loadConfig reads a configuration file and looks whether the files that it names
// can be read. Secrets that cannot are warnings: the syncs of one tenant fail then,
// and those of the others do not. It fails with a [*configError] when the file is
// wrong.
func loadConfig(path string) (*config, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxConfig+1))
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	if len(content) > maxConfig {
		return nil, fmt.Errorf("reading the configuration: %s is larger than %d bytes", path, maxConfig)
	}
	c, d, err := decodeConfig(path, content)
	if err != nil {
		return nil, err
	}
	d.checkFiles()
	if err := d.failure(); err != nil {
		return nil, err
	}
	c.warnings = append(c.warnings, d.secretWarnings()...)
	// Messages name the whole path: where a relative one begins is not in the file.
	if c.DataDir, err = filepath.Abs(c.DataDir); err != nil {
		return nil, fmt.Errorf("finding data_dir: %w", err)
	}
	return c, nil
}

// parseConfig makes a configuration of the content of a file, whose name is for
// messages and for relative paths. It reads no other file. It fails with a
// [*configError].
func parseConfig(name string, content []byte) (*config, error) {
	c, _, err := decodeConfig(name, content)
	return c, err
}

func decodeConfig(name string, content []byte) (*config, *decoder, error) {
	d := newDecoder(name)
	c := &config{}
	root := d.parse(content)
	if root != nil {
		d.decode(root, reflect.ValueOf(c).Elem(), "", "")
	}
	if root == nil || root.Kind != yaml.MappingNode {
		return nil, d, d.failure()
	}
	if err := d.check(c); err != nil {
		return nil, d, err
	}
	if err := d.failure(); err != nil {
		return nil, d, err
	}
	for i := range c.Tenants {
		c.Tenants[i].Complete()
	}
	return c, d, nil
}

// failure returns the problems found, ordered by line, or nil.
func (d *decoder) failure() error {
	if len(d.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(d.problems, func(a, b configProblem) int {
		return cmp.Or(cmp.Compare(a.line, b.line), cmp.Compare(a.column, b.column))
	})
	return &configError{problems: d.problems}
}

// cloud returns the cloud with a name: one of Microsoft's, or one of the file.
func (c *config) cloud(name string) (identity.Cloud, error) {
	if known, ok := identity.CloudByName(name); ok {
		return known, nil
	}
	own, ok := c.Clouds[name]
	if !ok {
		return identity.Cloud{}, errors.New("no cloud is called " + name)
	}
	return own.identity(name), nil
}

func (c cloudConfig) identity(name string) identity.Cloud {
	return identity.Cloud{
		Name: name, Authority: strings.TrimSuffix(c.Authority, "/"), Graph: strings.TrimSuffix(c.Graph, "/"), CAFile: c.CAFile,
	}
}
