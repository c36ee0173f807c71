package vault

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
)

// away takes the remote away for the time of a call.
func away(t *testing.T, remote string, call func()) {
	t.Helper()
	if err := os.Rename(remote, remote+".away"); err != nil {
		t.Fatal(err)
	}
	call()
	if err := os.Rename(remote+".away", remote); err != nil {
		t.Fatal(err)
	}
}

// Two services backed up the same tenant while one could not reach the remote: its
// commits are built again on top. What the other one read completely since counts
// whole; the rest is put together file by file, and nothing is lost.
func TestDivergedIsRebuilt(t *testing.T) {
	path := bareRemote(t)
	v, log := remoteVault(t, Remote{URL: path})
	other, _ := remoteVault(t, Remote{URL: path})
	wantPushed(t, runSync(t, v, night, whole(groups, documents(numbered(0, 10)...)), whole(apps, documents("x", "y")), whole(roles, documents(numbered(0, 10)...))))
	wantPushed(t, runSync(t, other, night.Add(hour), whole(groups, documents(numbered(0, 10)...))))
	shared := git(t, path, "rev-parse", "main")

	var last string
	away(t, path, func() {
		items := documents(numbered(0, 9)...) // removes item-009
		items["item-000"], items["item-001"], items["ours"] = `{"by":"ours"}`, `{"by":"ours"}`, `{}`
		runSync(t, v, night.Add(2*hour), whole(groups, items), whole(roles, items))
		s := runNamedSync(t, v, "tenants/x/syncs/late", night.Add(4*hour), ended(apps, failed, nil), whole(scripts, documents("s")))
		wantRefused(t, s, RemoteNotFound)
		last = s.snapshot.GetCommit()
	})
	items := documents(numbered(0, 10)...)
	items["item-000"], items["item-002"], items["item-009"], items["theirs"] = `{"by":"theirs"}`, `{"by":"theirs"}`, `{"by":"theirs"}`, `{}`
	some := map[string]string{"item-000": `{"by":"theirs"}`, "item-002": `{"by":"theirs"}`, "item-009": `{"by":"theirs"}`, "theirs": `{}`}
	wantPushed(t, runSync(t, other, night.Add(3*hour), whole(groups, items), ended(roles, incomplete, some)))
	theirs := otherPush(t, path, "README.md", "by hand")

	staging, err := v.Begin(t.Context(), port.Turn{Attempt: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := staging.Close(); err != nil {
		t.Fatal(err)
	}
	now := files(t, v)
	if git(t, v.config.Directory, "merge-base", "main", theirs) != theirs || git(t, v.config.Directory, "merge-base", "main", shared) != shared {
		t.Error("not built on the remote's commit")
	}
	for path, want := range map[string]string{
		"groups/item-000": "theirs", "groups/item-001": "item-001" /* theirs is later */, "groups/item-002": "theirs", "groups/item-009": "theirs",
		"roles/item-000": "theirs" /* later */, "roles/item-001": "ours", "roles/item-002": "theirs", "roles/item-009": "theirs",
	} {
		if got := now["entra/"+path+".json"]; !strings.Contains(got, want) {
			t.Errorf("%s: %s", path, got)
		}
	}
	for configurationType, n := range map[*catalog.Type]int{groups: 11, roles: 12} {
		all := itemsOf(now, configurationType)
		if slices.Contains(all, "ours") != (configurationType == roles) || !slices.Contains(all, "theirs") || len(all) != n {
			t.Errorf("%s: %v", configurationType.ID, all)
		}
		if got := strings.Count(now[configurationType.ID+"/_index.json"], "Name of"); got != n {
			t.Errorf("the index of %s names %d items", configurationType.ID, got)
		}
	}
	if now["README.md"] != "by hand" || itemsOf(now, scripts) == nil || coverageOf(t, v, roles).State != stateStale || coverageOf(t, v, groups).State != stateComplete {
		t.Errorf("files %v, coverage %s", sortedKeys(now), now[coverageFile])
	}
	if coverageOf(t, v, apps).State != stateStale || coverageOf(t, v, scripts).State != stateComplete {
		t.Errorf("coverage %s", now[coverageFile])
	}
	snapshot, err := v.Committed(t.Context(), "tenants/x/syncs/late")
	if err != nil || snapshot == nil || snapshot.GetCommit() == last {
		t.Errorf("the rebuilt commit of a sync: %v, %v", snapshot, err)
	}
	for change, err := range v.Changes(t.Context(), last, "") { // the old one is still there
		if err != nil {
			t.Errorf("%v %v", change, err)
		}
	}
	if !strings.Contains(log.String(), "built on top") {
		t.Errorf("log: %s", log)
	}
	wantPushed(t, runSync(t, v, night.Add(5*hour), whole(scripts, documents("s"))))
	sameBranch(t, v, path)
}

// The local repository was made while the remote, which has a backup, was away.
func TestUnrelatedHistories(t *testing.T) {
	path := bareRemote(t)
	first, _ := remoteVault(t, Remote{URL: path})
	wantPushed(t, runSync(t, first, night, whole(groups, documents("a", "b")), whole(scripts, documents("s"))))
	anew, _ := remoteVault(t, Remote{URL: path})
	away(t, path, func() {
		wantRefused(t, runSync(t, anew, night.Add(hour), whole(groups, documents("a", "c"))), RemoteNotFound)
	})
	wantPushed(t, runSync(t, anew, night.Add(2*hour), whole(apps, documents("x"))))
	sameBranch(t, anew, path)
	now := files(t, anew)
	if got := itemsOf(now, groups); !slices.Equal(got, []string{"a", "b", "c"}) || itemsOf(now, scripts) == nil || itemsOf(now, apps) == nil {
		t.Errorf("files %v", sortedKeys(now))
	}
	if got := git(t, path, "rev-list", "--count", "main"); got != "3" {
		t.Errorf("%s commits", got)
	}
}

// What cannot be put together stays apart, and both sides stay whole.
func TestDivergedForGood(t *testing.T) {
	path := bareRemote(t)
	v, _ := remoteVault(t, Remote{URL: path})
	wantPushed(t, runSync(t, v, night, whole(groups, documents("a"))))
	away(t, path, func() { runSync(t, v, night.Add(hour), whole(scripts, documents("s"))) })
	theirs := otherPush(t, path, "intune", "a file where our folder is")
	s := runSync(t, v, night.Add(2*hour), whole(groups, documents("a", "b")))
	wantRefused(t, s, RemoteDiverged)
	if !s.snapshot.GetCreated() || git(t, path, "rev-parse", "main") != theirs {
		t.Errorf("%v", s.snapshot)
	}
	checkRepository(t, v)
}

// A branch of the remote that was reset or deleted gets our commits again.
func TestRemoteThatLostCommits(t *testing.T) {
	path := bareRemote(t)
	v, _ := remoteVault(t, Remote{URL: path})
	for i := range 3 {
		wantPushed(t, runSync(t, v, night, whole(groups, documents(numbered(0, i+1)...))))
	}
	git(t, path, "update-ref", "refs/heads/main", "main~2")
	wantPushed(t, runSync(t, v, night, whole(groups, documents(numbered(0, 3)...))))
	sameBranch(t, v, path)
	git(t, path, "update-ref", "-d", "refs/heads/main")
	git(t, path, "gc", "-q", "--prune=now")
	wantPushed(t, runSync(t, v, night, whole(groups, documents(numbered(0, 3)...))))
	sameBranch(t, v, path)
}

// The names beside the items of a type change with other types: that is no reading of it.
func TestNamesAreNoReading(t *testing.T) {
	path := bareRemote(t)
	v, _ := remoteVault(t, Remote{URL: path})
	wantPushed(t, runSync(t, v, night, whole(groups, documents("a"))))
	s := syncUnpushed(t, v, path, night.Add(hour), whole(groups, documents("a", "b")))
	if s.pushed != pushFailed {
		t.Fatal(s.pushed)
	}
	work := filepath.Join(t.TempDir(), "work")
	git(t, t.TempDir(), "clone", "-q", path, work)
	if err := os.WriteFile(filepath.Join(work, "entra", "groups", namesFile), []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	git(t, work, "add", "-A")
	git(t, work, "commit", "-q", "-m", "Sync\n\nSync: tenants/x/syncs/other\n", "--date", "2026-11-20T05:00:00Z")
	git(t, work, "push", "-q", "origin", "HEAD:main")
	wantPushed(t, runSync(t, v, night.Add(5*hour)))
	if got := itemsOf(files(t, v), groups); !slices.Contains(got, "b") {
		t.Errorf("what was read is gone: %v", got)
	}
}
