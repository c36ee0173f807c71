// Package alike finds the names that a mistyped one may have meant: for "did you
// mean" in errors.
package alike

import (
	"cmp"
	"slices"
	"strings"
)

// longest is the longest name, in bytes, for which suggestions are looked for;
// their cost grows with its length.
const longest = 200

// suggestions is how many names are suggested at most.
const suggestions = 3

// Closest returns up to three of names that are most like wanted, the most alike
// first; none when nothing is alike. Case in wanted does not count: names are
// expected in lower case. A name that contains wanted is alike.
func Closest(wanted string, names []string) []string {
	if len(wanted) > longest {
		return nil
	}
	type candidate struct {
		name  string
		edits int
	}
	var candidates []candidate
	wanted = strings.ToLower(wanted)
	for _, name := range names {
		edits := Distance(wanted, name)
		if len(wanted) > 3 && strings.Contains(name, wanted) {
			edits = min(edits, 1)
		}
		if edits <= 2+len(name)/4 {
			candidates = append(candidates, candidate{name, edits})
		}
	}
	slices.SortStableFunc(candidates, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.edits, b.edits), cmp.Compare(a.name, b.name))
	})
	var closest []string
	for _, c := range candidates[:min(len(candidates), suggestions)] {
		if c.edits > candidates[0].edits+1 {
			break // much less alike than the first
		}
		closest = append(closest, c.name)
	}
	return closest
}

// Distance is the number of bytes to insert, delete or replace that turn one
// text into another (Levenshtein).
func Distance(a, b string) int {
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
