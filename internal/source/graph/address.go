package graph

import (
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"

	"understudy.internal/internal/catalog"
)

// place is a path below the version: escaped for the wire, and with `{id}` for
// errors and logs, which show no ids of the tenant.
type place struct{ wire, shown string }

// root returns the place of a path of the catalog; id replaces `{id}`.
func (s *Source) root(catalogPath, id string) place {
	return place{
		wire:  fill(strings.ReplaceAll(catalogPath, "{tenantId}", url.PathEscape(s.config.DirectoryID)), id, url.PathEscape),
		shown: catalogPath,
	}
}

// item returns the place of one object of a list.
func (p place) item(id string) place {
	return place{wire: p.wire + "/" + url.PathEscape(id), shown: p.shown + "/{id}"}
}

// child returns the place of a child request of an object that is at p and has
// the id.
func (s *Source) child(p place, childPath, id string) place {
	if strings.HasPrefix(childPath, "/") {
		return s.root(childPath, id)
	}
	below := s.root("/"+childPath, id)
	return place{wire: p.wire + below.wire, shown: p.shown + below.shown}
}

// safeID says whether an id can stand in a path: it must not change the path.
func safeID(id string) bool { return id != "" && id != "." && id != ".." }

// fill puts an id where `{id}` is. Within an OData string literal a quote is
// doubled. (OData 4.01, URL conventions, 2.2)
func fill(text, id string, escape func(string) string) string {
	if !strings.Contains(text, "{id}") {
		return text
	}
	text = strings.ReplaceAll(text, "'{id}'", "'"+escape(strings.ReplaceAll(id, "'", "''"))+"'")
	return strings.ReplaceAll(text, "{id}", escape(id))
}

// encode writes the options of a query; id replaces `{id}` in the filter.
func encode(q catalog.Query, singlePage bool, id string) string {
	var b strings.Builder
	add := func(name, value string) {
		if value == "" {
			return
		}
		b.WriteByte("?&"[min(b.Len(), 1)])
		b.WriteString(name + "=")
		b.WriteString(strings.ReplaceAll(url.QueryEscape(value), "+", "%20"))
	}
	add("$select", q.Select)
	add("$expand", q.Expand)
	add("$filter", fill(q.Filter, id, func(s string) string { return s }))
	if q.Top > 0 && !singlePage {
		add("$top", strconv.Itoa(q.Top))
	}
	return b.String()
}

// call returns the call that reads a place.
func (r *reading) call(p place, q catalog.Query, singlePage bool, id string) *call {
	relative := p.wire + encode(q, singlePage, id)
	return &call{
		credential: r.credential,
		workload:   r.workload,
		health:     r.health,
		version:    r.t.Version,
		relative:   relative,
		address:    r.session.source.endpoint.String() + "/" + r.t.Version + relative,
		operation:  http.MethodGet + " /" + r.t.Version + p.shown,
		header:     q.Headers,
	}
}

// next returns the call that reads the page after the one that another call
// read. The link is sent as it is, if it leads to where this source's tokens may
// go; nil if not.
func (r *reading) next(c *call, link string) *call {
	if !r.session.source.owns(link, c.version) {
		return nil
	}
	return &call{
		credential: c.credential,
		workload:   c.workload,
		health:     c.health,
		version:    c.version,
		address:    link,
		operation:  c.operation,
		header:     c.header,
	}
}

// owns says whether an address is https, of this endpoint's host, and of the
// version. Tokens are sent there.
func (s *Source) owns(link, version string) bool {
	u, err := url.Parse(link)
	if err != nil || u.Scheme != "https" || u.User != nil || !strings.EqualFold(hostPort(u), hostPort(s.endpoint)) {
		return false
	}
	prefix := s.endpoint.Path + "/" + version + "/"
	return strings.HasPrefix(u.Path, prefix) && strings.HasPrefix(path.Clean(u.Path), prefix)
}

func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = "443"
	}
	return u.Hostname() + ":" + port
}
