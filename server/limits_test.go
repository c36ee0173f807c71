package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os/exec"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	understudyv1 "understudy.internal/gen/understudy/v1"
)

// limitedTypes are of every limit that the simulated tenant has: each of them needs
// more requests than the first minute can take.
var limitedTypes = []string{
	"entra/conditional-access-policies", "entra/named-locations", "entra/groups",
	"intune/enrollment-configurations", "intune/terms-and-conditions",
}

// limitedItems is how many items a collection has: Intune needs one request for
// each, the directory four, at 1,000 in 20 s and 1,500 in 10 s.
const limitedItems = 2000

// TestLimits backs up a tenant that throttles as Microsoft documents, and demands
// that the backup is complete, and that after the first minute no more than one
// answer in a hundred says that the service asked too fast. That holds with the
// service's own limits, and with a configuration that allows twice as much as the
// tenant does: then the gates have to find the pace out.
func TestLimits(t *testing.T) {
	t.Parallel()
	for name, requests := range map[string]string{
		"own": "",
		"too-high": "{conditional-access: {requests: 2, per: 1100ms}, directory: {requests: 6000, per: 10s}, " +
			"entra: {requests: 6000, per: 10s}, intune: {requests: 2000, per: 20s}}",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), harnessTimeout)
			defer cancel()
			l, err := newLab(ctx, labConfig{
				Folder: t.TempDir(), GRPC: "127.0.0.1:0", Entra: "127.0.0.1:0", Admin: "127.0.0.1:0", Items: limitedItems,
				Latency: benchLatency, Limits: true, Requests: requests, Types: limitedTypes, SignInTimeout: time.Second, Logger: labLogger(io.Discard),
			})
			if err != nil {
				t.Fatal(err)
			}
			defer l.close()
			if err := l.run(ctx, func(ctx context.Context) error { return limitedSync(ctx, t, l) }); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// limitedSync runs the sync, and counts the answers.
func limitedSync(ctx context.Context, t *testing.T, l *lab) error {
	connection, err := grpc.NewClient(l.address(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	begun := time.Now()
	minute := make(chan map[int]int64, 1)
	timer := time.AfterFunc(time.Minute, func() { minute <- l.simulator.Stats().Statuses })
	defer timer.Stop()
	sync, err := lastOf(ctx, understudyv1.NewSyncServiceClient(connection))
	if err != nil {
		return err
	}
	took := time.Since(begun)
	all := l.simulator.Stats().Statuses
	var first map[int]int64
	select {
	case first = <-minute:
	default:
		t.Fatalf("the sync took only %s", took)
	}
	late, refused := int64(0), all[http.StatusTooManyRequests]-first[http.StatusTooManyRequests]
	for status, n := range all {
		late += n - first[status]
	}
	t.Logf("%s; %v, of them in the first minute %v", took, all, first)
	if sync.GetState() != succeeded {
		t.Errorf("the sync ended %s", sync.GetState())
	}
	listed, err := exec.CommandContext(ctx, "git", "-C", l.repository("contoso"), "ls-tree", "-r", "--name-only", "main").Output()
	if err != nil {
		return err
	}
	// An index for each type, and the coverage; names of what items refer to are extra.
	if n, want := bytes.Count(listed, []byte("\n"))-bytes.Count(listed, []byte("/_names.json\n")), len(limitedTypes)*(limitedItems+1)+1; n != want {
		t.Errorf("the backup has %d files, not %d", n, want)
	}
	if late == 0 || refused*100 > late {
		t.Errorf("%d of %d answers after the first minute were 429", refused, late)
	}
	return nil
}

// lastOf runs a sync of contoso and returns it as it ended.
func lastOf(ctx context.Context, client understudyv1.SyncServiceClient) (*understudyv1.Sync, error) {
	stream, err := client.RunSync(ctx, &understudyv1.RunSyncRequest{Parent: "tenants/contoso"})
	if err != nil {
		return nil, err
	}
	for {
		response, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		if sync := response.GetEvent().GetFinished().GetSync(); sync != nil {
			return sync, nil
		}
	}
}
