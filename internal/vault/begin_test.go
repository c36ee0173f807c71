package vault

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"understudy.internal/internal/port"
)

// refused begins a sync, which is to be sent to the repair, and to change nothing.
func refused(t *testing.T, v *Vault) {
	t.Helper()
	staging, err := v.Begin(t.Context(), port.Turn{Attempt: 1})
	if err == nil {
		t.Error("a new backup begins")
		if err := staging.Close(); err != nil {
			t.Error(err)
		}
		return
	}
	var stored *port.StorageError
	if !errors.As(err, &stored) || !strings.Contains(err.Error(), "understudy repair") {
		t.Errorf("it is refused with %v", err)
	}
}

// Where there was a backup no new one begins because the branch and the notes are gone.
func TestNoNewBackupInThePlaceOfALostOne(t *testing.T) {
	for name, test := range map[string]struct {
		commits int
		damage  func(t *testing.T, v *Vault)
	}{
		"one commit":  {1, func(*testing.T, *Vault) {}},
		"two commits": {2, func(*testing.T, *Vault) {}},
		"damaged notes": {2, func(t *testing.T, v *Vault) {
			overwrite(t, v.path(notesFile), with(""))
		}},
		"empty packs": {2, func(t *testing.T, v *Vault) {
			for _, path := range packsOf(t, v) {
				overwrite(t, path, with(""))
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVault(t, nil)
			for i := range test.commits {
				runSync(t, v, night, whole(groups, documents(numbered(0, i+1)...)))
			}
			overwrite(t, v.path("refs/heads/main"), without)
			overwrite(t, v.path(notesFile), without)
			test.damage(t, v)
			before := contentOf(t, v.path("objects"))
			refused(t, v)
			if now := contentOf(t, v.path("objects")); len(now) != len(before) {
				t.Error("something was changed")
			}
			done, err := v.Repair(t.Context(), true)
			if err != nil {
				t.Fatal(err)
			}
			if done.Commit == "" { // nothing is left, and the packs are put aside: the same holds
				refused(t, v)
				if again, err := v.Repair(t.Context(), true); err != nil || len(again.Left) == 0 || !again.Left[0].Loss {
					t.Errorf("%+v, %v", again, err)
				}
				return
			}
			runSync(t, v, night.Add(hour), ended(groups, failed, nil), whole(scripts, documents("s")))
			if got := itemsOf(files(t, v), groups); len(got) != test.commits {
				t.Errorf("the backup has the items %v", got)
			}
		})
	}
}

// A process that was killed before the branch named the first commit left a pack, and that
// was no backup yet.
func TestFirstCommitThatNothingNames(t *testing.T) {
	v := newVault(t, nil)
	staging := begin(t, v, theSync)
	read(t, staging, night, whole(groups, documents("a")))
	// Somebody else's lock lets the commit end as late as it can.
	overwrite(t, v.path("refs/heads/main.lock"), with("x"))
	if _, err := staging.Commit(t.Context(), port.CommitInfo{Time: night}); err == nil {
		t.Fatal("it was committed")
	}
	if err := staging.Close(); err != nil {
		t.Fatal(err)
	}
	if len(packsOf(t, v)) == 0 {
		t.Fatal("there is no pack, so nothing is shown")
	}
	runSync(t, v, night, whole(groups, documents("a", "b")))
	if _, err := os.Stat(v.path(beginFile)); err == nil {
		t.Error("it is beginning still")
	}
	checkRepository(t, v)
}

// What was left of the first commit is forgotten as soon as there is a branch, also one
// that came from elsewhere.
func TestBeginningEnds(t *testing.T) {
	v := newVault(t, nil)
	runSync(t, v, night, whole(groups, documents("a")))
	overwrite(t, v.path(beginFile), with(""))
	runSync(t, v, night.Add(hour), whole(groups, documents("a", "b")))
	if _, err := os.Stat(v.path(beginFile)); err == nil {
		t.Error("it is beginning still")
	}
}

// The branch comes from the remote where that has it.
func TestLostBranchComesFromTheRemote(t *testing.T) {
	path := bareRemote(t)
	v, _ := remoteVault(t, Remote{URL: path})
	wantPushed(t, runSync(t, v, night, whole(groups, documents("a"))))
	overwrite(t, v.path("refs/heads/main"), without)
	overwrite(t, v.path(notesFile), without)
	hideRemote(t, path)
	refused(t, v)
	bringBack(t, path)
	wantPushed(t, runSync(t, v, night.Add(hour), ended(groups, failed, nil), whole(scripts, documents("s"))))
	if got := itemsOf(filesOf(t, filepath.Clean(path), "main"), groups); len(got) != 1 {
		t.Errorf("the remote has %v", got)
	}
}
