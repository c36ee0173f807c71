package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	understudyv1 "understudy.internal/gen/understudy/v1"
)

// asProgram makes the test binary the program itself, so that a test can start it
// as a process of its own, and kill it.
const asProgram = "UNDERSTUDY_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		go collectWhenAsked()
		os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	if file := os.Getenv(asNode); file != "" {
		os.Exit(runNode(file))
	}
	os.Exit(m.Run())
}

// collectWhenAsked collects garbage at SIGUSR1, and says that it did.
func collectWhenAsked() {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGUSR1)
	for range asked {
		debug.FreeOSMemory()
		_ = os.WriteFile(collectedFile(os.Getpid()), nil, 0o600)
	}
}

// process is `understudy serve` as a process of its own.
type process struct {
	command    *exec.Cmd
	address    string
	connection *grpc.ClientConn
	client     understudyv1.SyncServiceClient

	mu   sync.Mutex
	said strings.Builder
}

// note keeps a line that the program logged.
func (p *process) note(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.said.WriteString(line + "\n")
}

// logged is what the program logged until now.
func (p *process) logged() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.said.String()
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
	for p.address == "" && lines.Scan() {
		p.note(lines.Text())
		if found := servingAt.FindStringSubmatch(lines.Text()); found != nil {
			p.address = found[1]
		}
	}
	if p.address == "" {
		t.Fatalf("the server did not start:\n%s", p.logged())
	}
	go func() {
		for lines.Scan() {
			p.note(lines.Text())
		}
		_, _ = io.Copy(io.Discard, log) // a line that is too long
	}()
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
