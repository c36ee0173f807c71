package graph

import (
	"context"
	"hash/maphash"
	"net/http"

	"understudy.internal/internal/catalog"
)

// deltaPage is one page of a delta query.
type deltaPage struct {
	mentions []mention
	// Exactly one of them is set: there is another page, or this was the last.
	next, delta string
}

// mention is one object that a delta query names.
type mention struct {
	id string
	// gone says that it was removed, for good or so that it can be restored: either
	// way the list of the type has it no more.
	gone bool
}

// parseDeltaPage parses one page of a delta query.
func parseDeltaPage(data []byte) (deltaPage, error) {
	var p deltaPage
	found := false
	r := newReader(data)
	_, err := r.object(func(name []byte) (err error) {
		switch string(name) {
		case "value":
			found = true
			return r.array(func() error {
				m, err := r.mention()
				p.mentions = append(p.mentions, m)
				return err
			})
		case "@odata.nextLink":
			p.next, err = r.text(false)
			return err
		case "@odata.deltaLink":
			p.delta, err = r.text(false)
			return err
		default:
			if isErrorName(string(name)) {
				return r.noRefusal()
			}
			return r.SkipValue()
		}
	})
	switch {
	case err != nil:
		return deltaPage{}, err
	case !found || (p.next == "") == (p.delta == ""):
		return deltaPage{}, errShape
	default:
		return p, r.end()
	}
}

func (r reader) mention() (mention, error) {
	var m mention
	_, err := r.object(func(name []byte) (err error) {
		switch string(name) {
		case "id":
			m.id, err = r.text(false)
			return err
		case "@removed":
			m.gone = true
		}
		return r.SkipValue()
	})
	if err == nil && !safeID(m.id) {
		err = errShape
	}
	return m, err
}

// deltaQuery returns the place of the delta function of the type.
func (r *reading) deltaQuery() place {
	p := r.session.source.root(r.t.Path, "")
	return place{wire: p.wire + "/delta", shown: p.shown + "/delta"}
}

// latestLinks returns a delta link for each query that the type needs, with which
// everything that changes from now on is reported. Directory objects can be asked
// for it without being read.
// https://learn.microsoft.com/graph/delta-query-overview
func (r *reading) latestLinks() ([]string, error) {
	var links []string
	for _, selected := range r.t.Delta.Selects() {
		c := r.call(r.deltaQuery(), catalog.Query{Select: selected}, true, "")
		option := "?$deltatoken=latest"
		if selected != "" {
			option = "&$deltatoken=latest"
		}
		c.relative, c.address = c.relative+option, c.address+option
		link, err := r.track(r.ctx, c, func(mention) {})
		if err != nil {
			return nil, err
		}
		links = append(links, link)
	}
	return links, nil
}

// followLinks reads what changed since some links were issued, and returns the
// links for what changes from now on.
func (r *reading) followLinks(links []string, visit func(mention)) ([]string, error) {
	following := make([]string, 0, len(links))
	for _, link := range links {
		p := r.deltaQuery()
		c := r.next(&call{
			credential: r.credential, workload: r.workload, health: r.health, version: r.t.Version,
			operation: http.MethodGet + " /" + r.t.Version + p.shown,
			// Only what changed is sent; nobody looks at the rest.
			header: map[string]string{"Prefer": "return=minimal"},
		}, link)
		if c == nil {
			return nil, &restartError{"a delta link leads to another place"}
		}
		next, err := r.track(r.ctx, c, visit)
		if err != nil {
			return nil, err
		}
		following = append(following, next)
	}
	return following, nil
}

// track reads all pages of a delta query and returns its delta link.
func (r *reading) track(ctx context.Context, c *call, visit func(mention)) (string, error) {
	seen := make(map[uint64]bool)
	for pages := 1; ; pages++ {
		a, err := r.get(ctx, c)
		if err != nil {
			return "", err
		}
		if !a.ok() {
			return "", c.refused(a)
		}
		p, err := parseDeltaPage(a.body)
		if err != nil {
			return "", c.malformed(a, err)
		}
		for _, m := range p.mentions {
			visit(m)
		}
		link := p.next
		if link == "" {
			link = p.delta
		}
		hash := maphash.String(r.seed, link)
		following := r.next(c, link)
		switch {
		case following == nil:
			return "", invalid(c.operation, "the next page is on another host or of another version, and was not asked for")
		case p.delta != "":
			return p.delta, nil
		case seen[hash]:
			return "", invalid(c.operation, "the list is endless: a next page repeats")
		case pages >= r.session.source.config.MaxPages:
			return "", invalid(c.operation, "the list has more pages than the limit")
		}
		seen[hash] = true
		c = following
	}
}
