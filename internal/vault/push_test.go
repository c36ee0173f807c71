package vault

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Somebody has the branch of the remote locked for a moment: the push waits for it.
func TestLockedBranchOfTheRemote(t *testing.T) {
	t.Parallel()
	path := bareRemote(t)
	v := replica(t, path)
	wantPushed(t, runSync(t, v, night, whole(groups, documents("a"))))
	lock := filepath.Join(path, "refs", "heads", "main.lock")
	if err := os.WriteFile(lock, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	hook(t, path, "pre-receive", "echo x >> tries; if test $(wc -l < tries) -ge 3; then rm -f refs/heads/main.lock; fi")
	s := runSync(t, v, night.Add(hour), whole(groups, documents("a", "b")))
	wantPushed(t, s)
	if tries, err := os.ReadFile(filepath.Join(path, "tries")); err != nil || strings.Count(string(tries), "x") != 3 {
		t.Errorf("tries %q, %v", tries, err)
	}
	if got := git(t, path, "rev-parse", "main"); got != s.snapshot.GetCommit() {
		t.Errorf("the remote is at %s, the snapshot at %s", got, s.snapshot.GetCommit())
	}
	sameBranch(t, v, path)
}

func TestRefusals(t *testing.T) {
	for status, want := range map[string]RemoteReason{
		"failed to update ref": RemoteMoved,
		"failed to lock":       RemoteMoved,
		"fetch first":          RemoteMoved,
		"cannot lock ref 'refs/heads/main': is at cf2cc0c147d8215ec87d3ddaf32f0b2c58630423 but expected fdda486ad43a6e6b5dc5f2795ce27124e0686752": RemoteMoved,
		"cannot lock ref 'refs/heads/main': Unable to create './refs/heads/main.lock': File exists.":                                              RemoteMoved,
		"incorrect old value provided":    RemoteMoved,
		"pre-receive hook declined":       RemoteRejected,
		"protected branch hook declined":  RemoteRejected,
		"branch is currently checked out": RemoteRejected,
		"":                                RemoteRejected,
	} {
		if got := refusalOf(status); got != want {
			t.Errorf("%q: %s", status, got)
		}
	}
}
