package vault

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
)

// Roles of this test binary when a test runs it again.
const (
	childRole       = "UNDERSTUDY_VAULT_CHILD"
	roleCommits     = "commits"
	roleDiskFull    = "disk full"
	roleTakesOver   = "takes over"
	roleFrozen      = "frozen"
	roleFetchFull   = "fetches on a full disk"
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
		case roleFetchFull:
			err = fetchOnFullDisk(v)
		case roleTakesOver:
			v.config.CheckpointInterval = 1
			err = takeOverOnce(v, os.Stdout)
		case roleFrozen:
			err = commitWhenTold(v)
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
	staging, err := v.Begin(ctx, port.Turn{Attempt: 1})
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
	staging, err := v.Begin(context.Background(), port.Turn{Attempt: 1})
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

// startChild starts a child, and returns what it says, and its errors, which are complete
// when it ended.
func startChild(t *testing.T, role, repository string) (*exec.Cmd, *bufio.Scanner, *strings.Builder) {
	t.Helper()
	command := child(t, role, repository)
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	said := &strings.Builder{}
	command.Stderr = said
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	return command, bufio.NewScanner(out), said
}

// A process is killed at any moment, again and again: what it said to be committed
// is there, and the next one goes on.
func TestKilledAtAnyMoment(t *testing.T) {
	t.Parallel()
	v := newVault(t, nil)
	commits := 0
	for round := range 12 {
		command, lines, said := startChild(t, roleCommits, v.config.Directory)
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

// killedTypes is how many types a sync reads that is killed and taken over.
const killedTypes = 12

// takeOverOnce carries the same sync out as every other process of its role, and says
// how far it is. It ends with the commit.
func takeOverOnce(v *Vault, out io.Writer) error {
	ctx := context.Background()
	staging, err := v.Begin(ctx, port.Turn{Sync: theSync, Attempt: 1})
	if err != nil {
		return err
	}
	for i := range killedTypes {
		configurationType := &catalog.Type{ID: fmt.Sprintf("entra/type-%d", i)}
		word := "resumed"
		if _, ok := staging.Resumed(configurationType); !ok {
			for j := range 40 {
				document := fmt.Appendf(nil, `{"type":%d,"item":%d,"text":%q}`, i, j, strings.Repeat("x", i*j))
				if err := staging.Add(configurationType, port.Item{ID: fmt.Sprint(j), JSON: document}); err != nil {
					return err
				}
			}
			if _, err := staging.Settle(configurationType, port.Reading{Outcome: complete, Time: night}); err != nil {
				return err
			}
			word = "read"
		}
		if _, err := fmt.Fprintln(out, word, i); err != nil {
			return err
		}
	}
	snapshot, err := staging.Commit(ctx, port.CommitInfo{Sync: theSync, Time: night})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, "committed", snapshot.GetTree())
	return errors.Join(err, staging.Close())
}

// The workers of a sync are killed at any moment, one after the other: what one
// settled the next does not read again, and the backup is that of one that nobody
// killed.
func TestKilledAndTakenOver(t *testing.T) {
	t.Parallel()
	undisturbed := newVault(t, nil)
	began := time.Now()
	if err := takeOverOnce(undisturbed, io.Discard); err != nil {
		t.Fatal(err)
	}
	lasts := min(time.Since(began), 25*time.Millisecond) // the first kills are in the midst of it
	_, want, err := undisturbed.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	kills, resumed, readTwice := 0, 0, 0
	for range 3 {
		v := newVault(t, nil)
		reads := map[string]int{}
		lives := lasts
		for committed := false; !committed; {
			command, lines, said := startChild(t, roleTakesOver, v.config.Directory)
			var timer *time.Timer
			for lines.Scan() {
				if timer == nil { // it has begun
					timer = time.AfterFunc(rand.N(lives), func() { _ = command.Process.Kill() })
					lives += lasts / 4 // on a slow machine it gets to the end some time
				}
				word, rest, _ := strings.Cut(lines.Text(), " ")
				switch word {
				case "read":
					reads[rest]++
				case "resumed":
					resumed++
					if reads[rest] == 0 {
						reads[rest]++ // its reader was killed before it could say so
					}
				case "committed":
					committed = true
					if rest != want {
						t.Fatalf("the tree is %s, undisturbed it is %s", rest, want)
					}
				}
			}
			if timer != nil {
				timer.Stop()
			}
			if err := command.Wait(); err != nil {
				kills++
				if said.Len() > 0 {
					t.Fatal(said.String())
				}
			}
			if _, err := os.Stat(v.path("HEAD")); err == nil {
				if out, err := tryGit(t, v.config.Directory, "", "fsck", "--full", "--strict"); err != nil {
					t.Fatalf("git fsck finds damage: %s", out)
				}
			}
			// It may have been killed between the commit and saying so.
			if snapshot, err := v.Committed(t.Context(), theSync); err != nil || (snapshot != nil && snapshot.GetTree() != want) {
				t.Fatalf("%v, %v", snapshot, err)
			} else if snapshot != nil {
				committed = true
			}
		}
		for _, n := range reads {
			readTwice += n - 1
		}
		runSync(t, v, night, whole(groups, documents("a")))
		nothingLeft(t, v)
	}
	t.Logf("%d kills, %d times a type was resumed, %d times one was read again", kills, resumed, readTwice)
	if kills == 0 || resumed == 0 {
		t.Errorf("%d kills, %d resumed: nothing was shown", kills, resumed)
	}
	// A type is read again only when its worker was killed before the next checkpoint, and
	// all are when that was in the middle of the commit.
	if readTwice > resumed/2 {
		t.Errorf("%d types were read again after %d kills", readTwice, kills)
	}
}
