package coverage

import (
	"maps"
	"slices"
	"strings"

	"understudy.internal/internal/catalog"
	"understudy.internal/internal/facts"
)

// reads maps every path that the catalog reads to who reads it, sorted by type.
type reads map[string][]reader

// reader is a type that reads a path.
type reader struct {
	id string
	// terms are what an object must fulfil for the type to read it; none: it reads
	// all objects.
	terms []string
}

// readsOf collects the paths of types, their lists, their children and what comes
// expanded.
func readsOf(types []*catalog.Type) reads {
	r := make(reads)
	for _, t := range types {
		by := reader{id: t.ID, terms: filterTerms(t.Filter)}
		if t.Each != nil { // read for some of the objects of another list
			by.terms = append(by.terms, filterTerms(t.Each.Filter)...)
		}
		r.request(t.Path, t.Kind, t.Expand, by)
		if t.Detail != nil {
			r.request(t.Path+"/{id}", catalog.Singleton, t.Detail.Expand, by)
		}
		r.children(t.Path, t.Kind, t.Children, by)
	}
	for path, readers := range r {
		slices.SortFunc(readers, func(a, b reader) int { return strings.Compare(a.id, b.id) })
		r[path] = slices.CompactFunc(readers, func(a, b reader) bool { return a.id == b.id })
	}
	return r
}

func (r reads) add(path string, by reader) {
	path = facts.Normalize(path)
	r[path] = append(r[path], by)
}

// request adds a path with what is expanded in its answer.
func (r reads) request(path string, kind catalog.Kind, expand string, by reader) {
	r.add(path, by)
	if kind == catalog.Collection {
		path += "/{id}"
	}
	r.expanded(path, expand, by)
}

// expanded adds what `$expand` names below an object. Whether that is a list is not
// said, so what is expanded within it is added below both.
func (r reads) expanded(base, expand string, by reader) {
	for _, part := range splitTop(expand, ',') {
		name, options, _ := strings.Cut(part, "(")
		if name == "" {
			continue
		}
		path := base + "/" + name
		r.add(path, by)
		for _, option := range splitTop(strings.TrimSuffix(options, ")"), ';') {
			if nested, ok := strings.CutPrefix(option, "$expand="); ok {
				r.expanded(path, nested, by)
				r.expanded(path+"/{id}", nested, by)
			}
		}
	}
}

// splitTop splits at separators that are not within parentheses.
func splitTop(text string, separator rune) []string {
	depth := 0
	return strings.FieldsFunc(text, func(c rune) bool {
		switch c {
		case '(':
			depth++
		case ')':
			depth--
		}
		return c == separator && depth == 0
	})
}

func (r reads) children(base string, kind catalog.Kind, children []catalog.Child, by reader) {
	if kind == catalog.Collection {
		base += "/{id}"
	}
	for _, child := range children {
		path := child.Path
		if !strings.HasPrefix(path, "/") {
			path = base + "/" + path
		}
		childBy := by
		if !strings.Contains(child.Filter, "{id}") { // else it asks for the item's own
			childBy.terms = slices.Concat(by.terms, filterTerms(child.Filter))
		}
		r.request(path, child.Kind, child.Expand, childBy)
		r.children(path, child.Kind, child.Children, childBy)
	}
}

// find returns the types that read a path of Graph, for whatever objects; an id in
// the path matches an `{id}` of the catalog and the other way round.
func (r reads) find(path string) []string { return idsOf(r.readers(path)) }

// covering returns the types that read all that a request with a filter asks for.
func (r reads) covering(path, filter string) []string {
	asked := filterTerms(filter)
	return idsOf(slices.DeleteFunc(slices.Clone(r.readers(path)), func(by reader) bool {
		return slices.ContainsFunc(by.terms, func(term string) bool { return !slices.Contains(asked, term) })
	}))
}

func idsOf(readers []reader) []string {
	var ids []string
	for _, by := range readers {
		ids = append(ids, by.id)
	}
	return ids
}

func (r reads) readers(path string) []reader {
	path = facts.Normalize(path)
	if readers, ok := r[path]; ok {
		return readers
	}
	parts := strings.Split(path, "/")
	for _, candidate := range slices.Sorted(maps.Keys(r)) {
		if alike(strings.Split(candidate, "/"), parts) {
			return r[candidate]
		}
	}
	return nil
}

// filterTerms splits a filter into what it demands. A filter with alternatives is one
// demand. Ids that are filled in are all spelled `{id}`.
func filterTerms(filter string) []string {
	filter = strings.ToLower(strings.Join(strings.Fields(filter), " "))
	if filter == "" {
		return nil
	}
	terms := []string{filter}
	if !strings.Contains(filter, " or ") {
		terms = strings.Split(filter, " and ")
	}
	for i, term := range terms {
		if name, value, ok := strings.Cut(term, " eq "); ok && strings.HasPrefix(value, "'{") {
			terms[i] = name + " eq '{id}'"
		}
	}
	return terms
}

// alike says whether two paths differ only where one has an id and the other a
// fixed one: a site, a publishing type.
func alike(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		fixed := a[i] == "root" || b[i] == "root" || b[i] == "provisioning" || b[i] == "applicationproxy"
		if a[i] != b[i] && (!fixed || (a[i] != "{id}" && b[i] != "{id}")) {
			return false
		}
	}
	return true
}

// named returns the types that read a namespace of the reference product, such as
// `MSGraph:Groups:Members:Ref`: a path without its ids.
func (r reads) named(namespace string) []string {
	segments := strings.Split(strings.ToLower(namespace), ":")[1:]
	segments = slices.DeleteFunc(segments, func(s string) bool { return s == "ref" })
	wanted := "/" + strings.Join(segments, "/")
	var found []string
	for path, readers := range r {
		if strings.ReplaceAll(path, "/{id}", "") == wanted {
			found = append(found, idsOf(readers)...)
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}
