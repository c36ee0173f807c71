package vault

import (
	"errors"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"understudy.internal/internal/port"
)

// syncOf returns the name of a sync that was created at a time.
func syncOf(at time.Time) string {
	id := ulid.MustNew(ulid.Timestamp(at), ulid.DefaultEntropy())
	return "tenants/x/syncs/" + strings.ToLower(id.String())
}

func TestTurns(t *testing.T) {
	sync := syncOf(night)
	for name, c := range map[string]struct {
		now, late turn
		refused   bool
	}{
		"an earlier attempt":           {turn{sync, 2}, turn{sync, 1}, true},
		"the same attempt":             {turn{sync, 2}, turn{sync, 2}, false},
		"a later attempt":              {turn{sync, 2}, turn{sync, 3}, false},
		"an earlier sync":              {turn{syncOf(night.Add(time.Minute)), 1}, turn{sync, 4}, true},
		"a later sync":                 {turn{sync, 4}, turn{syncOf(night.Add(time.Minute)), 1}, false},
		"one by a clock that is wrong": {turn{syncOf(night.Add(5 * time.Second)), 1}, turn{sync, 1}, false},
		"an id that tells no time":     {turn{sync, 2}, turn{theSync, 1}, false},
		"after an id without a time":   {turn{theSync, 2}, turn{sync, 1}, false},
		"nobody's":                     {turn{sync, 2}, turn{}, false},
		"after nobody":                 {turn{}, turn{sync, 1}, false},
	} {
		written := "token\n" + c.now.String() + "\n"
		if got := c.late.before(turnIn(written)); got != c.refused {
			t.Errorf("%s: refused %v", name, got)
		}
	}
	for _, written := range []string{"", "token\n", "token", "token\nx " + sync + "\n", "token\n2\n", "\n\n\n"} {
		if got := turnIn(written); got != (turn{}) {
			t.Errorf("%q says %v", written, got)
		}
	}
}

// A worker that was frozen before it began goes on when another one has its turn: it is
// refused, and the other one does not notice.
func TestLateWorkerIsRefused(t *testing.T) {
	sync := syncOf(night)
	for name, now := range map[string]turn{"a later attempt": {sync, 2}, "a later sync": {syncOf(night.Add(hour)), 1}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			late, next := shared(t)
			s, err := next.Begin(t.Context(), port.Turn{Sync: now.sync, Attempt: now.attempt})
			if err != nil {
				t.Fatal(err)
			}
			rightful := s.(*staging)
			read(t, rightful, night, whole(groups, documents("a", "b")))
			before := contentOf(t, late.config.Directory)
			lock, _ := os.ReadFile(late.path(lockFile))
			_, err = late.Begin(t.Context(), port.Turn{Sync: sync, Attempt: 1})
			wantTakenOver(t, err)
			if after := contentOf(t, late.config.Directory); !maps.Equal(after, before) {
				t.Errorf("it changed the repository: %v, before %v", sortedKeys(after), sortedKeys(before))
			}
			if after, _ := os.ReadFile(late.path(lockFile)); string(after) != string(lock) {
				t.Errorf("it took the lock: %s", after)
			}
			read(t, rightful, night, whole(apps, documents("x")))
			if _, err := rightful.Commit(t.Context(), port.CommitInfo{Sync: now.sync, Time: night}); err != nil {
				t.Errorf("the one whose turn it is: %v", err)
			}
			if err := rightful.Close(); err != nil {
				t.Error(err)
			}
			if got := itemsOf(files(t, next), groups); !slices.Equal(got, []string{"a", "b"}) {
				t.Errorf("groups: %v", got)
			}
			// It stays so when nobody is at work.
			_, err = late.Begin(t.Context(), port.Turn{Sync: sync, Attempt: 1})
			wantTakenOver(t, err)
			nothingLeft(t, next)
		})
	}
}

// A lock file of before there were turns is nobody's turn.
func TestTurnAfterAnOlderVersion(t *testing.T) {
	v, _ := shared(t)
	if err := os.WriteFile(v.path(lockFile), []byte("TOKEN\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := v.Begin(t.Context(), port.Turn{Sync: syncOf(night), Attempt: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// Whether there is a commit can be asked while another one is at work, who does not
// notice.
func TestAskingTakesNothing(t *testing.T) {
	path := bareRemote(t)
	v := newVault(t, func(c *Config) { c.Shared, c.Replicated, c.Remote = true, true, &Remote{URL: path} })
	asking, err := Open(v.config)
	if err != nil {
		t.Fatal(err)
	}
	sync := syncOf(night)
	s, err := v.Begin(t.Context(), port.Turn{Sync: sync, Attempt: 2})
	if err != nil {
		t.Fatal(err)
	}
	rightful := s.(*staging)
	read(t, rightful, night, whole(groups, documents("a")))
	otherPush(t, path, "README.md", "by hand") // so that there is something to fetch
	if got, err := asking.Committed(t.Context(), sync); got != nil || err != nil {
		t.Errorf("%v, %v", got, err)
	}
	_, err = rightful.Commit(t.Context(), port.CommitInfo{Sync: sync, Time: night})
	if err := errors.Join(err, rightful.held.check(), rightful.Close()); err != nil {
		t.Errorf("the one whose turn it is: %v", err)
	}
	nothingLeft(t, v)
}
