package coverage

import (
	"maps"
	"slices"
	"strings"

	"understudy.internal/internal/catalog"
	"understudy.internal/internal/facts"
)

// reads maps every path that the catalog reads to the ids of the types that read
// it, sorted.
type reads map[string][]string

// readsOf collects the paths of types, their lists and their children.
func readsOf(types []*catalog.Type) reads {
	r := make(reads)
	for _, t := range types {
		r.add(t.Path, t.ID)
		if t.Detail != nil {
			r.add(t.Path+"/{id}", t.ID)
		}
		r.children(t.Path, t.Kind, t.Children, t.ID)
	}
	for path, ids := range r {
		slices.Sort(ids)
		r[path] = slices.Compact(ids)
	}
	return r
}

func (r reads) add(path, id string) {
	path = facts.Normalize(path)
	r[path] = append(r[path], id)
}

func (r reads) children(base string, kind catalog.Kind, children []catalog.Child, id string) {
	if kind == catalog.Collection {
		base += "/{id}"
	}
	for _, child := range children {
		path := child.Path
		if !strings.HasPrefix(path, "/") {
			path = base + "/" + path
		}
		r.add(path, id)
		r.children(path, child.Kind, child.Children, id)
	}
}

// find returns the types that read a path of Graph; an id in the path matches an
// `{id}` of the catalog and the other way round.
func (r reads) find(path string) []string {
	path = facts.Normalize(path)
	if ids, ok := r[path]; ok {
		return ids
	}
	parts := strings.Split(path, "/")
	for _, candidate := range slices.Sorted(maps.Keys(r)) {
		if alike(strings.Split(candidate, "/"), parts) {
			return r[candidate]
		}
	}
	return nil
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
	for path, ids := range r {
		if strings.ReplaceAll(path, "/{id}", "") == wanted {
			found = append(found, ids...)
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}
