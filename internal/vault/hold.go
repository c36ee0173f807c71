package vault

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"github.com/oklog/ulid/v2"

	"understudy.internal/internal/port"
)

// lockFile keeps a second process out of the repository.
const lockFile = "understudy.lock"

// hold is the right to write to a repository.
//
// Where one process has the disk it is a lock of the operating system: it ends with
// the process. On a disk that several share that is not enough, because a process that
// is frozen, or whose machine is cut off, keeps it. There, whoever comes last holds the
// repository: a random token, in a lock file that replaces the one before. The earlier
// holder finds out before each of its steps that shows, and the one step that cannot
// be taken back, moving the branch, is a rename of a file that the later one removes
// after its token is there: see [refLock].
//
// Who comes last is not who is late. A worker that was frozen before it began, and goes
// on when its sync has another worker or is over, would take the repository from the one
// that may have it. So the lock file also says whose turn it is, and an earlier turn is
// refused. What stays is the moment between reading the file and replacing it: a process
// that is frozen exactly there takes the repository, the other one's sync fails, and the
// next one is as usual. Nothing wrong is committed: before its commit a worker asks the
// log whether the sync is still its own.
//
// To ask for a commit ([Vault.Committed]) takes the repository from nobody on a shared
// disk: it only adds packs, which are whole when they are named, and what another one
// clears away under its hands is an error. [Vault.Repair] is for when nobody is at work;
// it leaves the lock file, and the turn in it, as it is.
type hold struct {
	path  string
	flock *flock.Flock
	// written is in the lock file while the repository is ours; empty: nobody takes it.
	written string
}

// turn is the part of a [port.Turn] that a lock file says.
type turn struct {
	sync    string
	attempt int
}

// clockDifference is how far apart the clocks of two machines may be. Of two syncs whose
// ids are closer none is the earlier one.
const clockDifference = 10 * time.Second

// before says whether a turn is over when another one has begun. Of a sync it is the
// attempts that have an order, of two syncs the times in their ids. Without both there
// is none.
func (t turn) before(other turn) bool {
	if t.sync == other.sync {
		return t.attempt < other.attempt
	}
	created, ok := createdAt(t.sync)
	later, known := createdAt(other.sync)
	return ok && known && created.Add(clockDifference).Before(later)
}

// createdAt returns the time in the id of a sync.
func createdAt(sync string) (time.Time, bool) {
	id, err := ulid.ParseStrict(strings.ToUpper(path.Base(sync)))
	return id.Timestamp(), err == nil
}

// String is the line of the lock file.
func (t turn) String() string { return fmt.Sprintf("%d %s", t.attempt, t.sync) }

// turnIn returns the turn that a lock file says, none if it says none: it is empty where
// a lock of the system is used, and had only the token once.
func turnIn(written string) (t turn) {
	_, line, _ := strings.Cut(written, "\n")
	attempt, sync, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
	n, err := strconv.Atoi(attempt)
	if err != nil || sync == "" {
		return turn{}
	}
	return turn{sync: sync, attempt: n}
}

// errTakenOver says that another worker holds the repository by now.
var errTakenOver = errors.New("another worker took the repository over: this one changes nothing any more")

// hold takes the right to write.
func (v *Vault) hold(whose turn) (*hold, error) {
	if v.config.Shared {
		return v.breakIn(whose)
	}
	return v.lock()
}

// lock takes the lock of the system.
func (v *Vault) lock() (*hold, error) {
	h := &hold{path: v.path(lockFile), flock: flock.New(v.path(lockFile))}
	locked, err := h.flock.TryLock()
	if err != nil {
		return nil, &port.StorageError{Err: err}
	}
	if !locked {
		return nil, &port.StorageError{Err: fmt.Errorf("the repository %s is in use", v.config.Directory)}
	}
	return h, nil
}

// breakIn takes a shared repository from whoever holds it, unless that one's turn is
// later.
func (v *Vault) breakIn(whose turn) (*hold, error) {
	h := &hold{path: v.path(lockFile), written: rand.Text() + "\n" + whose.String() + "\n"}
	now, err := os.ReadFile(h.path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, &port.StorageError{Err: err}
	}
	if whose.before(turnIn(string(now))) {
		return nil, &port.StorageError{Err: errTakenOver}
	}
	file, err := os.CreateTemp(v.config.Directory, "."+lockFile+".tmp*")
	if err != nil {
		return nil, &port.StorageError{Err: err}
	}
	_, err = file.WriteString(h.written)
	err = errors.Join(err, file.Sync(), file.Close())
	h.flock = flock.New(file.Name()) // says that somebody is at work, no more
	if err == nil {
		_, err = h.flock.TryLock()
	}
	if err == nil {
		err = os.Rename(file.Name(), h.path)
	}
	if err != nil {
		_ = os.Remove(file.Name())
		return nil, &port.StorageError{Err: errors.Join(err, h.flock.Unlock())}
	}
	return h, nil
}

// check says whether the repository is still ours.
func (h *hold) check() error {
	if h.written == "" {
		return nil
	}
	now, err := os.ReadFile(h.path)
	if err != nil {
		return &port.StorageError{Err: err}
	}
	if string(now) != h.written {
		return &port.StorageError{Err: errTakenOver}
	}
	return nil
}

func (h *hold) release() error { return h.flock.Unlock() }
