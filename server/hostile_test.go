package main

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// safePath is what every file of a backup is called, whatever the tenant's ids are:
// items, their indexes, and the scripts beside items.
var safePath = regexp.MustCompile(`^(coverage\.json|[a-z0-9-]+/[a-z0-9-]+/[A-Za-z0-9_~][A-Za-z0-9._~-]{0,200}\.(json|ps1))$`)

// TestHostileTenant backs up ids and names like `../../x`, `CON`, `.git/hooks/…`,
// 1,000 characters and pairs that differ in case only. All of them end as files with
// safe names, each its own, also where case does not count; git takes the tree and
// can check it out; a second sync changes nothing.
func TestHostileTenant(t *testing.T) {
	t.Parallel()
	h := newHarness(t, func(c *labConfig) { c.Hostile = true })
	first := h.mustSync("contoso", nil, nobody)
	if out := h.git("contoso", "fsck", "--full", "--strict"); strings.Contains(out, "error") {
		t.Errorf("git fsck: %s", out)
	}
	files := h.files("contoso")
	folded, documents := map[string]string{}, 0
	for path := range files {
		if filepath.Ext(path) == ".json" && filepath.Base(path) != "_names.json" {
			documents++
		}
		if !safePath.MatchString(path) {
			t.Errorf("%q is not a safe path", path)
		}
		lower := strings.ToLower(path)
		if other, ok := folded[lower]; ok {
			t.Errorf("%q and %q are one file where case does not count", path, other)
		}
		folded[lower] = path
	}
	items := 0
	for _, event := range first.durable {
		items += int(event.GetConfigurationCompleted().GetResult().GetItemCount())
	}
	indexes := len(harnessTypes)
	if documents != items+indexes+1 {
		t.Errorf("%d documents hold %d items, %d indexes and the coverage", documents, items, indexes)
	}
	h.git("contoso", "clone", "--quiet", h.lab.repository("contoso"), filepath.Join(t.TempDir(), "checkout"))

	again := h.mustSync("contoso", nil, nobody)
	if again.final.GetSnapshot().GetCreated() {
		t.Errorf("a second sync made a commit:\n%s", again.text())
	}
	h.leaksNothing()
}
