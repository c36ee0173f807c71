package main

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	understudyv1 "understudy.internal/gen/understudy/v1"
)

// A service that is told to stop, and runs no sync, tells the others so at once, though it
// still takes calls.
func TestStopLeavesAtOnce(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), harnessTimeout)
	defer cancel()
	l := newStorageLab(ctx, t, filepath.Join(t.TempDir(), "data"))
	cfg, err := loadConfig(l.configFile())
	if err != nil {
		t.Fatal(err)
	}
	cfg.GRPC.DrainDelay = harnessTimeout
	own, err := newService(ctx, cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer own.close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serving, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- own.run(serving, listener) }()
	connection, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	client := understudyv1.NewSyncServiceClient(connection)
	first, err := client.StartSync(ctx, &understudyv1.StartSyncRequest{Parent: "tenants/t00"})
	if err != nil {
		t.Fatal(err)
	}
	w := &witness{name: first.GetSync().GetName()}
	if err := w.attend(ctx, func() understudyv1.SyncServiceClient { return client }); err != nil {
		t.Fatal(err)
	}
	if got := own.journal.Alive(); len(got) != 1 {
		t.Fatalf("alive are %q: the test is wrong", got)
	}

	stop()
	eventually(t, 20*time.Second, "the service leaves", func() bool { return len(own.journal.Alive()) == 0 })
	select {
	case err := <-done:
		t.Fatalf("it ended before its time: %v", err)
	default:
	}
	if _, err := client.ListSyncs(ctx, &understudyv1.ListSyncsRequest{Parent: "tenants/-"}); err != nil {
		t.Errorf("it takes no calls any more: %v", err)
	}
	listener.Close() // there is nobody left to wait for
	<-done
}
