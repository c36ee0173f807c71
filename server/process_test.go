package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/simulator"
)

// asProgram makes the test binary the program itself, so that a test can start it
// as a process of its own, and kill it.
const asProgram = "UNDERSTUDY_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	if file := os.Getenv(asNode); file != "" {
		os.Exit(runNode(file))
	}
	os.Exit(m.Run())
}

// process is `understudy serve` as a process of its own.
type process struct {
	command    *exec.Cmd
	address    string
	connection *grpc.ClientConn
	client     understudyv1.SyncServiceClient
}

var servingAt = regexp.MustCompile(`msg=serving address=(\S+)`)

// startServer starts the program and waits until health says SERVING.
func startServer(ctx context.Context, t testing.TB, configFile string) *process {
	t.Helper()
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{command: exec.Command(executable, "serve", "--config", configFile)}
	p.command.Env = append(os.Environ(), asProgram+"=1")
	log, err := p.command.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	lines := bufio.NewScanner(log)
	var said strings.Builder
	for p.address == "" && lines.Scan() {
		said.WriteString(lines.Text() + "\n")
		if found := servingAt.FindStringSubmatch(lines.Text()); found != nil {
			p.address = found[1]
		}
	}
	if p.address == "" {
		t.Fatalf("the server did not start:\n%s", said.String())
	}
	go func() { _, _ = io.Copy(io.Discard, log) }()
	p.connection, err = grpc.NewClient(p.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	p.client = understudyv1.NewSyncServiceClient(p.connection)
	health, err := healthpb.NewHealthClient(p.connection).Watch(ctx, &healthpb.HealthCheckRequest{}, grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	for {
		state, err := health.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if state.GetStatus() == healthpb.HealthCheckResponse_SERVING {
			return p
		}
	}
}

// kill ends the process as a power cut would.
func (p *process) kill() {
	if p.command.ProcessState != nil {
		return
	}
	_ = p.command.Process.Kill()
	_ = p.command.Wait()
	if p.connection != nil {
		p.connection.Close()
	}
}

// watch reads the durable events of a sync after a sequence, until it finished or
// the stream broke.
func watch(ctx context.Context, client understudyv1.SyncServiceClient, name string, after int64, seen func(*understudyv1.SyncEvent)) error {
	stream, err := client.WatchSync(ctx, &understudyv1.WatchSyncRequest{Name: name, AfterSequence: after})
	if err != nil {
		return err
	}
	for {
		response, err := stream.Recv()
		if err != nil {
			return err
		}
		switch event := response.GetEvent(); event.GetEvent().(type) {
		case *understudyv1.SyncEvent_CurrentState, *understudyv1.SyncEvent_Progress, *understudyv1.SyncEvent_Heartbeat,
			*understudyv1.SyncEvent_AuthenticationPrompt:
		default:
			seen(event)
		}
	}
}

// TestKilledServer kills the server at random moments of a sync. After each start
// the sync ends once, its events have no gap and no duplicate, its tenant can be
// synced, the repository is whole, and the backup is the one of an undisturbed sync.
func TestKilledServer(t *testing.T) {
	t.Parallel()
	const kills = 8
	ctx, cancel := context.WithTimeout(t.Context(), harnessTimeout)
	defer cancel()
	l := newProcessLab(ctx, t, simulator.Config{Seed: 1, Items: 3, Latency: 20 * time.Millisecond}, harnessTypes)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for i := range kills {
		if err := l.simulator.ChangeItem(groups, i%3); err != nil {
			t.Fatal(err)
		}
		killOnce(ctx, t, l, random.IntN(16))
	}
}

func killOnce(ctx context.Context, t *testing.T, l *lab, afterEvents int) {
	t.Helper()
	server := startServer(ctx, t, l.configFile())
	started, err := server.client.StartSync(ctx, &understudyv1.StartSyncRequest{Parent: "tenants/contoso"})
	if err != nil {
		t.Fatal(err)
	}
	name := started.GetSync().GetName()
	var events []*understudyv1.SyncEvent
	streamed, stop := context.WithCancel(ctx)
	err = watch(streamed, server.client, name, 0, func(event *understudyv1.SyncEvent) {
		events = append(events, event)
		if len(events) >= afterEvents {
			stop()
		}
	})
	stop()
	if err == nil {
		t.Fatal("a stream without end")
	}
	server.kill()

	server = startServer(ctx, t, l.configFile())
	defer server.kill()
	err = watch(ctx, server.client, name, int64(len(events)), func(event *understudyv1.SyncEvent) { events = append(events, event) })
	if !errors.Is(err, io.EOF) {
		t.Fatalf("watching after the restart: %v", err)
	}
	finished := 0
	for i, event := range events {
		if event.GetSequence() != int64(i+1) {
			t.Errorf("event %d has the sequence %d", i+1, event.GetSequence())
		}
		if event.GetFinished() != nil {
			finished++
		}
	}
	if finished != 1 || events[len(events)-1].GetFinished() == nil {
		t.Errorf("%d of %d events are finished, and the last must be", finished, len(events))
	}
	response, err := server.client.RunSync(ctx, &understudyv1.RunSyncRequest{Parent: "tenants/contoso"})
	for err == nil {
		_, err = response.Recv()
	}
	if !errors.Is(err, io.EOF) {
		t.Errorf("the sync after the restart: %v", err)
	}
	out, err := exec.CommandContext(ctx, "git", "-C", l.repository("contoso"), "fsck", "--full", "--strict").CombinedOutput()
	if err != nil {
		t.Errorf("git fsck: %v: %s", err, out)
	}
}

// TestServeRefuses shows what the program says of what it cannot serve.
func TestServeRefuses(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "understudy.yaml")
	if err := os.WriteFile(file, []byte("grpc:\n  listne: 127.0.0.1:1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, stderr strings.Builder
	code := runContext(t.Context(), []string{"serve", "--config", file}, streams{out: &out, err: &stderr})
	if want := fmt.Sprintf("%s:2:3: ", file); code != exitUsage || !strings.Contains(stderr.String(), want) {
		t.Errorf("exit code %d, and %q does not have %q", code, stderr.String(), want)
	}
}
