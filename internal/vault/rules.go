package vault

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"understudy.internal/internal/catalog"
)

// action is what happens to a property. Of two that apply to one property the
// lower one wins, keep excepted: what is dropped needs no fingerprint, what is
// hidden no order.
type action uint8

const (
	keep action = iota
	drop
	fingerprint
	order
)

// rules are the normalization rules of one configuration type, as an automaton:
// one look-up per property, whatever the number of paths. They are not changed
// after they are made.
type rules struct {
	key []byte
	// previous are the keys before, whose fingerprints are kept where they are.
	previous [][]byte
	root     *place
	payloads []payloadRule
}

// place is a state of the automaton: where a reader of the document is. Nil is the
// place below which no rule applies, which is almost everywhere.
type place struct {
	action action
	sortBy []string
	// secretWhen are the types, without `#`, of the objects in which a property that
	// leads here is hidden, secretBeside properties that such an object may have instead.
	// In an object such a property may be found: typed.
	secretWhen, secretBeside []string
	typed                    bool
	// named says where the properties lead that a path names, other where every
	// other property does, element where an array's elements do.
	named   map[string]*place
	other   *place
	element *place
}

func (p *place) ofProperty(name []byte) *place {
	if p == nil {
		return nil
	}
	if next, ok := p.named[string(name)]; ok {
		return next
	}
	return p.other
}

func (p *place) ofElement() *place {
	if p == nil {
		return nil
	}
	return p.element
}

// isTyped says whether what leads here is a secret in some objects.
func (p *place) isTyped() bool { return p != nil && len(p.secretWhen)+len(p.secretBeside) > 0 }

// pattern is a property path with what it asks for.
type pattern struct {
	segments []string
	action   action
	sortBy   []string
	// when are the types of the objects that it is for, with `#`, or properties that they
	// have; empty: all.
	when []string
}

// newRules compiles the rules of a type. It fails for a path that is not one,
// which the catalog does not have.
func newRules(t *catalog.Type, key []byte) (*rules, error) {
	c := compiler{places: map[string]*place{}}
	for _, path := range t.AllVolatile() {
		if err := c.add(path, pattern{action: drop}, ""); err != nil {
			return nil, err
		}
	}
	for _, rule := range t.Secrets {
		if err := c.add(rule.Property, pattern{action: fingerprint, when: rule.When}, ""); err != nil {
			return nil, err
		}
	}
	for _, rule := range t.Arrays {
		if err := c.add(rule.Path, pattern{action: order}, rule.Key); err != nil {
			return nil, err
		}
	}
	var start []position
	for i := range c.patterns {
		start = append(start, position{pattern: i})
	}
	compiled := &rules{key: key, root: c.place(start, completed{-1, nil})}
	for _, rule := range t.Payloads {
		segments, err := catalog.ParsePropertyPath(rule.Property)
		if err != nil {
			return nil, err
		}
		compiled.payloads = append(compiled.payloads, payloadRule{segments, rule.When, rule.Extension, rule.FileName})
	}
	return compiled, nil
}

// compiler makes the automaton of a list of patterns.
type compiler struct {
	patterns []pattern
	places   map[string]*place
}

// position is how much of a pattern has been matched.
type position struct{ pattern, segment int }

// completed are the patterns that end at a place.
type completed struct {
	// rule is the one that applies, or -1.
	rule int
	// typed are those that apply to objects of some types.
	typed []int
}

func (c *compiler) add(path string, p pattern, key string) (err error) {
	if p.segments, err = catalog.ParsePropertyPath(path); err != nil {
		return err
	}
	if key != "" {
		if p.sortBy, err = catalog.ParsePropertyPath(key); err != nil {
			return err
		}
	}
	c.patterns = append(c.patterns, p)
	return nil
}

// place returns the state of a set of positions, with what ends there.
func (c *compiler) place(at []position, complete completed) *place {
	if len(at) == 0 && complete.rule < 0 && len(complete.typed) == 0 {
		return nil
	}
	// `**` stands for no level, too.
	for i := 0; i < len(at); i++ {
		after := position{at[i].pattern, at[i].segment + 1}
		if c.segment(at[i]) == catalog.AnyDepth && !slices.Contains(at, after) {
			at = append(at, after)
		}
	}
	slices.SortFunc(at, func(a, b position) int {
		return (a.pattern-b.pattern)*(1<<16) + a.segment - b.segment
	})
	key := fmt.Sprint(complete, at)
	if known, ok := c.places[key]; ok {
		return known
	}
	p := &place{named: map[string]*place{}}
	c.places[key] = p
	if complete.rule >= 0 {
		p.action, p.sortBy = c.patterns[complete.rule].action, c.patterns[complete.rule].sortBy
	}
	for _, i := range complete.typed {
		for _, name := range c.patterns[i].when {
			if ofType, ok := strings.CutPrefix(name, "#"); ok {
				p.secretWhen = append(p.secretWhen, ofType)
			} else {
				p.secretBeside = append(p.secretBeside, name)
			}
		}
	}
	for _, position := range at {
		if name := c.segment(position); name != catalog.AnyOne && name != catalog.AnyDepth {
			p.named[name] = nil
		}
	}
	for name := range p.named {
		p.named[name] = c.step(at, name)
	}
	p.other = c.step(at, "")
	p.element = p.other // wildcards stand for elements, too
	p.typed = p.other.isTyped()
	for _, next := range p.named {
		p.typed = p.typed || next.isTyped()
	}
	return p
}

func (c *compiler) segment(at position) string { return c.patterns[at.pattern].segments[at.segment] }

// step returns the state after a property that has a name, or after one that no
// path names.
func (c *compiler) step(at []position, name string) *place {
	var next []position
	complete := completed{rule: -1}
	for _, from := range at {
		segment := c.segment(from)
		if segment == catalog.AnyDepth {
			next = append(next, from)
			continue
		}
		if segment != catalog.AnyOne && (name == "" || segment != name) {
			continue
		}
		to := position{from.pattern, from.segment + 1}
		switch {
		case to.segment < len(c.patterns[to.pattern].segments):
			if !slices.Contains(next, to) {
				next = append(next, to)
			}
		case len(c.patterns[to.pattern].when) > 0:
			if !slices.Contains(complete.typed, to.pattern) {
				complete.typed = append(complete.typed, to.pattern)
			}
		case complete.rule < 0 || c.patterns[to.pattern].action < c.patterns[complete.rule].action:
			complete.rule = to.pattern
		}
	}
	return c.place(next, complete)
}

// fingerprintPrefix begins every fingerprint, so that one can be told from content.
const fingerprintPrefix = "hmac-sha256:"

// secret returns what is stored in place of a secret: a keyed fingerprint of its
// canonical bytes, so that a change shows and the value does not. The key is named
// by the begin of its own hash, so that a rotation can be told from a change.
func (r *rules) secret(canonical []byte) string { return keyedHash(r.key, canonical) }

// keptSecret is secret, or a fingerprint of the same value by a previous key where
// that is stored.
func (r *rules) keptSecret(canonical []byte, stored map[string]struct{}) string {
	now := r.secret(canonical)
	if _, ok := stored[now]; ok || len(stored) == 0 {
		return now
	}
	for _, key := range r.previous {
		before := keyedHash(key, canonical)
		if _, ok := stored[before]; ok {
			return before
		}
	}
	return now
}

func keyedHash(key, canonical []byte) string {
	mac := hmac.New(sha256.New, key)
	mac.Write(canonical)
	return fingerprintPrefix + keyName(key) + ":" + hex.EncodeToString(mac.Sum(nil))
}

// keyName names a key without giving it away.
func keyName(key []byte) string {
	id := sha256.Sum256(key)
	return hex.EncodeToString(id[:4])
}
