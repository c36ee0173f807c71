package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/simulator"
)

const (
	byDelta = understudyv1.ReadMode_READ_MODE_DELTA
	inFull  = understudyv1.ReadMode_READ_MODE_FULL
)

// groupsOf returns the result of entra/groups in a story.
func (h *harness) groupsOf(s *story) *understudyv1.ConfigurationResult {
	h.Helper()
	for _, event := range s.durable {
		if r := event.GetConfigurationCompleted().GetResult(); r.GetConfigurationType() == "entra/groups" {
			return r
		}
	}
	h.Fatal("groups have no result")
	return nil
}

// expectGroups demands how groups were read, and what became of them.
func (h *harness) expectGroups(s *story, mode understudyv1.ReadMode, added, modified, removed int32) {
	h.Helper()
	r := h.groupsOf(s)
	got := fmt.Sprintf("%s +%d ~%d -%d", r.GetReadMode(), r.GetAddedCount(), r.GetModifiedCount(), r.GetRemovedCount())
	if want := fmt.Sprintf("%s +%d ~%d -%d", mode, added, modified, removed); got != want {
		h.Errorf("groups: %s, want %s", got, want)
	}
}

// asReadInFull demands that contoso's groups are as a backup of a tenant that was
// never read by delta has them.
func (h *harness) asReadInFull() {
	h.Helper()
	got := h.groupFiles("contoso")
	h.mustSync("fabrikam", &understudyv1.SyncSpec{ConfigurationTypes: []string{"entra/groups"}}, signsIn)
	want := h.groupFiles("fabrikam")
	h.forget("fabrikam")
	if got != want {
		h.Errorf("the backup is not what a full reading brings:\n%s\nwant\n%s", got, want)
	}
}

// groupFiles is the tree of a tenant's groups.
func (h *harness) groupFiles(tenant string) string {
	h.Helper()
	return h.git(tenant, "ls-tree", "-r", "main", "entra/groups/")
}

// cursors is where the cursors of a tenant are.
func (h *harness) cursors(tenant string) string {
	return filepath.Join(h.lab.Folder, "data", "cursors", tenant)
}

// forget lets the next sync of a tenant read in full.
func (h *harness) forget(tenant string) {
	h.Helper()
	if err := os.RemoveAll(h.cursors(tenant)); err != nil {
		h.Fatal(err)
	}
}

// cursor returns the file of groups' cursor.
func (h *harness) cursor() []byte {
	h.Helper()
	content, err := os.ReadFile(filepath.Join(h.cursors("contoso"), "entra__groups"))
	if err != nil {
		h.Fatal(err)
	}
	return content
}

// groupID returns the id of a group.
func (h *harness) groupID(number int) string {
	h.Helper()
	id, ok := h.lab.simulator.ItemID(groups, number)
	if !ok {
		h.Fatalf("there is no group %d", number)
	}
	return id
}

func (h *harness) must(errs ...error) {
	h.Helper()
	for _, err := range errs {
		if err != nil {
			h.Fatal(err)
		}
	}
}

// The second sync reads only what changed: a changed group, other owners, members
// and settings, which a delta query does not tell of, a new group, one that is gone.
func TestSecondSyncIsByDelta(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.expectGroups(h.mustSync("contoso", nil, nobody), inFull, 120, 0, 0)
	first := h.lab.simulator.Stats().Paths

	h.expectGroups(h.mustSync("contoso", nil, nobody), byDelta, 0, 0, 0)
	if second := h.lab.simulator.Stats().Paths; second["service-principal /v1.0/groups"] != first["service-principal /v1.0/groups"] ||
		second["service-principal /v1.0/groups/{id}/members"] != first["service-principal /v1.0/groups/{id}/members"] {
		t.Errorf("the list or members were read again: %v, after %v", second, first)
	}

	s := h.lab.simulator
	h.must(
		s.ChangeItem(groups, 1), s.SetCount(groups, 121), s.RemoveItem(groups, 7),
		s.SetCount(groups+"/"+h.groupID(20)+"/owners", 9), s.SetCount(groups+"/"+h.groupID(21)+"/members", 9),
		s.SetCount(groups+"/"+h.groupID(22)+"/settings", 9),
	)
	story := h.mustSync("contoso", nil, nobody)
	h.expectGroups(story, byDelta, 1, 4, 1)
	for _, event := range story.durable {
		r := event.GetConfigurationCompleted().GetResult()
		if r != nil && r.GetConfigurationType() != "entra/groups" && r.GetReadMode() != inFull {
			t.Errorf("%s was read %s", r.GetConfigurationType(), r.GetReadMode())
		}
	}
	h.asReadInFull()
	h.expectGroups(h.mustSync("contoso", nil, nobody), byDelta, 0, 0, 0)
	h.leaksNothing()
	h.noLinks()
}

// noLinks demands that no delta link is in a log, an event or a file.
func (h *harness) noLinks() {
	h.Helper()
	if strings.Contains(h.said.String(), "deltatoken") {
		h.Error("a log or an event has a delta link")
	}
	h.must(filepath.WalkDir(filepath.Join(h.lab.Folder, "data"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if bytes.Contains(content, []byte("deltatoken")) {
			h.Errorf("%s has a delta link", path)
		}
		return err
	}))
}

// Whatever makes a cursor useless makes the reading a full one, in the same sync.
func TestDeltaBecomesFull(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(h *harness){
		"links expired": func(h *harness) { h.wrong(simulator.Scenario{Name: "delta-expired"}) },
		"delta refused": func(h *harness) {
			h.wrong(simulator.Scenario{Name: "type-fails", Path: groups + "/delta", Status: 403})
		},
		"answer cut": func(h *harness) { h.wrong(simulator.Scenario{Name: "truncated-json", Path: groups + "/delta"}) },
		"cursor damaged": func(h *harness) {
			h.must(os.WriteFile(filepath.Join(h.cursors("contoso"), "entra__groups"), []byte("nonsense"), 0o600))
		},
		"backup set back by hand": func(h *harness) {
			h.must(h.lab.simulator.ChangeItem(groups, 2))
			h.expectGroups(h.mustSync("contoso", nil, nobody), byDelta, 0, 2, 0)
			h.git("contoso", "update-ref", "refs/heads/main", "main~1")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			h.mustSync("contoso", nil, nobody)
			h.must(h.lab.simulator.ChangeItem(groups, 1))
			spoil(h)
			story := h.mustSync("contoso", nil, nobody)
			if mode := h.groupsOf(story).GetReadMode(); mode != inFull {
				t.Errorf("groups were read %s", mode)
			}
			h.wrong()
			h.asReadInFull()
			h.leaksNothing()
		})
	}
}

// Many groups that are gone at once are read in full, and not believed even then;
// the cursor stays where it was.
func TestDeltaWithManyRemovals(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.mustSync("contoso", nil, nobody)
	before, cursor := h.groupFiles("contoso"), h.cursor()
	h.must(h.lab.simulator.SetCount(groups, 80))
	story := h.sync("contoso", nil, nobody)
	r := h.groupsOf(story)
	if r.GetReadMode() != inFull ||
		r.GetReason() != understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_COUNT_COLLAPSED {
		t.Errorf("%v", r)
	}
	if h.groupFiles("contoso") != before {
		t.Error("groups are gone from the backup")
	}
	if !bytes.Equal(h.cursor(), cursor) {
		t.Error("the cursor went on, though the list is not believed")
	}
	accept := &understudyv1.SyncSpec{AcceptCollapse: []string{"entra/groups"}}
	h.expectGroups(h.mustSync("contoso", accept, nobody), inFull, 0, 0, 40)
	h.must(h.lab.simulator.RemoveItem(groups, 3))
	h.expectGroups(h.mustSync("contoso", nil, nobody), byDelta, 0, 0, 1)
	h.asReadInFull()
}

// A dry run reads by delta and keeps nothing; nor does a sync that was killed after
// its commit and before the cursor was stored, which an older cursor stands for.
func TestCursorGoesOnWithTheCommitOnly(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.mustSync("contoso", nil, nobody)
	old := h.cursor()
	h.must(h.lab.simulator.ChangeItem(groups, 1), h.lab.simulator.RemoveItem(groups, 2))
	h.expectGroups(h.mustSync("contoso", &understudyv1.SyncSpec{DryRun: true}, nobody), byDelta, 0, 1, 1)
	if !bytes.Equal(h.cursor(), old) {
		t.Error("the dry run stored a cursor")
	}
	h.expectGroups(h.mustSync("contoso", nil, nobody), byDelta, 0, 1, 1)
	if bytes.Equal(h.cursor(), old) {
		t.Error("the sync stored no cursor")
	}

	killed := func() {
		h.must(os.WriteFile(filepath.Join(h.cursors("contoso"), "entra__groups"), old, 0o600))
	}
	killed()
	h.must(h.lab.simulator.ChangeItem(groups, 5))
	h.expectGroups(h.mustSync("contoso", nil, nobody), inFull, 0, 1, 0)
	h.asReadInFull()

	// Where the commit changed nothing of the type the older cursor is as good.
	old = h.cursor()
	h.mustSync("contoso", nil, nobody)
	killed()
	h.must(h.lab.simulator.ChangeItem(groups, 6))
	h.expectGroups(h.mustSync("contoso", nil, nobody), byDelta, 0, 1, 0)
	h.asReadInFull()
}
