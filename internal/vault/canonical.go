package vault

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"understudy.internal/internal/port"
)

// Limits of a document. Graph's are far smaller.
const (
	maxDocument = 32 << 20
	maxDepth    = 200
)

// node is a value of a document.
type node struct {
	// raw is the canonical text of a string, number or literal.
	raw []byte
	// kind is `{`, `[` or that of raw.
	kind jsontext.Kind
	// names are the names of an object's members, decoded.
	names []string
	nodes []*node
}

// canonical returns the bytes that are stored for a document: names sorted, numbers
// as they were sent, what the rules drop dropped, what they hide hidden, arrays
// without order sorted, two spaces a level, LF at the end. The same content gives
// the same bytes. Duplicate names, broken UTF-8 and anything after the document
// are a [*port.ItemError].
func (r *rules) canonical(document []byte) ([]byte, error) {
	if len(document) > maxDocument {
		return nil, &port.ItemError{Detail: fmt.Sprintf("it has more than %d bytes", maxDocument)}
	}
	decoder := jsontext.NewDecoder(bytes.NewReader(document))
	root, err := r.decode(decoder, r.root, 0)
	if err != nil {
		return nil, itemError(err)
	}
	if _, err := decoder.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, &port.ItemError{Detail: "there is something after the document"}
	}
	out := root.append(make([]byte, 0, len(document)*5/4+64), 0)
	return append(out, '\n'), nil
}

// itemError says what is wrong with a document, without content of it.
func itemError(err error) error {
	detail := "it is not valid JSON"
	var item *port.ItemError
	switch {
	case errors.As(err, &item):
		return item
	case errors.Is(err, jsontext.ErrDuplicateName):
		detail = "an object has two members of one name"
	case errors.Is(err, io.ErrUnexpectedEOF):
		detail = "it is cut off"
	}
	return &port.ItemError{Detail: detail}
}

func (r *rules) decode(decoder *jsontext.Decoder, at *place, depth int) (*node, error) {
	if depth > maxDepth {
		return nil, &port.ItemError{Detail: fmt.Sprintf("it is nested more than %d levels deep", maxDepth)}
	}
	switch kind := decoder.PeekKind(); kind {
	case '{':
		return r.decodeObject(decoder, at, depth)
	case '[':
		return r.decodeArray(decoder, at, depth)
	default:
		value, err := decoder.ReadValue()
		if err != nil {
			return nil, err
		}
		raw := bytes.Clone(value)
		if kind == '"' {
			// One spelling for each string, whatever escapes it came with.
			text, err := jsontext.AppendUnquote(nil, raw)
			if err != nil {
				return nil, err
			}
			if raw, err = jsontext.AppendQuote(nil, text); err != nil {
				return nil, err
			}
		}
		return &node{raw: raw, kind: kind}, nil
	}
}

func (r *rules) decodeObject(decoder *jsontext.Decoder, at *place, depth int) (*node, error) {
	if _, err := decoder.ReadToken(); err != nil {
		return nil, err
	}
	object := &node{kind: '{'}
	for decoder.PeekKind() != '}' {
		token, err := decoder.ReadToken()
		if err != nil {
			return nil, err
		}
		name := token.String()
		below := at.step(name, false)
		if below != nil && below.action == drop {
			if err := decoder.SkipValue(); err != nil {
				return nil, err
			}
			continue
		}
		value, err := r.decode(decoder, below, depth+1)
		if err != nil {
			return nil, err
		}
		if value, err = r.apply(value, below); err != nil {
			return nil, err
		}
		object.names, object.nodes = append(object.names, name), append(object.nodes, value)
	}
	if _, err := decoder.ReadToken(); err != nil {
		return nil, err
	}
	object.sort()
	return object, nil
}

func (r *rules) decodeArray(decoder *jsontext.Decoder, at *place, depth int) (*node, error) {
	if _, err := decoder.ReadToken(); err != nil {
		return nil, err
	}
	array := &node{kind: '['}
	below := at.step("", true)
	for decoder.PeekKind() != ']' {
		value, err := r.decode(decoder, below, depth+1)
		if err != nil {
			return nil, err
		}
		if below != nil && below.action == drop {
			continue
		}
		if value, err = r.apply(value, below); err != nil {
			return nil, err
		}
		array.nodes = append(array.nodes, value)
	}
	if _, err := decoder.ReadToken(); err != nil {
		return nil, err
	}
	return array, nil
}

// apply hides or orders a value.
func (r *rules) apply(value *node, at *place) (*node, error) {
	if at == nil {
		return value, nil
	}
	switch at.action {
	case fingerprint:
		if value.empty() {
			return value, nil
		}
		quoted, err := jsontext.AppendQuote(nil, r.secret(value.append(nil, 0)))
		return &node{raw: quoted, kind: '"'}, err
	case order:
		if value.kind == '[' {
			value.order(at.sortBy)
		}
	}
	return value, nil
}

// empty says whether there is no secret in a value.
func (n *node) empty() bool {
	return n.kind == 'n' || (n.kind == '"' && len(n.raw) == 2) || (n.kind == '[' && len(n.nodes) == 0) ||
		(n.kind == '{' && len(n.nodes) == 0)
}

func (n *node) sort() {
	sorted := true
	for i := 1; i < len(n.names); i++ {
		if n.names[i-1] >= n.names[i] {
			sorted = false
			break
		}
	}
	if sorted {
		return
	}
	by := make([]int, len(n.names))
	for i := range by {
		by[i] = i
	}
	slices.SortFunc(by, func(a, b int) int { return cmp.Compare(n.names[a], n.names[b]) })
	names, nodes := make([]string, len(by)), make([]*node, len(by))
	for to, from := range by {
		names[to], nodes[to] = n.names[from], n.nodes[from]
	}
	n.names, n.nodes = names, nodes
}

// order sorts an array by a property of its elements, then by their bytes.
func (n *node) order(by []string) {
	type keyed struct {
		key, text []byte
		node      *node
	}
	elements := make([]keyed, len(n.nodes))
	for i, element := range n.nodes {
		elements[i] = keyed{text: element.append(nil, 0), node: element}
		if found := element.find(by); found != nil {
			elements[i].key = found.append(nil, 0)
		}
	}
	slices.SortStableFunc(elements, func(a, b keyed) int {
		return cmp.Or(bytes.Compare(a.key, b.key), bytes.Compare(a.text, b.text))
	})
	for i := range elements {
		n.nodes[i] = elements[i].node
	}
}

// find returns the property at a path, or nil.
func (n *node) find(path []string) *node {
	for _, name := range path {
		i := slices.Index(n.names, name)
		if i < 0 {
			return nil
		}
		n = n.nodes[i]
	}
	return n
}

const indentation = "  "

// append writes the value, as a person reads it.
func (n *node) append(out []byte, level int) []byte {
	switch n.kind {
	case '{', '[':
		closing := byte('}')
		if n.kind == '[' {
			closing = ']'
		}
		out = append(out, byte(n.kind))
		for i, child := range n.nodes {
			if i > 0 {
				out = append(out, ',')
			}
			out = newLine(out, level+1)
			if n.kind == '{' {
				out, _ = jsontext.AppendQuote(out, n.names[i]) // valid UTF-8: the decoder saw to it
				out = append(out, ':', ' ')
			}
			out = child.append(out, level+1)
		}
		if len(n.nodes) > 0 {
			out = newLine(out, level)
		}
		return append(out, closing)
	}
	return append(out, n.raw...)
}

func newLine(out []byte, level int) []byte {
	out = append(out, '\n')
	for range level {
		out = append(out, indentation...)
	}
	return out
}
