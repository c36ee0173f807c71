package catalog

import (
	"slices"
	"strings"
)

// Delta says that Graph has a delta function for the list of a type, for users and
// for applications: after a complete reading only what changed has to be read.
// https://learn.microsoft.com/graph/delta-query-overview
type Delta struct {
	// Covers names the children whose changes the function reports. The others are
	// read for every item every time, as they were without the function.
	Covers []string `yaml:"covers"`
}

// Selects returns the `$select` of each delta query that the type needs: one for
// the properties that the function tracks by itself (empty), and one for the
// children that it tracks when asked to. Both are needed: with a `$select` nothing
// else is tracked.
func (d *Delta) Selects() []string {
	if len(d.Covers) == 0 {
		return []string{""}
	}
	return []string{"", strings.Join(d.Covers, ",")}
}

// Uncovered returns the children that have to be read for every item, whatever
// the delta function says. A type without one has only those.
func (t *Type) Uncovered() []Child {
	if t.Delta == nil {
		return slices.Clone(t.Children)
	}
	return slices.DeleteFunc(slices.Clone(t.Children), func(c Child) bool {
		return slices.Contains(t.Delta.Covers, c.Name)
	})
}

// delta checks that what is read item by item is what the list would have brought.
func (p *problems) delta(t *Type) {
	if t.Delta == nil {
		return
	}
	p.when(t.Kind != Collection, "delta is for collections")
	p.when(t.Each != nil, "delta cannot be used with each: the list has no place of its own")
	p.when(t.Detail != nil, "delta cannot be used with detail")
	p.when(t.Filter != "", "delta cannot be used with filter: a delta query knows no such filter")
	p.when(t.IdentityProperty != "", "delta cannot be used with identity_property: a delta query answers with the id")
	for _, child := range t.Children {
		p.when(len(child.When) > 0, "delta cannot be used with the when of the child %q", child.Name)
	}
	for i, name := range t.Delta.Covers {
		at := slices.IndexFunc(t.Children, func(c Child) bool { return c.Name == name })
		p.when(i > 0 && t.Delta.Covers[i-1] >= name, "delta.covers must be sorted and without repetition")
		if at < 0 {
			p.when(true, "delta.covers: there is no child %q", name)
			continue
		}
		p.when(len(t.Children[at].Children) > 0 || t.Children[at].Path != name,
			"delta.covers: the child %q must be the relation of that name, without children", name)
	}
}
