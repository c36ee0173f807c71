package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/engine"
	"understudy.internal/internal/simulator"
)

// fromEnvironment returns what an environment variable sets, or a default.
func fromEnvironment[T any](t testing.TB, name string, standard T, parse func(string) (T, error)) T {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return standard
	}
	value, err := parse(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return value
}

// chaosGrace is how long everything may take to come to rest.
const chaosGrace = 2 * time.Minute

var quickReconnect = grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.5, Jitter: 0.2, MaxDelay: 500 * time.Millisecond},
	MinConnectTimeout: 2 * time.Second,
}

// isPassing says whether an error goes with what fails, and not with the call.
func isPassing(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.ResourceExhausted:
		return true
	default:
		return false
	}
}

// chaos is a run with syncs and with what disturbs them.
type chaos struct {
	*replicas
	t    *testing.T
	seed uint64

	mu        sync.Mutex
	witnesses []*witness
}

// Three replicas on three nodes, thirty tenants, while replicas and one node are
// killed and started again at random: every sync that was accepted ends once; no event
// that was seen is lost; each replica tells the same story; the backups are whole and
// what an undisturbed sync makes of the tenant.
func TestChaosOfReplicas(t *testing.T) {
	duration := fromEnvironment(t, "UNDERSTUDY_CHAOS_DURATION", 0, time.ParseDuration)
	if duration == 0 {
		t.Skip("takes as long as it is told to: make chaos")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*duration+2*chaosGrace)
	defer cancel()
	c := &chaos{t: t, seed: rand.Uint64()}
	c.replicas = newReplicas(ctx, t, replicaSetup{
		nodes: 3, replicas: 3, tenants: 30, directory: simulator.Config{Seed: 1, Items: 3, Latency: 20 * time.Millisecond},
	})
	t.Logf("seed %d, %s", c.seed, duration)

	raging, calm := context.WithTimeout(ctx, duration)
	defer calm()
	var group sync.WaitGroup
	for i := range c.names {
		group.Go(func() { c.syncAgain(ctx, raging, i) })
	}
	group.Go(func() { c.changeTenant(raging) })
	group.Go(func() {
		c.disturb(ctx, raging, 1, func(r *rand.Rand) *child { return c.all[r.IntN(len(c.all))].child })
	})
	group.Go(func() {
		c.disturb(ctx, raging, 2, func(r *rand.Rand) *child { return c.nats.nodes[r.IntN(len(c.nats.nodes))] })
	})
	group.Wait()
	if t.Failed() {
		return
	}
	for _, own := range c.all {
		own.waitServing(ctx, t)
	}
	c.report()
	c.sameEverywhere(ctx)
	c.backupsAreWhole(ctx)
}

// random returns a source of its own for each part of a run.
func (c *chaos) random(part uint64) *rand.Rand { return rand.New(rand.NewPCG(c.seed, part)) }

// anyone returns the client of a replica by chance.
func (c *chaos) anyone(r *rand.Rand) understudyv1.SyncServiceClient {
	return c.all[r.IntN(len(c.all))].client
}

// disturb kills a process now and then, and starts it again.
func (c *chaos) disturb(ctx, raging context.Context, part uint64, pick func(*rand.Rand) *child) {
	r := c.random(part)
	for raging.Err() == nil {
		pause(raging, time.Duration(500+r.IntN(4000))*time.Millisecond)
		victim := pick(r)
		victim.kill()
		pause(ctx, time.Duration(r.IntN(8000))*time.Millisecond)
		victim.start(c.t)
	}
}

// changeTenant changes items of the directory, so that there is something to commit.
func (c *chaos) changeTenant(raging context.Context) {
	for i := 0; raging.Err() == nil; i++ {
		if err := c.simulator.ChangeItem(groups, i%3); err != nil {
			c.t.Error(err)
			return
		}
		pause(raging, 300*time.Millisecond)
	}
}

// syncAgain syncs one tenant again and again, and lets each sync be witnessed.
func (c *chaos) syncAgain(ctx, raging context.Context, i int) {
	r := c.random(100 + uint64(i))
	pick := func() understudyv1.SyncServiceClient { return c.anyone(r) }
	for raging.Err() == nil {
		name, err := c.accept(ctx, c.names[i], pick)
		if err != nil {
			c.t.Errorf("%s: %v", c.names[i], err)
			return
		}
		w := &witness{name: name}
		c.mu.Lock()
		c.witnesses = append(c.witnesses, w)
		c.mu.Unlock()
		limited, cancel := context.WithTimeout(ctx, chaosGrace)
		err = w.attend(limited, pick)
		cancel()
		if err != nil {
			c.t.Errorf("%v\n%s", err, w.story())
			return
		}
		pause(raging, time.Duration(r.IntN(1500))*time.Millisecond)
	}
}

// accept starts a sync, and asks again with the same request_id until it is known that
// it was accepted.
func (c *chaos) accept(ctx context.Context, tenant string, pick func() understudyv1.SyncServiceClient) (string, error) {
	request := &understudyv1.StartSyncRequest{Parent: "tenants/" + tenant, RequestId: uuid.NewString()}
	for {
		call, cancel := context.WithTimeout(ctx, 10*time.Second)
		response, err := pick().StartSync(call, request)
		cancel()
		switch {
		case err == nil:
			return response.GetSync().GetName(), nil
		case ctx.Err() != nil || !isPassing(err):
			return "", err
		}
		pause(ctx, 100*time.Millisecond)
	}
}

// story tells the events of a witness.
func (w *witness) story() string {
	var b strings.Builder
	for _, event := range w.events {
		text := strings.TrimPrefix(fmt.Sprintf("%T", event.GetEvent()), "*understudyv1.SyncEvent_")
		if changed := event.GetStateChanged(); changed != nil {
			text += fmt.Sprintf(" %s %s", changed.GetState(), changed.GetWorker())
		}
		fmt.Fprintf(&b, "%3d %s %s\n", event.GetSequence(), event.GetEventTime().AsTime().Format("15:04:05.000"), text)
	}
	return b.String()
}

// report logs what happened, and fails for syncs that failed: nothing that was
// disturbed is a reason to.
func (c *chaos) report() {
	states, takeovers, connections, events := map[string]int{}, 0, 0, 0
	for _, w := range c.witnesses {
		final := w.final()
		states[final.GetState().String()]++
		takeovers += max(int(final.GetAttempt())-1, 0)
		connections += w.connections
		events += len(w.events)
		if state := final.GetState(); state != succeeded {
			c.t.Logf("%s: %v %v %v\n%s%s", w.name, state, final.GetPartialCauses(), final.GetError(), w.story(), c.said(w.name))
		}
	}
	c.t.Logf("%d syncs %v, %d takeovers, %d events seen over %d connections", len(c.witnesses), states, takeovers, events, connections)
	for _, own := range c.all {
		c.t.Logf("%s ended %d times by itself", own.name, own.failures)
		for line := range strings.Lines(own.said.String()) {
			if strings.HasPrefix(line, "understudy: ") {
				c.t.Log(strings.TrimSpace(line)) // what a process says when it ends
			}
		}
	}
	if states["SYNC_STATE_FAILED"] > 0 {
		c.t.Errorf("%d syncs failed", states["SYNC_STATE_FAILED"])
	}
}

// said returns what the replicas logged of a sync, and of its tenant's remote.
func (c *chaos) said(name string) string {
	var b strings.Builder
	tenant := "tenant=" + tenantID(engine.TenantOf(name)) + " "
	for _, own := range c.all {
		for line := range strings.Lines(own.said.String()) {
			if strings.Contains(line, name) || strings.Contains(line, tenant) {
				b.WriteString(own.name + " " + line)
			}
		}
	}
	return b.String()
}

// sameEverywhere demands that every replica tells of each sync what was seen, and
// knows of the same syncs.
func (c *chaos) sameEverywhere(ctx context.Context) {
	want := map[string]bool{}
	for _, w := range c.witnesses {
		want[w.name] = true
	}
	var group sync.WaitGroup
	for _, own := range c.all {
		group.Go(func() {
			var readers errgroup.Group
			readers.SetLimit(8)
			for _, w := range c.witnesses {
				readers.Go(func() error { w.same(ctx, c.t, own); return nil })
			}
			_ = readers.Wait()
			listed := map[string]bool{}
			for request := (&understudyv1.ListSyncsRequest{Parent: "tenants/-", PageSize: 1000}); ; {
				page, err := own.client.ListSyncs(ctx, request)
				if err != nil {
					c.t.Errorf("%s: %v", own.name, err)
					return
				}
				for _, s := range page.GetSyncs() {
					listed[s.GetName()] = true
				}
				if request.PageToken = page.GetNextPageToken(); request.GetPageToken() == "" {
					break
				}
			}
			if diff := cmp.Diff(want, listed); diff != "" {
				c.t.Errorf("%s lists other syncs than were accepted, -accepted +listed:\n%s", own.name, diff)
			}
		})
	}
	group.Wait()
}

// backupsAreWhole syncs every tenant once more, undisturbed, and demands that all
// backups are whole and the same: they are of one directory.
func (c *chaos) backupsAreWhole(ctx context.Context) {
	var group sync.WaitGroup
	for i, tenant := range c.names {
		group.Go(func() {
			r := c.random(1000 + uint64(i))
			pick := func() understudyv1.SyncServiceClient { return c.anyone(r) }
			name, err := c.accept(ctx, tenant, pick)
			if err != nil {
				c.t.Errorf("%s: %v", tenant, err)
				return
			}
			w := &witness{name: name}
			if err := w.attend(ctx, pick); err != nil {
				c.t.Error(err)
			} else if w.final().GetState() != succeeded {
				c.t.Errorf("%s: %v", name, w.final())
			}
		})
	}
	group.Wait()
	if c.t.Failed() {
		return
	}
	var want map[string]string
	for _, tenant := range c.names {
		runGit(c.t, "-C", c.backup(tenant), "fsck", "--full", "--strict")
		got := tree(c.t, c.backup(tenant))
		if want == nil {
			want = got
		}
		if diff := cmp.Diff(want, got); diff != "" {
			c.t.Errorf("the backup of %s differs from that of %s:\n%s", tenant, c.names[0], diff)
		}
		c.commitsOnce(tenant)
	}
}

// commitsOnce demands that no sync of a tenant committed twice.
func (c *chaos) commitsOnce(tenant string) {
	commits := map[string]int{}
	for line := range strings.Lines(runGit(c.t, "-C", c.backup(tenant), "log", "--format=%(trailers:key=Sync,valueonly,separator=%x2C)", "main")) {
		commits[strings.TrimSpace(line)]++
	}
	for name, count := range commits {
		if count > 1 && name != "" {
			c.t.Errorf("%s has %d commits", name, count)
		}
	}
}

// A replica that is frozen past its lease in the middle of a sync, and goes on, neither
// appends nor commits: the sync is another's, and it finds out.
func TestFrozenReplica(t *testing.T) {
	t.Parallel()
	for name, shared := range map[string]bool{"remotes": false, "one data_dir": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			freeze(t, shared)
		})
	}
}

func freeze(t *testing.T, shared bool) {
	ctx, cancel := context.WithTimeout(t.Context(), harnessTimeout)
	defer cancel()
	// A sync takes some seconds, so that the other one still works when the frozen
	// one goes on.
	c := &chaos{t: t, replicas: newReplicas(ctx, t, replicaSetup{
		nodes: 1, replicas: 2, tenants: 1, shared: shared, directory: simulator.Config{Seed: 1, Items: 3, Latency: 1500 * time.Millisecond},
	})}
	started, err := c.all[0].client.StartSync(ctx, &understudyv1.StartSyncRequest{Parent: "tenants/t00"})
	if err != nil {
		t.Fatal(err)
	}
	w := &witness{name: started.GetSync().GetName()}
	var frozen, other *replica
	first, stop := context.WithCancel(ctx)
	_ = watch(first, c.all[0].client, w.name, 0, func(event *understudyv1.SyncEvent) {
		if worker := event.GetStarted().GetWorker(); worker != "" {
			frozen, other = c.byWorker(worker)
		}
		// On a shared disk the right to write is the last one's who asked for it: freeze
		// the first one when it has it.
		if !shared || event.GetConfigurationCompleted() != nil {
			stop()
		}
	})
	stop()
	if frozen == nil {
		t.Fatal("nobody took the sync")
	}
	if err := frozen.command.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	taken, stop := context.WithCancel(ctx)
	_ = watch(taken, other.client, w.name, 0, func(event *understudyv1.SyncEvent) {
		if event.GetStateChanged().GetWorker() != "" {
			stop()
		}
	})
	stop()
	if ctx.Err() != nil {
		t.Fatal("nobody took the sync over")
	}
	if err := frozen.command.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := w.attend(ctx, func() understudyv1.SyncServiceClient { return other.client }); err != nil {
		t.Fatal(err)
	}
	if final := w.final(); final.GetState() != succeeded || final.GetAttempt() != 2 {
		t.Errorf("the sync ended as %v\n%s", final, w.story())
	}
	frozen.waitServing(ctx, t)
	eventually(t, 30*time.Second, "the frozen replica finds out", func() bool {
		return scrape(ctx, t, frozen.metrics)["understudy_syncs_lost_total"] == "1"
	})
	w.same(ctx, t, frozen)
	c.commitsOnce("t00")
	runGit(t, "-C", c.backup("t00"), "fsck", "--full", "--strict")
	if commits := runGit(t, "-C", c.backup("t00"), "rev-list", "--count", "main"); commits != "1" {
		t.Errorf("%s commits, not 1", commits)
	}
}

// byWorker returns the replica that a worker belongs to, and another one.
func (r *replicas) byWorker(worker string) (own, other *replica) {
	for _, candidate := range r.all {
		if strings.HasPrefix(worker, candidate.name) {
			own = candidate
		} else {
			other = candidate
		}
	}
	return own, other
}

// Two StartSync calls for one tenant at once, through two replicas: one wins, and the
// other is told of it.
func TestTwoReplicasStartAtOnce(t *testing.T) {
	t.Parallel()
	rounds := fromEnvironment(t, "UNDERSTUDY_CHAOS_ROUNDS", 20, strconv.Atoi)
	const tenants = 20
	ctx, cancel := context.WithTimeout(t.Context(), harnessTimeout)
	defer cancel()
	c := &chaos{t: t, replicas: newReplicas(ctx, t, replicaSetup{
		nodes: 1, replicas: 2, tenants: tenants, directory: simulator.Config{Seed: 1, Items: 1, Latency: 300 * time.Millisecond},
	})}
	var group sync.WaitGroup
	for _, tenant := range c.names {
		group.Go(func() {
			for range rounds / tenants {
				c.startAtOnce(ctx, tenant)
			}
		})
	}
	group.Wait()
}

func (c *chaos) startAtOnce(ctx context.Context, tenant string) {
	request := &understudyv1.StartSyncRequest{Parent: "tenants/" + tenant, Spec: &understudyv1.SyncSpec{
		ConfigurationTypes: []string{"entra/organization"}, DryRun: true,
	}}
	var names, winners [2]string
	var group sync.WaitGroup
	for i := range 2 {
		group.Go(func() {
			response, err := c.all[i].client.StartSync(ctx, request)
			names[i] = response.GetSync().GetName()
			if err == nil {
				winners[i] = names[i]
				return
			}
			for _, d := range status.Convert(err).Details() {
				if info, ok := d.(*errdetails.ErrorInfo); ok {
					names[i] = info.GetMetadata()["sync"]
				}
			}
			if status.Code(err) != codes.Aborted {
				c.t.Errorf("%s: %v", tenant, err)
			}
		})
	}
	group.Wait()
	two := winners[0] != "" && winners[1] != "" && winners[0] != winners[1]
	if !two && (names[0] != names[1] || names[0] == "" || winners[0] == "" && winners[1] == "") {
		c.t.Errorf("%s: the calls were answered with %q, and won with %q", tenant, names, winners)
	}
	var over [2]*understudyv1.Sync
	for i, name := range names {
		w := &witness{name: name}
		if err := w.attend(ctx, func() understudyv1.SyncServiceClient { return c.all[i].client }); err != nil {
			c.t.Error(err)
			return
		}
		over[i] = w.final()
	}
	// Nobody is slowed down so that the calls meet: a call that came when the sync of the
	// other one was over wins too.
	if two && over[0].GetEndTime().AsTime().After(over[1].GetStartTime().AsTime()) &&
		over[1].GetEndTime().AsTime().After(over[0].GetStartTime().AsTime()) {
		c.t.Errorf("%v and %v ran at once", over[0], over[1])
	}
}
