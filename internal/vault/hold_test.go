package vault

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"

	"understudy.internal/internal/port"
)

// shared returns two vaults of one repository, as two processes have them.
func shared(t *testing.T) (frozen, next *Vault) {
	t.Helper()
	frozen = newVault(t, func(c *Config) { c.Shared, c.CheckpointInterval = true, 1 })
	next, err := Open(frozen.config)
	if err != nil {
		t.Fatal(err)
	}
	runSync(t, frozen, night, whole(groups, documents("a")))
	return frozen, next
}

func wantTakenOver(t *testing.T, err error) {
	t.Helper()
	var storage *port.StorageError
	if !errors.As(err, &storage) || !errors.Is(err, errTakenOver) {
		t.Errorf("got %v", err)
	}
}

// A worker is frozen, another one takes its sync over, and the first one goes on: it
// changes nothing any more.
func TestFrozenWorkerChangesNothing(t *testing.T) {
	for name, sync := range map[string]string{"the same sync": theSync, "another sync": "tenants/x/syncs/two"} {
		t.Run(name, func(t *testing.T) {
			v, next := shared(t)
			frozen := begin(t, v, theSync)
			read(t, frozen, night, whole(groups, documents("a", "b")))
			if err := frozen.Add(apps, port.Item{ID: "by the frozen one", JSON: []byte(`{}`)}); err != nil {
				t.Fatal(err)
			}
			s := begin(t, next, sync)
			if _, ok := s.Resumed(groups); ok != (sync == theSync) {
				t.Fatal("resumed: ", ok)
			} else if !ok {
				read(t, s, night, whole(groups, documents("a", "b")))
			}
			// The first one wakes up before the second one commits.
			read(t, frozen, night, whole(apps, documents("x")))
			before, err := os.ReadFile(v.path(checkpointFile))
			if err != nil || !strings.Contains(string(before), sync) || strings.Contains(string(before), apps.ID) {
				t.Errorf("the checkpoint is not that of the second one: %s, %v", before, err)
			}
			_, err = frozen.Commit(t.Context(), port.CommitInfo{Sync: theSync, Time: night})
			wantTakenOver(t, err)
			if sync == theSync { // it closes before …
				if err := frozen.Close(); err != nil {
					t.Error(err)
				}
				if now, err := os.ReadFile(v.path(checkpointFile)); err != nil || string(now) != string(before) {
					t.Errorf("the checkpoint of the second one: %s, %v", now, err)
				}
			}
			commit(t, s, night)
			head := git(t, v.config.Directory, "rev-parse", "main")
			notes, _ := os.ReadFile(v.path(notesFile))
			// … or after it.
			if err := frozen.Close(); err != nil {
				t.Error(err)
			}
			if now := git(t, v.config.Directory, "rev-parse", "main"); now != head {
				t.Errorf("the branch moved to %s", now)
			}
			if now, _ := os.ReadFile(v.path(notesFile)); string(now) != string(notes) {
				t.Errorf("the notes are %s now", now)
			}
			if got := itemsOf(files(t, v), apps); len(got) > 0 {
				t.Errorf("it has %v", got)
			}
			runSync(t, next, night.Add(hour), whole(groups, documents("a", "b", "c")))
			nothingLeft(t, next)
		})
	}
}

// A commit that is refused ends nothing: what was settled is that of the next worker,
// which may be about to copy it.
func TestRefusedCommitKeepsTheCheckpoint(t *testing.T) {
	takenOver := func(t *testing.T, next *Vault) {
		held, err := next.hold(turn{sync: theSync, attempt: 2}) // and not looked at the checkpoint yet
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = held.release() })
	}
	for name, end := range map[string]func(t *testing.T, frozen *staging, next *Vault){
		"taken over": func(t *testing.T, frozen *staging, next *Vault) {
			takenOver(t, next)
			_, err := frozen.Commit(t.Context(), port.CommitInfo{Sync: theSync, Time: night})
			wantTakenOver(t, err)
		},
		"taken over after a dry run": func(t *testing.T, frozen *staging, next *Vault) {
			if _, err := frozen.Commit(t.Context(), port.CommitInfo{DryRun: true, Time: night}); err != nil {
				t.Fatal(err)
			}
			takenOver(t, next)
		},
		"the disk does not answer for a moment": func(t *testing.T, frozen *staging, next *Vault) {
			lock := next.path(lockFile)
			err := os.Rename(lock, lock+".away")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := frozen.Commit(t.Context(), port.CommitInfo{Sync: theSync, Time: night}); err == nil {
				t.Error("it is committed")
			}
			if err := os.Rename(lock+".away", lock); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			v, next := shared(t)
			frozen := begin(t, v, theSync)
			read(t, frozen, night, whole(groups, documents("a", "b")))
			end(t, frozen, next)
			if err := frozen.Close(); err != nil {
				t.Error(err)
			}
			staged, err := next.Begin(t.Context(), port.Turn{Sync: theSync, Attempt: 2})
			if err != nil {
				t.Fatal(err)
			}
			s := staged.(*staging)
			if _, ok := s.Resumed(groups); !ok {
				t.Error("what was settled is read again")
				read(t, s, night, whole(groups, documents("a", "b")))
			}
			commit(t, s, night)
			nothingLeft(t, next)
		})
	}
}

// Frozen after its last check: there is nothing left that it could move the branch to,
// and it does not put into place what the next one prepared.
func TestFrozenInTheMiddleOfTheCommit(t *testing.T) {
	v, next := shared(t)
	first := plumbing.NewHash(git(t, v.config.Directory, "rev-parse", "main"))
	empty, err := tryGit(t, v.config.Directory, "", "commit-tree", "-p", "main", "-m", "x", "main^{tree}")
	if err != nil {
		t.Fatal(empty)
	}
	theirs := plumbing.NewHash(strings.TrimSpace(empty))
	frozen := begin(t, v, theSync)
	lock, err := v.lockRef(frozen.held, frozen.storage, first, theirs)
	if err != nil {
		t.Fatal(err)
	}
	s := begin(t, next, theSync)
	prepared, err := next.lockRef(s.held, s.storage, first, theirs)
	if err != nil {
		t.Fatalf("the lock of the frozen one is in the way: %v", err)
	}
	if err := lock.commit(); !errors.Is(err, errTakenOver) {
		t.Errorf("got %v", err)
	}
	if now := git(t, v.config.Directory, "rev-parse", "main"); now != first.String() {
		t.Errorf("the branch moved to %s", now)
	}
	if _, err := os.Stat(v.path("refs/heads/main.lock")); err != nil {
		t.Errorf("the lock of the next one: %v", err)
	}
	if _, err := v.lockRef(frozen.held, frozen.storage, first, theirs); err == nil {
		t.Error("it locks the branch beside the next one")
	}
	prepared.release()
	_, err = v.lockRef(frozen.held, frozen.storage, first, theirs)
	if !errors.Is(err, errTakenOver) {
		t.Errorf("got %v", err)
	}
	if err := errors.Join(frozen.Close(), s.Close()); err != nil {
		t.Error(err)
	}
	nothingLeft(t, v)
	left, err := os.ReadDir(v.config.Directory)
	for _, entry := range left {
		if strings.Contains(entry.Name(), ".tmp") {
			t.Errorf("%s is left", entry.Name())
		}
	}
	if err != nil {
		t.Error(err)
	}
}

// commitWhenTold reads, says so, and commits when a line comes.
func commitWhenTold(v *Vault) error {
	v.config.Shared, v.config.CheckpointInterval = true, 1
	ctx := context.Background()
	staging, err := v.Begin(ctx, port.Turn{Sync: theSync, Attempt: 1})
	if err != nil {
		return err
	}
	if err := staging.Add(groups, port.Item{ID: "a", JSON: []byte(`{}`)}); err != nil {
		return err
	}
	if _, err := staging.Settle(groups, port.Reading{Outcome: complete, Time: night}); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(os.Stdout, "settled"); err != nil {
		return err
	}
	bufio.NewScanner(os.Stdin).Scan()
	if _, err = staging.Commit(ctx, port.CommitInfo{Sync: theSync, Time: night}); !errors.Is(err, errTakenOver) {
		return fmt.Errorf("it committed: %w", err)
	}
	_, err = fmt.Fprintln(os.Stdout, "refused")
	return errors.Join(err, staging.Close())
}

// A real process, really frozen.
func TestStoppedProcess(t *testing.T) {
	v := newVault(t, func(c *Config) { c.Shared = true })
	command := child(t, roleFrozen, v.config.Directory)
	in, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	command.Stderr = os.Stderr
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "settled" {
		t.Fatal(lines.Text())
	}
	if err := command.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	s := begin(t, v, theSync)
	if _, ok := s.Resumed(groups); !ok {
		t.Error("what the frozen process settled is read again")
	}
	read(t, s, night, whole(apps, documents("x")))
	commit(t, s, night)
	head := git(t, v.config.Directory, "rev-parse", "main")
	if err := command.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintln(in); err != nil {
		t.Fatal(err)
	}
	if !lines.Scan() || lines.Text() != "refused" {
		t.Error(lines.Text())
	}
	if err := command.Wait(); err != nil {
		t.Error(err)
	}
	if now := git(t, v.config.Directory, "rev-parse", "main"); now != head {
		t.Errorf("the branch moved to %s", now)
	}
	nothingLeft(t, v)
}
