package main

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A cluster that does not answer is said at once, and then again and again.
func TestSayWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged lockedBuffer
		ctx, cancel := context.WithTimeout(t.Context(), 25*time.Second)
		defer cancel()
		go sayWaiting(ctx, []string{"nats://nats1.example:4222"}, slog.New(slog.NewTextHandler(&logged, nil)))
		synctest.Wait()
		if strings.Count(logged.String(), "nats1.example:4222") != 1 || !strings.Contains(logged.String(), "level=INFO") {
			t.Errorf("at once: %s", logged.String())
		}
		<-ctx.Done()
		synctest.Wait()
		if strings.Count(logged.String(), "level=WARN") != 2 || !strings.Contains(logged.String(), "since=20s") {
			t.Errorf("after 25 seconds: %s", logged.String())
		}
	})
}

// Another process with the name of this one is said, once; the one before this is not.
func TestWarnOfNamesakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const lease = 30 * time.Second
		var logged bytes.Buffer
		begin := time.Now()
		alive := func() []string {
			workers := []string{"a/own", "b/1"}
			if since := time.Since(begin); since < lease {
				workers = append(workers, "a/before")
			} else if since > 2*lease {
				workers = append(workers, "a/other")
			}
			return workers
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*lease)
		defer cancel()
		warnOfNamesakes(ctx, "a/own", alive, lease, slog.New(slog.NewTextHandler(&logged, nil)))
		if text := logged.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "level=WARN") || !strings.Contains(text, "other=a/other") {
			t.Error(text)
		}
	})
}
