package catalog

import (
	"fmt"
	"slices"
	"strings"

	"understudy.internal/internal/alike"
)

// UnknownPatternError says that a pattern names no configuration type.
type UnknownPatternError struct {
	// Index is the place of the pattern in the list, from 0.
	Index int
	// Pattern is the pattern.
	Pattern string
	// Suggestions are up to three patterns that are alike, the most alike first.
	Suggestions []string
}

// Error implements error.
func (e *UnknownPatternError) Error() string {
	text := fmt.Sprintf("%q names no configuration type", e.Pattern)
	if len(e.Suggestions) > 0 {
		text += "; did you mean " + strings.Join(e.Suggestions, " or ") + "?"
	}
	return text
}

// Select returns the types that patterns name, ordered by id, each once. A
// pattern is an id, all types of a workload (`intune/*`) or all types (`*`). No
// patterns select nothing. It fails for the first pattern that names nothing, with
// an [*UnknownPatternError], or nothing that is left, with an [*ExcludedError].
func (c *Catalog) Select(patterns []string) ([]*Type, error) {
	chosen := make(map[string]bool)
	for i, pattern := range patterns {
		found := false
		for _, t := range c.types {
			if t.isNamedBy(pattern) {
				chosen[t.ID], found = true, true
			}
		}
		if !found && slices.ContainsFunc(c.excluded, func(t *Type) bool { return t.isNamedBy(pattern) }) {
			return nil, &ExcludedError{Index: i, Pattern: pattern}
		}
		if !found {
			return nil, &UnknownPatternError{Index: i, Pattern: pattern, Suggestions: c.alike(pattern)}
		}
	}
	selected := make([]*Type, 0, len(chosen))
	for _, t := range c.types {
		if chosen[t.ID] {
			selected = append(selected, t)
		}
	}
	return selected, nil
}

// isNamedBy says whether a pattern names the type.
func (t *Type) isNamedBy(pattern string) bool {
	return pattern == "*" || pattern == t.ID || pattern == t.Workload()+"/*"
}

// alike returns the patterns that are most like another one.
func (c *Catalog) alike(pattern string) []string {
	var patterns []string
	for i, t := range c.types {
		if i == 0 || t.Workload() != c.types[i-1].Workload() {
			patterns = append(patterns, t.Workload()+"/*")
		}
		patterns = append(patterns, t.ID)
	}
	return alike.Closest(pattern, patterns)
}
