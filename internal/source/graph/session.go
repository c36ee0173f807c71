package graph

import (
	"context"
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
	healths     map[string]*health // by configuration type
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

// health returns what the session knows of the requests of a configuration type.
func (s *session) health(typeID string) *health {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.healths[typeID]
	if h == nil {
		h = &health{}
		s.healths[typeID] = h
	}
	return h
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
