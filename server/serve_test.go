package main

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"understudy.internal/internal/engine"
)

// TestEndWithin: a stop that hangs is bounded, and one that does not says how it went.
func TestEndWithin(t *testing.T) {
	failure, broken, hung := errors.New("failed"), errors.New("broken"), &engine.HungError{Sync: "tenants/contoso/syncs/1"}
	for name, test := range map[string]struct {
		stopped, lasts time.Duration
		cause, want    error
		took           time.Duration
	}{
		"ends by itself":     {time.Hour, time.Second, nil, failure, time.Second},
		"stops in time":      {time.Second, 3 * time.Second, nil, failure, 3 * time.Second},
		"does not stop ever": {time.Second, 100 * time.Hour, nil, nil, time.Second + time.Minute},
		"hangs":              {time.Second, 100 * time.Hour, &gaveUpError{hung}, hung, time.Second + time.Minute},
		"fails and hangs":    {time.Second, 100 * time.Hour, &gaveUpError{broken}, broken, time.Second + time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				time.AfterFunc(test.stopped, func() { cancel(test.cause) })
				begin := time.Now()
				left := false
				err := endWithin(ctx, time.Minute, func() { left = true }, func() error { <-time.After(test.lasts); return failure })
				if took := time.Since(begin); took != test.took {
					t.Errorf("it took %s, want %s", took, test.took)
				}
				<-time.After(test.lasts) // no goroutine is left behind
				if exit := (*exitError)(nil); test.want != nil && !errors.Is(err, test.want) || test.want == nil && !errors.As(err, &exit) {
					t.Errorf("endWithin = %v", err)
				}
				if forced := test.took > time.Minute; left != forced {
					t.Errorf("it told the others that it leaves: %v", left)
				}
			})
		})
	}
}
