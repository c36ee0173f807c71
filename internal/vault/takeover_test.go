package vault

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"understudy.internal/internal/port"
)

// leaveCommit backs a type up as theSync, and dies between the commit and the push.
func leaveCommit(t *testing.T, v *Vault, ids ...string) string {
	t.Helper()
	s := begin(t, v, theSync)
	read(t, s, night.Add(hour), whole(groups, documents(ids...)))
	commit(t, s, night.Add(hour))
	return git(t, v.config.Directory, "rev-parse", "main")
}

// syncsOn returns the syncs of a branch, the last one first.
func syncsOn(t *testing.T, repository string) []string {
	t.Helper()
	return strings.Fields(git(t, repository, "log", "--format=%(trailers:key=Sync,valueonly)", "main"))
}

// A worker died between its commit and the push. Whether the commit becomes part of the
// backup later is for its sync to say: one that was taken over may have ended otherwise.
func TestCommitThatItsSyncEndedWithout(t *testing.T) {
	away := errors.New("away")
	committed := port.Fate{Committed: true}
	for name, c := range map[string]struct {
		fate   port.Fate
		stands bool
		asking error
		moved  bool // another machine pushed meanwhile
	}{
		"it ended without":                       {},
		"it ended without, and the remote moved": {moved: true},
		"it ended with it":                       {fate: committed, stands: true},
		"it ended with it, and the remote moved": {fate: committed, stands: true, moved: true},
		"it was forgotten":                       {fate: port.Fate{Forgotten: true}, stands: true},
		"nobody can be asked":                    {asking: away},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := bareRemote(t)
			v := replica(t, path)
			wantPushed(t, runSync(t, v, night, whole(groups, documents("a"))))
			left := leaveCommit(t, v, "a", "b")
			if c.moved {
				wantPushed(t, runSync(t, replica(t, path), night.Add(2*hour), whole(scripts, documents("s"))))
			}
			theirs := git(t, path, "rev-parse", "main")
			staged, err := v.Begin(t.Context(), port.Turn{Sync: "tenants/x/syncs/next", Attempt: 1, Fate: func(_ context.Context, sync string) (port.Fate, error) {
				if sync != theSync {
					t.Errorf("asked for %s", sync)
				}
				return c.fate, c.asking
			}})
			if c.asking != nil {
				var storage *port.StorageError
				if !errors.As(err, &storage) || !errors.Is(err, away) || git(t, v.config.Directory, "rev-parse", "main") != left {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			s := staged.(*staging)
			if base := git(t, v.config.Directory, "rev-parse", "main"); !c.stands && base != theirs {
				t.Errorf("the branch is at %s, that of the remote at %s", base, theirs)
			}
			settled := read(t, s, night.Add(3*hour), ended(groups, failed, nil))
			if at := settled[groups.ID].LastComplete; !c.stands && !c.moved && !at.Equal(night) || c.stands && !at.Equal(night.Add(hour)) {
				t.Errorf("last complete at %s", at)
			}
			if _, err := s.Commit(t.Context(), port.CommitInfo{Sync: "tenants/x/syncs/next", Time: night.Add(3 * hour)}); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Push(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			sameBranch(t, v, path)
			_, there := filesOf(t, path, "main")[groups.ID+"/b.json"]
			if carried := strings.Contains(strings.Join(syncsOn(t, path), " "), theSync); carried != c.stands || there != c.stands {
				t.Errorf("the remote has its commit: %v, its item: %v", carried, there)
			}
			if git(t, v.config.Directory, "cat-file", "-t", left) != "commit" {
				t.Error("the commit is gone")
			}
		})
	}
}

// A commit that was pushed, under another id perhaps, is left out where the remote has that
// one. A remote that was set back to an older commit has it no more: then ours stands, also
// after it was built again and its sync came to nothing.
func TestCommitOfAPushedSync(t *testing.T) {
	path := bareRemote(t)
	v, other := replica(t, path), replica(t, path)
	wantPushed(t, runSync(t, v, night, whole(groups, documents("a"))))
	old := git(t, path, "rev-parse", "main")
	leaveCommit(t, v, "a", "b")
	s := runNamedSync(t, other, theSync, night.Add(2*hour), whole(groups, documents("a", "c"))) // by its successor
	wantPushed(t, s)
	turn := port.Turn{Sync: "tenants/x/syncs/next", Attempt: 1, Fate: func(context.Context, string) (port.Fate, error) {
		return port.Fate{Committed: true, Pushed: s.snapshot.GetCommit()}, nil
	}}
	itemsAfter := func(v *Vault) []string {
		t.Helper()
		staged, err := v.Begin(t.Context(), turn)
		if err != nil {
			t.Fatal(err)
		}
		if err := staged.Close(); err != nil {
			t.Fatal(err)
		}
		return itemsOf(files(t, v), groups)
	}
	if got := itemsAfter(v); !slices.Equal(got, []string{"a", "c"}) {
		t.Errorf("the machine of the first worker has %v", got)
	}
	git(t, path, "update-ref", "refs/heads/main", old)
	otherPush(t, path, "README.md", "by hand")
	for range 3 {
		if got := itemsAfter(other); !slices.Equal(got, []string{"a", "c"}) {
			t.Errorf("the remote was set back, and the machine that pushed has %v", got)
		}
	}
}

// What an earlier worker of the sync committed is found, and can be pushed; nothing is
// read and committed again.
func TestBeginFindsTheCommit(t *testing.T) {
	for name, moved := range map[string]bool{"the remote is as it was": false, "the remote moved": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := bareRemote(t)
			v := replica(t, path)
			wantPushed(t, runSync(t, v, night, whole(groups, documents("a"))))
			leaveCommit(t, v, "a", "b")
			owned := 0
			turn := port.Turn{Sync: theSync, Attempt: 2, Owned: func(context.Context) error {
				if owned++; owned == 1 && moved {
					otherPush(t, path, "README.md", "somebody else's")
				}
				return nil
			}}
			staged, err := v.Begin(t.Context(), turn)
			if err != nil {
				t.Fatal(err)
			}
			found := staged.Committed()
			if found == nil || found.GetCommit() != git(t, v.config.Directory, "rev-parse", "main") {
				t.Fatalf("found %v", found)
			}
			if err := staged.Add(groups, port.Item{ID: "c", JSON: []byte(`{}`)}); err == nil {
				t.Error("it takes items")
			}
			if _, err := staged.Commit(t.Context(), port.CommitInfo{Sync: theSync}); err == nil {
				t.Error("it commits again")
			}
			if state, err := staged.Push(t.Context()); err != nil || state != pushed {
				t.Fatalf("%v, %v", state, err)
			}
			if want := map[bool]int{false: 1, true: 2}[moved]; owned != want {
				t.Errorf("asked %d times whose the sync is", owned)
			}
			if got := git(t, path, "rev-parse", "main"); found.GetCommit() != got || found.GetTree() != git(t, path, "rev-parse", "main^{tree}") {
				t.Errorf("the remote is at %s, and it says %v", got, found)
			}
			if err := staged.Close(); err != nil {
				t.Fatal(err)
			}
			sameBranch(t, v, path)
			nothingLeft(t, v)
			// For any other sync, and for a first attempt, there is nothing.
			for _, other := range []port.Turn{{Sync: theSync, Attempt: 1}, {Sync: "tenants/x/syncs/other", Attempt: 2}, {Attempt: 2}} {
				staged, err := v.Begin(t.Context(), other)
				if err != nil || staged.Committed() != nil {
					t.Errorf("%+v: %v, %v", other, staged.Committed(), err)
				}
				if err := staged.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// Before every push, also the second one after a lost race, it is asked whose the sync
// is; a worker that lost it pushes nothing.
func TestPushOfALostSync(t *testing.T) {
	lost := errors.New("it is another worker's")
	for name, after := range map[string]int{"at once": 0, "after a lost race": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := bareRemote(t)
			v := replica(t, path)
			wantPushed(t, runSync(t, v, night, whole(groups, documents("a"))))
			asked := 0
			theirs := git(t, path, "rev-parse", "main")
			staged, err := v.Begin(t.Context(), port.Turn{Sync: theSync, Attempt: 1, Owned: func(context.Context) error {
				if asked++; asked > after {
					return lost
				}
				theirs = otherPush(t, path, "README.md", "somebody else's")
				return nil
			}})
			if err != nil {
				t.Fatal(err)
			}
			s := staged.(*staging)
			read(t, s, night.Add(hour), whole(groups, documents("a", "b")))
			if _, err := s.Commit(t.Context(), port.CommitInfo{Sync: theSync, Time: night.Add(hour)}); err != nil {
				t.Fatal(err)
			}
			if state, err := s.Push(t.Context()); !errors.Is(err, lost) || state != pushFailed || asked != after+1 {
				t.Errorf("%v, %v after %d questions", state, err, asked)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if got := git(t, path, "rev-parse", "main"); got != theirs {
				t.Errorf("the remote is at %s, not at %s", got, theirs)
			}
		})
	}
}
