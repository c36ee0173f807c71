package graph

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
)

// deltaReading is one reading by delta. Nothing reaches the sink before all of it
// succeeded.
type deltaReading struct {
	*reading
	state cursorState
	// mentioned are the items that the delta queries name; true: as removed, at
	// least once. The order of mentions means nothing, and they may repeat.
	mentioned map[string]bool

	lock sync.Mutex
	// vanished are items, not mentioned, that answered 404.
	vanished map[string]bool
	// altered are items, not mentioned, with other children than before.
	altered map[string]bool
	found   []port.Item
	size    int
	removed []string
}

// readDelta reads what changed since a cursor.
func (s *session) readDelta(
	ctx context.Context, t *catalog.Type, identity port.Identity, state cursorState, sink func(port.Item) error,
) (port.Increment, error) {
	failed := port.Increment{Mode: understudyv1.ReadMode_READ_MODE_DELTA}
	r, end := s.newReading(ctx, t, identity, sink)
	defer end()
	r.trail = newTrail(t)
	d := &deltaReading{
		reading: r, state: state, mentioned: map[string]bool{}, vanished: map[string]bool{}, altered: map[string]bool{},
	}
	links, err := d.changes()
	if err != nil {
		return failed, err
	}
	if err := d.items(d.named()); err != nil {
		return failed, err
	}
	cursor, err := d.cursor(links)
	if err != nil {
		return failed, err
	}
	for _, item := range d.found {
		if err := r.give(item.ID, item.DisplayName, item.JSON); err != nil {
			return failed, err
		}
	}
	slices.Sort(d.removed)
	return port.Increment{Mode: understudyv1.ReadMode_READ_MODE_DELTA, Removed: d.removed, Cursor: cursor}, nil
}

// changes finds out which items may have changed, and returns the links for the
// next time.
func (d *deltaReading) changes() ([]string, error) {
	var links []string
	// The older ones, too: see cursorState. Not they alone: what came and went between
	// the generations is nothing to them, and the backup has it.
	for _, generation := range d.state.Links {
		var err error
		if links, err = d.follow(generation); err != nil {
			return nil, err
		}
	}
	if err := d.compareChildren(); err != nil {
		return nil, err
	}
	if len(d.vanished) == 0 {
		return links, nil
	}
	// Items that were deleted meanwhile: the delta queries know it by now.
	links, err := d.follow(links)
	if err != nil {
		return nil, err
	}
	for id := range d.vanished {
		if _, mentioned := d.mentioned[id]; !mentioned {
			return nil, &restartError{"an item is not there, and no delta query says that it was removed"}
		}
	}
	return links, nil
}

// follow takes in what changed since some links.
func (d *deltaReading) follow(links []string) ([]string, error) {
	following, err := d.followLinks(links, func(m mention) {
		d.mentioned[m.id] = d.mentioned[m.id] || m.gone
	})
	if err != nil {
		return nil, err
	}
	return following, d.check()
}

// compareChildren reads the uncovered children of all items that were not
// mentioned, and notes which are different.
func (d *deltaReading) compareChildren() error {
	if len(d.trail.uncovered) == 0 {
		return nil
	}
	ids := make([]string, 0, len(d.state.Items))
	for id := range d.state.Items {
		if _, mentioned := d.mentioned[id]; !mentioned {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return d.each(ids, len(d.trail.uncovered), func(ctx context.Context, id string) error {
		members, err := d.children(ctx, d.place(id), id, "", d.trail.uncovered)
		if isMissing(err) {
			d.lock.Lock()
			defer d.lock.Unlock()
			d.vanished[id] = true
			return nil
		}
		if err != nil {
			return err
		}
		if d.trail.fingerprint(members) == d.state.Items[id] {
			return nil
		}
		d.lock.Lock()
		defer d.lock.Unlock()
		d.altered[id] = true
		return nil
	})
}

// named returns the ids of the items to read.
func (d *deltaReading) named() []string {
	ids := maps.Clone(d.altered)
	for id := range d.mentioned {
		ids[id] = true
	}
	return slices.Sorted(maps.Keys(ids))
}

// items reads items as a full reading does.
func (d *deltaReading) items(ids []string) error {
	return d.each(ids, len(d.t.Children), func(ctx context.Context, id string) error {
		item, err := d.item(ctx, id)
		if missing := (*missingError)(nil); errors.As(err, &missing) {
			if !d.mentioned[id] {
				return &restartError{"an item is not there, and no delta query says that it was removed"}
			}
			d.lock.Lock()
			defer d.lock.Unlock()
			d.removed = append(d.removed, id)
			return nil
		}
		if err != nil {
			return err
		}
		d.lock.Lock()
		defer d.lock.Unlock()
		d.found = append(d.found, item)
		if d.size += len(item.JSON); d.size > changedBytes {
			return &restartError{"what changed is too large to be kept until the end"}
		}
		return nil
	})
}

// item reads one item with its children.
func (d *deltaReading) item(ctx context.Context, id string) (port.Item, error) {
	p := d.place(id)
	c := d.call(p, catalog.Query{Select: d.t.Select, Expand: d.t.Expand, Headers: d.t.Headers}, true, id)
	a, err := d.get(ctx, c)
	if err != nil {
		return port.Item{}, err
	}
	if a.status == http.StatusNotFound {
		return port.Item{}, &missingError{c.refused(a)}
	}
	if !a.ok() {
		return port.Item{}, c.refused(a)
	}
	e, err := parseObject(a.body, d.keys)
	if err != nil {
		return port.Item{}, c.malformed(a, err)
	}
	if e.id != id {
		return port.Item{}, invalid(c.operation, "the answer is another item than the one that was asked for")
	}
	members, err := d.children(ctx, p, e.id, e.odataType, d.t.Children)
	if err != nil {
		return port.Item{}, err
	}
	d.trail.children(e.id, members)
	if e.raw, err = withMembers(e, members); err != nil {
		return port.Item{}, err
	}
	raw, err := d.whole(ctx, p, e.raw)
	return port.Item{ID: e.id, DisplayName: e.name, JSON: raw}, err
}

func (d *deltaReading) place(id string) place {
	return d.session.source.root(d.t.Path, "").item(id)
}

// each does something that needs some requests for many items at the same time, as
// many as the workload allows, and ends at the first error.
func (d *deltaReading) each(ids []string, requests int, do func(ctx context.Context, id string) error) error {
	group, ctx := errgroup.WithContext(d.ctx)
	for _, id := range ids {
		leave, err := d.room.enter(ctx, requests)
		if err != nil {
			if err := group.Wait(); err != nil {
				return err
			}
			return context.Cause(d.ctx)
		}
		group.Go(func() error {
			defer leave()
			return d.session.source.recovering(func() error { return do(ctx, id) })
		})
	}
	return group.Wait()
}

// cursor returns where the next reading begins.
func (d *deltaReading) cursor(links []string) (port.Cursor, error) {
	items := maps.Clone(d.state.Items)
	for _, id := range d.removed {
		delete(items, id)
	}
	for _, item := range d.found {
		items[item.ID] = d.trail.items[item.ID]
	}
	return d.session.source.encodeCursor(d.t, cursorState{Links: advance(d.state.Links, links), Items: items})
}

// missingError is an answer of 404 to the item itself.
type missingError struct{ error }

// Unwrap returns the error for the caller.
func (e *missingError) Unwrap() error { return e.error }

// isMissing says whether an item, or what is below it, answered 404.
func isMissing(err error) bool {
	var readError *port.ReadError
	return errors.As(err, &readError) && readError.HTTPStatus == http.StatusNotFound
}
