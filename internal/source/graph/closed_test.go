package graph

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// When the tenant asks to wait for an hour, no request goes out for an hour: whoever
// would have to wait for more than ten minutes fails at once, also in the next sync.
// That is of the path that was refused: the others of the workload go on.
func TestNothingIsSentBeforeTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeGraph{}
		hour := func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", "3600")
			fail(http.StatusTooManyRequests, "TooManyRequests", "x")(w, r)
		}
		f.one = routes(map[string]http.HandlerFunc{
			"/v1.0/things": inTurn(hour, ok(things(3))), "/v1.0/things/*": ok(`{"value":[]}`), "/v1.0/well": ok(things(1)),
		})
		var log bytes.Buffer
		source := offline(t, f, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
		begin := time.Now()
		refused := func(requests int) {
			t.Helper()
			now := time.Now()
			got := read(t, source, withChild("/things"))
			if !isReason(got.err, reasonThrottled) || time.Since(now) > time.Second || len(f.gets) != requests {
				t.Errorf("after %s: %v in %s, %v", now.Sub(begin), got.err, time.Since(now), f.gets)
			}
		}
		refused(1)
		refused(1)
		if got := read(t, source, collection("/well")); got.err != nil || time.Since(begin) > 10*time.Second {
			t.Error("another path:", got.err, time.Since(begin))
		}
		until := begin.Add(time.Hour).Format("15:04:05")
		if text := log.String(); strings.Count(text, "level=WARN") != 1 || !strings.Contains(text, "/v1.0/things") || !strings.Contains(text, until) {
			t.Error(text)
		}
		<-time.After(49 * time.Minute)
		refused(2)
		<-time.After(2 * time.Minute)
		got := read(t, source, withChild("/things"))
		if got.err != nil || len(got.ids) != 3 || time.Since(begin) < time.Hour || time.Since(begin) > time.Hour+time.Minute {
			t.Error(got.err, got.ids, time.Since(begin))
		}
	})
}

// The same for parts that wait for a batch when their gate closes.
func TestABatchIsNotSentBeforeTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeGraph{one: routes(map[string]http.HandlerFunc{"/v1.0/things": ok(things(100)), "/v1.0/things/*": ok(`{"value":[]}`)})}
		f.outer = func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Retry-After", fmt.Sprint(25*60*60))
			w.WriteHeader(http.StatusTooManyRequests)
			return true
		}
		source := offline(t, f, func(c *Config) { c.MaxConnections = 1 })
		begin := time.Now()
		got := read(t, source, withChild("/things"))
		if !isReason(got.err, reasonThrottled) || len(got.ids) != 0 || got.stats.Requests != 2 || time.Since(begin) > time.Second {
			t.Error(got.err, got.ids, got.stats, time.Since(begin))
		}
		gate := source.gate("test")
		if d := gate.closedFor(time.Now(), "GET /v1.0/things/{id}/c"); d < longestClosing-time.Second || d > longestClosing {
			t.Errorf("closed for %s", d)
		}
		if d := gate.closedFor(time.Now(), "GET /v1.0/things"); d > 0 || source.throttleDelay(time.Now()) > 0 {
			t.Errorf("another path is closed for %s", d)
		}
	})
}

// How long one answer closes a path: a service that is out of order is asked again
// sooner than one whose limit was used up.
func TestOnePathIsClosed(t *testing.T) {
	for name, test := range map[string]struct {
		status int
		after  string
		path   time.Duration
		gate   time.Duration
	}{
		"429":                      {429, "86400", 24 * time.Hour, 0},
		"429, nonsense":            {429, "999999", longestClosing, 0},
		"509":                      {509, "700", 700 * time.Second, 0},
		"503":                      {503, "86400", longestOutage, 0},
		"503, less":                {503, "1200", 20 * time.Minute, 0},
		"500 says nothing of that": {500, "86400", 0, 0},
		"ten minutes":              {429, "600", 10 * time.Minute, 10 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGate(Limit{Requests: 100, Per: time.Second}, time.Second)
				header := http.Header{"Retry-After": {test.after}}
				g.observe(time.Now(), test.status, header)
				until, fresh := g.closePath(time.Now(), "a", test.status, header)
				if fresh != (test.path > maxThrottleWait) || fresh && !until.Equal(time.Now().Add(test.path)) {
					t.Error(until, fresh)
				}
				if _, again := g.closePath(time.Now(), "a", test.status, header); again {
					t.Error("it was open again")
				}
				a, b := g.closedFor(time.Now(), "a"), g.closedFor(time.Now(), "b")
				if a != test.path || b != test.gate {
					t.Errorf("closed for %s, others for %s", a, b)
				}
				if !fresh {
					return
				}
				if err := g.wait(t.Context(), "a"); !errors.Is(err, errClosedForLong) {
					t.Error(err)
				}
				<-time.After(test.path - maxThrottleWait)
				start := time.Now()
				waited := make(chan time.Duration, 1)
				go func() {
					if err := g.wait(t.Context(), "a"); err != nil {
						t.Error(err)
					}
					waited <- time.Since(start)
				}()
				synctest.Wait()
				if err := g.wait(t.Context(), "b"); err != nil || time.Since(start) > 10*time.Second {
					t.Error("another path waited:", err, time.Since(start))
				}
				if d := <-waited; d != maxThrottleWait {
					t.Errorf("it waited for %s", d)
				}
			})
		})
	}
}

// A request that waits at the gate when its path is closed is not sent either.
func TestAPathIsClosedMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(Limit{Requests: 1, Per: time.Minute}, time.Second)
		if err := g.wait(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		begun := make(chan error, 2)
		for range 2 { // one has the turn, the other waits for it
			go func() { begun <- g.wait(t.Context(), "a") }()
		}
		<-time.After(time.Second)
		g.closePath(time.Now(), "a", http.StatusTooManyRequests, http.Header{"Retry-After": {"3600"}})
		for range 2 {
			if err := <-begun; !errors.Is(err, errClosedForLong) {
				t.Error(err)
			}
		}
	})
}
