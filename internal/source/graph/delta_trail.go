package graph

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"sync"

	"github.com/go-json-experiment/json/jsontext"

	"understudy.internal/internal/catalog"
)

// trail notes of each item what the next reading compares with: a fingerprint of
// the children that delta queries do not cover. A nil trail notes nothing.
type trail struct {
	uncovered []catalog.Child
	volatile  map[string]bool
	// sets are the paths of the arrays whose order means nothing.
	sets [][]string

	mu    sync.Mutex
	items map[string]string
}

func newTrail(t *catalog.Type) *trail {
	made := &trail{uncovered: t.Uncovered(), volatile: volatileNames(t), items: make(map[string]string)}
	for _, rule := range t.Arrays {
		if path, err := catalog.ParsePropertyPath(rule.Path); err == nil { // the catalog has no other
			made.sets = append(made.sets, path)
		}
	}
	return made
}

// volatileNames are the names of properties that mean nothing at any depth.
func volatileNames(t *catalog.Type) map[string]bool {
	names := make(map[string]bool)
	for _, path := range t.AllVolatile() {
		name, anywhere := strings.CutPrefix(path, "**/")
		if anywhere && !strings.Contains(name, "/") {
			names[name] = true
		}
	}
	return names
}

// given notes that an item was given to the sink.
func (t *trail) given(id string) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.items[id]; !ok {
		t.items[id] = ""
	}
}

// children notes the children of an item.
func (t *trail) children(id string, members []member) {
	if t == nil {
		return
	}
	print := t.fingerprint(members)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.items[id] = print
}

// fingerprint names what the uncovered children hold: the same for the same
// content with properties, and the elements of sets, in another order, and without
// what is volatile. Content that means the same may have different ones all the
// same; the item is then read for nothing. It is empty when no child is uncovered.
func (t *trail) fingerprint(members []member) string {
	if len(t.uncovered) == 0 {
		return ""
	}
	sum := sha256.New()
	for _, m := range members {
		if !slices.ContainsFunc(t.uncovered, func(c catalog.Child) bool { return c.Name == m.name }) {
			continue
		}
		sum.Write([]byte(m.name + "\x00"))
		sum.Write(t.plain(m.raw, []string{m.name}))
		sum.Write([]byte{0})
	}
	return hex.EncodeToString(sum.Sum(nil)[:16])
}

// plain returns a value, at a path, in a form of its own: without volatile
// properties, the others sorted, and sets sorted by the text of their elements.
// Numbers and strings stay as they were sent.
func (t *trail) plain(raw []byte, path []string) []byte {
	r := newReader(raw)
	var parts [][]byte
	switch jsontext.Value(raw).Kind() {
	case '{':
		_, err := r.object(func(name []byte) error {
			value, err := r.value()
			if err == nil && !t.volatile[string(name)] {
				below := append(path[:len(path):len(path)], string(name))
				parts = append(parts, append(append(appendString(nil, string(name)), ':'), t.plain(value, below)...))
			}
			return err
		})
		if err != nil {
			return raw
		}
		slices.SortFunc(parts, bytes.Compare)
		return joined('{', parts, '}')
	case '[':
		below := append(path[:len(path):len(path)], catalog.AnyOne)
		err := r.array(func() error {
			value, err := r.value()
			if err == nil {
				parts = append(parts, t.plain(value, below))
			}
			return err
		})
		if err != nil {
			return raw
		}
		if t.isSet(path) {
			slices.SortFunc(parts, bytes.Compare)
		}
		return joined('[', parts, ']')
	default:
		return raw
	}
}

// isSet says whether a rule of the catalog names a path. Rules for any depth are
// not looked at: what they sort counts as changed when its order does.
func (t *trail) isSet(path []string) bool {
	return slices.ContainsFunc(t.sets, func(rule []string) bool {
		return slices.EqualFunc(rule, path, func(a, b string) bool { return a == b || a == catalog.AnyOne })
	})
}

func joined(begin byte, parts [][]byte, end byte) []byte {
	out := append([]byte{begin}, bytes.Join(parts, []byte{','})...)
	return append(out, end)
}
