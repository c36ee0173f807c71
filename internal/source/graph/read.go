package graph

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
)

// How much is in flight at a time. Requests of items, of all types of a workload
// together: enough to fill every connection with batches while the next ones gather.
// Parents are of one type, elements of one item.
const (
	requestsPerConnection = 2 * batchSize
	parentsInFlight       = 3 * batchSize
	elementsInFlight      = batchSize
)

// reading is one call of Read.
type reading struct {
	session    *session
	t          *catalog.Type
	credential *credential
	workload   *workload
	health     *health
	room       *room
	keys       *keys
	seed       maphash.Seed
	repeated   repeated

	ctx    context.Context
	cancel context.CancelCauseFunc
	items  errgroup.Group
	bytes  atomic.Int64

	sinkMu sync.Mutex
	sink   func(port.Item) error
	// trail notes what the next reading has to know; nil for most types.
	trail *trail

	mu      sync.Mutex
	missed  *port.ReadError // the first thing that was not read
	misses  int
	parents int
	without []string // parents that do not have the type
	absent  *port.ReadError
}

// Read implements [port.Session].
//
// An item that lies in two pages of a list, because the list moved while it was
// read, is given to sink twice: the vault stages it once when both are the same, and
// refuses the second when they differ. Where an item takes other requests it is not
// read a second time if the list says the same of it. An item that is listed but answers 404
// when it is read makes the type incomplete, as every other failure does: the
// next sync will see whether it is gone.
//
// An item of a type that is read for each item of another list has the id
// `<parent>/<item>`, because the same id can occur below two parents; a singleton
// of that kind has the parent's. A parent that does not have the type, by the
// same answers that say so of the tenant, is left out; ReadSince says which.
//
// Identities are told apart with ==: two readings share a token when they were
// given the same pointer.
func (s *session) Read(ctx context.Context, configurationType *catalog.Type, identity port.Identity, sink func(port.Item) error) error {
	_, err := s.readFull(ctx, configurationType, identity, sink)
	return err
}

// readFull is Read, and says of a complete reading which parents do not have the type.
func (s *session) readFull(
	ctx context.Context, configurationType *catalog.Type, identity port.Identity, sink func(port.Item) error,
) (port.Increment, error) {
	full := port.Increment{Mode: understudyv1.ReadMode_READ_MODE_FULL}
	r, end := s.newReading(ctx, configurationType, identity, sink)
	defer end()
	if err := r.all(); err != nil {
		return full, err
	}
	slices.Sort(r.without)
	full.Without = r.without
	return full, nil
}

// newReading returns a reading that has not begun, and what frees it.
func (s *session) newReading(
	ctx context.Context, configurationType *catalog.Type, identity port.Identity, sink func(port.Item) error,
) (*reading, func()) {
	gate, c := configurationType.GateName(), s.credential(identity)
	readCtx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(s.ctx, func() { cancel(context.Canceled) })
	r := &reading{
		session:    s,
		t:          configurationType,
		credential: c,
		workload:   s.workload(gate),
		health:     s.health(configurationType.ID),
		room:       s.room(gate, c),
		keys:       keysOf(configurationType),
		seed:       maphash.MakeSeed(),
		ctx:        readCtx,
		cancel:     cancel,
		sink:       sink,
	}
	return r, func() {
		stop()
		cancel(nil)
	}
}

// all reads everything, and returns when nothing is in flight.
func (r *reading) all() error {
	_ = r.note(r.session.source.recovering(r.run))
	_ = r.items.Wait() // its functions return nothing: see note
	if err := context.Cause(r.ctx); err != nil {
		return err
	}
	return r.verdict()
}

func keysOf(t *catalog.Type) *keys {
	k := &keys{id: "id", names: []string{"displayName", "name"}}
	if t.IdentityProperty != "" {
		k.id = t.IdentityProperty
	}
	if t.NameProperty != "" {
		k.names = []string{t.NameProperty}
	}
	for _, child := range t.Children {
		k.children = append(k.children, child.Name)
	}
	return k
}

// run reads the type; its items may still be in flight when it returns.
func (r *reading) run() error {
	if r.t.Each == nil {
		return r.readAt(r.session.source.root(r.t.Path, ""), "", true)
	}
	var parents errgroup.Group
	parents.SetLimit(parentsInFlight)
	visit := func(id string) {
		r.mu.Lock()
		r.parents++
		r.mu.Unlock()
		parents.Go(func() error {
			if !safeID(id) {
				return r.note(invalid("GET /"+r.t.Version+r.t.Each.Path, "an item has no usable id"))
			}
			return r.note(r.session.source.recovering(func() error {
				return r.readAt(r.session.source.root(r.t.Path, id), id, false)
			}))
		})
	}
	var err error
	if len(r.t.Each.IDs) > 0 {
		for _, id := range r.t.Each.IDs {
			visit(id)
		}
	} else {
		c := r.call(r.session.source.root(r.t.Each.Path, ""), r.t.Each.Query, false, "")
		err = r.list(r.ctx, c, &keys{id: "id"}, listOptions{first: true}, func(entries []entry) error {
			for _, e := range entries {
				visit(e.id)
			}
			return context.Cause(r.ctx)
		})
	}
	_ = parents.Wait() // its functions return nothing: see note
	return err
}

// readAt reads the type at one place: the only one, or that of one parent.
func (r *reading) readAt(p place, parent string, first bool) error {
	c := r.call(p, r.t.Query, r.t.SinglePage, parent)
	if r.t.Kind == catalog.Singleton {
		return r.singleton(c, p, parent, first)
	}
	options := listOptions{first: first, parent: parent, singlePage: r.t.SinglePage}
	return r.list(r.ctx, c, r.keys, options, func(entries []entry) error {
		for _, e := range entries {
			if err := r.begin(c, p, parent, e); err != nil {
				return err
			}
		}
		return nil
	})
}

func (r *reading) singleton(c *call, p place, parent string, first bool) error {
	a, err := r.get(r.ctx, c)
	if err != nil {
		return err
	}
	if !a.ok() {
		return r.explainFirst(c, a, first, parent)
	}
	e, err := parseObject(a.body, r.keys)
	if err != nil {
		return c.malformed(a, err)
	}
	e.id = port.SingletonID
	if parent != "" {
		e.id = parent
	}
	return r.complete(p, e.id, parent, e)
}

// begin gives an item of a list to the sink, after its other requests if it has
// any; those go on when begin has returned.
func (r *reading) begin(c *call, p place, parent string, e entry) error {
	if err := context.Cause(r.ctx); err != nil {
		return err
	}
	if e.id == "" {
		_ = r.note(invalid(c.operation, fmt.Sprintf("an item has no %s", r.keys.id)))
		return nil
	}
	id := e.id
	if parent != "" {
		id = parent + "/" + id
	}
	if r.t.Detail == nil && len(r.t.Children) == 0 && !saysMore(e.raw) {
		return r.give(id, e.name, e.raw)
	}
	if (r.t.Detail != nil || len(r.t.Children) > 0) && !safeID(e.id) {
		_ = r.note(invalid(c.operation, "the id of an item cannot stand in a path"))
		return nil
	}
	if r.repeated.same(id, maphash.Bytes(r.seed, e.raw)) {
		return nil
	}
	leave, err := r.room.enter(r.ctx, r.requestsOf(e))
	if err != nil {
		return err
	}
	r.items.Go(func() error {
		defer leave()
		return r.note(r.session.source.recovering(func() error { return r.complete(p.item(e.id), id, e.id, e) }))
	})
	return nil
}

// requestsOf is how many requests an item of a list needs at the same time.
func (r *reading) requestsOf(e entry) int {
	n := 0
	if r.t.Detail != nil {
		n++
	}
	for i := range r.t.Children {
		if wanted(&r.t.Children[i], e.odataType) {
			n++
		}
	}
	return n
}

// give gives a complete item to the sink.
func (r *reading) give(id, name string, raw []byte) error {
	r.sinkMu.Lock()
	defer r.sinkMu.Unlock()
	if err := context.Cause(r.ctx); err != nil {
		return err
	}
	err := r.session.source.recoveringAs(errSinkBug, func() error {
		return r.sink(port.Item{ID: id, DisplayName: name, JSON: raw})
	})
	if err != nil {
		r.cancel(err)
		return err
	}
	r.trail.given(id)
	r.session.items.Add(1)
	return nil
}

// get makes a call of this reading.
func (r *reading) get(ctx context.Context, c *call) (*answer, error) {
	a, err := r.session.do(ctx, c)
	if err != nil {
		return nil, err
	}
	if r.bytes.Add(int64(len(a.body))) > r.session.source.config.MaxTypeBytes {
		err := invalid(c.operation, "the answers for this type are larger than the limit, all together")
		r.cancel(err)
		return nil, err
	}
	return a, nil
}

// note takes in how a part of the reading ended. What makes it senseless to go on
// ends the reading; everything else makes it incomplete. It returns nil, so that
// a group goes on.
func (r *reading) note(err error) error {
	if err == nil {
		return nil
	}
	var readError *port.ReadError
	if gaveUp := (*gaveUpError)(nil); errors.As(err, &gaveUp) {
		r.cancel(gaveUp.ReadError)
		return nil
	}
	if !errors.As(err, &readError) {
		r.cancel(err) // an identity without access, a sink, a cancelled context
		return nil
	}
	if readError.Reason == understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_THROTTLED {
		r.cancel(readError) // to ask for the next item would not be polite
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.missed == nil {
		r.missed = readError
	}
	r.misses++
	return nil
}

// verdict says how a reading ended that nothing ended before its time.
func (r *reading) verdict() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.missed != nil && r.misses > 1:
		all := *r.missed
		all.Detail = fmt.Sprintf("%s (the first of %d failures)", all.Detail, r.misses)
		return &all
	case r.missed != nil:
		return r.missed
	case r.parents > 0 && len(r.without) == r.parents:
		return r.absent
	default:
		return nil
	}
}

// explainFirst says why a first page or singleton was refused. A parent that does
// not have the type is no failure, and left out.
func (r *reading) explainFirst(c *call, a *answer, first bool, parent string) error {
	if first || parent != "" {
		if err := r.unavailable(c, a); err != nil {
			if first {
				return err
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			r.without = append(r.without, parent)
			r.absent = err
			return nil
		}
	}
	return c.refused(a)
}

func wanted(child *catalog.Child, odataType string) bool {
	return len(child.When) == 0 || slices.Contains(child.When, odataType)
}
