package catalog

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
)

// ExcludedError says that a pattern names only types that the tenant's
// configuration excludes.
type ExcludedError struct {
	// Index is the place of the pattern in the list, from 0.
	Index int
	// Pattern is the pattern.
	Pattern string
}

// Error implements error.
func (e *ExcludedError) Error() string { return fmt.Sprintf("%q is excluded", e.Pattern) }

// FilterError says why a filter cannot narrow a type.
type FilterError struct {
	// Type is the id of the type.
	Type string
	// Detail says what is wrong and what to write instead, after the id and a
	// colon. It does not repeat the filter.
	Detail string
}

// Error implements error.
func (e *FilterError) Error() string { return e.Type + ": " + e.Detail }

// Narrow returns the part of the catalog that a tenant's configuration leaves:
// without the types that the patterns of exclude name, and with filters, by id,
// that narrow the lists of types. Select fails with an [*ExcludedError] for a
// pattern of which nothing is left, and Get does not find what is excluded. The
// version is that of the whole catalog, and so are the types without a filter.
//
// It fails with an [*UnknownPatternError], [*ExcludedError] or [*FilterError] for
// everything that is wrong, joined.
func (c *Catalog) Narrow(exclude []string, filters map[string]string) (*Catalog, error) {
	excluded, err := c.Select(exclude)
	if err != nil {
		return nil, err
	}
	narrow := &Catalog{byID: make(map[string]*Type, len(c.types)), version: c.version}
	narrow.excluded = slices.Concat(c.excluded, excluded)
	for _, t := range c.types {
		if !slices.Contains(excluded, t) {
			narrow.byID[t.ID] = t
			narrow.types = append(narrow.types, t)
		}
	}
	var mistakes []error
	for _, id := range slices.Sorted(maps.Keys(filters)) {
		mistakes = append(mistakes, narrow.filter(id, filters[id]))
	}
	return narrow, errors.Join(mistakes...)
}

// filter puts a filter into a type, which the narrowed catalog has for itself then.
func (c *Catalog) filter(id, filter string) error {
	i, ok := slices.BinarySearchFunc(c.types, id, func(t *Type, id string) int { return cmp.Compare(t.ID, id) })
	if !ok {
		// One type each: a property is not one of every type.
		if _, err := c.Select([]string{id}); err != nil {
			return err
		}
		return &FilterError{Type: id, Detail: "is a pattern, and a filter is for one type. Write the id of a type."}
	}
	t := *c.types[i]
	switch {
	case t.Kind == Singleton:
		return &FilterError{Type: id, Detail: "is one object and not a list: there is nothing to filter. Leave the filter out, or exclude the type."}
	case t.Each != nil:
		return &FilterError{Type: id, Detail: "is read once for each of several objects, and cannot be filtered. Leave the filter out, or exclude the type."}
	}
	if problem := filterProblem(filter); problem != "" {
		return &FilterError{Type: id, Detail: problem}
	}
	t.TenantFilter = filter
	t.Delta = nil // a delta query knows no such filter
	if t.Filter == "" {
		t.Filter = filter
	} else {
		t.Filter = "(" + t.Filter + ") and (" + filter + ")"
	}
	c.types[i], c.byID[id] = &t, &t
	return nil
}

// maxFilter is the longest filter: Microsoft Graph limits the length of an address.
const maxFilter = 1000

// filterProblem says what keeps a text from being a filter and nothing else, or
// returns nothing. Whether a property is there and can be filtered by only
// Microsoft Graph knows. Texts of a filter stand in single quotes, a single quote
// in them is doubled. (OData 4.01, URL conventions, 5.1.1.14)
func filterProblem(filter string) string {
	switch {
	case strings.TrimSpace(filter) == "":
		return "is empty. Write a filter, for example `securityEnabled eq true`, or leave it out."
	case filter != strings.TrimSpace(filter):
		return "begins or ends with a space. Write it without."
	case len(filter) > maxFilter:
		return fmt.Sprintf("is longer than %d bytes. Write a shorter filter.", maxFilter)
	}
	depth, quoted := 0, false
	for _, r := range filter {
		switch {
		case !unicode.IsPrint(r):
			return "has a control character or a space of a special kind. Write it in one line, with ordinary spaces."
		case r == '{' || r == '}':
			return "has a brace, which is not possible. Write a filter without, with `startswith` for example."
		case r == '\'':
			quoted = !quoted
		case quoted:
		case r == '(':
			depth++
		case r == ')':
			depth--
		case r > unicode.MaxASCII || strings.ContainsRune("$&?#;%\"`\\", r):
			return fmt.Sprintf("has the character %q outside of single quotes. Write the filter alone, without `$filter=` or other options "+
				"and not percent-encoded, with texts in single quotes: `startswith(displayName,'A&B')`.", r)
		}
		if depth < 0 {
			break
		}
	}
	switch {
	case quoted:
		return "has a single quote that is not closed. Write a quote within a text twice: `displayName eq 'O''Neill'`."
	case depth != 0:
		return "has parentheses that do not match. Write one `)` for each `(`, after it."
	}
	return ""
}
