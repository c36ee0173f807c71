package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/simulator"
)

// killLab is a tenant with two servers: one that is killed, and one that is not, with a
// data_dir of its own, to compare with.
type killLab struct {
	*testing.T
	*lab
	random      *rand.Rand
	undisturbed *process
	control     string
	// takeovers counts the syncs that were found unfinished, untouched the others.
	takeovers, untouched int
}

// newKillLab starts a tenant and the server that is not killed.
func newKillLab(ctx context.Context, t *testing.T, seed uint64) *killLab {
	t.Helper()
	k := &killLab{T: t, random: rand.New(rand.NewPCG(seed, 0))}
	k.lab = newProcessLab(ctx, t, simulator.Config{Seed: 1, Items: 3, Latency: 10 * time.Millisecond}, harnessTypes)
	// The same keys: fingerprints of secrets can be compared.
	keys := "keys: {encryption: {file: encryption}, fingerprint: {file: fingerprint}}\n"
	for _, name := range []string{"encryption", "fingerprint"} {
		path := filepath.Join(k.Folder, name)
		if err := writeKey(path, fmt.Sprintf("%064x\n", len(name))); err != nil {
			t.Fatal(err)
		}
	}
	k.control = filepath.Join(k.Folder, "control")
	own := k.configFile()
	content := string(readTestFile(t, own)) + keys
	writeTestFile(t, own, content)
	other := filepath.Join(k.Folder, "control.yaml")
	writeTestFile(t, other, replaceOnce(t, content, filepath.Join(k.Folder, "data"), k.control))
	k.undisturbed = startServer(ctx, t, other)
	return k
}

// syncUndisturbed syncs the tenant with the server that is not killed, and returns the
// backup.
func (k *killLab) syncUndisturbed(ctx context.Context) map[string]string {
	k.Helper()
	stream, err := k.undisturbed.client.RunSync(ctx, &understudyv1.RunSyncRequest{Parent: "tenants/contoso"})
	for err == nil {
		_, err = stream.Recv()
	}
	if !errors.Is(err, io.EOF) {
		k.Fatal(err)
	}
	return tree(k.T, filepath.Join(k.control, "repositories", "contoso.git"))
}

// kill starts a sync and kills the server after a number of events and a pause, starts
// it again, and demands that the sync ends once, under its name, with the backup of an
// undisturbed one. It returns the server that is alive.
func (k *killLab) kill(ctx context.Context, server *process) *process {
	k.Helper()
	if err := k.simulator.ChangeItem(groups, k.random.IntN(3)); err != nil {
		k.Fatal(err)
	}
	started, err := server.client.StartSync(ctx, &understudyv1.StartSyncRequest{Parent: "tenants/contoso"})
	if err != nil {
		k.Fatal(err)
	}
	w := &witness{name: started.GetSync().GetName()}
	streamed, stop := context.WithCancel(ctx)
	enough := k.random.IntN(14)
	if enough == 0 {
		stop()
	}
	_ = watch(streamed, server.client, w.name, 0, func(event *understudyv1.SyncEvent) {
		w.see(event)
		if len(w.events) >= enough {
			stop()
		}
	})
	stop()
	pause(ctx, time.Duration(k.random.IntN(15000))*time.Microsecond)
	server.kill()

	server = startServer(ctx, k.T, k.configFile())
	limited, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := w.attend(limited, func() understudyv1.SyncServiceClient { return server.client }); err != nil {
		k.Fatalf("%v\n%s", err, w.story())
	}
	if final := w.final(); final.GetState() != succeeded {
		k.Fatalf("the sync ended %v\n%s", final, w.story())
	} else if final.GetAttempt() > 1 {
		k.takeovers++
	} else {
		k.untouched++
	}
	runGit(k.T, "-C", k.repository("contoso"), "fsck", "--full", "--strict")
	if diff := cmp.Diff(k.syncUndisturbed(ctx), tree(k.T, k.repository("contoso"))); diff != "" {
		k.Fatalf("the backup differs from an undisturbed one, -undisturbed +killed:\n%s\n%s", diff, w.story())
	}
	return server
}

// TestKilledServer kills the server at random moments of a sync. After each start the
// sync ends once and under its name, its events have no gap and no duplicate, the
// repository is whole, and the backup is the one of an undisturbed sync.
func TestKilledServer(t *testing.T) {
	t.Parallel()
	kills := fromEnvironment(t, "UNDERSTUDY_CHAOS_KILLS", 8, strconv.Atoi)
	const labs = 4
	ctx, cancel := context.WithTimeout(t.Context(), harnessTimeout+time.Duration(kills)*3*time.Second)
	defer cancel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	var mu sync.Mutex
	takeovers, untouched := 0, 0
	began := time.Now()
	t.Run("labs", func(t *testing.T) { // which is over when all of them are
		for i := range labs {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				k := newKillLab(ctx, t, seed+uint64(i))
				server := startServer(ctx, t, k.configFile())
				for range kills / labs {
					server = k.kill(ctx, server)
				}
				mu.Lock()
				defer mu.Unlock()
				takeovers, untouched = takeovers+k.takeovers, untouched+k.untouched
			})
		}
	})
	t.Logf("%d kills in %s: %d syncs were taken over, %d were not begun or over", kills, time.Since(began), takeovers, untouched)
	if kills >= 100 && (takeovers < kills/4 || untouched == 0) {
		t.Error("the kills did not come at all kinds of moments")
	}
}

func writeTestFile(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// replaceOnce replaces the only occurrence of a text.
func replaceOnce(t testing.TB, content, old, with string) string {
	t.Helper()
	if strings.Count(content, old) != 1 {
		t.Fatalf("%d times %s", strings.Count(content, old), old)
	}
	return strings.Replace(content, old, with, 1)
}
