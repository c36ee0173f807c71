package journal_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
	"understudy.internal/internal/port/porttest"
)

// TestCreatesDoNotQueue: calls for one tenant that wait for each other on a journal that
// is gone do not each find that out, one after the other.
func TestCreatesDoNotQueue(t *testing.T) {
	t.Parallel()
	j := replicas(t, 1)[0]
	j.StopFollowing()
	const patience, calls = 2 * time.Second, 10
	j.LosePatience(patience)
	release, err := j.Hold(t.Context(), "tenants/contoso")
	if err != nil {
		t.Fatal(err)
	}
	j.Silence()
	var group sync.WaitGroup
	begin := time.Now()
	for range calls {
		group.Go(func() {
			_, _, err := j.Create(t.Context(), port.CreateRequest{Tenant: "tenants/contoso", Sync: &understudyv1.Sync{}})
			if !errors.As(err, new(*port.StorageError)) {
				t.Errorf("Create = %v", err)
			}
		})
	}
	release()
	group.Wait()
	// In turn they take 20 s.
	if took := time.Since(begin); took > calls/2*patience {
		t.Errorf("%d calls took %s", calls, took)
	}
}

// TestCallerGoesAway: who goes away while the tenant is busy has no sync.
func TestCallerGoesAway(t *testing.T) {
	t.Parallel()
	j := open(t, t.TempDir())
	const tenant = "tenants/contoso"
	release, err := j.Hold(t.Context(), tenant)
	if err != nil {
		t.Fatal(err)
	}
	gone := errors.New("the caller went away")
	ctx, cancel := context.WithCancelCause(t.Context())
	answer := make(chan error)
	create := func() {
		_, _, err := j.Create(ctx, port.CreateRequest{Tenant: tenant, Sync: &understudyv1.Sync{}})
		answer <- err
	}
	go create()
	cancel(gone)
	if err := <-answer; !errors.Is(err, gone) {
		t.Errorf("Create = %v", err)
	}
	release()
	go create() // nobody is waited for
	if err := <-answer; !errors.Is(err, gone) {
		t.Errorf("Create = %v", err)
	}
	if syncs, err := j.List(t.Context(), tenant, "", 10); err != nil || len(syncs) != 0 {
		t.Errorf("there are %v, %v", syncs, err)
	}
}

// TestWritersDoNotQueue: nor do those who open the log of one sync, or append to it; and
// after that the journal says that there is no use in trying.
func TestWritersDoNotQueue(t *testing.T) {
	t.Parallel()
	j := replicas(t, 1)[0]
	name := create(t, j, "tenants/contoso").GetName()
	log := porttest.Open(t, j, name)
	j.StopFollowing()
	const patience, calls = 2 * time.Second, 10
	j.LosePatience(patience)
	release, err := j.HoldLog(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	j.Silence()
	if err := j.Reachable(); err != nil {
		t.Fatalf("Reachable = %v: the test is wrong", err)
	}
	var group sync.WaitGroup
	begin := time.Now()
	for i := range calls {
		group.Go(func() {
			var err error
			if i%2 == 0 {
				_, err = j.Open(t.Context(), name)
			} else {
				err = log.Append(t.Context(), started())
			}
			if !errors.As(err, new(*port.StorageError)) {
				t.Errorf("call %d = %v", i, err)
			}
		})
	}
	release()
	group.Wait()
	// In turn they take 20 s and more.
	if took := time.Since(begin); took > calls/2*patience {
		t.Errorf("%d calls took %s", calls, took)
	}
	if err := j.Reachable(); !errors.As(err, new(*port.StorageError)) {
		t.Errorf("Reachable = %v", err)
	}
}

// TestOpenFindsTheJournalAway: who only opened logs of a cluster that is away tells it, too.
func TestOpenFindsTheJournalAway(t *testing.T) {
	t.Parallel()
	j := replicas(t, 1)[0]
	name := create(t, j, "tenants/contoso").GetName()
	j.StopFollowing()
	j.LosePatience(0)
	j.Silence()
	if _, err := j.Open(t.Context(), name); !errors.As(err, new(*port.StorageError)) {
		t.Errorf("Open = %v", err)
	}
	if err := j.Reachable(); !errors.As(err, new(*port.StorageError)) {
		t.Errorf("Reachable = %v", err)
	}
}

// TestWriterGoesAway: who goes away while others store is not waited for, and nothing is
// stored for it.
func TestWriterGoesAway(t *testing.T) {
	t.Parallel()
	j := open(t, t.TempDir())
	name := create(t, j, "tenants/contoso").GetName()
	log := porttest.Open(t, j, name)
	gone := errors.New("the caller went away")
	for what, call := range map[string]func(context.Context) error{
		"Open":   func(ctx context.Context) error { _, err := j.Open(ctx, name); return err },
		"Append": func(ctx context.Context) error { return log.Append(ctx, started()) },
	} {
		release, err := j.HoldLog(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		answer := make(chan error)
		go func() { answer <- call(ctx) }()
		cancel(gone)
		if err := <-answer; !errors.Is(err, gone) {
			t.Errorf("%s = %v", what, err)
		}
		release()
		if err := call(ctx); !errors.Is(err, gone) { // nobody is waited for
			t.Errorf("%s = %v", what, err)
		}
	}
	if got := len(dense(t, j, name)); got != 0 {
		t.Errorf("%d events are stored", got)
	}
	porttest.Append(t, log, started())
}
