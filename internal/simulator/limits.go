package simulator

import (
	"net/http"
	"strings"
	"sync"
	"time"
)

// limits are the documented ones of the workloads that matter most.
// https://learn.microsoft.com/graph/throttling-limits
type limits struct {
	on bool

	mu      sync.Mutex
	windows map[string]*window
}

// window counts requests of a stretch of time.
type window struct {
	start time.Time
	count int
}

// check answers 429 when a request is over the limit of its workload. Conditional
// Access does not say how long to wait; Intune does.
func (l *limits) check(q *request) (answer, bool) {
	if !l.on {
		return answer{}, false
	}
	first, second := strings.ToLower(q.segments[0]), ""
	if len(q.segments) > 1 {
		second = strings.ToLower(q.segments[1])
	}
	switch {
	case first == "identity" && second == "conditionalaccess":
		if _, over := l.over("conditional-access", 1, time.Second); over {
			return fault{status: http.StatusTooManyRequests, code: codeOf(http.StatusTooManyRequests)}.refusal(""), true
		}
	case first == "devicemanagement" || first == "deviceappmanagement":
		if wait, over := l.over("intune", 1000, 20*time.Second); over {
			f := fault{status: http.StatusTooManyRequests, code: codeOf(http.StatusTooManyRequests), retryAfter: int(wait/time.Second) + 1}
			return f.refusal(""), true
		}
	}
	return answer{}, false
}

// over counts a request, and says whether it is one too many and how long the
// window lasts.
func (l *limits) over(name string, requests int, per time.Duration) (time.Duration, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	w := l.windows[name]
	if w == nil || now.Sub(w.start) >= per {
		w = &window{start: now}
		l.windows[name] = w
	}
	w.count++
	return per - now.Sub(w.start), w.count > requests
}
