package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/identity"
	"understudy.internal/internal/tenant"
)

func readTestFile(t testing.TB, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// equal compares also what is not exported: where a secret is.
var equal = cmp.AllowUnexported(tenant.Secret{}, config{})

// The file in the issue that asked for the configuration, word for word.
func TestParseConfigOfTheIssue(t *testing.T) {
	c, err := parseConfig("/etc/understudy/understudy.yaml", readTestFile(t, "testdata/config/issue.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	want := &config{
		GRPC:    grpcConfig{Listen: "127.0.0.1:8443", DrainTimeout: 10 * time.Second},
		DataDir: "./data",
		Lease:   30 * time.Second,
		Journal: journalConfig{Retention: 90 * 24 * time.Hour},
		Keys: keysConfig{
			Encryption:  secretFile("/run/secrets/understudy-encryption"),
			Fingerprint: secretFile("/run/secrets/understudy-fingerprint"),
		},
		Clouds: map[string]cloudConfig{
			"lab": {Authority: "https://127.0.0.1:9443", Graph: "https://127.0.0.1:9443", CAFile: "/etc/understudy/lab/ca.pem"},
		},
		Tenants: []tenant.Definition{{
			ID: "contoso", DisplayName: "Contoso", DirectoryID: "22222222-2222-4222-8222-222222222222", Cloud: "lab",
			ConfigurationTypes: []string{"*"},
			ServicePrincipal: tenant.ServicePrincipal{
				ClientID: "33333333-3333-4333-8333-333333333333", ClientSecret: secretVariable(t, "CONTOSO_SECRET"),
			},
			User: &tenant.User{
				Method: tenant.ServiceAccount, Username: "backup@contoso.example", Password: secretVariable(t, "CONTOSO_PASSWORD"),
				ClientID: "33333333-3333-4333-8333-333333333333", SignInTimeout: 5 * time.Minute, AllowPrompt: true,
			},
			AuthenticationPolicy: understudyv1.AuthenticationPolicy_AUTHENTICATION_POLICY_CONTINUE_WITHOUT_USER,
			Repository:           tenant.Repository{Branch: "main"},
		}},
		Limits: limitsConfig{ConcurrentSyncs: 8, QueuedSyncs: 1000, SyncTimeout: 6 * time.Hour},
		Log:    logConfig{Level: slog.LevelInfo, Format: logText},
	}
	if diff := cmp.Diff(want, c, equal); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func secretFile(path string) *tenant.Secret {
	secret := tenant.FromFile(path)
	return &secret
}

func secretVariable(t *testing.T, name string) *tenant.Secret {
	t.Helper()
	secret, err := tenant.FromEnvironment(name)
	if err != nil {
		t.Fatal(err)
	}
	return &secret
}

// The least that a file must have, in JSON as other programs write it: with tabs,
// escaped slashes and surrogate pairs.
func TestParseConfigOfJSON(t *testing.T) {
	const content = "{\n\t\"tenants\": [{\n\t\t\"id\": \"contoso\",\n\t\t\"display_name\": \"Contoso \\ud83d\\ude00 \\\\ud83d\",\n" +
		"\t\t\"directory_id\": \"ABCDEF12-2222-4222-8222-222222222222\",\n" +
		"\t\t\"service_principal\": {\"client_id\": \"33333333-3333-4333-8333-333333333333\", \"client_secret\": {\"file\": \"\\/run\\/x\"}}\n\t}]\n}\n"
	c, err := parseConfig("understudy.json", []byte(content))
	if err != nil {
		t.Fatal(err)
	}
	want := tenant.Definition{
		ID: "contoso", DisplayName: `Contoso 😀 \ud83d`, DirectoryID: "abcdef12-2222-4222-8222-222222222222", Cloud: "global",
		ConfigurationTypes:   []string{"*"},
		ServicePrincipal:     tenant.ServicePrincipal{ClientID: "33333333-3333-4333-8333-333333333333", ClientSecret: secretFile("/run/x")},
		AuthenticationPolicy: understudyv1.AuthenticationPolicy_AUTHENTICATION_POLICY_SERVICE_PRINCIPAL_ONLY,
		Repository:           tenant.Repository{Branch: "main"},
	}
	if diff := cmp.Diff(want, c.Tenants[0], equal); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestParseConfigAccepts(t *testing.T) {
	for name, content := range map[string]string{
		"byte order mark":       "\xef\xbb\xbftenants: [<TENANT>]\n",
		"Windows line ends":     "data_dir: x\r\ntenants: [<TENANT>]\r\n",
		"document markers":      "---\ntenants: [<TENANT>]\n...\n",
		"localhost":             "grpc: {listen: localhost:8443}\ntenants: [<TENANT>]",
		"127.0.0.2":             "grpc: {listen: 127.0.0.2:8443}\ntenants: [<TENANT>]",
		"::1":                   "grpc: {listen: '[::1]:0'}\ntenants: [<TENANT>]",
		"mapped loopback":       "grpc: {listen: '[::ffff:127.0.0.1]:0'}\ntenants: [<TENANT>]",
		"outside with TLS":      "grpc: {listen: ':8443', tls: {certificate_file: a, key_file: b}}\ntenants: [<TENANT>]",
		"help over http":        "help_base_url: http://localhost:1/help/\ntenants: [<TENANT>]",
		"slash after a cloud":   "clouds: {lab: {authority: 'https://a.example/', graph: 'https://b.example:1/'}}\ntenants: [<TENANT>]",
		"folded text":           "data_dir: >-\n  ./data\ntenants: [<TENANT>]",
		"quoted word":           "log: {level: \"warn\"}\ntenants: [<TENANT>]",
		"fraction of an hour":   "limits: {sync_timeout: 1.5h}\ntenants: [<TENANT>]",
		"a text of digits":      "data_dir: '0123'\ntenants: [<TENANT>]",
		"yes is a text in 1.2":  "data_dir: yes\ntenants: [<TENANT>]",
		"empty sections":        "grpc: {}\nkeys: {}\nclouds: {}\nlimits: {}\nlog: {}\ntenants: [<TENANT>]",
		"help stays off":        "help_base_url: ''\ntenants: [<TENANT>]",
		"drain without a delay": "grpc: {drain_delay: 0}\ntenants: [<TENANT>]",
		"metrics on loopback":   "metrics: {listen: '127.0.0.1:0'}\ntenants: [<TENANT>]",
		"metrics behind TLS":    "grpc: {tls: {certificate_file: a, key_file: b}}\nmetrics: {listen: ':9464'}\ntenants: [<TENANT>]",
		"kept for a day":        "journal: {retention: 24h}\nlease: 5s\nreplica: Node-1.example_a\ntenants: [<TENANT>]",
		"a shared data_dir": "data_dir_shared: true\njournal: {cluster: {servers: [nats.example], tls: {}}}\n" +
			"tenants: [<TENANT>]",
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := parseConfig("x.yaml", []byte(strings.ReplaceAll(content, "<TENANT>", ordinaryTenant))); err != nil {
				t.Error(err)
			}
		})
	}
}

// Three replicas, as docs/operations.md has them.
func TestParseConfigOfACluster(t *testing.T) {
	c, err := parseConfig("/etc/understudy/understudy.yaml", readTestFile(t, "../deploy/understudy.cluster.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	want := journalConfig{
		Retention: 90 * 24 * time.Hour,
		Cluster: &clusterConfig{
			Servers: []string{"tls://nats1.example:4222", "tls://nats2.example:4222", "tls://nats3.example:4222"},
			User:    "understudy", Password: secretFile("/etc/understudy/secrets/nats-password"),
			TLS:      &clusterTLSConfig{CAFile: "/etc/understudy/tls/nats-ca.crt"},
			Replicas: 3, Prefix: "understudy",
		},
	}
	if diff := cmp.Diff(want, c.Journal, equal); diff != "" || len(c.warnings) > 0 {
		t.Errorf("warnings %q, -want +got:\n%s", c.warnings, diff)
	}
}

// A password that goes over the network in clear is worth a warning.
func TestParseConfigWarnsOfAClusterWithoutTLS(t *testing.T) {
	c, err := parseConfig("x.yaml", []byte("data_dir_shared: true\njournal: {cluster: {servers: [nats.example, 'tls://nats.example', '127.0.0.1:4222']}}\ntenants: ["+ordinaryTenant+"]"))
	if err != nil {
		t.Fatal(err)
	}
	if len(c.warnings) != 1 || !strings.HasPrefix(c.warnings[0], "x.yaml:2:31: journal.cluster.servers[0]: goes over the network without TLS") {
		t.Errorf("warnings %q", c.warnings)
	}
}

func TestConfigCloud(t *testing.T) {
	c, err := parseConfig("x.yaml", []byte(
		"clouds: {lab: {authority: 'https://a.example/', graph: 'https://b.example:1/', ca_file: ca.pem}}\ntenants: ["+ordinaryTenant+"]"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.cloud("lab")
	want := identity.Cloud{Name: "lab", Authority: "https://a.example", Graph: "https://b.example:1", CAFile: "ca.pem"}
	if err != nil || got != want {
		t.Errorf("lab is %+v, %v; want %+v", got, err, want)
	}
	for _, name := range builtInClouds {
		known, _ := identity.CloudByName(name)
		if got, err := c.cloud(name); err != nil || got != known || got.Name != name {
			t.Errorf("%s is %+v, %v", name, got, err)
		}
	}
	if _, err := c.cloud("mars"); err == nil {
		t.Error("mars is a cloud")
	}
}

// A folder with the file of the issue and what it names.
func writeIssueFolder(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	if err := os.Mkdir(filepath.Join(folder, "lab"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"understudy.yaml": readTestFile(t, "testdata/config/issue.yaml"), "lab/ca.pem": []byte("x"),
	} {
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

func TestLoadConfig(t *testing.T) {
	t.Setenv("CONTOSO_SECRET", "s3cret")
	t.Setenv("CONTOSO_PASSWORD", "passw0rd")
	folder := writeIssueFolder(t)
	c, err := loadConfig(filepath.Join(folder, "understudy.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if c.Clouds["lab"].CAFile != filepath.Join(folder, "lab/ca.pem") || len(c.warnings) != 0 {
		t.Errorf("the CA is in %s, warnings %q", c.Clouds["lab"].CAFile, c.warnings)
	}
}

// What is missing outside of the file: a CA stops the service, a tenant's secret
// stops that tenant only.
func TestLoadConfigLooksOutside(t *testing.T) {
	t.Setenv("CONTOSO_SECRET", "s3cret")
	t.Setenv("CONTOSO_PASSWORD", "\n")
	folder := writeIssueFolder(t)
	path := filepath.Join(folder, "understudy.yaml")
	c, err := loadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{path + ":21:17: tenants[0].user.password: the secret {env: CONTOSO_PASSWORD} is empty. What needs it fails until it is there."}
	if diff := cmp.Diff(want, c.warnings); diff != "" {
		t.Errorf("warnings, -want +got:\n%s", diff)
	}
	if err := os.Remove(filepath.Join(folder, "lab/ca.pem")); err != nil {
		t.Fatal(err)
	}
	_, err = loadConfig(path)
	wantError := path + ":8:84: clouds.lab.ca_file: " + folder + "/lab/ca.pem cannot be read: no such file or directory. " +
		"Write the path of a file that the service can read."
	if err == nil || err.Error() != wantError {
		t.Errorf("error\n%v\nwant\n%s", err, wantError)
	}
	if _, err := loadConfig(filepath.Join(folder, "none.yaml")); err == nil {
		t.Error("a file that does not exist was loaded")
	}
}

func TestParseConfigWarnsOfADirectoryTwice(t *testing.T) {
	c, err := parseConfig("x.yaml", []byte("tenants:\n  - "+ordinaryTenant+"\n  - "+strings.Replace(ordinaryTenant, "contoso", "two", 1)))
	if err != nil {
		t.Fatal(err)
	}
	if len(c.warnings) != 1 || !strings.HasPrefix(c.warnings[0], "x.yaml:3:29: tenants[1].directory_id: is that of tenants[0] too.") {
		t.Errorf("warnings %q", c.warnings)
	}
}
