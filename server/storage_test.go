package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/simulator"
)

// storageStory is what a service does that cannot store any more, and what it does when
// it can again.
type storageStory struct {
	*testing.T
	client     understudyv1.SyncServiceClient
	connection grpc.ClientConnInterface
	// accepted are the syncs that were accepted.
	accepted []string
}

// syncUntilRefused starts syncs until one is refused, and returns why. Those that were
// accepted may not be over: their end cannot be stored.
func (s *storageStory) syncUntilRefused(ctx context.Context) error {
	s.Helper()
	for ctx.Err() == nil {
		for i := range storageTenants {
			started, err := s.client.StartSync(ctx, &understudyv1.StartSyncRequest{Parent: fmt.Sprintf("tenants/t%02d", i)})
			switch status.Code(err) {
			case codes.OK:
				s.accepted = append(s.accepted, started.GetSync().GetName())
			case codes.Aborted: // the one before runs
			default:
				return err
			}
		}
		pause(ctx, 20*time.Millisecond)
	}
	s.Fatal("the service never ran out of room")
	return nil
}

// health returns what the service says of itself.
func (s *storageStory) health(ctx context.Context) healthpb.HealthCheckResponse_ServingStatus {
	response, err := healthpb.NewHealthClient(s.connection).Check(ctx, &healthpb.HealthCheckRequest{})
	if err != nil {
		return healthpb.HealthCheckResponse_UNKNOWN
	}
	return response.GetStatus()
}

// isFull demands what holds while nothing can be stored: new syncs are refused with what
// to do, health says so, and what was stored can be read.
func (s *storageStory) isFull(ctx context.Context, refused error) {
	s.Helper()
	var info *errdetails.ErrorInfo
	var retry *errdetails.RetryInfo
	for _, detail := range status.Convert(refused).Details() {
		switch d := detail.(type) {
		case *errdetails.ErrorInfo:
			info = d
		case *errdetails.RetryInfo:
			retry = d
		}
	}
	if status.Code(refused) != codes.Unavailable || retry.GetRetryDelay().AsDuration() <= 0 ||
		info.GetReason() != understudyv1.ErrorReason_ERROR_REASON_STORAGE_UNAVAILABLE.String() {
		s.Fatalf("StartSync is refused with %v (%v, %v)", refused, info, retry)
	}
	eventually(s.T, 20*time.Second, "health says NOT_SERVING", func() bool {
		return s.health(ctx) == healthpb.HealthCheckResponse_NOT_SERVING
	})
	page, err := s.client.ListSyncs(ctx, &understudyv1.ListSyncsRequest{Parent: "tenants/-"})
	if err != nil {
		s.Fatal(err)
	}
	for _, sync := range page.GetSyncs() { // the newest first
		if sync.GetEndTime() == nil {
			continue
		}
		w := &witness{name: sync.GetName()}
		if err := w.attend(ctx, func() understudyv1.SyncServiceClient { return s.client }); err != nil {
			s.Fatalf("history cannot be read: %v", err)
		}
		return
	}
	s.Errorf("no history: %v", page.GetSyncs())
}

// recovers demands that the service stores again, without anything that a person does
// to it: the last sync that was accepted ends, and another one succeeds.
func (s *storageStory) recovers(ctx context.Context) {
	s.Helper()
	eventually(s.T, 90*time.Second, "health says SERVING again", func() bool {
		return s.health(ctx) == healthpb.HealthCheckResponse_SERVING
	})
	s.recoversTenant(ctx, "tenants/t00")
}

// recoversTenant demands that a tenant can be synced.
func (s *storageStory) recoversTenant(ctx context.Context, tenant string) {
	s.Helper()
	eventually(s.T, time.Minute, tenant+" can be synced", func() bool {
		stream, err := s.client.RunSync(ctx, &understudyv1.RunSyncRequest{Parent: tenant})
		var last *understudyv1.SyncEvent
		for err == nil {
			var response *understudyv1.RunSyncResponse
			if response, err = stream.Recv(); err == nil {
				last = response.GetEvent()
			}
		}
		return errors.Is(err, io.EOF) && last.GetFinished().GetSync().GetState() == succeeded
	})
}

// storageTenants are many: a sync that is accepted in the last free bytes keeps its
// tenant from being synced again.
const storageTenants = 40

// newStorageLab writes the configuration of a service with many tenants.
func newStorageLab(ctx context.Context, t *testing.T, dataDir string) *lab {
	t.Helper()
	l := newProcessLab(ctx, t, simulator.Config{Seed: 1, Items: 2}, nil)
	content, _, _ := strings.Cut(string(readTestFile(t, l.configFile())), "tenants:\n")
	content = replaceOnce(t, content, filepath.Join(l.Folder, "data"), dataDir) + "tenants:\n"
	account := l.simulator.Account()
	for i := range storageTenants {
		content += fmt.Sprintf("  - {id: t%02d, directory_id: %s, cloud: lab, configuration_types: [entra/organization, print/settings],\n"+
			"     service_principal: {client_id: %s, client_secret: {file: client-secret}}}\n", i, account.DirectoryID, account.ClientID)
	}
	writeTestFile(t, l.configFile(), content)
	return l
}

// A journal that has no room refuses syncs, stays readable, and goes on by itself when
// it has room again: here because what it holds grows old.
func TestJournalWithoutRoom(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), harnessTimeout)
	defer cancel()
	l := newStorageLab(ctx, t, filepath.Join(t.TempDir(), "data"))
	s, stop := startWithRoom(ctx, t, l, 64<<10, 20*time.Second)
	defer stop()
	s.isFull(ctx, s.syncUntilRefused(ctx))
	s.recovers(ctx)
}

// A service that cannot store ends in time when it is told to, though there are syncs
// that it could not end; the next start, with room, brings each of them to an end.
func TestStopWithoutRoom(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), harnessTimeout)
	defer cancel()
	l := newStorageLab(ctx, t, filepath.Join(t.TempDir(), "data"))
	s, stop := startWithRoom(ctx, t, l, 64<<10, time.Hour)
	s.isFull(ctx, s.syncUntilRefused(ctx))
	begin := time.Now()
	stop()
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("it took %s to stop", took)
	}
	again, stop := startWithRoom(ctx, t, l, 0, time.Hour)
	defer stop()
	for _, name := range s.accepted {
		w := &witness{name: name}
		if err := w.attend(ctx, func() understudyv1.SyncServiceClient { return again.client }); err != nil {
			t.Errorf("%v\n%s", err, w.story())
		}
	}
	again.recovers(ctx)
}

// startWithRoom starts a service in this process whose journal has some room, and
// returns what stops it.
func startWithRoom(ctx context.Context, t *testing.T, l *lab, room int64, retention time.Duration) (*storageStory, func()) {
	t.Helper()
	cfg, err := loadConfig(l.configFile())
	if err != nil {
		t.Fatal(err)
	}
	cfg.maxJournal, cfg.Journal.Retention = room, retention
	own, err := newService(ctx, cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		own.close()
		t.Fatal(err)
	}
	serving, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- own.run(serving, listener) }()
	connection, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	stop := sync.OnceFunc(func() {
		connection.Close()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		own.close()
	})
	t.Cleanup(stop)
	return &storageStory{T: t, client: understudyv1.NewSyncServiceClient(connection), connection: connection}, stop
}

// A disk that is full, and has room again: the process is the same all the time, no
// file is torn, and every sync that was accepted ends once.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	folder := mountSmall(t)
	ctx, cancel := context.WithTimeout(t.Context(), harnessTimeout)
	defer cancel()
	l := newStorageLab(ctx, t, filepath.Join(folder, "data"))
	server := startServer(ctx, t, l.configFile())
	s := &storageStory{T: t, client: server.client, connection: server.connection}
	s.recovers(ctx) // there is some history

	ballast := filepath.Join(folder, "ballast")
	fill(t, ballast)
	s.isFull(ctx, s.syncUntilRefused(ctx))
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	s.recovers(ctx)
	runGit(t, "-C", filepath.Join(folder, "data", "repositories", "t00.git"), "fsck", "--full", "--strict")
	for _, name := range s.accepted {
		w := &witness{name: name}
		if err := w.attend(ctx, func() understudyv1.SyncServiceClient { return server.client }); err != nil {
			t.Errorf("%v\n%s", err, w.story())
		}
	}
	if server.command.ProcessState != nil {
		t.Error("the process ended")
	}
}

// mountSmall mounts a file system with little room, where that is permitted.
func mountSmall(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	if err := syscall.Mount("none", folder, "tmpfs", 0, "size=8m"); err != nil {
		t.Skipf("a small file system cannot be mounted here (%v): TestJournalWithoutRoom shows most of it", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(folder, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return folder
}

// fill writes a file until there is no room for more.
func fill(t *testing.T, path string) {
	t.Helper()
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for size := 64 << 10; size > 0; {
		if _, err := file.Write(make([]byte, size)); errors.Is(err, syscall.ENOSPC) {
			size /= 2
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// What a failing disk does to the journal costs the history that it hit, and no more:
// the service starts, and the next sync goes on from the backup.
func TestDamagedJournal(t *testing.T) {
	t.Parallel()
	middle := func(content []byte) []byte {
		for i := len(content) / 2; i < len(content)/2+64; i++ {
			content[i] ^= 0xff
		}
		return content
	}
	for name, damage := range map[string]func([]byte) []byte{
		"torn":    func(content []byte) []byte { return content[:len(content)*2/3] },
		"flipped": middle,
		"empty":   func([]byte) []byte { return nil },
	} {
		for _, stream := range []string{"EVENTS", "SYNCS"} {
			t.Run(name+" "+stream, func(t *testing.T) {
				t.Parallel()
				ctx, cancel := context.WithTimeout(t.Context(), harnessTimeout)
				defer cancel()
				l := newProcessLab(ctx, t, simulator.Config{Seed: 1, Items: 2}, harnessTypes)
				unpack(t, "testdata/upgrade/912dc45.tar.gz", l.Folder)
				content := replaceOnce(t, string(readTestFile(t, l.configFile())), "\nlimits:\n",
					"\njournal: {retention: 876000h}\nlimits:\n  sync_timeout: 876000h\n")
				writeTestFile(t, l.configFile(), content)
				block := filepath.Join(l.Folder, "data", "journal", "jetstream", "$G", "streams", stream, "msgs", "1.blk")
				writeTestFile(t, block, string(damage(readTestFile(t, block))))
				before := tree(t, l.repository("contoso"))

				server := startServer(ctx, t, l.configFile())
				s := &storageStory{T: t, client: server.client, connection: server.connection}
				if _, err := s.client.ListSyncs(ctx, &understudyv1.ListSyncsRequest{Parent: "tenants/-"}); err != nil {
					t.Error(err)
				}
				s.recoversTenant(ctx, "tenants/contoso")
				runGit(t, "-C", l.repository("contoso"), "fsck", "--full", "--strict")
				after := tree(t, l.repository("contoso"))
				for path := range before {
					if after[path] == "" {
						t.Errorf("%s is gone", path)
					}
				}
			})
		}
	}
}
