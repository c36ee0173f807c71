package simulator

import (
	"slices"
	"strings"
	"testing"
)

// TestAdditions: every line of the table is a comment or a path, and no path is there
// twice.
func TestAdditions(t *testing.T) {
	t.Parallel()
	seen := map[addition]bool{}
	for line := range strings.Lines(additionTable) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		cells := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(cells) != 3 || !slices.Contains([]string{"v1.0", "beta"}, cells[0]) ||
			!strings.HasPrefix(cells[1], "/") || !slices.Contains([]string{"collection", "object"}, cells[2]) {
			t.Errorf("additions.tsv: %q is no version, path and kind", line)
		}
	}
	for _, a := range additions() {
		if seen[a] {
			t.Errorf("additions.tsv has %s %s twice", a.version, a.path)
		}
		seen[a] = true
	}
	if len(seen) < 10 {
		t.Errorf("%d additions, want at least 10", len(seen))
	}
}
