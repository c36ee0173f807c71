package graph

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"understudy.internal/internal/port"
)

func TestGateKeepsItsLimit(t *testing.T) {
	for name, test := range map[string]struct {
		limit    Limit
		requests int
		least    time.Duration
		most     time.Duration
	}{
		"conditional-access": {defaultLimit("conditional-access"), 11, 11 * time.Second, 11 * time.Second},
		"intune":             {defaultLimit("intune"), 3000, 40 * time.Second, 40 * time.Second},
		"intune, in a burst": {defaultLimit("intune"), 1000, 0, 0},
		"teams":              {defaultLimit("teams"), 500, 19 * time.Second, 20 * time.Second},
		"another":            {defaultLimit("x"), 2000, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGate(test.limit, time.Second)
				start := time.Now()
				var group sync.WaitGroup
				for range test.requests {
					group.Go(func() {
						if err := g.wait(t.Context(), "p"); err != nil {
							t.Error(err)
						}
					})
				}
				group.Wait()
				if took := time.Since(start); took < test.least || took > test.most {
					t.Errorf("%d requests took %s", test.requests, took)
				}
			})
		})
	}
}

func TestGateAdapts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(Limit{Requests: 100, Per: time.Second}, time.Second)
		pace := func(n int) time.Duration {
			start := time.Now()
			for range n {
				if err := g.wait(t.Context(), "p"); err != nil {
					t.Fatal(err)
				}
			}
			return time.Since(start)
		}
		<-time.After(time.Minute)
		for range 30 { // one overload, many answers
			g.observe(time.Now(), 429, http.Header{"Retry-After": {"3"}})
		}
		if d := g.closedFor(time.Now(), "p"); d != 3*time.Second {
			t.Errorf("closed for %s", d)
		}
		pace(1)
		if took := pace(50); took < 990*time.Millisecond || took > 1010*time.Millisecond {
			t.Errorf("half the pace: 50 took %s", took)
		}
		g.observe(time.Now(), 200, http.Header{"X-Ms-Throttle-Limit-Percentage": {"1.2"}})
		pace(1)
		if took := pace(40); took < 990*time.Millisecond || took > 1010*time.Millisecond {
			t.Errorf("0.4 of the pace: 40 took %s", took)
		}
		for range 60 {
			<-time.After(time.Second)
			g.observe(time.Now(), 200, nil)
		}
		if g.factor < 0.49 || g.factor > 0.51 {
			t.Errorf("it climbed from 0.4 to %v in the first minute", g.factor)
		}
		for range 100 {
			<-time.After(time.Second)
			g.observe(time.Now(), 200, nil)
		}
		if g.factor != 1 {
			t.Errorf("it did not climb back: %v", g.factor)
		}
		g.observe(time.Now(), 200, http.Header{"X-Ms-Throttle-Limit-Percentage": {"0.79"}})
		if g.factor != 1 {
			t.Error("0.79 is no warning")
		}
		for range 50 {
			<-time.After(2 * time.Second)
			g.observe(time.Now(), 429, nil)
		}
		if d := g.closedFor(time.Now(), "p"); d != longestPause || g.factor != slowestPace {
			t.Errorf("closed for %s, pace %v", d, g.factor)
		}
		g.observe(time.Now(), 429, http.Header{"Retry-After": {"600"}})
		if d := g.closedFor(time.Now(), "p"); d != maxThrottleWait {
			t.Errorf("closed for %s", d)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("why")
		time.AfterFunc(time.Second, func() { cancel(why) })
		if err := g.wait(ctx, "p"); !errors.Is(err, why) {
			t.Error(err)
		}
	})
}

// A gate that believes in twice the limit that the tenant has finds it out, and
// is told to wait hardly ever then.
func TestGateFindsTheLimit(t *testing.T) {
	for name, test := range map[string]struct {
		believed, real Limit
		silent         bool // no Retry-After
	}{
		"Intune":             {Limit{2000, 20 * time.Second}, Limit{1000, 20 * time.Second}, false},
		"Intune, four times": {Limit{4000, 20 * time.Second}, Limit{1000, 20 * time.Second}, false},
		"silent":             {Limit{200, 10 * time.Second}, Limit{100, 10 * time.Second}, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGate(test.believed, time.Second)
				begin := time.Now()
				var start time.Time
				count, good, refused := 0, 0, 0
				for time.Since(begin) < 10*time.Minute {
					if err := g.wait(t.Context(), "p"); err != nil {
						t.Fatal(err)
					}
					now := time.Now()
					if now.Sub(start) >= test.real.Per {
						start, count = now, 0
					}
					count++
					late := now.Sub(begin) > time.Minute
					if count <= test.real.Requests {
						g.observe(now, 200, nil)
						if late {
							good++
						}
						continue
					}
					header := http.Header{}
					if wait := test.real.Per - now.Sub(start); !test.silent {
						header.Set("Retry-After", fmt.Sprint(int(wait/time.Second)+1))
					}
					g.observe(now, 429, header)
					if late {
						refused++
					}
				}
				most := float64(test.real.Requests) * float64(9*time.Minute) / float64(test.real.Per)
				if refused*100 > good || float64(good) < most*0.7 {
					t.Errorf("%d were refused and %d granted of %.0f", refused, good, most)
				}
			})
		})
	}
}

// When one request of a gate is told to wait, all of that gate wait, in other
// types too, and in the next sync; other gates do not.
func TestOneWaitsAllWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var first atomic.Bool
		f := &fakeGraph{one: func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/v1.0/busy" && first.CompareAndSwap(false, true) {
				w.Header().Set("Retry-After", time.Now().Add(30*time.Second).UTC().Format(http.TimeFormat))
				fail(429, "x", "x")(w, r)
				return
			}
			io.WriteString(w, things(1))
		}}
		source := offline(t, f)
		start := time.Now()
		session := source.Open()
		var group sync.WaitGroup
		get := func(s port.Session, path, gate string, least, most time.Duration) {
			typ := collection(path)
			typ.Gate = gate
			group.Go(func() {
				if err := s.Read(t.Context(), typ, &fakeIdentity{}, func(port.Item) error { return nil }); err != nil {
					t.Error(err)
				}
				if took := time.Since(start); took < least || took > most {
					t.Errorf("%s: %s", path, took)
				}
			})
		}
		get(session, "/busy", "a", 29*time.Second, 31*time.Second)
		<-time.After(time.Second)
		if d := session.Stats().ThrottleDelay; d < 28*time.Second || d > 30*time.Second {
			t.Errorf("throttle delay %s", d)
		}
		next := source.Open()
		get(session, "/same", "a", 29*time.Second, 31*time.Second)
		get(next, "/next", "a", 29*time.Second, 31*time.Second)
		get(session, "/other", "b", time.Second, 2*time.Second)
		group.Wait()
		if d := session.Stats().ThrottleDelay; d != 0 {
			t.Errorf("throttle delay %s", d)
		}
		session.Close()
		next.Close()
	})
}

func TestRetries(t *testing.T) {
	after := func(status int, value string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", value)
			fail(status, "x", "x")(w, r)
		}
	}
	for name, test := range map[string]struct {
		answers     []http.HandlerFunc
		attempts    int
		least, most time.Duration
		failed      bool
	}{
		"500, four times":          {[]http.HandlerFunc{fail(500, "x", "x")}, 4, 22 * 800 * time.Millisecond * 8 / 20, 30 * time.Second, true},
		"500, then well":           {[]http.HandlerFunc{fail(500, "x", "x"), ok(things(1))}, 2, 600 * time.Millisecond, 2 * time.Second, false},
		"three times, then well":   {[]http.HandlerFunc{fail(503, "x", "x"), fail(504, "x", "x"), fail(408, "x", "x"), ok(things(1))}, 4, 6 * time.Second, 30 * time.Second, false},
		"Retry-After is obeyed":    {[]http.HandlerFunc{after(429, "100"), after(503, "100"), after(500, "100"), ok(things(1))}, 4, 300 * time.Second, 305 * time.Second, false},
		"not for ever":             {[]http.HandlerFunc{after(429, "400"), after(429, "400"), ok(things(1))}, 2, 400 * time.Second, 401 * time.Second, true},
		"more than ten minutes":    {[]http.HandlerFunc{after(429, "601"), ok(things(1))}, 1, 0, time.Second, true},
		"429 without Retry-After":  {[]http.HandlerFunc{fail(429, "x", "x"), ok(things(1))}, 2, time.Second, 3 * time.Second, false},
		"429 without, four times":  {[]http.HandlerFunc{fail(429, "x", "x")}, 4, 4 * time.Second, 40 * time.Second, true},
		"Retry-After is nonsense":  {[]http.HandlerFunc{after(429, "soon"), ok(things(1))}, 2, time.Second, 3 * time.Second, false},
		"400 is not tried again":   {[]http.HandlerFunc{fail(400, "x", "x")}, 1, 0, time.Second, true},
		"not json is not repeated": {[]http.HandlerFunc{ok("x")}, 1, 0, time.Second, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fakeGraph{one: inTurn(test.answers...)}
				source := offline(t, f)
				start := time.Now()
				got := read(t, source, collection("/things"))
				took := time.Since(start)
				if (got.err != nil) != test.failed || len(f.gets) != test.attempts || took < test.least || took > test.most {
					t.Errorf("%v after %d attempts in %s", got.err, len(f.gets), took)
				}
			})
		})
	}
}

func TestUnreachable(t *testing.T) {
	source, server := serve(t, &fakeGraph{})
	server.Close()
	got := read(t, source, collection("/things"))
	if !isReason(got.err, reasonUnavailable) {
		t.Error(got.err)
	}
}

func TestHangingServerIsATimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeGraph{one: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }}
		source := offline(t, f)
		start := time.Now()
		got := read(t, source, collection("/things"))
		if !isReason(got.err, reasonUnavailable) || time.Since(start) > 450*time.Second || len(f.gets) != 4 {
			t.Error(got.err, time.Since(start))
		}
	})
}

// Cancelling ends a reading at once, with the cause, wherever it is.
func TestCancel(t *testing.T) {
	why := errors.New("the person said stop")
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	patient := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "500")
		fail(429, "x", "x")(w, r)
	}
	for name, test := range map[string]struct {
		one   http.HandlerFunc
		gate  string
		batch bool
	}{
		"on the wire":        {one: hang},
		"told to wait":       {one: patient},
		"in backoff":         {one: fail(500, "x", "x")},
		"in a batch":         {one: routes(map[string]http.HandlerFunc{"/v1.0/things": ok(things(100)), "/v1.0/things/*": hang}), batch: true},
		"children told":      {one: routes(map[string]http.HandlerFunc{"/v1.0/things": ok(things(100)), "/v1.0/things/*": patient}), batch: true},
		"at the gate":        {one: routes(thingsAndChildren(5000)), gate: "conditional-access"},
		"waiting for a slot": {one: routes(map[string]http.HandlerFunc{"/v1.0/things": ok(things(2000)), "/v1.0/things/*": hang})},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				source := offline(t, &fakeGraph{one: test.one}, func(c *Config) { c.MaxConnections = 2 })
				session := source.Open()
				defer session.Close()
				ctx, cancel := context.WithCancelCause(t.Context())
				start := time.Now()
				time.AfterFunc(500*time.Millisecond, func() { cancel(why) })
				typ := withChild("/things")
				typ.Gate = test.gate
				err := session.Read(ctx, typ, &fakeIdentity{}, func(port.Item) error { return nil })
				if !errors.Is(err, why) || time.Since(start) != 500*time.Millisecond {
					t.Error(err, time.Since(start))
				}
			})
		})
	}
}

// A batch goes on for the readings that still want it.
func TestCancelledReadingDoesNotHarmOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeGraph{one: ok(things(1))}
		f.batch = func(http.ResponseWriter, []fakePart) bool { <-time.After(time.Second); return false }
		source := offline(t, f)
		session := source.Open()
		defer session.Close()
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(500*time.Millisecond, cancel)
		identity := &fakeIdentity{}
		var group sync.WaitGroup
		for i, ctx := range []context.Context{ctx, t.Context(), t.Context()} {
			group.Go(func() {
				err := session.Read(ctx, collection(fmt.Sprint("/t", i)), identity, func(port.Item) error { return nil })
				if (i == 0) != errors.Is(err, context.Canceled) || i > 0 && err != nil {
					t.Error(i, err)
				}
			})
		}
		group.Wait()
		if n := session.Stats().Requests; n != 1 {
			t.Errorf("%d requests", n)
		}
	})
}

// Memory: the items in flight are bounded, whatever the size of the tenant.
func TestItemsInFlightAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
		f := &fakeGraph{one: routes(map[string]http.HandlerFunc{
			"/v1.0/things": ok(things(3000)), "/v1.0/things/*": hang,
			"/v1.0/others": ok(things(3000)), "/v1.0/others/*": hang,
		})}
		source := offline(t, f, func(c *Config) { c.MaxConnections = 2 })
		session := source.Open().(*session)
		defer session.Close()
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		identity := &fakeIdentity{}
		for _, path := range []string{"/things", "/others"} {
			group.Go(func() {
				_ = session.Read(ctx, withChild(path), identity, func(port.Item) error { return nil })
			})
		}
		<-time.After(time.Second)
		synctest.Wait()
		waiting := 0
		session.mu.Lock()
		for _, q := range session.queues {
			waiting += len(q.parts)
		}
		session.mu.Unlock()
		if most := 2 * requestsPerConnection; waiting > most || waiting == 0 {
			t.Errorf("%d parts wait, at most %d may", waiting, most)
		}
		cancel()
		group.Wait()
	})
}
