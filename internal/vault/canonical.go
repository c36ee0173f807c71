package vault

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
)

// Limits of a document. Graph's are far smaller.
const (
	maxDocument = 32 << 20
	maxDepth    = 200
)

// canonical returns the bytes that are stored for a document: names sorted by
// their UTF-8 bytes, numbers as they were sent, what the rules drop dropped, what
// they hide hidden, arrays without order sorted, two spaces a level, LF at the end.
// The same content gives the same bytes. Duplicate names, broken UTF-8 and anything
// after the document are a [*port.ItemError]. It may be called at the same time.
func (r *rules) canonical(document []byte) ([]byte, error) {
	d, err := r.document(document, wanted{})
	return d.content, err
}

// document is canonical, with what else is wanted.
func (r *rules) document(text []byte, want wanted) (d document, err error) {
	if len(text) > maxDocument {
		return d, &port.ItemError{Detail: fmt.Sprintf("it has more than %d bytes", maxDocument)}
	}
	e := encoders.get()
	defer e.release()
	e.document, e.rules, e.stored = text, r, want.stored
	e.decoder.Reset(bytes.NewBuffer(text), jsontext.AllowDuplicateNames(true)) // sorted names show them
	root, err := e.decode(r.root, 0)
	if err != nil {
		return d, itemError(err)
	}
	if _, err := e.decoder.ReadToken(); !errors.Is(err, io.EOF) {
		return d, &port.ItemError{Detail: "there is something after the document"}
	}
	d.content = append(e.append(make([]byte, 0, len(text)*3/2+64), root, 0), '\n')
	d.hidden = e.hidden
	if want.secrets && e.hidden > 0 {
		d.secrets = e.reveal(root)
	}
	if want.payloads {
		d.payloads = e.payloads(root)
	}
	return d, nil
}

// errDuplicateName says that an object has two members of one name.
var errDuplicateName = &port.ItemError{Detail: "an object has two members of one name"}

// itemError says what is wrong with a document, without content of it.
func itemError(err error) error {
	var item *port.ItemError
	switch {
	case errors.As(err, &item):
		return item
	case errors.Is(err, io.ErrUnexpectedEOF):
		return &port.ItemError{Detail: "it is cut off"}
	}
	return &port.ItemError{Detail: "it is not valid JSON"}
}

// node is a value of a document.
type node struct {
	// kind is `{`, `[` or that of raw.
	kind jsontext.Kind
	// raw is the canonical text of a string, number or literal.
	raw []byte
	// first and count say which of the encoder's members are the children.
	first, count int
	// plain is one more than the node that a fingerprint hides; 0: it is none.
	plain int
}

// member is a child of an object or array.
type member struct {
	// name is decoded, quoted its canonical text; both nil in an array.
	name, quoted []byte
	node         int
	// dropped members are there only to find duplicate names.
	dropped bool
}

// encoder is the memory that one document needs; it is used again for the next.
type encoder struct {
	document []byte
	rules    *rules
	decoder  *jsontext.Decoder
	nodes    []node
	members  []member
	// open are the members of containers that are not closed yet.
	open []member
	// spare is text that does not stand in the document as it is stored.
	spare []byte
	// stored are fingerprints that are kept, see [wanted].
	stored map[string]struct{}
	// hidden counts fingerprints. While revealing, append writes what they hide.
	hidden    int
	revealing bool
}

var encoders = newFreeList(func() *encoder {
	return &encoder{decoder: jsontext.NewDecoder(bytes.NewReader(nil))}
})

// maxKept is how many nodes an idle encoder may hold on to.
const maxKept = 1 << 16

func (e *encoder) release() {
	if cap(e.nodes) > maxKept || cap(e.spare) > maxKept {
		return
	}
	clear(e.nodes)
	clear(e.members)
	clear(e.open[:cap(e.open)])
	e.decoder.Reset(bytes.NewReader(nil))
	*e = encoder{decoder: e.decoder, nodes: e.nodes[:0], members: e.members[:0], open: e.open[:0], spare: e.spare[:0]}
	encoders.put(e)
}

func (e *encoder) add(n node) int {
	e.nodes = append(e.nodes, n)
	return len(e.nodes) - 1
}

// value reads a string, number or literal and returns where it is in the document.
func (e *encoder) value() ([]byte, error) {
	value, err := e.decoder.ReadValue()
	if err != nil {
		return nil, err
	}
	end := int(e.decoder.InputOffset())
	return e.document[end-len(value) : end], nil
}

// decode reads a value, and returns its node.
func (e *encoder) decode(at *place, depth int) (int, error) {
	if depth > maxDepth {
		return 0, &port.ItemError{Detail: fmt.Sprintf("it is nested more than %d levels deep", maxDepth)}
	}
	switch kind := e.decoder.PeekKind(); kind {
	case '{', '[':
		return e.decodeContainer(kind, at, depth)
	case '"':
		raw, err := e.value()
		if err != nil {
			return 0, err
		}
		_, raw, err = e.unescape(raw)
		return e.add(node{kind: kind, raw: raw}), err
	default:
		raw, err := e.value()
		return e.add(node{kind: kind, raw: raw}), err
	}
}

// unescape returns a string decoded, and in its canonical spelling: one for each
// string, whatever escapes it came with.
func (e *encoder) unescape(raw []byte) (decoded, quoted []byte, err error) {
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1], raw, nil
	}
	start := len(e.spare)
	if e.spare, err = jsontext.AppendUnquote(e.spare, raw); err != nil {
		return nil, nil, err
	}
	middle := len(e.spare)
	decoded = e.spare[start:middle:middle]
	if e.spare, err = jsontext.AppendQuote(e.spare, decoded); err != nil {
		return nil, nil, err
	}
	return decoded, e.spare[middle:len(e.spare):len(e.spare)], nil
}

func (e *encoder) decodeContainer(kind jsontext.Kind, at *place, depth int) (int, error) {
	if _, err := e.decoder.ReadToken(); err != nil {
		return 0, err
	}
	closing := jsontext.Kind('}')
	if kind == '[' {
		closing = ']'
	}
	begin := len(e.open)
	for e.decoder.PeekKind() != closing {
		next, err := e.decodeMember(kind, at, depth)
		if err != nil {
			return 0, err
		}
		e.open = append(e.open, next)
	}
	if _, err := e.decoder.ReadToken(); err != nil {
		return 0, err
	}
	children := e.open[begin:]
	if kind == '{' && !sortMembers(children) {
		return 0, errDuplicateName
	}
	if kind == '{' && at != nil && at.typed {
		if err := e.hideTyped(children, at); err != nil {
			return 0, err
		}
	}
	n := node{kind: kind, first: len(e.members)}
	for _, child := range children {
		if !child.dropped {
			e.members = append(e.members, child)
		}
	}
	n.count = len(e.members) - n.first
	e.open = e.open[:begin]
	return e.add(n), nil
}

func (e *encoder) decodeMember(kind jsontext.Kind, at *place, depth int) (next member, err error) {
	below := at.ofElement()
	if kind == '{' {
		raw, err := e.value()
		if err != nil {
			return next, err
		}
		if len(raw) == 0 || raw[0] != '"' {
			return next, errors.New("a name is not a string")
		}
		if next.name, next.quoted, err = e.unescape(raw); err != nil {
			return next, err
		}
		next.dropped = catalog.IsAnnotation(next.name)
		below = at.ofProperty(next.name)
	}
	if next.dropped || (below != nil && below.action == drop) {
		next.dropped = true
		return next, e.decoder.SkipValue()
	}
	if next.node, err = e.decode(below, depth+1); err != nil || below == nil {
		return next, err
	}
	next.node, err = e.apply(next.node, below)
	return next, err
}

// hideTyped hides the members of an object that are secrets because of its type, or of
// its other members. They are sorted: the type is wherever it came.
func (e *encoder) hideTyped(members []member, at *place) (err error) {
	find := func(name string) (int, bool) {
		return slices.BinarySearchFunc(members, name, func(m member, name string) int { return strings.Compare(string(m.name), name) })
	}
	has := func(name string) bool { _, ok := find(name); return ok }
	ofType := ""
	if i, ok := find(odataType); ok && !members[i].dropped {
		ofType = strings.TrimPrefix(e.string(members[i].node), "#")
	}
	for i := range members {
		m := &members[i]
		below := at.ofProperty(m.name)
		if m.dropped || !below.isTyped() || below.action == fingerprint ||
			!slices.Contains(below.secretWhen, ofType) && !slices.ContainsFunc(below.secretBeside, has) {
			continue
		}
		if m.node, err = e.hide(m.node); err != nil {
			return err
		}
	}
	return nil
}

// odataType is the property that says what an object is.
const odataType = "@odata.type"

// hide puts a fingerprint in the place of a value.
func (e *encoder) hide(value int) (int, error) {
	if e.nodes[value].empty() {
		return value, nil
	}
	quoted, err := jsontext.AppendQuote(nil, e.rules.keptSecret(e.append(nil, value, 0), e.stored))
	e.hidden++
	return e.add(node{kind: '"', raw: quoted, plain: value + 1}), err
}

// apply hides or orders a value.
func (e *encoder) apply(value int, at *place) (int, error) {
	switch n := e.nodes[value]; {
	case at.action == fingerprint:
		return e.hide(value)
	case at.action == order && n.kind == '[':
		e.order(n, at.sortBy)
	}
	return value, nil
}

// empty says whether there is no secret in a value.
func (n node) empty() bool {
	switch n.kind {
	case 'n':
		return true
	case '"':
		return len(n.raw) == 2
	case '[', '{':
		return n.count == 0
	}
	return false
}

const indentation = "  "

// append writes a value, as a person reads it.
func (e *encoder) append(out []byte, value, level int) []byte {
	n := e.nodes[value]
	for e.revealing && n.plain > 0 {
		n = e.nodes[n.plain-1]
	}
	if n.kind != '{' && n.kind != '[' {
		return append(out, n.raw...)
	}
	out = append(out, byte(n.kind))
	for i, child := range e.members[n.first : n.first+n.count] {
		if i > 0 {
			out = append(out, ',')
		}
		out = newLine(out, level+1)
		if n.kind == '{' {
			out = append(append(out, child.quoted...), ':', ' ')
		}
		out = e.append(out, child.node, level+1)
	}
	if n.count > 0 {
		out = newLine(out, level)
	}
	if n.kind == '{' {
		return append(out, '}')
	}
	return append(out, ']')
}

// spaces is the indentation of the first levels, which are nearly all.
const spaces = "\n                                "

func newLine(out []byte, level int) []byte {
	if n := 1 + level*len(indentation); n <= len(spaces) {
		return append(out, spaces[:n]...)
	}
	out = append(out, '\n')
	for range level {
		out = append(out, indentation...)
	}
	return out
}
