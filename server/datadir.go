package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"

	"understudy.internal/internal/durable"
)

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
		return nil, fmt.Errorf("data_dir %s is in use by another process: stop it, or use another data_dir. "+
			"Replicas that have one data_dir all need `data_dir_shared: true`", cfg.DataDir)
	}
	return lock.Unlock, nil
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
