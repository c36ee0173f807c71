package journal_test

import (
	"errors"
	"log/slog"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"understudy.internal/internal/journal"
	"understudy.internal/internal/journal/journaltest"
)

// streams are the streams of a journal on a cluster, without what the engine adds.
func streams(t *testing.T, c *journaltest.Cluster, prefix string) (jetstream.JetStream, map[string]jetstream.StreamConfig) {
	t.Helper()
	conn, err := nats.Connect(c.Servers()[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]jetstream.StreamConfig{}
	for _, what := range []string{"SYNCS", "EVENTS", "KEYS"} {
		stream, err := js.Stream(t.Context(), strings.ToUpper(prefix)+"_"+what)
		if err != nil {
			t.Fatal(err)
		}
		all[what] = stream.CachedInfo().Config
	}
	return js, all
}

// kept is what the streams keep: on how many servers, and for how long.
func kept(all map[string]jetstream.StreamConfig) map[string]any {
	short := map[string]any{}
	for what, config := range all {
		short[what] = [2]any{config.Replicas, config.MaxAge}
	}
	return short
}

// TestStreamsDoNotShrink: a process with another configuration takes nothing away from
// those that run; more it may keep.
func TestStreamsDoNotShrink(t *testing.T) {
	t.Parallel()
	c, prefix := onCluster(t)
	const day = 24 * time.Hour
	config := func(replicas int, retention time.Duration) journal.Config {
		own := c.Config(prefix, "a")
		own.Cluster.Replicas, own.Retention = replicas, retention
		return own
	}
	var logged record
	start := func(replicas int, retention time.Duration) error {
		own := config(replicas, retention)
		own.Logger = slog.New(slog.NewTextHandler(&logged, nil))
		j, err := journal.Open(t.Context(), own)
		if err == nil {
			j.Close()
		}
		return err
	}
	if err := start(1, 2*day); err != nil {
		t.Fatal(err)
	}
	if text := logged.String(); strings.Contains(text, "changed") {
		t.Errorf("new streams: %s", text)
	}
	if err := start(3, 90*day); err != nil { // more
		t.Fatal(err)
	}
	for text, count := range map[string]int{"before=48h now=2160h": 2, "before=1 now=3": 3, "_SYNCS before=48h": 1, "_EVENTS before=48h": 1, "level=WARN msg=changed": 0, "level=WARN msg=\"changed": 5} {
		if got := strings.Count(logged.String(), text); got != count {
			t.Errorf("%q is logged %d times, want %d: %s", text, got, count, logged.String())
		}
	}
	said := logged.String()
	if err := start(3, 90*day); err != nil || strings.Count(logged.String(), "changed") != strings.Count(said, "changed") {
		t.Errorf("what did not change: %v, %s", err, logged.String())
	}
	js, all := streams(t, c, prefix)
	want := map[string]any{"SYNCS": [2]any{3, 90 * day}, "EVENTS": [2]any{3, 90 * day}, "KEYS": [2]any{3, time.Duration(0)}}
	if got := kept(all); !maps.Equal(got, want) {
		t.Fatalf("the streams keep %v, not %v", got, want)
	}
	for name, test := range map[string]struct {
		replicas  int
		retention time.Duration
		says      []string
		not       string
	}{
		"fewer":   {1, 90 * day, []string{"on 3 servers, and this process wants 1", "_SYNCS --replicas 1`", "_EVENTS --replicas 1`", "_KEYS --replicas 1`"}, "max-age"},
		"shorter": {3, day, []string{"for 2160h, and this process wants 24h", "_SYNCS --max-age 24h`", "_EVENTS --max-age 24h`"}, "replicas 3"},
		"both":    {1, 36 * time.Hour, []string{"_SYNCS --replicas 1 --max-age 36h`", "_EVENTS --replicas 1 --max-age 36h`", "_KEYS --replicas 1`"}, "0m"},
	} {
		err := start(test.replicas, test.retention)
		if !errors.As(err, new(*journal.StreamError)) {
			t.Fatalf("%s: Open = %v", name, err)
		}
		for _, part := range test.says {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %v does not say %s", name, err, part)
			}
		}
		if strings.Contains(err.Error(), test.not) {
			t.Errorf("%s: %v says %s", name, err, test.not)
		}
		if _, all := streams(t, c, prefix); !maps.Equal(kept(all), want) {
			t.Errorf("%s: the streams keep %v", name, kept(all))
		}
	}
	// What the message says: the streams are edited, and the process starts. What else
	// their operator set stays.
	for what, config := range all {
		config.Description = "ours"
		if config.Replicas = 1; what != "KEYS" {
			config.MaxAge = day
		}
		if _, err := js.UpdateStream(t.Context(), config); err != nil {
			t.Fatal(err)
		}
	}
	if err := start(1, day); err != nil {
		t.Fatal(err)
	}
	if err := start(1, 3*day); err != nil {
		t.Fatal(err)
	}
	_, all = streams(t, c, prefix)
	want = map[string]any{"SYNCS": [2]any{1, 3 * day}, "EVENTS": [2]any{1, 3 * day}, "KEYS": [2]any{1, time.Duration(0)}}
	if got := kept(all); !maps.Equal(got, want) || all["EVENTS"].Description != "ours" {
		t.Errorf("the streams keep %v, not %v; described as %q", got, want, all["EVENTS"].Description)
	}
}

// TestRetentionAlone: who has the directory for itself says how long it keeps.
func TestRetentionAlone(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	for _, retention := range []time.Duration{90 * 24 * time.Hour, 24 * time.Hour, 48 * time.Hour} {
		j, err := journal.Open(t.Context(), journal.Config{Directory: directory, Retention: retention})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := j.MaxAge(t.Context()); err != nil || got != retention {
			t.Errorf("it keeps for %s, not %s: %v", got, retention, err)
		}
		j.Close()
	}
}
