package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/gofrs/flock"

	"understudy.internal/internal/durable"
)

// errInUse says that another process has the data_dir.
var errInUse = errors.New("in use by another process")

// lockDataDir makes data_dir and keeps other processes out of it. Where it is shared
// it keeps out those only that do not share it.
func lockDataDir(cfg *config) (unlock func() error, err error) {
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("making data_dir: %w", err)
	}
	lock := flock.New(filepath.Join(cfg.DataDir, "lock"), flock.SetPermissions(0o600))
	try := lock.TryLock
	if cfg.DataDirShared {
		try = lock.TryRLock
	}
	locked, err := try()
	if err != nil {
		return nil, fmt.Errorf("locking data_dir: %w", err)
	}
	if !locked {
		return nil, fmt.Errorf("data_dir %s is %w: stop it, or use another data_dir. "+
			"Replicas that have one data_dir all need `data_dir_shared: true`", cfg.DataDir, errInUse)
	}
	if err := checkWritable(cfg.DataDir); err != nil {
		return nil, errors.Join(err, lock.Unlock())
	}
	return lock.Unlock, nil
}

// findDataDir refuses a data_dir without a part that a service makes there. It is for
// commands that work on what a service left, and makes nothing.
func findDataDir(cfg *config, file, part string) error {
	what := ""
	if _, err := os.Stat(cfg.DataDir); errors.Is(err, fs.ErrNotExist) {
		what = "does not exist"
	} else if _, err := os.Stat(filepath.Join(cfg.DataDir, part)); errors.Is(err, fs.ErrNotExist) {
		what = "has no folder " + part
	}
	if what == "" {
		return nil
	}
	return &exitError{exitUsage, fmt.Sprintf("data_dir %s %s: no service has stored anything there. A data_dir that is not a whole path "+
		"begins at the working directory: repeat this in the folder in which the service is started, or write the whole path into %s", cfg.DataDir, what, file)}
}

// checkWritable finds out at once what the parts of data_dir would find out late: that
// its disk is read-only, or that it is not ours. A full one is said by the journal.
func checkWritable(folder string) error {
	file, err := os.CreateTemp(folder, ".writable-*")
	switch {
	case err == nil:
		return errors.Join(file.Close(), os.Remove(file.Name()))
	case errors.Is(err, syscall.EROFS), errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("data_dir cannot be written: %w. The backups in it can still be read with git", err)
	}
	return nil
}

// removeLeftovers removes the half-written files of a process that was killed. The
// repositories are the vaults' own. Nobody may be writing: where data_dir is shared
// the files stay, which are few and small.
func removeLeftovers(cfg *config) error {
	if cfg.DataDirShared {
		return nil
	}
	folders, err := filepath.Glob(filepath.Join(cfg.DataDir, "cursors", "*"))
	for _, name := range []string{"keys", "tokens", "repositories"} {
		folders = append(folders, filepath.Join(cfg.DataDir, name))
	}
	for _, folder := range folders {
		err = errors.Join(err, durable.RemoveLeftovers(folder))
	}
	return err
}

// lockFile waits until this process has a file for itself.
func lockFile(path string) (unlock func(), err error) {
	lock := flock.New(path, flock.SetPermissions(0o600))
	if err := lock.Lock(); err != nil {
		return nil, fmt.Errorf("locking %s: %w", path, err)
	}
	return func() { _ = lock.Unlock() }, nil // it ends with the process, at the latest
}
