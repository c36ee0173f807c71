package graph

import (
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// When the tenant asks to wait for an hour, no request goes out for an hour: whoever
// would have to wait for more than ten minutes fails at once, also in the next sync.
// Another workload goes on.
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
		source := offline(t, f)
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
		well := collection("/well")
		well.Gate = "well"
		if got := read(t, source, well); got.err != nil {
			t.Error("another workload:", got.err)
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
		if d := source.throttleDelay(time.Now()); d < longestClosing-time.Second || d > longestClosing {
			t.Errorf("closed for %s", d)
		}
	})
}
