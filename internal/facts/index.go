package facts

import "strings"

// Index finds endpoints by path. It is safe for concurrent use.
type Index struct {
	exact    map[string]Endpoint
	bySize   map[int][]Endpoint
	segments map[string][]string
}

// NewIndex indexes endpoints.
func NewIndex(endpoints []Endpoint) *Index {
	index := &Index{
		exact:    make(map[string]Endpoint, len(endpoints)),
		bySize:   make(map[int][]Endpoint),
		segments: make(map[string][]string, len(endpoints)),
	}
	for _, e := range endpoints {
		key := Normalize(e.Path)
		parts := strings.Split(key, "/")
		index.exact[e.Version+key] = e
		index.segments[e.Version+key] = parts
		index.bySize[len(parts)] = append(index.bySize[len(parts)], e)
	}
	return index
}

// Lookup finds the endpoint that answers a path of a version (`v1.0` or
// `beta`). Case and a slash at the end do not count. An `{id}` of the endpoint
// matches any segment: a name in braces or an id; of several endpoints, the one
// with the fewest such segments is found.
func (x *Index) Lookup(version, path string) (Endpoint, bool) {
	key := Normalize(path)
	if e, ok := x.exact[version+key]; ok {
		return e, true
	}
	parts := strings.Split(key, "/")
	best, bestWild := Endpoint{}, len(parts)+1
	for _, e := range x.bySize[len(parts)] {
		if e.Version != version {
			continue
		}
		if wild, ok := match(x.segments[version+Normalize(e.Path)], parts); ok && wild < bestWild {
			best, bestWild = e, wild
		}
	}
	return best, bestWild <= len(parts)
}

// match says whether a path matches a pattern, and by how many wildcards.
func match(pattern, path []string) (wild int, ok bool) {
	for i, segment := range pattern {
		switch {
		case segment == path[i]:
		case segment == "{id}" && path[i] != "":
			wild++
		default:
			return 0, false
		}
	}
	return wild, true
}

// Normalize brings a path to the form in which two spellings of it are equal:
// lower case, one slash before it, none behind it, and `{id}` for every segment
// in braces.
func Normalize(path string) string {
	parts := strings.Split(strings.Trim(strings.ToLower(path), "/"), "/")
	for i, part := range parts {
		if strings.HasPrefix(part, "{") && strings.HasSuffix(part, "}") {
			parts[i] = "{id}"
		}
	}
	return "/" + strings.Join(parts, "/")
}
