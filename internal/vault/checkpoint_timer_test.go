package vault

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
)

// keptAt demands which types are in the checkpoint some time after the begin of a
// staging; none: there is no checkpoint.
func keptAt(t *testing.T, s *staging, after time.Duration, types ...*catalog.Type) {
	t.Helper()
	<-time.After(time.Until(s.checkpoints.begun.Add(after))) // by the clock of the bubble
	synctest.Wait()
	content, _ := os.ReadFile(s.vault.path(checkpointFile))
	for _, want := range types {
		if !strings.Contains(string(content), `"`+want.ID+`"`) {
			t.Errorf("%s is in no checkpoint after %v", want.ID, after)
		}
	}
	if n := strings.Count(string(content), `"rules"`); n != len(types) {
		t.Errorf("%d types in the checkpoint after %v, want %d", n, after, len(types))
	}
}

// One slow type is all that is left, and nothing comes of it: what is settled is kept all
// the same, as soon as it would be if something came.
func TestCheckpointComesByTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t, nil)
		s := begin(t, v, theSync)
		keptAt(t, s, 1*time.Second)
		read(t, s, night, whole(groups, documents("a", "b")))
		keptAt(t, s, 2*time.Second)
		read(t, s, night, whole(apps, documents("a")))
		if err := s.Add(roles, port.Item{ID: "r", JSON: []byte(`{}`)}); err != nil {
			t.Fatal(err)
		}
		keptAt(t, s, 9999*time.Millisecond)
		keptAt(t, s, 10*time.Second, groups, apps)
		keptAt(t, s, 12*time.Second, groups, apps)
		read(t, s, night, whole(unloved, documents("a")))
		keptAt(t, s, 19999*time.Millisecond, groups, apps)
		keptAt(t, s, 20*time.Second, groups, apps, unloved)
		// Long after: with the next type at once, and then when a tenth of the time passed.
		keptAt(t, s, 900*time.Second, groups, apps, unloved)
		read(t, s, night, whole(scripts, documents("a")))
		keptAt(t, s, 900*time.Second, groups, apps, unloved, scripts)
		read(t, s, night, whole(scripted, documents("a")))
		keptAt(t, s, 999*time.Second, groups, apps, unloved, scripts)
		keptAt(t, s, 1000*time.Second, groups, apps, unloved, scripts, scripted)
		die(t, s)

		s = begin(t, v, theSync)
		for _, resumed := range []*catalog.Type{groups, apps, unloved, scripts, scripted} {
			if _, ok := s.Resumed(resumed); !ok {
				t.Errorf("%s is read again", resumed.ID)
			}
		}
		if _, ok := s.Resumed(roles); ok {
			t.Error("half a type is not read again")
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

// There is none by time where there is to be none, and none after the end.
func TestNoCheckpointByTime(t *testing.T) {
	for name, test := range map[string]struct {
		sync     string
		interval time.Duration
		outcome  typeReading
		end      func(*staging) error
	}{
		"no sync":        {"", time.Second, whole(groups, documents("a")), nil},
		"no checkpoints": {theSync, -1, whole(groups, documents("a")), nil},
		"not complete":   {theSync, time.Second, ended(groups, incomplete, documents("a")), nil},
		"committed": {theSync, time.Second, whole(groups, documents("a")), func(s *staging) error {
			_, err := s.Commit(t.Context(), port.CommitInfo{Sync: theSync, Time: night})
			return err
		}},
		"a dry run": {theSync, time.Second, whole(groups, documents("a")), func(s *staging) error {
			_, err := s.Commit(t.Context(), port.CommitInfo{Sync: theSync, DryRun: true, Time: night})
			return err
		}},
		"closed": {theSync, time.Second, whole(groups, documents("a")), func(s *staging) error {
			if err := s.Close(); err != nil { // which makes one
				return err
			}
			return os.Remove(s.vault.path(checkpointFile))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := newVault(t, func(c *Config) { c.CheckpointInterval = test.interval })
				s := begin(t, v, test.sync)
				read(t, s, night, test.outcome)
				if test.end != nil {
					if err := test.end(s); err != nil {
						t.Fatal(err)
					}
				}
				if s.checkpoints.timer != nil {
					t.Error("a timer runs")
				}
				keptAt(t, s, time.Minute)
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// One that failed is tried again when the next one would be due.
func TestFailedCheckpointIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		v := newVault(t, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
		s := begin(t, v, theSync)
		inTheWay := filepath.Join(v.path(checkpointFile), "x")
		if err := os.MkdirAll(inTheWay, 0o700); err != nil {
			t.Fatal(err)
		}
		read(t, s, night, whole(groups, documents("a")))
		keptAt(t, s, 10*time.Second)
		if n := strings.Count(log.String(), "keeping what the sync settled so far failed"); n != 1 {
			t.Errorf("it failed %d times: %s", n, &log)
		}
		if err := os.RemoveAll(v.path(checkpointFile)); err != nil {
			t.Fatal(err)
		}
		keptAt(t, s, 19999*time.Millisecond)
		keptAt(t, s, 20*time.Second, groups)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

// timerKeeps settles a type while somebody is at a checkpoint, so that it is left to the
// timer, and demands that it is kept.
func timerKeeps(t *testing.T, s *staging, configurationType *catalog.Type) {
	t.Helper()
	s.checkpointing.Lock()
	_, err := s.Settle(configurationType, port.Reading{Outcome: complete, Time: night})
	s.checkpointing.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.After(time.Minute)
	for {
		content, _ := os.ReadFile(s.vault.path(checkpointFile))
		if strings.Contains(string(content), `"`+configurationType.ID+`"`) {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("%s is in no checkpoint: the timer made none", configurationType.ID)
		case <-time.After(time.Millisecond):
		}
	}
}

// Checkpoints by time beside everything else: items, types, the commit, the end. What only the timer can keep is kept.
func TestCheckpointsByTimeBesideTheRest(t *testing.T) {
	v := newVault(t, func(c *Config) { c.CheckpointInterval = 100 * time.Microsecond })
	for round := range 5 {
		s := begin(t, v, theSync)
		var work sync.WaitGroup
		for i := range 8 {
			work.Go(func() {
				configurationType := &catalog.Type{ID: fmt.Sprintf("entra/type-%d", i)}
				for id, document := range documents(numbered(round, 40)...) {
					if err := s.Add(configurationType, port.Item{ID: id, JSON: []byte(document)}); err != nil {
						t.Error(err)
					}
				}
				if _, err := s.Settle(configurationType, port.Reading{Outcome: complete, Time: night}); err != nil {
					t.Error(err)
				}
			})
		}
		work.Wait()
		timerKeeps(t, s, &catalog.Type{ID: "entra/last"})
		if round%2 == 0 {
			commit(t, s, night)
			nothingLeft(t, v)
		} else if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
