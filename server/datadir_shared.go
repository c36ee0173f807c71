package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"understudy.internal/internal/durable"
)

const (
	// sharedIDFile is the file by which replicas know that their data_dir is one and the
	// same: the id in it is random, and made once.
	sharedIDFile = "shared-id"
	// dataDirMark is the name under which the journal has that id, beside the marks of the
	// keys.
	dataDirMark = "data_dir"
)

// sharedMarks keeps what all replicas have. [journal.Store] does.
type sharedMarks interface {
	// Load returns what is stored under a name; nil when nothing is.
	Load(name string) ([]byte, error)
	// Add stores a value, unless there is one, and returns what is stored then.
	Add(name string, value []byte) ([]byte, error)
}

// checkSharedDataDir refuses a data_dir that is declared to be that of all replicas and
// is not: each replica would have a backup of its own, and nobody would notice. The
// first replica leaves the id of its data_dir in the journal.
//
// A copy of a data_dir has the same id, and is not found out.
func checkSharedDataDir(store sharedMarks, cfg *config) error {
	if !cfg.DataDirShared {
		return nil
	}
	stored, err := store.Load(dataDirMark)
	if err != nil {
		return fmt.Errorf("comparing data_dir with that of the other replicas: %w", err)
	}
	own, err := sharedID(cfg.DataDir)
	if err != nil {
		return err
	}
	if own == "" && stored == nil { // it is not made beside the right one, such as where that is not mounted
		if own, err = makeSharedID(cfg.DataDir); err != nil {
			return err
		}
	}
	if stored == nil {
		if stored, err = store.Add(dataDirMark, []byte(own)); err != nil {
			return fmt.Errorf("noting which data_dir the replicas share: %w", err)
		}
	}
	if own == string(stored) {
		return nil
	}
	return fmt.Errorf("data_dir %s is not the one that the replicas on this cluster share, though data_dir_shared says so: "+
		"each would have a backup of its own. Mount the file system with the one that they share (it has the file %s), and start again. "+
		"Where each machine has a disk of its own, leave data_dir_shared out, and write the repository.remote of every tenant. "+
		"To begin anew with this data_dir, without the backups in the other one: stop all replicas, "+
		"run `understudy forget data-dir --config FILE` once, and start them", cfg.DataDir, sharedIDFile)
}

// sharedID returns the id of a data_dir, or an empty one where there is none.
func sharedID(folder string) (string, error) {
	path := filepath.Join(folder, sharedIDFile)
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	id := strings.TrimSpace(string(content))
	if err == nil && len(id) != 32 {
		err = errors.New("it is damaged. Start again; if it stays so, remove it, and run `understudy forget data-dir --config FILE` while no replica runs")
	}
	if err != nil {
		return "", fmt.Errorf("reading the id of data_dir from %s: %w", path, err)
	}
	return id, nil
}

// makeSharedID makes the id of a data_dir, and returns the one that is there then: of
// replicas that start at once, on whatever machines, one makes it. A link is never put in
// the place of a file; where a file system has none the file is made and then written.
func makeSharedID(folder string) (string, error) {
	id := make([]byte, 16)
	rand.Read(id) // never fails
	content := []byte(hex.EncodeToString(id) + "\n")
	path := filepath.Join(folder, sharedIDFile)
	ready := path + "-" + hex.EncodeToString(id[:4])
	err := durable.WriteFile(ready, content)
	if err == nil {
		if err = os.Link(ready, path); err != nil && !errors.Is(err, fs.ErrExist) {
			err = writeNew(path, content)
		}
		err = errors.Join(err, os.Remove(ready), durable.SyncFolder(folder))
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("making the id of data_dir: %w", err)
	}
	return sharedID(folder)
}

// writeNew writes a file that must not be there.
func writeNew(path string, content []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	return errors.Join(err, file.Sync(), file.Close())
}

// forgetDataDirCommand is `understudy forget data-dir`.
type forgetDataDirCommand struct {
	Config string `required:"" short:"c" placeholder:"FILE" help:"The configuration file of a replica (YAML)."`
}

// Help implements kong's HelpProvider.
func (*forgetDataDirCommand) Help() string {
	return `With data_dir_shared all replicas on one cluster have one and the same data_dir: one that has another does not start, because it would have a backup of its own. This command lets the replica that starts next say which one it is. Nothing in any data_dir is changed.

Use it when the data_dir was lost, or given up on purpose. Stop all replicas first. The command listens for half of the lease time, and refuses while a replica is heard; one that is frozen or cut off from the cluster is not.

Examples:

  understudy forget data-dir --config /etc/understudy/understudy.yaml`
}

// Run forgets the mark of the data_dir.
func (c *forgetDataDirCommand) Run(ctx context.Context, std streams) error {
	if err := forgetMarks(ctx, c.Config, "which shares its data_dir with nobody", dataDirMark); err != nil {
		return fmt.Errorf("which data_dir the replicas share is not forgotten: %w", err)
	}
	return std.say("Which data_dir the replicas share is forgotten: that of the replica that starts next counts.\n")
}
