package catalog

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
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
// patterns select nothing. It fails with an [*UnknownPatternError] for the first
// pattern that names nothing.
func (c *Catalog) Select(patterns []string) ([]*Type, error) {
	chosen := make(map[string]bool)
	for i, pattern := range patterns {
		found := false
		for _, t := range c.types {
			if pattern == "*" || pattern == t.ID || pattern == t.Workload()+"/*" {
				chosen[t.ID], found = true, true
			}
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

// maxPattern is the longest pattern for which suggestions are looked for; their
// cost grows with its length.
const maxPattern = 200

// alike returns the patterns that are most like another one.
func (c *Catalog) alike(pattern string) []string {
	if len(pattern) > maxPattern {
		return nil
	}
	type candidate struct {
		pattern string
		edits   int
	}
	var candidates []candidate
	wanted := strings.ToLower(pattern)
	consider := func(other string) {
		edits := distance(wanted, other)
		if len(wanted) > 3 && strings.Contains(other, wanted) {
			edits = min(edits, 1)
		}
		if edits <= 2+len(other)/4 {
			candidates = append(candidates, candidate{other, edits})
		}
	}
	workloads := make(map[string]bool)
	for _, t := range c.types {
		consider(t.ID)
		if !workloads[t.Workload()] {
			workloads[t.Workload()] = true
			consider(t.Workload() + "/*")
		}
	}
	slices.SortStableFunc(candidates, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.edits, b.edits), cmp.Compare(a.pattern, b.pattern))
	})
	var suggestions []string
	for _, candidate := range candidates[:min(len(candidates), 3)] {
		if candidate.edits > candidates[0].edits+1 {
			break // much less alike than the first
		}
		suggestions = append(suggestions, candidate.pattern)
	}
	return suggestions
}

// distance is the number of bytes to insert, delete or replace that turn one
// text into another (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
