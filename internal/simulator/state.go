package simulator

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// state is what changes at run time, but for the items.
type state struct {
	epochs        map[string]int
	refreshTokens map[string]int
	devices       []*deviceGrant // oldest first
	requests      []Request      // a ring, once it is full
	oldest        int
	stats         Stats
}

// data is what was done to the items.
type data struct {
	sync.RWMutex
	counts  map[uint64]int
	removed map[itemKey]bool
	changed map[itemKey]int
	// names are those of items that were renamed, which are changed, too.
	names sync.Map
}

type itemKey struct {
	collection uint64
	number     int
}

// Request is one request that the simulator saw. A part of a batch is one too.
type Request struct {
	Method   string `json:"method"`
	Path     string `json:"path"`
	Status   int    `json:"status"`
	Identity string `json:"identity"`
}

// Stats counts what the simulator saw since the start or the last Reset.
type Stats struct {
	// HTTP counts requests of Graph on the wire, Batches those that are batches, and
	// Gets what was asked for, parts of batches included.
	HTTP    int64 `json:"http"`
	Batches int64 `json:"batches"`
	Gets    int64 `json:"gets"`
	// Tokens counts requests at the token endpoint, by identity.
	Tokens map[string]int64 `json:"tokens"`
	// Paths counts Gets by identity and path, with `{id}` for ids:
	// `user /v1.0/groups/{id}/owners`.
	Paths map[string]int64 `json:"paths"`
	// Statuses counts Gets by HTTP status.
	Statuses map[int]int64 `json:"statuses"`
}

// maxRequests bounds the record of requests: the newest are kept.
const maxRequests = 10_000

// Reset makes the tenant as it was at the start: all well, nothing signed in.
func (s *Simulator) Reset() {
	s.mu.Lock()
	s.state = state{
		epochs: map[string]int{}, refreshTokens: map[string]int{},
		stats: Stats{Tokens: map[string]int64{}, Paths: map[string]int64{}, Statuses: map[int]int64{}},
	}
	s.mu.Unlock()
	s.active.Store(nil)
	s.data.Lock()
	defer s.data.Unlock()
	s.data.counts, s.data.removed, s.data.changed = maps.Clone(s.counts), map[itemKey]bool{}, map[itemKey]int{}
	s.data.names.Clear()
}

// SetScenarios says what goes wrong from now on, in place of what did. Cached
// sign-ins stay. An error is a [*ScenarioError], and changes nothing.
func (s *Simulator) SetScenarios(list ...Scenario) error {
	all := make([]*active, 0, len(list))
	for _, sc := range list {
		if err := sc.check(); err != nil {
			return err
		}
		all = append(all, newActive(sc))
	}
	s.active.Store(&all)
	return nil
}

// Active returns the scenarios that are on.
func (s *Simulator) Active() []Scenario {
	out := []Scenario{}
	if list := s.active.Load(); list != nil {
		for _, a := range *list {
			out = append(out, a.Scenario)
		}
	}
	return out
}

// UnknownPathError says that the tenant has no collection at a path.
type UnknownPathError struct{ Path string }

// Error implements error.
func (e *UnknownPathError) Error() string {
	return fmt.Sprintf("%q is no collection: write it like /v1.0/groups", e.Path)
}

// collectionAt returns the collection at a path with version.
func (s *Simulator) collectionAt(path string) (place, error) {
	q, ok := newRequest("", path)
	if !ok || s.trees[q.version] == nil {
		return place{}, &UnknownPathError{path}
	}
	p, m := s.resolve(s.trees[q.version], q.segments)
	if m != nil || p.node.kind != collection {
		return place{}, &UnknownPathError{path}
	}
	return p, nil
}

// SetCount says how many items a collection has, in both versions: `/v1.0/groups`.
// An error is an [*UnknownPathError].
func (s *Simulator) SetCount(path string, n int) error {
	p, err := s.collectionAt(path)
	if err != nil {
		return err
	}
	s.data.Lock()
	defer s.data.Unlock()
	s.data.counts[p.hash] = n
	return nil
}

// ChangeItem changes the content of an item of a collection, by its number. The
// path may also name one object. An error is an [*UnknownPathError].
func (s *Simulator) ChangeItem(path string, i int) error {
	p, err := s.collectionAt(path)
	if err != nil {
		if p, err = s.objectAt(path); err != nil {
			return err
		}
		i = 0
	}
	s.data.Lock()
	defer s.data.Unlock()
	s.data.changed[itemKey{p.hash, i}]++
	return nil
}

// RenameItem gives an item of a collection another name, by its number. An error is an
// [*UnknownPathError].
func (s *Simulator) RenameItem(path string, i int, name string) error {
	p, err := s.collectionAt(path)
	if err != nil {
		return err
	}
	s.data.names.Store(itemKey{p.hash, i}, name)
	return s.ChangeItem(path, i)
}

func (s *Simulator) objectAt(path string) (place, error) {
	if q, ok := newRequest("", path); ok && s.trees[q.version] != nil {
		if p, m := s.resolve(s.trees[q.version], q.segments); m == nil && p.node.kind == object {
			return p, nil
		}
	}
	return place{}, &UnknownPathError{path}
}

// RemoveItem removes an item of a collection, by its number. An error is an
// [*UnknownPathError].
func (s *Simulator) RemoveItem(path string, i int) error {
	p, err := s.collectionAt(path)
	if err != nil {
		return err
	}
	s.data.Lock()
	defer s.data.Unlock()
	s.data.removed[itemKey{p.hash, i}] = true
	return nil
}

// Requests returns the newest requests, at most 10,000, oldest first.
func (s *Simulator) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append(slices.Clone(s.requests[s.oldest:]), s.requests[:s.oldest]...)
}

// Stats returns what the simulator saw.
func (s *Simulator) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.stats
	out.Tokens, out.Paths, out.Statuses = maps.Clone(out.Tokens), maps.Clone(out.Paths), maps.Clone(out.Statuses)
	return out
}

func (s *Simulator) note(method, path string, status int, identity string) {
	r := Request{Method: method, Path: path, Status: status, Identity: identity}
	if len(s.requests) < maxRequests {
		s.requests = append(s.requests, r)
		return
	}
	s.requests[s.oldest] = r
	s.oldest = (s.oldest + 1) % maxRequests
}

// record takes in an answer of Graph. Paths that the tenant does not have are
// counted together.
func (s *Simulator) record(q *request, p place, status int) {
	pattern := "/other"
	if p.node != nil && p.node.pattern != "" {
		pattern = p.node.pattern
	}
	identity := identityOf(q.token.Kind)
	var key strings.Builder
	key.WriteString(identity)
	key.WriteString(" /")
	key.WriteString(q.version)
	key.WriteString(pattern)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.note("GET", q.path, status, identity)
	s.stats.Gets++
	s.stats.Paths[key.String()]++
	s.stats.Statuses[status]++
}

// recordSignIn takes in a request to Entra.
func (s *Simulator) recordSignIn(method, path, kind string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.note(method, path, 0, identityOf(kind))
	if strings.HasSuffix(path, "/token") {
		s.stats.Tokens[identityOf(kind)]++
	}
}

func (s *Simulator) countHTTP() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.HTTP++
}

func (s *Simulator) countBatch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Batches++
}
