package vault

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/gofrs/flock"

	"understudy.internal/internal/port"
)

// Fault is something that is wrong with a repository.
type Fault struct {
	// What is wrong.
	What string
	// Remedy is what is done about it; empty: there is nothing that this package can do.
	Remedy string
	// Loss says that something of the backup is lost, whatever is done.
	Loss bool
}

// Repair is what a look at a repository found.
type Repair struct {
	// Exists is false when there is no repository: nothing was backed up here yet.
	Exists bool
	// Faults are what is wrong, or was when they were mended.
	Faults []Fault
	// Left are what is wrong still.
	Left []Fault
	// Held says that nothing was mended, because the remote cannot be asked, which may have
	// what is missing here.
	Held bool
	// Commit is where the branch is, or would be; empty: there is none.
	Commit string
	// Commits and Objects are how many were read, all that the branch needs.
	Commits, Objects int
}

// damagedFolder is where what is damaged is put aside, in a folder for each repair.
const damagedFolder = "understudy-damaged"

// viewFolder is how the names of folders begin in which a repository is looked at.
const viewFolder = "understudy-repair"

// Repair looks for what a power cut or a failing disk can leave in the repository, and,
// when apply is set, mends it. Every object that the branch needs is read and compared
// with its id; what cannot be read is taken from the remote, if it has it. Nothing that
// is damaged is deleted: it is put aside. Without apply nothing is changed. Nobody else
// may use the repository.
func (v *Vault) Repair(ctx context.Context, apply bool) (*Repair, error) {
	if _, err := os.Stat(v.config.Directory); errors.Is(err, os.ErrNotExist) {
		return &Repair{}, nil
	}
	lock := flock.New(v.path(lockFile))
	locked, err := lock.TryLock()
	if err == nil && !locked {
		err = fmt.Errorf("the repository %s is in use. Stop the service first", v.config.Directory)
	}
	if err != nil {
		return nil, &port.StorageError{Err: err}
	}
	found, err := v.repair(ctx, apply)
	if err == nil && apply && len(found.Faults) > 0 && !found.Held {
		// Whether it is mended is not assumed, but looked at.
		again, err := v.repair(ctx, false)
		if err != nil {
			return nil, errors.Join(err, lock.Unlock())
		}
		found.Left, found.Commit, found.Commits, found.Objects = again.Faults, again.Commit, again.Commits, again.Objects
		return found, lock.Unlock()
	}
	if err != nil {
		return nil, errors.Join(err, lock.Unlock())
	}
	found.Left = found.Faults
	return found, lock.Unlock()
}

func (v *Vault) repair(ctx context.Context, apply bool) (_ *Repair, err error) {
	views, err := glob(v.config.Directory, viewFolder+"-*") // of one that was killed
	if err != nil {
		return nil, &port.StorageError{Err: err}
	}
	for _, path := range views {
		if err := os.RemoveAll(path); err != nil {
			return nil, &port.StorageError{Err: err}
		}
	}
	r := &repairer{vault: v, found: &Repair{Exists: true}, linked: map[string]bool{}, trouble: &trouble{}}
	if r.view, err = v.newView(); err != nil {
		return nil, &port.StorageError{Err: err}
	}
	defer func() { err = errors.Join(err, os.RemoveAll(r.view.config.Directory)) }()
	for _, step := range []func(context.Context) error{r.layout, r.leftovers, r.packs, r.loose, r.branch, r.objects, r.references, r.memory, r.interrupted} {
		err := step(ctx)
		if hidden := r.trouble.err(); hidden != nil {
			err = &port.StorageError{Err: unreadableError(hidden)}
		}
		if err != nil {
			return nil, err
		}
	}
	if apply && !r.found.Held {
		if err := r.apply(); err != nil {
			return nil, &port.StorageError{Err: err}
		}
	}
	return r.found, nil
}

// unreadableError says what to do about what the system did not let be read.
func unreadableError(err error) error {
	text := "the repository cannot be looked at, because not everything in it can be read (this is not taken for damage: what is there may be whole)"
	if errors.Is(err, syscall.EIO) {
		text += ". Copy it to another disk with a program that goes on after errors, such as ddrescue, and repair the copy; on a network file system look after the server first"
	}
	return fmt.Errorf("%s: %w", text, err)
}

// newView makes an empty repository beside the files of this one. What is sound is
// linked into it, what is made anew is made there: so a look changes nothing.
func (v *Vault) newView() (*Vault, error) {
	folder, err := os.MkdirTemp(v.config.Directory, viewFolder+"-*")
	if err != nil {
		return nil, err
	}
	view := &Vault{config: v.config, remote: v.remote, logger: v.logger, now: v.now}
	view.config.Directory = folder
	return view, os.MkdirAll(view.packDirectory(), 0o700)
}

// repairer looks at a repository through a view of what is sound in it.
type repairer struct {
	vault, view *Vault
	found       *Repair
	// remove are paths to remove, aside those to put aside; initialize says that the
	// files around the objects are to be written anew.
	remove, aside []string
	initialize    bool
	// folder is where what is damaged was put aside; empty: nothing was yet.
	folder string
	// linked are the files in the view that are those of the repository; the others are
	// to come there.
	linked map[string]bool
	// tip is where the branch is to be, and moved says that it is not there.
	tip   plumbing.Hash
	moved bool
	// hasPacks says that there is a pack, damaged or not, or was one.
	hasPacks bool
	// unread are the objects of damaged packs that cannot be read, and unindexed says that
	// there was one of which nobody knows what it held.
	unread    []plumbing.Hash
	unindexed bool
	// asked says that the remote was asked.
	asked bool
	// trouble is what the system did not let be read. It ends the repair: nothing that is
	// hidden is taken for damaged.
	trouble *trouble
}

// storage opens what is sound, keptOpen so that files stay open until it is closed.
func (r *repairer) storage() *store {
	return newWatchedStore(r.view.config.Directory, false, r.trouble)
}

func (r *repairer) keptOpen() *store {
	return newWatchedStore(r.view.config.Directory, true, r.trouble)
}

// readFile reads a file of the repository.
func (r *repairer) readFile(name string) ([]byte, error) {
	content, err := os.ReadFile(r.vault.path(name))
	return content, r.trouble.note(err)
}

// readFolder reads a folder; one that is missing has nothing.
func (r *repairer) readFolder(path string) ([]fs.DirEntry, error) {
	files, err := readFolder(path) // that one is missing is said by layout
	return files, r.trouble.note(err)
}

func (r *repairer) fault(remedy, what string, arguments ...any) {
	r.found.Faults = append(r.found.Faults, Fault{What: fmt.Sprintf(what, arguments...), Remedy: remedy})
}

func (r *repairer) loss(remedy, what string, arguments ...any) {
	r.found.Faults = append(r.found.Faults, Fault{What: fmt.Sprintf(what, arguments...), Remedy: remedy, Loss: true})
}

// layout looks at the files that make a folder a repository.
func (r *repairer) layout(context.Context) error {
	v := r.vault
	for _, folder := range []string{"objects/pack", "refs/heads"} {
		info, err := os.Stat(v.path(folder))
		if err == nil && !info.IsDir() {
			return &port.StorageError{Err: fmt.Errorf("%s is no folder. Move it away, and repeat this", v.path(folder))}
		}
		if r.trouble.note(err) != nil {
			r.initialize = true
			r.fault("make it", "the folder %s is missing", folder)
		}
	}
	if content, err := r.readFile("config"); err != nil || !strings.Contains(string(content), "[core]") || strings.ContainsRune(string(content), 0) {
		r.initialize = true
		if err == nil {
			r.aside = append(r.aside, v.path("config"))
		}
		r.fault("write it anew", "the file config is missing, empty or damaged")
	}
	if content, err := r.readFile("HEAD"); err != nil || string(content) != v.headContent() {
		r.initialize = true
		r.fault("write it anew", "the file HEAD does not name the branch %s", v.config.Branch)
	}
	return nil
}

// leftovers looks for what was being written.
func (r *repairer) leftovers(context.Context) error {
	v := r.vault
	var kept string
	if content, err := r.readFile(checkpointFile); err == nil {
		var c checkpoint
		if json.Unmarshal(content, &c) == nil {
			kept = c.Pack // of a sync that another worker may take over
		} else if err := r.damagedCheckpoint(); err != nil {
			return err
		}
	}
	for _, pattern := range []string{
		"*.lock", "refs/heads/*.lock", "refs/heads/*/*.lock", "refs/tags/*.lock", ".*.tmp*", incomingFolder + "*",
		"objects/pack/" + temporaryPack + "*", "objects/pack/tmp_idx_*", "objects/pack/.*.tmp*", "objects/??/tmp_obj_*",
	} {
		paths, err := glob(v.config.Directory, pattern)
		if err != nil {
			return &port.StorageError{Err: r.trouble.note(err)}
		}
		for _, path := range paths {
			if base := filepath.Base(path); base != lockFile && base != kept && !slices.Contains(r.aside, path) {
				r.remove = append(r.remove, path)
			}
		}
	}
	for _, path := range r.remove {
		r.fault("remove it", "%s was left by a process that was killed", r.relative(path))
	}
	return nil
}

// damagedCheckpoint puts a checkpoint aside that does not say any more which pack it is
// of, with every pack that may be its own.
func (r *repairer) damagedCheckpoint() error {
	v := r.vault
	packs, err := glob(v.packDirectory(), temporaryPack+"*")
	if err != nil {
		return &port.StorageError{Err: r.trouble.note(err)}
	}
	r.aside = append(append(r.aside, v.path(checkpointFile)), packs...)
	r.fault("put it aside, with the packs that were not finished; what the sync had read is read again", "the checkpoint %s is damaged", checkpointFile)
	return nil
}

func (r *repairer) relative(path string) string {
	if short, err := filepath.Rel(r.vault.config.Directory, path); err == nil {
		return filepath.ToSlash(short)
	}
	return filepath.Base(path)
}

// references looks at the references but for the branch. They are somebody else's: what
// names nothing, also after the remote was asked, is put aside, because git refuses to
// work beside it.
func (r *repairer) references(context.Context) error {
	if r.found.Held {
		return nil // the remote may have what they name
	}
	v := r.vault
	if file, err := openWatched(v.path("packed-refs"), r.trouble); err == nil {
		sound := true
		lines := bufio.NewScanner(file)
		for lines.Scan() {
			id, name, _ := strings.Cut(strings.TrimPrefix(lines.Text(), "^"), " ")
			if !strings.HasPrefix(lines.Text(), "#") && (!plumbing.IsHash(id) || strings.ContainsRune(name, 0)) {
				sound = false
			}
		}
		if err := errors.Join(lines.Err(), file.Close()); err != nil || !sound {
			r.aside = append(r.aside, v.path("packed-refs"))
			r.fault("put it aside", "the file packed-refs is damaged")
		}
	}
	if slices.Contains(r.aside, v.path("packed-refs")) && !r.tip.IsZero() && !r.moved {
		if _, err := os.Lstat(v.path(v.ref().String())); isMissing(err) {
			r.moved = true // the branch is in that file only
		}
	}
	storage := r.storage()
	return filepath.WalkDir(v.path("refs"), func(path string, entry fs.DirEntry, err error) error {
		if isMissing(err) {
			return nil // said by layout
		}
		if err != nil {
			return &port.StorageError{Err: err}
		}
		if entry.IsDir() || path == v.path(v.ref().String()) || strings.HasSuffix(path, ".lock") {
			return nil
		}
		content, err := os.ReadFile(path)
		err = r.trouble.note(err)
		text := strings.TrimSpace(string(content))
		if err == nil && strings.HasPrefix(text, "ref: ") {
			return nil
		}
		if id, ok := parseID(text); !ok || storage.HasEncodedObject(id) != nil {
			r.aside = append(r.aside, path)
			r.fault("put it aside", "%s is empty or damaged, or names what is not there", r.relative(path))
		}
		return nil
	})
}

// counted returns a number of things, in words that fit it.
func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
