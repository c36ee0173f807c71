package vault

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"

	"understudy.internal/internal/catalog"
)

// action is what happens to a property.
type action uint8

const (
	keep action = iota
	drop
	fingerprint
	order
)

// rules are the normalization rules of one configuration type, as an automaton: a
// node is a place in a document, a step a property name or array element.
type rules struct {
	key  []byte
	root *place
}

// place is a set of positions in property paths that match where the encoder is.
type place struct {
	patterns []pattern
	// next caches where a property leads. Documents repeat their property names.
	action action
	sortBy []string
}

// pattern is a property path, or what is left of it.
type pattern struct {
	segments []string
	action   action
	sortBy   []string
}

// newRules compiles the rules of a type. Its paths are valid: the catalog checks
// them.
func newRules(t *catalog.Type, key []byte) (*rules, error) {
	var patterns []pattern
	add := func(paths []string, a action) error {
		for _, path := range paths {
			segments, err := catalog.ParsePropertyPath(path)
			if err != nil {
				return err
			}
			patterns = append(patterns, pattern{segments: segments, action: a})
		}
		return nil
	}
	if err := add(t.AllVolatile(), drop); err != nil {
		return nil, err
	}
	if err := add(t.Secrets, fingerprint); err != nil {
		return nil, err
	}
	for _, rule := range t.Arrays {
		segments, err := catalog.ParsePropertyPath(rule.Path)
		if err != nil {
			return nil, err
		}
		var by []string
		if rule.Key != "" {
			if by, err = catalog.ParsePropertyPath(rule.Key); err != nil {
				return nil, err
			}
		}
		patterns = append(patterns, pattern{segments: segments, action: order, sortBy: by})
	}
	return &rules{key: key, root: &place{patterns: expand(patterns)}}, nil
}

// expand adds, for each pattern that begins with `**`, the pattern without it.
func expand(patterns []pattern) []pattern {
	for i := 0; i < len(patterns); i++ {
		if p := patterns[i]; len(p.segments) > 0 && p.segments[0] == catalog.AnyDepth {
			rest := p
			rest.segments = p.segments[1:]
			patterns = append(patterns, rest)
		}
	}
	return patterns
}

// step returns the place below a property or, for an array element, below "". It
// returns nil where no pattern leads, which is almost everywhere.
func (p *place) step(name string, element bool) *place {
	if p == nil {
		return nil
	}
	var next []pattern
	below := &place{}
	for _, pattern := range p.patterns {
		if len(pattern.segments) == 0 {
			continue
		}
		first := pattern.segments[0]
		switch {
		case first == catalog.AnyDepth:
			next = append(next, pattern)
		case first == catalog.AnyOne || (!element && first == name):
			rest := pattern
			rest.segments = pattern.segments[1:]
			if len(rest.segments) == 0 {
				// Dropping wins over a fingerprint, a fingerprint over order.
				if below.action == keep || rest.action < below.action {
					below.action, below.sortBy = rest.action, rest.sortBy
				}
				continue
			}
			next = append(next, rest)
		}
	}
	if len(next) == 0 && below.action == keep {
		return nil
	}
	below.patterns = expand(next)
	return below
}

// secret returns what is stored in place of a secret: a keyed fingerprint of its
// canonical bytes, so that a change shows and the value does not. The key is named
// by the begin of its own hash, so that a rotation can be told from a change.
func (r *rules) secret(canonical []byte) string {
	mac := hmac.New(sha256.New, r.key)
	mac.Write(canonical)
	id := sha256.Sum256(r.key)
	return "hmac-sha256:" + hex.EncodeToString(id[:4]) + ":" + hex.EncodeToString(mac.Sum(nil))
}

