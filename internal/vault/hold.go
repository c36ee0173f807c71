package vault

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"

	"github.com/gofrs/flock"

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
type hold struct {
	path  string
	flock *flock.Flock
	// token is in the lock file while the repository is ours; empty: nobody takes it.
	token string
}

// errTakenOver says that another worker holds the repository by now.
var errTakenOver = errors.New("another worker took the repository over: this one changes nothing any more")

// hold takes the right to write.
func (v *Vault) hold() (*hold, error) {
	if v.config.Shared {
		return v.breakIn()
	}
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

// breakIn takes a shared repository from whoever holds it.
func (v *Vault) breakIn() (*hold, error) {
	h := &hold{path: v.path(lockFile), token: rand.Text()}
	file, err := os.CreateTemp(v.config.Directory, "."+lockFile+".tmp*")
	if err != nil {
		return nil, &port.StorageError{Err: err}
	}
	_, err = file.WriteString(h.token + "\n")
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
	if h.token == "" {
		return nil
	}
	now, err := os.ReadFile(h.path)
	if err != nil {
		return &port.StorageError{Err: err}
	}
	if string(now) != h.token+"\n" {
		return &port.StorageError{Err: errTakenOver}
	}
	return nil
}

func (h *hold) release() error { return h.flock.Unlock() }
