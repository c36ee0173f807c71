package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/simulator"
)

// chaosTypes need no user: lists with pages and children, and a singleton.
var chaosTypes = []string{"entra/groups", "intune/device-health-scripts", "intune/device-configurations", "entra/organization"}

// replicas are `understudy serve` processes that share a journal, with a simulated
// directory, and a Git remote over https for each tenant.
type replicas struct {
	replicaSetup
	folder    string
	simulator *simulator.Simulator
	nats      *natsCluster
	all       []*replica
	names     []string
}

// replica is one of them.
type replica struct {
	*child
	address, metrics string
	connection       *grpc.ClientConn
	client           understudyv1.SyncServiceClient
}

// replicaSetup says how many of everything there are.
type replicaSetup struct {
	nodes, replicas, tenants int
	// concurrent is how many syncs each runs at a time; 8.
	concurrent int
	// lease is after what time a replica that is not heard of counts as dead; 5 seconds.
	lease time.Duration
	// shared gives all replicas one data_dir, and no remotes.
	shared    bool
	directory simulator.Config
}

// newReplicas starts a cluster of nodes and replicas on it, and waits until all of
// them serve.
func newReplicas(ctx context.Context, t testing.TB, setup replicaSetup) *replicas {
	t.Helper()
	r := &replicas{replicaSetup: setup, folder: t.TempDir(), nats: newNATSCluster(t, setup.nodes)}
	for i := range setup.tenants {
		r.names = append(r.names, fmt.Sprintf("t%02d", i))
	}
	var err error
	if r.simulator, err = simulator.New(setup.directory); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.simulator.Close)
	if err := r.simulator.Start(ctx); err != nil {
		t.Fatal(err)
	}
	remotes := r.serveRemotes(t)
	r.writeSecrets(t, remotes)
	for i := range setup.replicas {
		own := &replica{address: freeAddress(t), metrics: freeAddress(t)}
		name := fmt.Sprintf("r%d", i)
		file := filepath.Join(r.folder, name+".yaml")
		if err := os.WriteFile(file, []byte(r.configuration(name, own, remotes.URL)), 0o600); err != nil {
			t.Fatal(err)
		}
		own.child = &child{
			name: name, arguments: []string{"serve", "--config", file},
			environment: []string{asProgram + "=1"},
		}
		own.connection, err = grpc.NewClient(own.address, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithConnectParams(quickReconnect))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { own.connection.Close() })
		own.client = understudyv1.NewSyncServiceClient(own.connection)
		own.start(t)
		r.all = append(r.all, own)
	}
	for _, own := range r.all {
		own.waitServing(ctx, t)
	}
	return r
}

// serveRemotes serves a bare repository for each tenant with git's own CGI program.
func (r *replicas) serveRemotes(t testing.TB) *httptest.Server {
	t.Helper()
	root := filepath.Join(r.folder, "remotes")
	for _, tenant := range r.names {
		path := filepath.Join(root, tenant+".git")
		runGit(t, "init", "-q", "--bare", "--initial-branch=main", path)
		runGit(t, "-C", path, "config", "http.receivepack", "true")
	}
	server := httptest.NewTLSServer(&cgi.Handler{
		Path: filepath.Join(runGit(t, "--exec-path"), "git-http-backend"), Stderr: io.Discard,
		Env: []string{
			"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_GLOBAL=" + os.DevNull, "GIT_CONFIG_SYSTEM=" + os.DevNull,
		},
	})
	t.Cleanup(server.Close)
	return server
}

// runGit runs git and returns what it said.
func runGit(t testing.TB, arguments ...string) string {
	t.Helper()
	var stderr bytes.Buffer
	command := exec.Command("git", arguments...)
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		t.Fatalf("git %v: %v: %s", arguments, err, stderr.String())
	}
	return strings.TrimSpace(string(out))
}

func (r *replicas) writeSecrets(t testing.TB, remotes *httptest.Server) {
	t.Helper()
	key := func() []byte {
		key := make([]byte, 32)
		rand.Read(key)
		return []byte(base64.StdEncoding.EncodeToString(key))
	}
	for name, content := range map[string][]byte{
		"ca.pem":        r.simulator.CAPEM(),
		"remotes.pem":   pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: remotes.Certificate().Raw}),
		"client-secret": []byte(r.simulator.Account().ClientSecret),
		"encryption":    key(),
		"fingerprint":   key(),
	} {
		if err := os.WriteFile(filepath.Join(r.folder, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// configuration returns the file of a replica.
func (r *replicas) configuration(name string, own *replica, remotes string) string {
	account := r.simulator.Account()
	var b strings.Builder
	dataDir := filepath.Join(r.folder, name)
	keys := "keys: {encryption: {file: encryption}, fingerprint: {file: fingerprint}}"
	if r.shared {
		dataDir, keys = filepath.Join(r.folder, "data"), "data_dir_shared: true" // they make the keys
	}
	fmt.Fprintf(&b, `replica: %s
grpc: {listen: %q}
metrics: {listen: %q}
data_dir: %q
lease: %s
log: {level: warn}
journal: {cluster: {servers: ["nats://%s"], replicas: %d}}
%s
limits:
  concurrent_syncs: %d
  requests: {directory: {requests: 100000, per: 1s}, entra: {requests: 100000, per: 1s}, intune: {requests: 100000, per: 1s}}
clouds:
  lab: {authority: %[10]q, graph: %[10]q, ca_file: ca.pem}
tenants:
`, name, own.address, own.metrics, dataDir, cmp.Or(r.lease, 5*time.Second), strings.Join(r.nats.addresses, `", "nats://`), len(r.nats.addresses), keys, cmp.Or(r.concurrent, 8), r.simulator.URL())
	for _, tenant := range r.names {
		fmt.Fprintf(&b, `  - id: %s
    directory_id: %s
    cloud: lab
    configuration_types: [%s]
    service_principal: {client_id: %s, client_secret: {file: client-secret}}
`, tenant, account.DirectoryID, strings.Join(chaosTypes, ", "), account.ClientID)
		if !r.shared {
			fmt.Fprintf(&b, "    repository: {remote: \"%s/%s.git\", ca_file: remotes.pem}\n", remotes, tenant)
		}
	}
	return b.String()
}

// waitServing waits until the replica's health is SERVING.
func (r *replica) waitServing(ctx context.Context, t testing.TB) {
	t.Helper()
	defer func() {
		if t.Failed() {
			t.Log(r.name, r.complaints())
		}
	}()
	eventually(t, time.Minute, r.name+" serves", func() bool {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		health, err := healthpb.NewHealthClient(r.connection).Check(ctx, &healthpb.HealthCheckRequest{})
		return err == nil && health.GetStatus() == healthpb.HealthCheckResponse_SERVING
	})
}

// backup returns the folder of a tenant's backup: the remote, unless data_dir is shared.
func (r *replicas) backup(tenant string) string {
	if r.shared {
		return filepath.Join(r.folder, "data", "repositories", tenant+".git")
	}
	return filepath.Join(r.folder, "remotes", tenant+".git")
}

// tree returns the backup of a tenant: path → id of the content; without the coverage,
// which says since when.
func tree(t testing.TB, repository string) map[string]string {
	t.Helper()
	files := map[string]string{}
	for line := range strings.Lines(runGit(t, "-C", repository, "ls-tree", "-r", "main")) {
		meta, path, _ := strings.Cut(strings.TrimSpace(line), "\t")
		files[path] = strings.Fields(meta)[2]
	}
	if files["coverage.json"] == "" {
		t.Errorf("%s has no coverage.json", repository)
	}
	delete(files, "coverage.json")
	return files
}

// witness saw the durable events of one sync, each once, through whatever replica it
// was connected to.
type witness struct {
	name string
	// connections counts how often it connected.
	connections int
	mu          sync.Mutex
	events      []*understudyv1.SyncEvent
}

// errWrongEvent says that a stream gave an event that must not be there.
var errWrongEvent = errors.New("wrong event")

// attend watches until the sync is over, and begins again wherever pick says when a
// stream breaks.
func (w *witness) attend(ctx context.Context, pick func() understudyv1.SyncServiceClient) error {
	for {
		w.connections++
		err := watch(ctx, pick(), w.name, int64(len(w.events)), w.see)
		switch {
		case w.wrong() != nil:
			return w.wrong()
		case errors.Is(err, io.EOF) && w.over():
			return nil
		case errors.Is(err, io.EOF):
			return fmt.Errorf("%w: the stream of %s ended after event %d, which is not finished", errWrongEvent, w.name, len(w.events))
		case ctx.Err() != nil:
			return fmt.Errorf("%s is not over after event %d, %d connections: %w; the last error: %w", w.name, len(w.events), w.connections, context.Cause(ctx), err)
		case !isPassing(err):
			return fmt.Errorf("watching %s after event %d: %w", w.name, len(w.events), err)
		}
		pause(ctx, 50*time.Millisecond)
	}
}

func (w *witness) see(event *understudyv1.SyncEvent) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, event)
}

// over says whether the last event is finished.
func (w *witness) over() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.events) > 0 && w.events[len(w.events)-1].GetFinished() != nil
}

// wrong says what is wrong with the events: they are dense, and one is the last.
func (w *witness) wrong() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, event := range w.events {
		if event.GetSequence() != int64(i)+1 {
			return fmt.Errorf("%w: event %d of %s has the sequence %d", errWrongEvent, i+1, w.name, event.GetSequence())
		}
		if event.GetFinished() != nil && i != len(w.events)-1 {
			return fmt.Errorf("%w: %s goes on after finished", errWrongEvent, w.name)
		}
	}
	return nil
}

// final returns how the sync ended.
func (w *witness) final() *understudyv1.Sync {
	return w.events[len(w.events)-1].GetFinished().GetSync()
}

// same demands that a replica tells the same story.
func (w *witness) same(ctx context.Context, t testing.TB, own *replica) {
	t.Helper()
	again := &witness{name: w.name}
	if err := again.attend(ctx, func() understudyv1.SyncServiceClient { return own.client }); err != nil {
		t.Errorf("%s: %v", own.name, err)
		return
	}
	if len(again.events) != len(w.events) {
		t.Errorf("%s has %d events of %s, %d were seen", own.name, len(again.events), w.name, len(w.events))
		return
	}
	for i, event := range again.events {
		if !proto.Equal(event, w.events[i]) {
			t.Errorf("%s: event %d of %s is\n%v\nand was\n%v", own.name, i+1, w.name, event, w.events[i])
		}
	}
}

// pause waits, or less when ctx ends.
func pause(ctx context.Context, duration time.Duration) {
	timer := time.NewTimer(duration)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
