package graph

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"golang.org/x/sync/errgroup"

	"understudy.internal/internal/catalog"
)

// complete makes the other requests of an item, which is at a place, and gives it
// to the sink. The id is the item's for the sink, key its id for paths.
func (r *reading) complete(p place, id, key string, e entry) error {
	full, err := r.assemble(p, key, e)
	if err != nil {
		return err
	}
	raw, err := r.whole(r.ctx, p, full.raw)
	if err != nil {
		return err
	}
	return r.give(id, full.name, raw)
}

// assemble returns an item with the answers of its detail read and its children.
func (r *reading) assemble(p place, key string, e entry) (entry, error) {
	if r.t.Detail == nil {
		members, err := r.children(r.ctx, p, key, e.odataType, r.t.Children)
		r.trail.children(key, members)
		if err != nil {
			return entry{}, err
		}
		e.raw, err = withMembers(e, members)
		return e, err
	}
	if needsType(r.t.Children) && e.odataType == "" {
		// Only the detail read can say which children the item has.
		detail, err := r.detail(r.ctx, p, key, e)
		if err != nil {
			return entry{}, err
		}
		members, err := r.children(r.ctx, p, key, detail.odataType, r.t.Children)
		if err != nil {
			return entry{}, err
		}
		detail.raw, err = withMembers(detail, members)
		return detail, err
	}
	group, ctx := errgroup.WithContext(r.ctx)
	var detail entry
	var members []member
	r.beside(group, func() (err error) {
		detail, err = r.detail(ctx, p, key, e)
		return err
	})
	r.beside(group, func() (err error) {
		members, err = r.children(ctx, p, key, e.odataType, r.t.Children)
		return err
	})
	if err := group.Wait(); err != nil {
		return entry{}, err
	}
	raw, err := withMembers(detail, members)
	detail.raw = raw
	return detail, err
}

// beside runs one of several requests of an item in a group.
func (r *reading) beside(group *errgroup.Group, request func() error) {
	group.Go(func() error { return r.session.source.recovering(request) })
}

// detail reads an item again, on its own.
func (r *reading) detail(ctx context.Context, p place, key string, listed entry) (entry, error) {
	if r.t.Detail.Path != "" {
		p = r.session.source.root(r.t.Detail.Path, key)
	}
	c := r.call(p, r.t.Detail.Query, true, key)
	a, err := r.get(ctx, c)
	if err != nil {
		return entry{}, err
	}
	if !a.ok() {
		return entry{}, c.refused(a)
	}
	e, err := parseObject(a.body, r.keys)
	if err != nil {
		return entry{}, c.malformed(a, err)
	}
	if named := e.id != "" || selects(r.t.Detail.Select, r.keys.id); named && !strings.EqualFold(e.id, listed.id) {
		return entry{}, invalid(c.operation, "the answer is another item than the one that was asked for")
	}
	if e.name == "" {
		e.name = listed.name
	}
	if e.odataType == "" {
		e.odataType = listed.odataType
	}
	return e, nil
}

// selects says whether an answer has a property that a `$select` asks for, or that is
// there without one.
func selects(selected, property string) bool {
	if selected == "" {
		return true
	}
	for name := range strings.SplitSeq(selected, ",") {
		if strings.TrimSpace(name) == property {
			return true
		}
	}
	return false
}

// children makes the child requests of an object, at the same time, and returns
// their answers as properties, in the order of the catalog.
func (r *reading) children(ctx context.Context, p place, key, odataType string, children []catalog.Child) ([]member, error) {
	answers := make([]member, len(children))
	read := func(ctx context.Context, i int) error {
		child := &children[i]
		if !wanted(child, odataType) {
			return nil
		}
		raw, err := r.child(ctx, r.session.source.child(p, child.Path, key), key, child)
		answers[i] = member{name: child.Name, raw: raw}
		return err
	}
	if len(children) == 1 {
		if err := read(ctx, 0); err != nil {
			return nil, err
		}
	} else if len(children) > 1 {
		group, ctx := errgroup.WithContext(ctx)
		for i := range children {
			r.beside(group, func() error { return read(ctx, i) })
		}
		if err := group.Wait(); err != nil {
			return nil, err
		}
	}
	present := answers[:0]
	for _, m := range answers {
		if m.raw != nil {
			present = append(present, m)
		}
	}
	return present, nil
}

// child makes one child request and returns the value of its property, or nil
// when the item has no such child.
func (r *reading) child(ctx context.Context, p place, key string, child *catalog.Child) ([]byte, error) {
	k := &keys{id: "id"}
	for _, grandchild := range child.Children {
		k.children = append(k.children, grandchild.Name)
	}
	c := r.call(p, child.Query, child.SinglePage || child.Kind == catalog.Singleton, key)
	a, err := r.get(ctx, c)
	if err != nil {
		return nil, err
	}
	if !a.ok() {
		// 204 is how OData says that a property with one object is null.
		// https://docs.oasis-open.org/odata/odata/v4.01/odata-v4.01-part1-protocol.html#sec_RequestingRelatedEntities
		null := child.Kind == catalog.Singleton && a.status == http.StatusNoContent
		if null || r.lacks(child, a) {
			return nil, nil
		}
		return nil, c.refused(a)
	}
	if child.Kind == catalog.Singleton {
		e, err := parseObject(a.body, k)
		// A null link is answered as an object of annotations only, too.
		if errors.Is(err, errNull) || errors.Is(err, errEmpty) && len(child.Absent) > 0 {
			return nil, nil
		}
		if err == nil && e.id == "" && child.Select != "" && selects(child.Select, k.id) {
			err = errShape
		}
		if err != nil {
			return nil, c.malformed(a, err)
		}
		members, err := r.children(ctx, p, key, e.odataType, child.Children)
		if err != nil {
			return nil, err
		}
		return withMembers(e, members)
	}
	return r.childList(ctx, c, a, p, k, child)
}

// lacks says whether an answer means that an item, or the cloud, has no such child.
func (r *reading) lacks(child *catalog.Child, a *answer) bool {
	e := parseError(a.body)
	return matches(child.Absent, a.status, e) ||
		child.Regional && matches(r.session.source.config.UnknownPath, a.status, e)
}

// childList joins the pages of a child's list into one array.
func (r *reading) childList(ctx context.Context, c *call, a *answer, p place, k *keys, child *catalog.Child) ([]byte, error) {
	first, err := parsePage(a.body, k)
	if err != nil {
		return nil, c.malformed(a, err)
	}
	array := append(make([]byte, 0, len(a.body)), '[')
	err = r.pages(ctx, fetched{page: first, call: c}, k, listOptions{singlePage: child.SinglePage}, func(entries []entry) error {
		if len(child.Children) > 0 {
			if err := r.elements(ctx, c, p, entries, child); err != nil {
				return err
			}
		}
		for _, e := range entries {
			if len(array) > 1 {
				array = append(array, ',')
			}
			array = append(array, e.raw...)
		}
		return nil
	})
	return append(array, ']'), err
}

// elements makes the child requests of each element of a child's list.
func (r *reading) elements(ctx context.Context, c *call, p place, entries []entry, child *catalog.Child) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(elementsInFlight)
	for i := range entries {
		e := &entries[i]
		if !safeID(e.id) {
			_ = group.Wait()
			return invalid(c.operation, "an element has no usable id")
		}
		r.beside(group, func() error {
			members, err := r.children(ctx, p.item(e.id), e.id, e.odataType, child.Children)
			if err != nil {
				return err
			}
			e.raw, err = withMembers(*e, members)
			return err
		})
	}
	return group.Wait()
}

func needsType(children []catalog.Child) bool {
	for i := range children {
		if len(children[i].When) > 0 {
			return true
		}
	}
	return false
}
