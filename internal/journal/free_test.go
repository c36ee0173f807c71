package journal_test

import (
	"testing"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

// TestTenantIsFreeWhenFinishedIsSeen was found by the demo: a client that retried at
// once after `finished` was told that the sync was running.
func TestTenantIsFreeWhenFinishedIsSeen(t *testing.T) {
	t.Parallel()
	j := open(t, t.TempDir())
	sync := create(t, j, "tenants/contoso")
	type answer struct {
		sync *understudyv1.Sync
		err  error
	}
	for range 50 {
		w, err := j.Watch(t.Context(), sync.GetName(), 0)
		if err != nil {
			t.Fatal(err)
		}
		next := make(chan answer, 1)
		go func() {
			for {
				event, err := w.Next(t.Context())
				if err == nil && event.GetFinished() == nil {
					continue
				}
				var a answer
				if a.err = err; err == nil {
					a.sync, _, a.err = j.Create(t.Context(), port.CreateRequest{Tenant: "tenants/contoso", Sync: &understudyv1.Sync{}})
				}
				next <- a
				return
			}
		}()
		finish(t, j, sync.GetName())
		a := <-next
		if a.err != nil {
			t.Fatal(a.err)
		}
		sync = a.sync
		w.Close()
	}
}
