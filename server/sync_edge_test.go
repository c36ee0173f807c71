package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"iter"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/catalog"
	"understudy.internal/internal/edge"
	"understudy.internal/internal/engine"
	"understudy.internal/internal/journal"
	"understudy.internal/internal/port"
)

// playingEngine starts syncs in a real journal, and plays events into them.
type playingEngine struct {
	t       *testing.T
	journal *journal.Journal
	events  []*understudyv1.SyncEvent
	work    sync.WaitGroup

	mu      sync.Mutex
	started []engine.StartRequest
	err     error
}

func (e *playingEngine) Start(ctx context.Context, request engine.StartRequest) (*understudyv1.Sync, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err != nil {
		return nil, e.err
	}
	e.started = append(e.started, request)
	return e.play(ctx, request.Tenant, &understudyv1.Sync{Spec: request.Spec})
}

func (e *playingEngine) Retry(ctx context.Context, request engine.RetryRequest) (*understudyv1.Sync, error) {
	return e.play(ctx, engine.TenantOf(request.Sync), &understudyv1.Sync{RetriedSync: request.Sync})
}

func (e *playingEngine) Cancel(_ context.Context, name string) (*understudyv1.Sync, error) {
	return nil, &port.SyncFinishedError{Sync: name, State: understudyv1.SyncState_SYNC_STATE_SUCCEEDED}
}

func (e *playingEngine) Changes(context.Context, string, string) iter.Seq2[*understudyv1.ItemChange, error] {
	return func(func(*understudyv1.ItemChange, error) bool) {}
}

func (e *playingEngine) play(ctx context.Context, tenant string, sync *understudyv1.Sync) (*understudyv1.Sync, error) {
	accepted, _, err := e.journal.Create(ctx, port.CreateRequest{Tenant: tenant, Sync: sync})
	if err != nil {
		return nil, err
	}
	log, err := e.journal.Open(ctx, accepted.GetName())
	if err != nil {
		return nil, err
	}
	e.work.Go(func() {
		for _, event := range e.events {
			event = proto.CloneOf(event)
			if final := event.GetFinished().GetSync(); final != nil {
				final.Name, final.LastSequence, final.EndTime = accepted.GetName(), log.Sync().GetLastSequence()+1, timestamppb.Now()
			}
			if isEphemeral(event) {
				log.Publish(event)
			} else if err := log.Append(context.WithoutCancel(ctx), event); err != nil {
				e.t.Error(err)
			}
		}
	})
	return accepted, nil
}

// testCertificate makes a certificate of 127.0.0.1, and the file of its authority.
func testCertificate(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}

// serveEdge serves the real edge over a journal on loopback.
func serveEdge(t *testing.T, security *tls.Config, events []*understudyv1.SyncEvent) (address string, e *playingEngine) {
	t.Helper()
	types, err := catalog.Load()
	if err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(t.Context(), journal.Config{Directory: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	e = &playingEngine{t: t, journal: j, events: events}
	server, err := edge.New(edge.Config{Engine: e, Syncs: j, Watches: j, Catalog: types, TLS: security})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, listener) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
		e.work.Wait()
		j.Close()
	})
	return listener.Addr().String(), e
}

// The command line, the wire, the edge and the journal together.
func TestSyncOverTheEdge(t *testing.T) {
	certificate, ca := testCertificate(t)
	partial := partialSync(t)
	partial.events = append([]*understudyv1.SyncEvent{promptEvent(time.Minute), progressEvent(4)}, partial.events...)
	address, e := serveEdge(t, &tls.Config{Certificates: []tls.Certificate{certificate}}, partial.events)

	code, out, stderr := command(t, "sync", "contoso", "--address", address, "--ca-file", ca,
		"-t", "entra/groups,print/*", "-t", "intune/scripts", "--policy", "continue-without-user", "--no-prompt",
		"--timeout", "90s", "--dry-run", "--comment", "why", "--accept-collapse", "a/b")
	if code != exitPartial || !strings.Contains(out, "Not backed up completely (4)") || !strings.Contains(stderr, "AADSTS53003") {
		t.Fatalf("code %d\n%s\n%s", code, out, stderr)
	}
	if d := cmp.Diff(&understudyv1.SyncSpec{
		ConfigurationTypes:   []string{"entra/groups", "print/*", "intune/scripts"},
		AuthenticationPolicy: understudyv1.AuthenticationPolicy_AUTHENTICATION_POLICY_CONTINUE_WITHOUT_USER,
		AllowPrompt:          proto.Bool(false),
		Timeout:              durationpb.New(90 * time.Second),
		DryRun:               true,
		Comment:              "why",
		AcceptCollapse:       []string{"a/b"},
	}, e.started[0].Spec, protocmp.Transform()); d != "" {
		t.Error(d)
	}

	// The command that the report tells, as it stands.
	retry := regexp.MustCompile(`understudy (sync --retry .*)\n`).FindStringSubmatch(out)
	if retry == nil {
		t.Fatalf("no command to retry:\n%s", out)
	}
	code, out, stderr = command(t, strings.Fields(retry[1])...)
	if code != exitPartial || !strings.Contains(stderr, ", which retries tenants/contoso/syncs/") {
		t.Fatalf("%s: code %d\n%s\n%s", retry[1], code, out, stderr)
	}
	name, _, _ := strings.Cut(out, ":")

	// What is over can be watched again: the same report.
	code, again, stderr := command(t, "sync", "--watch", name, "--address", address, "--ca-file", ca)
	if d := cmp.Diff(out, again); d != "" || code != exitPartial {
		t.Errorf("code %d %s\n%s", code, d, stderr)
	}
	code, again, _ = command(t, "sync", "--watch", name, "--address", address, "--ca-file", ca, "--json")
	if events := jsonEvents(t, again); code != exitPartial || events[len(events)-1].GetFinished() == nil {
		t.Errorf("code %d\n%s", code, again)
	}
	code, out, stderr = command(t, "sync", "--cancel", name, "--address", address, "--ca-file", ca)
	if code != exitFailed || out != "" || !strings.Contains(stderr, "ERROR_REASON_SYNC_ALREADY_FINISHED (FAILED_PRECONDITION)") {
		t.Errorf("code %d %q\n%s", code, out, stderr)
	}
	// Who does not trust the server is told nothing by it.
	code, out, stderr = command(t, "sync", "--watch", name, "--address", address, "--tls")
	if code != exitAway || out != "" || !strings.Contains(stderr, "certificate") {
		t.Errorf("code %d %q\n%s", code, out, stderr)
	}
}

// The exit code says how the sync ended; a sync that failed ends the call with an
// error, which is told once.
func TestExitCodesOverTheEdge(t *testing.T) {
	failed := statusProto(t, codes.FailedPrecondition, "The backup could not be committed.",
		errorInfo(understudyv1.ErrorReason_ERROR_REASON_BACKUP_FAILED, nil))
	for _, c := range []struct {
		state understudyv1.SyncState
		code  int
	}{
		{understudyv1.SyncState_SYNC_STATE_SUCCEEDED, exitOK},
		{understudyv1.SyncState_SYNC_STATE_PARTIALLY_SUCCEEDED, exitPartial},
		{understudyv1.SyncState_SYNC_STATE_FAILED, exitFailed},
		{understudyv1.SyncState_SYNC_STATE_CANCELLED, exitFailed},
	} {
		t.Run(c.state.String(), func(t *testing.T) {
			address, e := serveEdge(t, nil, []*understudyv1.SyncEvent{
				startedEvent("entra/groups"), finishedEvent(c.state, func(s *understudyv1.Sync) {
					if c.code == exitFailed {
						s.Error = failed
					}
				}),
			})
			code, out, stderr := command(t, "sync", "tenants/contoso", "--address", address)
			if told := strings.Count(out+stderr, failed.GetMessage()); code != c.code || told != map[bool]int{true: 1}[c.code == exitFailed] {
				t.Errorf("code %d\n%s\n%s", code, out, stderr)
			}
			e.mu.Lock()
			e.err = &port.SyncRunningError{Sync: fakeSync}
			e.mu.Unlock()
			code, out, stderr = command(t, "sync", "contoso", "--address", address)
			if code != exitFailed || out != "" || !strings.Contains(stderr, "understudy sync --watch "+fakeSync+" --address "+address) {
				t.Errorf("code %d\n%s\n%s", code, out, stderr)
			}
			code, _, stderr = command(t, "sync", "con_toso", "--address", address)
			if code != exitUsage || !strings.Contains(stderr, "TENANT: must have the form tenants/{tenant}") {
				t.Errorf("code %d\n%s", code, stderr)
			}
		})
	}
}
