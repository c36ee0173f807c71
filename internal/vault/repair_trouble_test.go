package vault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/google/go-cmp/cmp"

	"understudy.internal/internal/port"
)

// folderAt puts a folder in the place of a file. It can be opened, by root too, and not
// be read: as with a file that the system does not let be read, nobody knows what is in
// it.
func folderAt(t *testing.T, path string) {
	t.Helper()
	overwrite(t, path, without)
	if err := os.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
}

// What cannot be read for the moment is not taken for damaged: the repair ends, and
// nothing was changed.
func TestRepairEndsWhereItCannotRead(t *testing.T) {
	loose := "objects/ab/" + strings.Repeat("cd", 19)
	index := func(v *Vault) string { return strings.TrimSuffix(onePackOf(t, v, "main"), ".pack") + ".idx" }
	for name, hide := range map[string]func(t *testing.T, v *Vault){
		"a pack":           func(t *testing.T, v *Vault) { folderAt(t, onePackOf(t, v, "main")) },
		"an index":         func(t *testing.T, v *Vault) { folderAt(t, index(v)) },
		"a loose object":   func(t *testing.T, v *Vault) { folderAt(t, v.path(loose)) },
		"the checkpoint":   func(t *testing.T, v *Vault) { folderAt(t, v.path(checkpointFile)) },
		"the notes":        func(t *testing.T, v *Vault) { folderAt(t, v.path(notesFile)) },
		"the packed refs":  func(t *testing.T, v *Vault) { folderAt(t, v.path("packed-refs")) },
		"the config":       func(t *testing.T, v *Vault) { folderAt(t, v.path("config")) },
		"a pack, no index": func(t *testing.T, v *Vault) { overwrite(t, index(v), without); folderAt(t, onePack(t, v)) },
		"a failing disk": func(t *testing.T, v *Vault) {
			// Linux answers EIO when the first page of a process is read.
			if runtime.GOOS != "linux" {
				t.Skip("needs /proc/self/mem")
			}
			if err := errors.Join(os.MkdirAll(v.path("objects/ab"), 0o700), os.Symlink("/proc/self/mem", v.path(loose))); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVault(t, nil)
			runSync(t, v, night, whole(groups, documents("a")))
			hide(t, v)
			before := namesIn(t, v.config.Directory)
			found, err := v.Repair(t.Context(), true)
			var stored *port.StorageError
			if !errors.As(err, &stored) || !isTrouble(err) || !strings.Contains(err.Error(), "not taken for damage") {
				t.Errorf("%+v, %v", found, err)
			}
			if disk := strings.Contains(fmt.Sprint(err), "ddrescue"); disk != errors.Is(err, syscall.EIO) || disk != (name == "a failing disk") {
				t.Errorf("it does not say what to do: %v", err)
			}
			if diff := cmp.Diff(before, namesIn(t, v.config.Directory)); diff != "" {
				t.Errorf("something was changed: %s", diff)
			}
		})
	}
}

// onePack returns the only pack.
func onePack(t *testing.T, v *Vault) string {
	t.Helper()
	packs := packsOf(t, v)
	if len(packs) != 1 {
		t.Fatalf("%d packs", len(packs))
	}
	return packs[0]
}

// namesIn returns the paths in a folder.
func namesIn(t *testing.T, folder string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if entry != nil && entry.Name() != lockFile {
			names = append(names, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// An object that cannot be read because the system does not let its file be read is no
// damaged one, whether this package reads it or go-git.
func TestHiddenObjectsAreNotDamaged(t *testing.T) {
	for name, place := range map[string]func(v *Vault, id string) string{
		"in a pack": func(v *Vault, _ string) string { return onePack(t, v) },
		"loose":     func(v *Vault, id string) string { return v.path("objects/" + id[:2] + "/" + id[2:]) },
	} {
		v := newVault(t, nil)
		runSync(t, v, night, whole(groups, documents("a")))
		id := git(t, v.config.Directory, "rev-parse", "main")
		if name == "loose" {
			id = strings.Repeat("ab", 20)
		}
		folderAt(t, place(v, id))
		hidden := &trouble{}
		w := newWalk(t.Context(), newWatchedStore(v.config.Directory, false, hidden))
		if w.has(plumbing.NewHash(id)) || !errors.Is(hidden.err(), syscall.EISDIR) {
			t.Errorf("%s: %v", name, hidden.err())
		}
	}
}

func TestTrouble(t *testing.T) {
	for _, number := range []syscall.Errno{syscall.EACCES, syscall.EPERM, syscall.EMFILE, syscall.ENFILE, syscall.EIO, syscall.ENOMEM, syscall.ESTALE, syscall.ETIMEDOUT, syscall.ENOSPC} {
		if err := fmt.Errorf("reading: %w", &fs.PathError{Op: "open", Path: "x", Err: number}); !isTrouble(err) {
			t.Errorf("%v is taken for damage", err)
		}
	}
	for _, err := range []error{nil, io.EOF, io.ErrUnexpectedEOF, errDamaged, plumbing.ErrObjectNotFound, context.Canceled, fs.ErrNotExist, syscall.ENOENT, &fs.PathError{Err: syscall.ENOTDIR}} {
		if isTrouble(err) {
			t.Errorf("%v is taken for trouble", err)
		}
	}
}
