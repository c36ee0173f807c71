package graph

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// maxExpandedDepth bounds how deep a list that goes on elsewhere may be in an item.
const maxExpandedDepth = 64

// errCut says that a list within an object is not whole, and that its rest cannot be
// read.
var errCut = errors.New("a list within an item is cut")

// whole returns an object with all of the lists in it. One of `$expand` that is long
// ends with `policies@odata.nextLink`, where the rest of it is. An object whose lists
// are whole is returned as it is.
// https://docs.oasis-open.org/odata/odata-json-format/v4.01/odata-json-format-v4.01.html#sec_ControlInformationnextLinkodatanextL
func (r *reading) whole(ctx context.Context, p place, raw []byte) ([]byte, error) {
	if !saysMore(raw) {
		return raw, nil
	}
	query := r.t.Query
	if r.t.Detail != nil {
		query = r.t.Detail.Query
	}
	x := &expanded{reading: r, ctx: ctx, call: r.call(p, query, true, "")}
	out, err := x.value(raw, 0)
	if errors.Is(err, errCut) {
		return nil, invalid(x.call.operation, "a list within an item is cut: there is more of it than was sent")
	}
	return out, err
}

// mayBeCut says whether an object could have a list that says of itself that it is cut.
// It is quick, and most objects have none.
func mayBeCut(raw []byte) bool {
	for _, part := range []string{nextLink, "@odata." + count, "@" + count, `\u00`} {
		if bytes.Contains(raw, []byte(part)) {
			return true
		}
	}
	return false
}

// saysMore says whether an object has a list, at any depth, of which it says how long it
// is or where it goes on.
func saysMore(raw []byte) bool {
	if !mayBeCut(raw) {
		return false
	}
	r := newReader(raw)
	for {
		token, err := r.ReadToken()
		if err != nil {
			return false // the end: it was parsed before
		}
		if kind, n := r.StackIndex(r.StackDepth()); kind == '{' && n%2 == 1 { // a name
			if _, what := annotation(token.String()); what == nextLink || what == count {
				return true
			}
		}
	}
}

// annotation returns of which property a name says something, and what.
func annotation(name string) (of, what string) {
	of, what, _ = strings.Cut(name, "@")
	return of, strings.TrimPrefix(what, "odata.")
}

// What is said of a list, behind its name, `@` and mostly `odata.`.
const (
	nextLink = "nextLink"
	count    = "count"
)

// expanded completes the lists in one item.
type expanded struct {
	*reading
	ctx  context.Context
	call *call
}

// property is one of an object.
type property struct {
	name  string
	value []byte
}

// said is what an object says of the list in one of its properties.
type said struct {
	link  string
	count int
}

// value returns a value with all of the lists in it: the same bytes where they are.
func (x *expanded) value(raw []byte, depth int) ([]byte, error) {
	if !mayBeCut(raw) {
		return raw, nil
	}
	if depth > maxExpandedDepth {
		return nil, errCut // it may be
	}
	switch jsontext.Value(raw).Kind() {
	case '{':
		return x.object(raw, depth)
	case '[':
		elements, changed, err := x.elements(raw, depth)
		if err != nil || !changed {
			return raw, err
		}
		return joined('[', elements, ']'), nil
	}
	return raw, nil
}

// elements returns those of an array, and whether one is another than it was.
func (x *expanded) elements(raw []byte, depth int) (elements [][]byte, changed bool, err error) {
	r := newReader(raw)
	err = r.array(func() error {
		before, err := r.value()
		if err != nil {
			return err
		}
		after, err := x.value(before, depth+1)
		changed = changed || !same(before, after)
		elements = append(elements, after)
		return err
	})
	return elements, changed, err
}

func (x *expanded) object(raw []byte, depth int) ([]byte, error) {
	properties, lists, err := x.properties(raw)
	if err != nil {
		return nil, err
	}
	var parts [][]byte
	changed := false
	for _, p := range properties {
		before := p.value
		if of, ok := lists[p.name]; ok {
			p.value, err = x.list(p.value, of, depth)
			delete(lists, p.name)
		} else {
			p.value, err = x.value(p.value, depth+1)
		}
		if err != nil {
			return nil, err
		}
		changed = changed || !same(before, p.value)
		parts = append(parts, append(append(appendString(nil, p.name), ':'), p.value...))
	}
	for _, of := range lists {
		if of.link != "" {
			return nil, errCut // a list that is not there goes on
		}
	}
	if !changed {
		return raw, nil
	}
	return joined('{', parts, '}'), nil
}

// same says whether a value is the one that was sent, and not one that was made of it.
func same(sent, now []byte) bool {
	return len(sent) == len(now) && (len(sent) == 0 || &sent[0] == &now[0])
}

// properties returns those of an object, and what it says of the lists in them.
func (x *expanded) properties(raw []byte) ([]property, map[string]said, error) {
	var properties []property
	lists := map[string]said{}
	r := newReader(raw)
	_, err := r.object(func(name []byte) error {
		p := property{name: string(name)}
		var err error
		if p.value, err = r.value(); err != nil {
			return err
		}
		of, what := annotation(p.name)
		list := lists[of]
		switch what {
		case nextLink:
			list.link, err = newReader(p.value).text(false)
			if err != nil || list.link == "" {
				return errCut
			}
			lists[of] = list
			return nil
		case count:
			if list.count, err = strconv.Atoi(string(p.value)); err == nil && len(of) > 0 {
				lists[of] = list
			}
		}
		properties = append(properties, p)
		return nil
	})
	return properties, lists, err
}

// list returns a list with its rest.
func (x *expanded) list(raw []byte, of said, depth int) ([]byte, error) {
	if jsontext.Value(raw).Kind() != '[' {
		if of.link != "" {
			return nil, errCut
		}
		return x.value(raw, depth+1)
	}
	elements, changed, err := x.elements(raw, depth)
	if err != nil {
		return nil, err
	}
	if of.link != "" {
		rest, err := x.rest(of.link, depth)
		if err != nil {
			return nil, err
		}
		elements, changed = append(elements, rest...), true
	}
	switch {
	case of.count > len(elements):
		return nil, errCut
	case !changed:
		return raw, nil
	}
	return joined('[', elements, ']'), nil
}

// rest reads the elements that follow on other pages.
func (x *expanded) rest(link string, depth int) ([][]byte, error) {
	c := x.next(x.call, link)
	if c == nil {
		return nil, invalid(x.call.operation, "the next page is on another host or of another version, and was not asked for")
	}
	var rest [][]byte
	err := x.reading.list(x.ctx, c, &keys{id: "id"}, listOptions{}, func(entries []entry) error {
		for _, e := range entries {
			element, err := x.value(e.raw, depth+1)
			if err != nil {
				return err
			}
			rest = append(rest, element)
		}
		return nil
	})
	return rest, err
}
