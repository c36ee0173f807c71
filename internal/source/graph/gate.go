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
	case "teams":
		// 30 a second for one team (GET /teams/{team-id}), of one application in a tenant.
		return Limit{Requests: 25, Per: time.Second}
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
	// longestClosing is how long one Retry-After closes a path at most: nonsense in a
	// header must not end the backups of a tenant.
	longestClosing = 24 * time.Hour
	// longestOutage is the same for one that came with 503: it is a guess of when
	// something is mended, and no limit that was used up.
	longestOutage = time.Hour
)

// errClosedForLong says that the tenant asked to wait for longer than a request waits.
var errClosedForLong = errors.New("the path is closed for longer than a request waits")

// gate is the limit that all requests of one workload and tenant share. When one
// of them is told to wait, all wait; but when it is told to wait for longer than
// maxThrottleWait, only those of its path are refused until then. One endpoint that is
// out of order must not close all others.
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
	closedPaths map[string]time.Time // by what errors call a request: the catalog's path
	strikes     int
	adapted     time.Time
	told        time.Time // when it was told to wait
	climbed     time.Time
	good        tally // of good answers
}

func newGate(limit Limit, firstPause time.Duration) *gate {
	return &gate{
		turn:        make(chan struct{}, 1),
		limit:       limit,
		firstPause:  firstPause,
		pace:        rate.NewLimiter(rate.Inf, 1),
		factor:      1,
		closedPaths: make(map[string]time.Time),
	}
}

// wait blocks until one more request of a path may begin. It fails with errClosedForLong
// at once when that would be after more than maxThrottleWait: the request is not sent
// early.
func (g *gate) wait(ctx context.Context, path string) error {
	for {
		// Not in turn: the requests of other paths need not wait for this one.
		delay := g.pathClosedFor(time.Now(), path)
		if delay > maxThrottleWait {
			return errClosedForLong
		}
		if delay > 0 {
			if err := sleep(ctx, delay); err != nil {
				return err
			}
		}
		begun, err := g.inTurn(ctx, path)
		if begun || err != nil {
			return err
		}
	}
}

// inTurn waits for the turn and for the gate. It returns false when the path was closed
// meanwhile.
func (g *gate) inTurn(ctx context.Context, path string) (begun bool, err error) {
	select {
	case g.turn <- struct{}{}:
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
	defer func() { <-g.turn }()
	for {
		now := time.Now()
		if g.pathClosedFor(now, path) > 0 {
			return false, nil
		}
		delay := g.begin(now)
		if delay <= 0 {
			return true, nil
		}
		if err := sleep(ctx, delay); err != nil {
			return false, err
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

// closedFor returns how long the tenant makes the gate or a path wait from now on.
func (g *gate) closedFor(now time.Time, path string) time.Duration {
	ofPath := g.pathClosedFor(now, path)
	g.mu.Lock()
	defer g.mu.Unlock()
	return max(0, ofPath, g.closedUntil.Sub(now))
}

// pathClosedFor is closedFor for the path alone.
func (g *gate) pathClosedFor(now time.Time, path string) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return max(0, g.closedPaths[path].Sub(now))
}

// closePath closes the path of a request that was told to wait for longer than a request
// waits. It returns until when, and whether it was open before.
func (g *gate) closePath(now time.Time, path string, status int, header http.Header) (until time.Time, fresh bool) {
	pause, asked := retryAfter(header, now)
	longest := longestClosing
	switch {
	case !asked || pause <= maxThrottleWait:
		return time.Time{}, false
	case status == http.StatusServiceUnavailable:
		longest = longestOutage
	case !isThrottled(status):
		return time.Time{}, false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	before := g.closedPaths[path]
	if until = now.Add(min(pause, longest)); until.After(before) {
		g.closedPaths[path] = until
	}
	return until, !before.After(now)
}

// observe learns from an answer. A pause that is too long to wait for does not close the
// gate: see closePath.
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
		if until := now.Add(pause); pause <= maxThrottleWait && until.After(g.closedUntil) {
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
