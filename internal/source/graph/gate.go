package graph

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Limit says how many requests of a gate may begin within any window of time.
type Limit struct {
	Requests int
	Per      time.Duration
}

// defaultLimit returns the limit of a gate that Microsoft documents, with some
// room for the tenant's other applications.
// https://learn.microsoft.com/graph/throttling-limits
func defaultLimit(name string) Limit {
	switch name {
	case "conditional-access":
		// 1 a second for all applications of the tenant; the network may bring two
		// requests a little closer to each other than they were sent.
		return Limit{Requests: 1, Per: 1100 * time.Millisecond}
	case "directory", "entra":
		// 3,500 resource units per 10 s in the smallest tenants, where a list costs
		// 1 to 3 units.
		return Limit{Requests: 1500, Per: 10 * time.Second}
	case "intune":
		return Limit{Requests: 1000, Per: 20 * time.Second}
	default:
		return Limit{Requests: 2000, Per: time.Second}
	}
}

// The steps by which a gate adapts.
const (
	slowestPace  = 1.0 / 64         // of the limit
	halvePace    = 0.5              // at most so much slower when told to wait
	yieldPace    = 0.9              // at least so much slower
	grantedPart  = 0.95             // of what was granted before
	easePace     = 0.8              // when warned
	climbPace    = 0.02             // of the limit, for every second with a good answer
	carefulPace  = 0.1 / 60         // the same while carefulFor has not passed
	carefulFor   = 2 * time.Minute  // since it was told to wait
	warnedAt     = 0.8              // of the provider's limit
	longestPause = 16 * time.Second // without Retry-After
	// adaptEvery keeps the answers that one overload caused from counting as many.
	adaptEvery = time.Second
	// longestClosing is how long one Retry-After closes a gate at most: nonsense in a
	// header must not end the backups of a tenant.
	longestClosing = 24 * time.Hour
)

// errClosedForLong says that the tenant asked to wait for longer than a request waits.
var errClosedForLong = errors.New("the gate is closed for longer than a request waits")

// gate is the limit that all requests of one workload and tenant share. When one
// of them is told to wait, all wait.
type gate struct {
	// turn lets one request at a time wait for the gate to open; the others wait
	// for their turn, in order. So nobody has to be woken in vain, and a pause
	// holds everyone.
	turn chan struct{}

	mu          sync.Mutex
	limit       Limit
	firstPause  time.Duration
	begun       []time.Time // the last limit.Requests begins, a ring
	oldest      int
	pace        *rate.Limiter
	factor      float64 // of the limit; 1: the window alone decides
	closedUntil time.Time
	strikes     int
	adapted     time.Time
	told        time.Time // when it was told to wait
	climbed     time.Time
	good        tally // of good answers
}

func newGate(limit Limit, firstPause time.Duration) *gate {
	return &gate{
		turn:       make(chan struct{}, 1),
		limit:      limit,
		firstPause: firstPause,
		pace:       rate.NewLimiter(rate.Inf, 1),
		factor:     1,
	}
}

// wait blocks until one more request may begin. It fails with errClosedForLong at once
// when that would be after more than maxThrottleWait: the request is not sent early.
func (g *gate) wait(ctx context.Context) error {
	select {
	case g.turn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-g.turn }()
	for {
		now := time.Now()
		if g.closedFor(now) > maxThrottleWait {
			return errClosedForLong
		}
		delay := g.begin(now)
		if delay <= 0 {
			return nil
		}
		if err := sleep(ctx, delay); err != nil {
			return err
		}
	}
}

// begin counts one request, or returns how long it has to wait first.
func (g *gate) begin(now time.Time) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	if delay := g.closedUntil.Sub(now); delay > 0 {
		return delay
	}
	full := len(g.begun) == g.limit.Requests
	if full {
		if delay := g.begun[g.oldest].Add(g.limit.Per).Sub(now); delay > 0 {
			return delay
		}
	}
	reservation := g.pace.ReserveN(now, 1)
	if delay := reservation.DelayFrom(now); delay > 0 {
		reservation.CancelAt(now)
		return delay
	}
	if full {
		g.begun[g.oldest] = now
		g.oldest = (g.oldest + 1) % len(g.begun)
	} else {
		g.begun = append(g.begun, now)
	}
	return 0
}

// closedFor returns how long the tenant makes the gate wait from now on.
func (g *gate) closedFor(now time.Time) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return max(0, g.closedUntil.Sub(now))
}

// observe learns from an answer.
func (g *gate) observe(now time.Time, status int, header http.Header) {
	g.mu.Lock()
	defer g.mu.Unlock()
	pause, asked := retryAfter(header, now)
	settled := now.Sub(g.adapted) >= adaptEvery
	switch {
	case isThrottled(status), status == http.StatusServiceUnavailable && asked:
		if !asked {
			pause = min(g.firstPause<<min(g.strikes, 10), longestPause)
		}
		if until := now.Add(min(pause, longestClosing)); until.After(g.closedUntil) {
			g.closedUntil = until
		}
		g.told = now
		if settled {
			g.strikes++
			g.setFactor(now, min(g.factor*yieldPace, max(g.factor*halvePace, g.granted(now)*grantedPart)))
		}
	case throttleShare(header) >= warnedAt:
		if settled {
			g.setFactor(now, g.factor*easePace)
		}
	case status < http.StatusInternalServerError:
		g.strikes = 0
		g.good.add(now, g.limit.Per)
		g.climb(now)
	}
}

// granted is the share of the limit that the tenant granted last.
func (g *gate) granted(now time.Time) float64 {
	return g.good.recent(now, g.limit.Per) / float64(g.limit.Requests)
}

// climb makes the pace a little faster: slowly while it is near to what was too
// fast, so that the tenant is not asked too much again and again.
func (g *gate) climb(now time.Time) {
	if g.factor == 1 {
		return
	}
	step := climbPace
	if !g.told.IsZero() && now.Sub(g.told) < carefulFor {
		step = carefulPace
	}
	passed := min(now.Sub(g.climbed), time.Second)
	adapted := g.adapted
	g.setFactor(now, g.factor+step*passed.Seconds())
	g.adapted, g.climbed = adapted, now
}

// tally counts what happened in the last stretch of time, nearly: it weighs the
// stretch before by how much of it is still in reach.
type tally struct {
	start       time.Time
	now, before float64
}

func (t *tally) add(now time.Time, per time.Duration) {
	t.roll(now, per)
	t.now++
}

func (t *tally) recent(now time.Time, per time.Duration) float64 {
	t.roll(now, per)
	return t.now + t.before*(1-now.Sub(t.start).Seconds()/per.Seconds())
}

func (t *tally) roll(now time.Time, per time.Duration) {
	switch passed := now.Sub(t.start); {
	case passed >= 2*per:
		*t = tally{start: now}
	case passed >= per:
		*t = tally{start: t.start.Add(per), before: t.now}
	}
}

func (g *gate) setFactor(now time.Time, factor float64) {
	g.factor = min(1, max(slowestPace, factor))
	g.adapted, g.climbed = now, now
	pace := rate.Inf
	if g.factor < 1 {
		pace = rate.Limit(g.factor * float64(g.limit.Requests) / g.limit.Per.Seconds())
	}
	g.pace.SetLimitAt(now, pace)
}

func isThrottled(status int) bool {
	return status == http.StatusTooManyRequests || status == statusBandwidthExceeded
}

// statusBandwidthExceeded is 509, which Graph documents and net/http does not
// know. https://learn.microsoft.com/graph/errors
const statusBandwidthExceeded = 509

// retryAfter reads Retry-After, in seconds or as a date (RFC 9110, 10.2.3). The
// second result says whether there is a usable one.
func retryAfter(header http.Header, now time.Time) (time.Duration, bool) {
	value := header.Get("Retry-After")
	if value == "" {
		return 0, false
	}
	if seconds, err := strconv.ParseUint(value, 10, 32); err == nil {
		return time.Duration(seconds) * time.Second, seconds > 0
	}
	if date, err := http.ParseTime(value); err == nil && date.After(now) {
		return date.Sub(now), true
	}
	return 0, false
}

// throttleShare reads how much of the provider's limit is used, 0 when it does
// not say. https://learn.microsoft.com/graph/throttling
func throttleShare(header http.Header) float64 {
	share, err := strconv.ParseFloat(header.Get("x-ms-throttle-limit-percentage"), 64)
	if err != nil {
		return 0
	}
	return share
}

func sleep(ctx context.Context, delay time.Duration) error {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
