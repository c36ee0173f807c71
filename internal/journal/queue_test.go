package journal_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
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
