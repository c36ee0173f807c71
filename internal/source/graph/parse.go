package graph

import (
	"bytes"
	"errors"
	"net/http"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// errShape says that an answer is JSON, but not the one that was asked for.
var errShape = errors.New("the answer has another form than expected")

// page is one page of a list.
type page struct {
	entries []entry
	// next is the address of the next page, or empty.
	next string
}

// entry is one object, as the source sent it.
type entry struct {
	raw  []byte
	id   string
	name string
	// odataType is `@odata.type`, or empty.
	odataType string
	// clash says that the object has a property already that a child request is to
	// fill.
	clash bool
}

// keys says which properties of an object to look at.
type keys struct {
	id string
	// names are tried in order.
	names []string
	// children are the properties that child requests fill.
	children []string
}

// reader walks over one JSON document in memory and cuts out parts of it without
// copying or changing a byte.
type reader struct {
	*jsontext.Decoder
	data []byte
}

// newReader returns a reader that refuses duplicate names and broken UTF-8.
func newReader(data []byte, options ...jsontext.Options) reader {
	// A bytes.Buffer is parsed in place.
	return reader{Decoder: jsontext.NewDecoder(bytes.NewBuffer(data), options...), data: data}
}

// value cuts out the next value.
func (r reader) value() ([]byte, error) {
	v, err := r.ReadValue()
	if err != nil {
		return nil, err
	}
	end := int(r.InputOffset())
	return r.data[end-len(v) : end : end], nil
}

// open reads the beginning of an object or array and returns where it is.
func (r reader) open(kind jsontext.Kind) (int, error) {
	if r.PeekKind() != kind {
		if _, err := r.ReadToken(); err != nil {
			return 0, err
		}
		return 0, errShape
	}
	if _, err := r.ReadToken(); err != nil {
		return 0, err
	}
	return int(r.InputOffset()) - 1, nil
}

// object reads an object. It calls member for each name, which has to read the
// value. It returns the object's bytes.
func (r reader) object(member func(name []byte) error) ([]byte, error) {
	start, err := r.open('{')
	if err != nil {
		return nil, err
	}
	for r.PeekKind() == '"' {
		quoted, err := r.value()
		if err != nil {
			return nil, err
		}
		name := quoted[1 : len(quoted)-1]
		if bytes.IndexByte(name, '\\') >= 0 {
			if name, err = jsontext.AppendUnquote(nil, quoted); err != nil {
				return nil, err
			}
		}
		if err := member(name); err != nil {
			return nil, err
		}
	}
	if _, err := r.ReadToken(); err != nil {
		return nil, err
	}
	end := int(r.InputOffset())
	return r.data[start:end:end], nil
}

// array reads an array. It calls element for each element, which has to read it.
func (r reader) array(element func() error) error {
	if _, err := r.open('['); err != nil {
		return err
	}
	for kind := r.PeekKind(); kind != ']' && kind != jsontext.KindInvalid; kind = r.PeekKind() {
		if err := element(); err != nil {
			return err
		}
	}
	_, err := r.ReadToken()
	return err
}

// end checks that nothing follows the document.
func (r reader) end() error {
	if len(bytes.TrimLeft(r.data[r.InputOffset():], " \t\r\n")) > 0 {
		return errShape
	}
	return nil
}

// text reads a value and returns it when it is a string, or, where an id may be
// one, a number.
func (r reader) text(numbers bool) (string, error) {
	v, err := r.value()
	if err != nil {
		return "", err
	}
	switch kind := jsontext.Value(v).Kind(); {
	case kind == '"' && bytes.IndexByte(v, '\\') < 0:
		return string(v[1 : len(v)-1]), nil
	case kind == '"':
		s, err := jsontext.AppendUnquote(nil, v)
		return string(s), err
	case kind == '0' && numbers:
		return string(v), nil
	default:
		return "", nil
	}
}

// entry reads one object.
func (r reader) entry(k *keys) (entry, error) {
	var e entry
	best := len(k.names)
	raw, err := r.object(func(name []byte) (err error) {
		if string(name) == k.id {
			e.id, err = r.text(true)
			if len(k.names) > 0 && k.names[0] == k.id && e.id != "" {
				e.name, best = e.id, 0
			}
			return err
		}
		if string(name) == "@odata.type" {
			e.odataType, err = r.text(false)
			return err
		}
		for i, candidate := range k.names[:best] {
			if string(name) == candidate {
				text, err := r.text(false)
				if text != "" {
					e.name, best = text, i
				}
				return err
			}
		}
		for _, child := range k.children {
			e.clash = e.clash || isOf(name, child)
		}
		return r.SkipValue()
	})
	e.raw = raw
	return e, err
}

// isOf says whether a name is that of a property, or of what is said of it.
func isOf(name []byte, property string) bool {
	of, _, _ := bytes.Cut(name, []byte("@"))
	return string(of) == property
}

// parseObject parses an answer that is one object. What has no id may be none: see
// [noObject]. An object with an id may have a property that is called error.
func parseObject(data []byte, k *keys) (entry, error) {
	r := newReader(data)
	e, err := r.entry(k)
	if err == nil && e.id == "" {
		err = noObject(e.raw)
	}
	if err != nil {
		return entry{}, err
	}
	return e, r.end()
}

// parsePage parses one page of a list.
func parsePage(data []byte, k *keys) (page, error) {
	var p page
	found := false
	r := newReader(data)
	_, err := r.object(func(name []byte) (err error) {
		switch string(name) {
		case "value":
			found = true
			return r.array(func() error {
				e, err := r.entry(k)
				p.entries = append(p.entries, e)
				return err
			})
		case "@odata.nextLink":
			if p.next, err = r.text(false); err == nil && p.next == "" {
				return errShape
			}
			return err
		default:
			if isErrorName(string(name)) {
				return r.noRefusal()
			}
			if bytes.HasSuffix(name, []byte("nextLink")) {
				return errShape // another spelling of OData's: to pass over it would cut the list
			}
			return r.SkipValue()
		}
	})
	switch {
	case err != nil:
		return page{}, err
	case !found:
		return page{}, errShape
	default:
		return p, r.end()
	}
}

// loose reads what is not stored: answers around answers, and errors.
func loose(data []byte) reader {
	return newReader(data, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
}

// parseBatch parses the answer to a batch of n parts, whose ids are 0 to n-1, in
// any order. A part that was not answered is nil. It fails when the answer is cut,
// or answers a part twice or one that was not sent.
func parseBatch(data []byte, n int) ([]*answer, error) {
	answers := make([]*answer, n)
	r := loose(data)
	_, err := r.object(func(name []byte) error {
		if string(name) != "responses" {
			return r.SkipValue()
		}
		return r.array(func() error {
			index, a, err := r.part()
			if err != nil {
				return err
			}
			if index < 0 || index >= n || answers[index] != nil {
				return errShape
			}
			answers[index] = a
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	return answers, r.end()
}

// part reads the answer to one part of a batch.
func (r reader) part() (int, *answer, error) {
	index := -1
	a := &answer{header: make(http.Header)}
	_, err := r.object(func(name []byte) error {
		switch string(name) {
		case "id":
			text, err := r.text(true)
			if err != nil {
				return err
			}
			if index, err = strconv.Atoi(text); err != nil {
				return errShape
			}
			return nil
		case "status":
			v, err := r.value()
			if err != nil {
				return err
			}
			if a.status, err = strconv.Atoi(string(v)); err != nil {
				return errShape
			}
			return nil
		case "headers":
			if r.PeekKind() != '{' {
				return r.SkipValue()
			}
			_, err := r.object(func(name []byte) error {
				key := string(name)
				text, err := r.text(true)
				a.header.Set(key, text)
				return err
			})
			return err
		case "body":
			var err error
			a.body, err = r.value()
			return err
		default:
			return r.SkipValue()
		}
	})
	if err == nil && (a.status < 100 || a.status > 599) {
		err = errShape
	}
	return index, a, err
}

// member is a property to put into an object.
type member struct {
	name string
	raw  []byte
}

// withMembers returns an object with more properties. Those that it has already
// under these names are left out with what is said of them, when clash says that there
// are any.
func withMembers(e entry, members []member) ([]byte, error) {
	if len(members) == 0 {
		return e.raw, nil
	}
	base := e.raw
	if e.clash {
		var err error
		if base, err = without(e.raw, members); err != nil {
			return nil, err
		}
	}
	size := len(base)
	for _, m := range members {
		size += len(m.name) + len(m.raw) + 4
	}
	out := make([]byte, 0, size)
	out = append(out, bytes.TrimRight(base[:len(base)-1], " \t\r\n")...)
	for _, m := range members {
		if out[len(out)-1] != '{' {
			out = append(out, ',')
		}
		out = appendString(out, m.name)
		out = append(out, ':')
		out = append(out, m.raw...)
	}
	return append(out, '}'), nil
}

func without(object []byte, members []member) ([]byte, error) {
	out := append(make([]byte, 0, len(object)), '{')
	r := newReader(object)
	_, err := r.object(func(name []byte) error {
		value, err := r.value()
		if err != nil {
			return err
		}
		for _, m := range members {
			if isOf(name, m.name) {
				return nil
			}
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = appendString(out, string(name))
		out = append(append(out, ':'), value...)
		return nil
	})
	return append(out, '}'), err
}
