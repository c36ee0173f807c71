package graph

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"golang.org/x/sync/semaphore"

	"understudy.internal/internal/port"
)

// session is the reading of one sync. It implements [port.Session].
type session struct {
	source   *Source
	pipeline runtime.Pipeline
	// ctx ends with the session; requests of batches live in it, because they
	// serve several readings.
	ctx    context.Context
	cancel context.CancelFunc
	// running counts the goroutines of the batchers.
	running sync.WaitGroup

	items     atomic.Int64
	requests  atomic.Int64
	throttled atomic.Int64

	mu          sync.Mutex
	queues      map[queueKey]*queue
	credentials map[port.Identity]*credential
	workloads   map[string]*workload
	rooms       map[roomKey]*room
}

// Stats implements [port.Session].
func (s *session) Stats() port.SourceStats {
	return port.SourceStats{
		ItemsRead:     s.items.Load(),
		Requests:      s.requests.Load(),
		Throttled:     s.throttled.Load(),
		ThrottleDelay: s.source.throttleDelay(time.Now()),
	}
}

// Close implements [port.Session].
func (s *session) Close() {
	s.cancel()
	s.running.Wait()
}

// credential returns the tokens of an identity in this session.
func (s *session) credential(identity port.Identity) *credential {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.credentials[identity]
	if c == nil {
		c = &credential{identity: identity, turn: make(chan struct{}, 1)}
		s.credentials[identity] = c
	}
	return c
}

// workload returns what the session knows of the workload behind a gate.
func (s *session) workload(name string) *workload {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.workloads[name]
	if w == nil {
		w = &workload{gate: s.source.gate(name)}
		s.workloads[name] = w
	}
	return w
}

// room returns the room for the items that an identity reads of a workload.
func (s *session) room(workload string, identity *credential) *room {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := roomKey{workload, identity}
	r := s.rooms[key]
	if r == nil {
		most := int64(requestsPerConnection * s.source.config.MaxConnections)
		r = &room{requests: semaphore.NewWeighted(most), most: most}
		s.rooms[key] = r
	}
	return r
}

// workload is a gate, and whether this sync still believes in what is behind it.
type workload struct {
	gate     *gate
	failures atomic.Int32
	givenUp  atomic.Bool
}

// room counts the requests of the items that are being completed: all types behind a
// gate that one identity reads share one limit, because more would only wait at the
// gate, and take memory. Each identity has a room of its own. The items of one that
// waits for its token stand still, and would leave no room to the other.
type room struct {
	requests *semaphore.Weighted
	most     int64
}

type roomKey struct {
	workload string
	identity *credential
}

// enter waits until an item may be completed that needs some requests. Call leave
// when it is.
func (r *room) enter(ctx context.Context, requests int) (leave func(), err error) {
	n := min(max(1, int64(requests)), r.most)
	if r.requests.Acquire(ctx, n) != nil {
		return nil, context.Cause(ctx)
	}
	return func() { r.requests.Release(n) }, nil
}

// observe learns from what one answer says of workloads, or from there being none.
func (s *session) observe(a *answer, err error, workloads ...*workload) {
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
	for _, w := range workloads {
		w.observe(status, header)
	}
}

// observe learns from one answer; status 0 is none at all, which is at least as
// bad as a server error.
func (w *workload) observe(status int, header http.Header) {
	if status != 0 {
		w.gate.observe(time.Now(), status, header)
	}
	if status != 0 && !isServerError(status) {
		w.failures.Store(0)
		return
	}
	if w.failures.Add(1) >= giveUpAfter {
		w.givenUp.Store(true)
	}
}

// isServerError says whether a status means that the source is not well. 501
// does not: it is a statement about the request.
func isServerError(status int) bool {
	return status >= http.StatusInternalServerError && status != http.StatusNotImplemented &&
		status != statusBandwidthExceeded
}
