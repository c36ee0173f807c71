package vault

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"

	"understudy.internal/internal/durable"
	"understudy.internal/internal/port"
)

// incomingFolder is how the names of folders begin where what a remote sends is kept
// until it is whole.
const incomingFolder = "understudy-incoming"

func (v *Vault) path(name string) string {
	return filepath.Join(v.config.Directory, filepath.FromSlash(name))
}

// packDirectory is where packs are.
func (v *Vault) packDirectory() string { return v.path("objects/pack") }

// take makes the repository if need be, and locks it. What an earlier process left
// when it was killed is removed: nobody else can be using it. What is of use to the
// sync is left and returned.
func (v *Vault) take(ctx context.Context, whose port.Turn) (*hold, *checkpoint, error) {
	if err := makeDirectory(v.config.Directory); err != nil {
		return nil, nil, &port.StorageError{Err: err}
	}
	held, err := v.hold(turn{sync: whose.Sync, attempt: whose.Attempt})
	if err != nil {
		return nil, nil, err
	}
	left := v.readCheckpoint(whose.Sync)
	if err := v.prepare(ctx, held, whose, left); err != nil {
		return nil, nil, errors.Join(err, held.release())
	}
	return held, left, nil
}

func (v *Vault) prepare(ctx context.Context, held *hold, whose port.Turn, left *checkpoint) error {
	if err := v.initialize(); err != nil {
		return &port.StorageError{Err: err}
	}
	if err := v.clean(left); err != nil {
		return &port.StorageError{Err: err}
	}
	if err := v.restore(held); err != nil {
		return err
	}
	if err := v.follow(ctx, held, whose); err != nil {
		return err
	}
	return v.checkBegin()
}

// initialize makes a bare repository, and lets HEAD name the branch.
func (v *Vault) initialize() error {
	v.sayNew()
	for _, folder := range []string{"objects/pack", "objects/info", "refs/heads", "refs/tags", "info"} {
		if err := makeDirectory(v.path(folder)); err != nil {
			return err
		}
	}
	if _, err := os.Stat(v.path("config")); errors.Is(err, os.ErrNotExist) {
		config := "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n[gc]\n\tauto = 0\n"
		if err := writeDurably(v.path("config"), []byte(config)); err != nil {
			return err
		}
	}
	head := v.headContent()
	if now, err := os.ReadFile(v.path("HEAD")); err == nil && string(now) == head {
		return nil
	}
	// HEAD last: with it the folder is a repository.
	if err := writeDurably(v.path("HEAD"), []byte(head)); err != nil {
		return err
	}
	return durable.SyncFolder(v.config.Directory)
}

// sayNew says that a repository is begun: where the folder of one was moved away, a new
// history would begin beside it, and nobody would notice.
func (v *Vault) sayNew() {
	if v.remote != nil {
		return // it begins with what the remote has
	}
	for _, part := range []string{"HEAD", "config", "objects"} {
		if _, err := os.Stat(v.path(part)); !errors.Is(err, os.ErrNotExist) {
			return
		}
	}
	v.logger.Warn("there is no backup of this tenant yet: a new one is begun; if there was one, stop the service and put it back", "path", v.config.Directory)
}

func (v *Vault) headContent() string { return "ref: " + v.ref().String() + "\n" }

// clean removes what a killed process left behind, but for a checkpoint.
func (v *Vault) clean(kept *checkpoint) error {
	left := []string{v.path(v.ref().String()) + ".lock"}
	if kept == nil {
		left = append(left, v.path(checkpointFile))
	}
	for _, pattern := range []string{
		"objects/pack/" + temporaryPack + "*", "objects/pack/.*.tmp*", ".*.tmp*", incomingFolder + "*", viewFolder + "-*",
	} {
		paths, err := glob(v.config.Directory, pattern)
		if err != nil {
			return err
		}
		left = append(left, paths...)
	}
	half, err := v.halfPacks()
	if err != nil {
		return err
	}
	for _, path := range append(left, half...) {
		if kept != nil && filepath.Base(path) == kept.Pack {
			continue
		}
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	return nil
}

// halfPackAge is how old a pack without an index, or an index without a pack, has to
// be to be taken for a leftover. A younger one may be what `git gc` is about to put in
// place of all others: git names the pack first, then the index. It may also be what a
// worker names at this moment that does not know yet that it was replaced.
const halfPackAge = time.Hour

// halfPacks returns old packs without an index, and indexes without a pack: their
// objects belong to nothing yet, or are in another pack already.
func (v *Vault) halfPacks() ([]string, error) {
	files, err := os.ReadDir(v.packDirectory())
	if err != nil {
		return nil, err
	}
	endings := map[string]int{}
	for _, file := range files {
		base, ending, _ := strings.Cut(file.Name(), ".")
		if !strings.HasPrefix(base, "pack-") || (ending != "pack" && ending != "idx") {
			continue
		}
		endings[base]++
		if info, err := file.Info(); err == nil && time.Since(info.ModTime()) < halfPackAge {
			endings[base]++ // whole, or not for us to judge
		}
	}
	var half []string
	for base, n := range endings {
		if n == 1 {
			path := filepath.Join(v.packDirectory(), base)
			half = append(half, path+".pack", path+".idx")
		}
	}
	return half, nil
}

// restore brings a branch back that is gone (deleted by hand, or another one was
// configured): it begins at the last commit of this vault. To begin anew, remove
// the repository.
func (v *Vault) restore(held *hold) error {
	storage := v.storage()
	if id, err := v.branch(storage); err != nil || !id.IsZero() {
		return err
	}
	notes, err := v.readNotes()
	if err != nil || notes.Commit == "" {
		return err
	}
	last := plumbing.NewHash(notes.Commit)
	if _, err := object.GetCommit(storage, last); err != nil {
		return fmt.Errorf("the branch is gone, and its last commit cannot be read: %w", err)
	}
	v.logger.Warn("the branch was missing and begins at the last commit", "branch", v.config.Branch, "commit", notes.Commit)
	if err := v.setRef(held, storage, plumbing.ZeroHash, last); err != nil {
		return &port.StorageError{Err: err}
	}
	return nil
}

// setRef moves the branch from one commit to another, durably.
func (v *Vault) setRef(held *hold, storage *store, from, to plumbing.Hash) error {
	lock, err := v.lockRef(held, storage, from, to)
	if err != nil {
		return err
	}
	return lock.commit()
}

// refLock is the lock file of the branch, the one that git takes too, and a file with
// what the branch is to be. That one has a name of its own: who takes the repository
// over removes it, after its token is in the lock file. So a worker that was replaced
// while it was frozen, be it after its last check, has nothing to rename any more, and
// does not put into place what its successor prepared.
type refLock struct {
	path, next string
	// mark is what is in the lock file, so that nobody removes that of another.
	mark string
}

// lockRef makes ready to move the branch. What it wrote is on the disk.
func (v *Vault) lockRef(held *hold, storage *store, from, to plumbing.Hash) (_ *refLock, err error) {
	lock := &refLock{path: v.path(v.ref().String()), mark: rand.Text()}
	if err := makeDirectory(filepath.Dir(lock.path)); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(lock.path+".lock", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking the branch: %w", err)
	}
	defer func() {
		if err != nil {
			lock.release()
		}
	}()
	_, err = file.WriteString(lock.mark)
	if err = errors.Join(err, file.Close()); err != nil {
		return nil, err
	}
	if file, err = os.CreateTemp(v.config.Directory, ".branch.tmp*"); err != nil { // mode 0600
		return nil, err
	}
	lock.next = file.Name()
	_, err = file.WriteString(to.String() + "\n")
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return nil, err
	}
	current, err := v.branch(storage)
	if err == nil && current != from {
		err = fmt.Errorf("the branch moved from %s to %s meanwhile", from, current)
	}
	if err == nil {
		err = held.check() // after the file is there
	}
	return lock, err
}

// release leaves the branch where it is. What it cannot remove the next sync does.
func (l *refLock) release() {
	if l.next != "" {
		_ = os.Remove(l.next)
	}
	if now, err := os.ReadFile(l.path + ".lock"); err == nil && string(now) == l.mark {
		_ = os.Remove(l.path + ".lock")
	}
}

// commit moves the branch, durably. An unconfirmedError says that it moved, and that
// the disk did not confirm it.
func (l *refLock) commit() error {
	defer l.release()
	if err := os.Rename(l.next, l.path); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			err = errTakenOver
		}
		return err
	}
	if err := durable.SyncFolder(filepath.Dir(l.path)); err != nil {
		return &unconfirmedError{err}
	}
	return nil
}

// unconfirmedError says that the branch moved, though a power cut may take that back.
type unconfirmedError struct{ err error }

func (e *unconfirmedError) Error() string {
	return "the branch moved, and the disk did not confirm it: " + e.err.Error()
}
func (e *unconfirmedError) Unwrap() error { return e.err }
