package graph

import (
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// What a sync has to see until it stops asking. Only requests that are sent for the
// first time count: the retries of a few broken items say nothing new.
const (
	// giveUpAfter is how many requests have to fail, one after the other with no other
	// answer between them: of a type, until it is given up, and of a workload.
	giveUpAfter = 20
	// giveUpTypes is of how many types those of a workload have to be: one type that
	// fails says nothing of the others.
	giveUpTypes = 4
)

// health says whether a sync still believes in what a configuration type is read from.
// A type whose list answers and whose 100,000 items do not must not be asked for them all.
type health struct {
	failures atomic.Int32
	givenUp  atomic.Bool
}

// workload is a gate, and whether a sync still believes in what is behind it: when all
// of it is down, the types that were not begun are not begun.
type workload struct {
	gate    *gate
	givenUp atomic.Bool

	mu       sync.Mutex
	failures int
	failing  map[*health]struct{} // the types whose requests failed since the last good answer
}

// observe learns from what one answer says of the requests that it is for, or from
// there being none, which is at least as bad as a server error. An answer that is for
// several counts once for each gate, type and workload.
func (s *session) observe(a *answer, err error, calls ...*call) {
	status, header := http.StatusOK, http.Header(nil) // given, if of no use
	switch {
	case a != nil:
		status, header = a.status, a.header
	case errors.Is(err, errNoAnswer):
		status = 0
	}
	if isThrottled(status) {
		s.throttled.Add(1)
	}
	s.obey(status, header, calls)
	bad := status == 0 || isServerError(status)
	var counted []*health
	for _, c := range calls {
		switch {
		case !bad:
			c.health.failures.Store(0)
			c.workload.recovered()
		case !c.failed && !slices.Contains(counted, c.health):
			counted = append(counted, c.health)
			if c.health.failures.Add(1) >= giveUpAfter {
				c.health.givenUp.Store(true)
			}
			c.workload.failed(c.health)
		}
		c.failed = c.failed || bad
	}
}

// obey closes and slows what an answer asks to.
func (s *session) obey(status int, header http.Header, calls []*call) {
	if status == 0 {
		return
	}
	now := time.Now()
	var told []*gate
	for _, c := range calls {
		g := c.workload.gate
		if !slices.Contains(told, g) {
			told = append(told, g)
			g.observe(now, status, header)
		}
		if until, fresh := g.closePath(now, c.operation, status, header); fresh {
			s.source.logger.Warn("Microsoft Graph asks to wait for very long: the path is not asked before",
				slog.String("operation", c.operation), slog.Int("status", status), slog.Time("until", until))
		}
	}
}

// recovered notes an answer that is no failure.
func (w *workload) recovered() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failures = 0
	clear(w.failing)
}

// failed notes a failure of a type's request.
func (w *workload) failed(of *health) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failures++
	if w.failing == nil {
		w.failing = make(map[*health]struct{})
	}
	w.failing[of] = struct{}{}
	if w.failures >= giveUpAfter && len(w.failing) >= giveUpTypes {
		w.givenUp.Store(true)
	}
}

// isServerError says whether a status means that the source is not well. 501
// does not: it is a statement about the request.
func isServerError(status int) bool {
	return status >= http.StatusInternalServerError && status != http.StatusNotImplemented &&
		status != statusBandwidthExceeded
}
