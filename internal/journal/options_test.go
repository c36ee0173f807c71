package journal_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"understudy.internal/internal/journal"
	"understudy.internal/internal/port/porttest"
)

// serve starts one server, and returns its port.
func serve(t *testing.T, change func(*server.Options)) int {
	t.Helper()
	options := &server.Options{
		Host: "127.0.0.1", Port: -1, NoLog: true, NoSigs: true, JetStream: true, StoreDir: t.TempDir(), SyncAlways: true,
	}
	change(options)
	s, err := server.NewServer(options)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(20 * time.Second) {
		t.Fatal("the server was not ready in time")
	}
	return s.Addr().(*net.TCPAddr).Port
}

// certificate writes a certificate that signs itself, for 127.0.0.1, and its key.
func certificate(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	directory := t.TempDir()
	certFile, keyFile = filepath.Join(directory, "cert.pem"), filepath.Join(directory, "key.pem")
	for file, block := range map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

// record is what was logged.
type record struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (r *record) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(p)
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

// TestConnecting: with what a platform team asks for, and without.
func TestConnecting(t *testing.T) {
	t.Parallel()
	cert, key := certificate(t)
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	data, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	pool.AppendCertsFromPEM(data)
	plain := serve(t, func(o *server.Options) { o.Username, o.Password = "u", "secret-of-the-cluster" })
	mutual := serve(t, func(o *server.Options) {
		o.TLSConfig = &tls.Config{
			MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
		}
		o.TLS, o.TLSTimeout = true, 5
	})
	// What docs/decisions/replicas.md says that is needed.
	least := serve(t, func(o *server.Options) {
		o.Users = []*server.User{{Username: "u", Password: "p", Permissions: &server.Permissions{
			Publish:   &server.SubjectPermission{Allow: []string{"understudy.>", "$JS.API.>"}},
			Subscribe: &server.SubjectPermission{Allow: []string{"understudy.>", "_INBOX.>"}},
		}}}
	})
	without := serve(t, func(o *server.Options) { o.JetStream = false })
	at := func(scheme string, port int) []string { return []string{scheme + "://127.0.0.1:" + strconv.Itoa(port)} }
	for name, test := range map[string]struct {
		cluster journal.Cluster
		want    string
	}{
		"user and password":   {journal.Cluster{Servers: at("nats", plain), User: "u", Password: "secret-of-the-cluster"}, ""},
		"another password":    {journal.Cluster{Servers: at("nats", plain), User: "u", Password: "secret-of-nobody"}, "Authorization Violation"},
		"no password":         {journal.Cluster{Servers: at("nats", plain)}, "Authorization Violation"},
		"least permissions":   {journal.Cluster{Servers: at("nats", least), User: "u", Password: "p"}, ""},
		"certificates":        {journal.Cluster{Servers: at("tls", mutual), CAFile: cert, CertFile: cert, KeyFile: key}, ""},
		"without its own":     {journal.Cluster{Servers: at("tls", mutual), CAFile: cert}, "tls"},
		"without the CA":      {journal.Cluster{Servers: at("tls", mutual), CertFile: cert, KeyFile: key}, "certificate"},
		"without JetStream":   {journal.Cluster{Servers: at("nats", without)}, "enable JetStream"},
		"three of one server": {journal.Cluster{Servers: at("nats", plain), User: "u", Password: "secret-of-the-cluster", Replicas: 3}, "fewer"},
	} {
		t.Run(name, func(t *testing.T) {
			if test.cluster.Replicas == 0 {
				test.cluster.Replicas = 1
			}
			var logged record
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			j, err := journal.Open(ctx, journal.Config{
				Replica: "a", Cluster: &test.cluster, Logger: slog.New(slog.NewTextHandler(&logged, nil)),
			})
			if test.want == "" && err != nil {
				t.Fatal(err)
			}
			if test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("Open = %v", err)
			}
			if err == nil {
				name := create(t, j, "tenants/contoso").GetName()
				porttest.Open(t, j, name).Publish(progress(1))
				finish(t, j, name)
				if events := drain(t, j, name, 0); events[len(events)-1].GetFinished() == nil {
					t.Error(kinds(events))
				}
				if err := j.Store("s").Save("k", nil); err != nil {
					t.Error(err)
				}
				if err := j.Healthy(); err != nil {
					t.Error(err)
				}
				j.Close()
				if !strings.Contains(logged.String(), "sync_interval: always") {
					t.Error("it does not say what it could not find out")
				}
			}
			if err != nil && strings.Contains(err.Error(), "secret-of") || strings.Contains(logged.String(), "secret-of") {
				t.Error("the password is shown")
			}
		})
	}
}

// TestSyncIntervalIsChecked: by an account that may ask the servers.
func TestSyncIntervalIsChecked(t *testing.T) {
	t.Parallel()
	for name, always := range map[string]bool{"always": true, "another": false} {
		t.Run(name, func(t *testing.T) {
			// The system's account is asked for its own state; the journal's account
			// imports the question.
			configuration := filepath.Join(t.TempDir(), "nats.conf")
			text := `
accounts {
  SYS { users: [{user: sys, password: sys}], exports: [{service: "$SYS.REQ.SERVER.PING.JSZ", response: stream}] }
  UNDERSTUDY {
    jetstream: enabled
    users: [{user: u, password: p}]
    imports: [{service: {account: SYS, subject: "$SYS.REQ.SERVER.PING.JSZ"}}]
  }
}
system_account: SYS
`
			if err := os.WriteFile(configuration, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			port := serve(t, func(o *server.Options) {
				if err := o.ProcessConfigFile(configuration); err != nil {
					t.Fatal(err)
				}
				o.Host, o.Port, o.JetStream, o.StoreDir, o.SyncAlways = "127.0.0.1", -1, true, t.TempDir(), always
			})
			var logged record
			j, err := journal.Open(t.Context(), journal.Config{
				Replica: "a", Logger: slog.New(slog.NewTextHandler(&logged, nil)),
				Cluster: &journal.Cluster{Servers: []string{"nats://127.0.0.1:" + strconv.Itoa(port)}, User: "u", Password: "p", Replicas: 1},
			})
			if err != nil {
				t.Fatal(err)
			}
			j.Close()
			if got := strings.Contains(logged.String(), "sync_interval"); got == always {
				t.Errorf("logged: %s", logged.String())
			}
			if !always && !strings.Contains(logged.String(), "level=ERROR") {
				t.Errorf("logged: %s", logged.String())
			}
		})
	}
}

func TestVersions(t *testing.T) {
	for version, want := range map[string]bool{
		"2.12.0": true, "2.12.0-RC.1": true, "v2.15.2": true, "3.0.0": true, "2.11.9": false, "2.9.10": false, "1.14.0": false, "": false, "x": false,
	} {
		if got := journal.StoresBatches(version); got != want {
			t.Errorf("%q: %v", version, got)
		}
	}
}
