// Package vault keeps the backup of one tenant in Git.
//
// In: items as the source sent them, and how the reading of each type ended. Out:
// at most one commit per sync, made by the commit rules of docs/architecture.md:
// what was not read completely never changes or removes what was backed up.
//
// A bare repository per tenant, which the git command reads. One file per item,
// `<workload>/<type>/<id>.json`, in canonical JSON; `_index.json` per type says
// which id and name a file has; `coverage.json` says for each type whether the
// backup is complete, by which identity, since when. A commit is one pack, on the
// disk (fsync) before the reference names it. The vault owns the repository while
// a staging is open: a lock file keeps a second process out.
package vault

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/storage/filesystem"
	"github.com/gofrs/flock"

	"understudy.internal/internal/port"
)

// Config is what a vault is made of.
type Config struct {
	// Directory is the bare repository: made, or cloned from the remote, when it
	// does not exist.
	Directory string
	// Branch is the branch that the backup is on; `main` when empty.
	Branch string
	// Remote is pushed to after every commit; nil: none.
	Remote *Remote
	// FingerprintKey is the key of the fingerprints that stand for secrets.
	FingerprintKey []byte
	// CollapseWait is how long a collapsed list is not believed; 1 hour.
	CollapseWait time.Duration
	// AuthorName and AuthorEmail sign the commits.
	AuthorName, AuthorEmail string
	Logger                  *slog.Logger
}

// Vault implements [port.Vault].
type Vault struct {
	config Config
	logger *slog.Logger
	rules  sync.Map // configuration type id → *rules
}

var _ port.Vault = (*Vault)(nil)

// Open returns a vault. It touches nothing on the disk before Begin.
func Open(config Config) (*Vault, error) {
	if config.Directory == "" || len(config.FingerprintKey) < 16 {
		return nil, errors.New("a vault needs a directory and a fingerprint key of at least 16 bytes")
	}
	if config.Branch == "" {
		config.Branch = "main"
	}
	if err := plumbing.NewBranchReferenceName(config.Branch).Validate(); err != nil {
		return nil, fmt.Errorf("repository.branch %q is not a name for a branch", config.Branch)
	}
	if config.CollapseWait <= 0 {
		config.CollapseWait = time.Hour
	}
	if config.AuthorName == "" {
		config.AuthorName, config.AuthorEmail = "Understudy", "understudy@understudy.internal"
	}
	v := &Vault{config: config, logger: config.Logger}
	if v.logger == nil {
		v.logger = slog.New(slog.DiscardHandler)
	}
	return v, nil
}

func (v *Vault) ref() plumbing.ReferenceName { return plumbing.NewBranchReferenceName(v.config.Branch) }

// Head returns the commit and the tree of the branch; empty when there is none.
func (v *Vault) Head(context.Context) (commit, tree string, err error) {
	storage := v.storage()
	c, err := v.tip(storage)
	if err != nil || c == nil {
		return "", "", err
	}
	return c.Hash.String(), c.TreeHash.String(), nil
}

// storage opens the repository anew: what another process packed is seen.
func (v *Vault) storage() *filesystem.Storage {
	return filesystem.NewStorage(osfs.New(v.config.Directory), cache.NewObjectLRU(8*cache.MiByte))
}

// tip returns the commit of the branch, or nil.
func (v *Vault) tip(storage *filesystem.Storage) (*object.Commit, error) {
	ref, err := storage.Reference(v.ref())
	if errors.Is(err, plumbing.ErrReferenceNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the branch: %w", err)
	}
	commit, err := object.GetCommit(storage, ref.Hash())
	if err != nil {
		return nil, fmt.Errorf("reading the last commit: %w", err)
	}
	return commit, nil
}

// lockFile keeps a second process out of the repository.
const lockFile = "understudy.lock"

// take makes the repository if need be, and locks it. What an earlier process left
// when it was killed is removed: nobody else can be using it.
func (v *Vault) take(ctx context.Context) (*flock.Flock, error) {
	if err := os.MkdirAll(v.config.Directory, 0o700); err != nil {
		return nil, &port.StorageError{Err: err}
	}
	lock := flock.New(filepath.Join(v.config.Directory, lockFile))
	locked, err := lock.TryLock()
	if err != nil {
		return nil, &port.StorageError{Err: err}
	}
	if !locked {
		return nil, fmt.Errorf("the repository %s is in use by another process", v.config.Directory)
	}
	if err := v.prepare(ctx); err != nil {
		return nil, errors.Join(err, lock.Unlock())
	}
	return lock, nil
}

func (v *Vault) prepare(ctx context.Context) error {
	if _, err := os.Stat(filepath.Join(v.config.Directory, "HEAD")); errors.Is(err, os.ErrNotExist) {
		if err := v.initialize(); err != nil {
			return &port.StorageError{Err: err}
		}
	}
	for _, pattern := range []string{"objects/pack/" + temporaryPack + "*", "refs/heads/*.lock", "objects/pack/.*.tmp*", ".*.tmp*"} {
		left, err := filepath.Glob(filepath.Join(v.config.Directory, pattern))
		if err != nil {
			return err
		}
		for _, path := range left {
			if err := os.Remove(path); err != nil {
				return &port.StorageError{Err: err}
			}
		}
	}
	return v.follow(ctx)
}

// initialize makes a bare repository.
func (v *Vault) initialize() error {
	for _, folder := range []string{"objects/pack", "objects/info", "refs/heads", "refs/tags", "info"} {
		if err := os.MkdirAll(filepath.Join(v.config.Directory, folder), 0o700); err != nil {
			return err
		}
	}
	config := "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n[gc]\n\tauto = 0\n"
	if err := writeDurably(filepath.Join(v.config.Directory, "config"), 0o600, []byte(config)); err != nil {
		return err
	}
	// HEAD last: with it the repository is one.
	head := "ref: " + v.ref().String() + "\n"
	if err := writeDurably(filepath.Join(v.config.Directory, "HEAD"), 0o600, []byte(head)); err != nil {
		return err
	}
	return syncDirectory(v.config.Directory)
}

// setRef moves the branch from one commit to another, durably, with the lock file
// that git takes too.
func (v *Vault) setRef(storage *filesystem.Storage, from, to plumbing.Hash) error {
	path := filepath.Join(v.config.Directory, filepath.FromSlash(v.ref().String()))
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	file, err := os.OpenFile(path+".lock", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("locking the branch: %w", err)
	}
	defer os.Remove(path + ".lock") // gone already when all went well
	current := plumbing.ZeroHash
	switch ref, err := storage.Reference(v.ref()); {
	case err == nil:
		current = ref.Hash()
	case !errors.Is(err, plumbing.ErrReferenceNotFound):
		return errors.Join(err, file.Close())
	}
	if current != from {
		return errors.Join(fmt.Errorf("the branch moved from %s to %s meanwhile", from, current), file.Close())
	}
	_, err = file.WriteString(to.String() + "\n")
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".lock", path); err != nil {
		return err
	}
	return syncDirectory(filepath.Dir(path))
}

// packDirectory is where packs are.
func (v *Vault) packDirectory() string { return filepath.Join(v.config.Directory, "objects", "pack") }

// isItem says whether a file of a type's folder is an item.
func isItem(name string) bool { return name != indexFile && strings.HasSuffix(name, fileEnding) }

const (
	indexFile    = "_index.json"
	coverageFile = "coverage.json"
	fileEnding   = ".json"
)
