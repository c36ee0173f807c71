package vault

import (
	"os"
	"slices"
	"strings"
	"testing"
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
// commits are built again on top, file by file, and nothing is lost.
func TestDivergedIsRebuilt(t *testing.T) {
	path := bareRemote(t)
	v, log := remoteVault(t, Remote{URL: path})
	other, _ := remoteVault(t, Remote{URL: path})
	wantPushed(t, runSync(t, v, night, whole(groups, documents(numbered(0, 10)...)), whole(apps, documents("x", "y"))))
	wantPushed(t, runSync(t, other, night.Add(hour), whole(groups, documents(numbered(0, 10)...))))
	shared := git(t, path, "rev-parse", "main")

	var last string
	away(t, path, func() {
		items := documents(numbered(0, 9)...) // removes item-009
		items["item-000"], items["item-001"], items["ours"] = `{"by":"ours"}`, `{"by":"ours"}`, `{}`
		runSync(t, v, night.Add(2*hour), whole(groups, items))
		s := runNamedSync(t, v, "tenants/x/syncs/late", night.Add(4*hour), ended(apps, failed, nil), whole(scripts, documents("s")))
		wantRefused(t, s, RemoteNotFound)
		last = s.snapshot.GetCommit()
	})
	items := documents(numbered(0, 10)...)
	items["item-000"], items["item-002"], items["item-009"], items["theirs"] = `{"by":"theirs"}`, `{"by":"theirs"}`, `{"by":"theirs"}`, `{}`
	wantPushed(t, runSync(t, other, night.Add(3*hour), whole(groups, items)))
	theirs := otherPush(t, path, "README.md", "by hand")

	staging, err := v.Begin(t.Context(), "")
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
	for name, want := range map[string]string{"item-000": "theirs" /* later */, "item-001": "ours", "item-002": "theirs", "item-009": "theirs"} {
		if got := now["entra/groups/"+name+".json"]; !strings.Contains(got, want) {
			t.Errorf("%s: %s", name, got)
		}
	}
	all := itemsOf(now, groups)
	if !slices.Contains(all, "ours") || !slices.Contains(all, "theirs") || len(all) != 12 || now["README.md"] != "by hand" || itemsOf(now, scripts) == nil {
		t.Errorf("files %v", sortedKeys(now))
	}
	if n := strings.Count(now["entra/groups/_index.json"], "Name of"); n != 12 {
		t.Errorf("the index names %d items", n)
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
