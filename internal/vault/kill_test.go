package vault

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"understudy.internal/internal/port"
)

// Roles of this test binary when a test runs it again.
const (
	childRole       = "UNDERSTUDY_VAULT_CHILD"
	roleCommits     = "commits"
	roleDiskFull    = "disk full"
	childRepository = "UNDERSTUDY_VAULT_REPOSITORY"
)

func runChild(role string) int {
	v, err := Open(Config{Directory: os.Getenv(childRepository), FingerprintKey: testKey})
	if err == nil {
		switch role {
		case roleCommits:
			for i := 0; err == nil; i++ {
				err = commitOnce(v, i)
			}
		case roleDiskFull:
			err = commitOnFullDisk(v)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// commitOnce makes a commit and says so when it is made.
func commitOnce(v *Vault, i int) error {
	ctx := context.Background()
	staging, err := v.Begin(ctx, "")
	if err != nil {
		return err
	}
	for j := range 20 {
		document := fmt.Sprintf(`{"process":%d,"round":%d,"item":%d}`, os.Getpid(), i, j)
		if err := staging.Add(groups, port.Item{ID: fmt.Sprint(j), JSON: []byte(document)}); err != nil {
			return err
		}
	}
	if _, err := staging.Settle(groups, port.Reading{Outcome: complete, Time: night}); err != nil {
		return err
	}
	snapshot, err := staging.Commit(ctx, port.CommitInfo{Sync: "x", Time: night})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(os.Stdout, snapshot.GetCommit())
	return errors.Join(err, staging.Close())
}

// commitOnFullDisk lets files grow to a limit only, which is what a full disk does.
func commitOnFullDisk(v *Vault) error {
	if err := commitOnce(v, 0); err != nil {
		return err
	}
	signal.Ignore(syscall.SIGXFSZ)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 64 << 10, Max: 64 << 10}); err != nil {
		return err
	}
	staging, err := v.Begin(context.Background(), "")
	if err != nil {
		return err
	}
	for i := range 16 {
		if err = staging.Add(scripts, port.Item{ID: fmt.Sprint(i), JSON: randomDocument(uint64(i), 1<<16)}); err != nil {
			break
		}
	}
	var storage *port.StorageError
	if !errors.As(err, &storage) {
		return fmt.Errorf("adding on a full disk: %w", err)
	}
	if _, err = staging.Settle(scripts, port.Reading{Outcome: complete, Time: night}); err == nil {
		_, err = staging.Commit(context.Background(), port.CommitInfo{Time: night})
	}
	if storage = nil; !errors.As(err, &storage) {
		return fmt.Errorf("committing on a full disk: %w", err)
	}
	return staging.Close()
}

func child(t *testing.T, role, repository string) *exec.Cmd {
	t.Helper()
	command := exec.CommandContext(t.Context(), os.Args[0])
	command.Env = append(os.Environ(), childRole+"="+role, childRepository+"="+repository)
	return command
}

// A process is killed at any moment, again and again: what it said to be committed
// is there, and the next one goes on.
func TestKilledAtAnyMoment(t *testing.T) {
	v := newVault(t, nil)
	commits := 0
	for round := range 12 {
		command := child(t, roleCommits, v.config.Directory)
		out, err := command.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		var said strings.Builder
		command.Stderr = &said
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		last := ""
		for range 1 + round%4*5 {
			if !lines.Scan() {
				t.Fatalf("the child ended: %s", said.String())
			}
			last = lines.Text()
			commits++
		}
		timer := time.AfterFunc(time.Duration(rand.IntN(30_000))*time.Microsecond, func() { _ = command.Process.Kill() })
		for lines.Scan() {
			last = lines.Text()
			commits++
		}
		timer.Stop()
		_ = command.Wait()
		if out, err := tryGit(t, v.config.Directory, "", "merge-base", "--is-ancestor", last, "main"); err != nil {
			t.Fatalf("%s was committed and is not there: %v %s", last, err, out)
		}
		if _, err := tryGit(t, v.config.Directory, "", "fsck", "--full", "--strict"); err != nil {
			t.Fatal("git fsck finds damage")
		}
	}
	runSync(t, v, night, whole(groups, documents(numbered(0, 20)...)), whole(apps, documents("x")))
	checkRepository(t, v)
	if n := len(packsOf(t, v)); n > maxPacks+1 {
		t.Errorf("%d packs", n)
	}
	if n, err := strconv.Atoi(git(t, v.config.Directory, "rev-list", "--count", "main")); err != nil || n < commits {
		t.Errorf("%d commits of %d: %v", n, commits, err)
	}
}

func TestDiskFull(t *testing.T) {
	v := newVault(t, nil)
	if out, err := child(t, roleDiskFull, v.config.Directory).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	now := files(t, v)
	if len(itemsOf(now, groups)) != 20 || itemsOf(now, scripts) != nil {
		t.Errorf("files %v", sortedKeys(now))
	}
	runSync(t, v, night, whole(scripts, documents("s")))
	checkRepository(t, v)
}
