// Package vault keeps the backup of one tenant in Git.
//
// In: items as the source sent them, and how the reading of each type ended. Out:
// at most one commit per sync, made by the commit rules of docs/architecture.md:
// what was not read completely never changes or removes what was backed up.
//
// A bare repository per tenant, which the git command reads. One file per item,
// `<workload>/<type>/<id>.json`, in canonical JSON; `_index.json` per type says
// which id and name a file has, `_names.json` what the ids are called that its items
// refer to; `coverage.json` says for each type whether the
// backup is complete, by which identity, since when. Beside an item may be files
// that belong to it: its payloads, `<id>.<property>.<extension>`, and its secrets,
// sealed to those who may read them, `<id>.secrets.age`. They are no items and are
// not counted; a change of one is a change of its item. In the folder of a type the
// regular files that end with `.json` and those beside an item belong to this
// package; everything else that somebody put into the repository stays as it is. A
// commit is one pack, on the
// disk (fsync) before the reference names it. The vault owns the repository while
// a staging is open: a lock file keeps a second process out, or, on a disk that
// several share, the one before.
//
// The local repository is the truth between syncs, unless the remote is that of several
// machines, which is the truth then. A remote is followed when a sync begins and pushed
// to after its commit. That it cannot be reached stops neither reading nor committing;
// where it is the truth, a sync cannot begin without it.
package vault

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"

	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
)

// Config is what a vault is made of.
type Config struct {
	// Directory is the bare repository: made, or cloned from the remote, when it
	// does not exist.
	Directory string
	// Branch is the branch that the backup is on; `main` when empty.
	Branch string
	// Remote is followed, and pushed to after every commit; nil: none.
	Remote *Remote
	// Replicated says that other machines back the same tenant up to the same remote:
	// the remote is the truth, and the repository here a cache of it.
	Replicated bool
	// Shared says that other processes use the same disk for the same repository, and
	// agree elsewhere on which of them may: the last one that begins holds it.
	Shared bool
	// FingerprintKey is the key of the fingerprints that stand for secrets.
	FingerprintKey []byte
	// PreviousFingerprintKeys are the keys before: a fingerprint by one of them stays
	// while the secret does.
	PreviousFingerprintKeys [][]byte
	// Recipients are public keys of age. The secrets of an item are sealed to all of
	// them in a file beside it; none: they are in no file.
	Recipients []string
	// CheckpointInterval is how long what was settled may be in no checkpoint; 10
	// seconds. A long sync makes fewer. Negative: there are none.
	CheckpointInterval time.Duration
	// CollapseWait is how long a collapsed list is not believed; 1 hour.
	CollapseWait time.Duration
	// AuthorName and AuthorEmail sign the commits.
	AuthorName, AuthorEmail string
	Logger                  *slog.Logger
}

// Vault implements [port.Vault].
type Vault struct {
	config Config
	remote *remote
	sealer *sealer // nil: nothing is sealed
	logger *slog.Logger
	rules  sync.Map // *catalog.Type → *rules
	// reading is held by those who read objects while no staging is theirs, so
	// that packs are not removed under their hands.
	reading sync.RWMutex
	// now is the clock.
	now func() time.Time
	// stepped is called after each step of a repair that changes something: a test ends it
	// there.
	stepped func() error
	// patience is the first wait for a remote that cannot be reached.
	patience time.Duration
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
	if strings.ContainsAny(config.AuthorName+config.AuthorEmail, "<>\n\x00") {
		return nil, errors.New("the author of commits has a character that Git does not take")
	}
	if config.CheckpointInterval == 0 {
		config.CheckpointInterval = 10 * time.Second
	}
	v := &Vault{config: config, logger: config.Logger, now: time.Now, stepped: func() error { return nil }, patience: time.Second}
	if v.logger == nil {
		v.logger = slog.New(slog.DiscardHandler)
	}
	var err error
	if v.sealer, err = newSealer(config.Recipients, append([][]byte{config.FingerprintKey}, config.PreviousFingerprintKeys...)); err != nil {
		return nil, err
	}
	v.remote, err = newRemote(config.Remote)
	return v, err
}

func (v *Vault) ref() plumbing.ReferenceName { return plumbing.NewBranchReferenceName(v.config.Branch) }

// Head returns the commit and the tree of the branch; empty when there is none.
func (v *Vault) Head(context.Context) (commit, tree string, err error) {
	v.reading.RLock()
	defer v.reading.RUnlock()
	c, err := v.tip(v.storage())
	if err != nil || c == nil {
		return "", "", err
	}
	return c.Hash.String(), c.TreeHash.String(), nil
}

// storage opens the repository anew: what was packed meanwhile is seen.
func (v *Vault) storage() *store {
	return newStore(v.config.Directory, false)
}

// keptOpen is storage that keeps its files open: it is for many reads, and closed
// after them.
func (v *Vault) keptOpen() *store { return newStore(v.config.Directory, true) }

// tip returns the commit of the branch, or nil.
func (v *Vault) tip(storage *store) (*object.Commit, error) {
	id, err := v.branch(storage)
	if err != nil || id.IsZero() {
		return nil, err
	}
	commit, err := object.GetCommit(storage, id)
	if err != nil {
		return nil, fmt.Errorf("reading the last commit (`understudy repair` looks for what is left): %w", err)
	}
	return commit, nil
}

// branch returns the commit that the branch names, zero when there is no branch. A
// branch that is there and cannot be read is an error: go-git takes it for none, and
// a backup that begins anew would leave everything out that is not read now.
func (v *Vault) branch(storage *store) (plumbing.Hash, error) {
	content, err := os.ReadFile(v.path(v.ref().String()))
	switch {
	case err == nil:
		if id, ok := parseID(strings.TrimSuffix(string(content), "\n")); ok {
			return id, nil
		}
		return plumbing.ZeroHash, v.brokenBranch(errors.New("its file is empty or damaged"))
	case !errors.Is(err, os.ErrNotExist):
		return plumbing.ZeroHash, v.brokenBranch(err)
	}
	ref, err := storage.Reference(v.ref()) // among those that git packed
	if errors.Is(err, plumbing.ErrReferenceNotFound) {
		return plumbing.ZeroHash, nil
	}
	if err != nil {
		return plumbing.ZeroHash, v.brokenBranch(err)
	}
	return ref.Hash(), nil
}

func (v *Vault) brokenBranch(err error) error {
	return &port.StorageError{Err: fmt.Errorf("the branch %s of %s cannot be read. Nothing was changed. Stop the service and run `understudy repair`: %w",
		v.config.Branch, v.config.Directory, err)}
}

// parseID reads the id of an object. That of nothing is none.
func parseID(text string) (plumbing.Hash, bool) {
	if !plumbing.IsHash(text) {
		return plumbing.ZeroHash, false
	}
	id := plumbing.NewHash(text)
	return id, !id.IsZero()
}

// rulesOf returns the compiled rules of a type.
func (v *Vault) rulesOf(t *catalog.Type) (*rules, error) {
	if known, ok := v.rules.Load(t); ok {
		return known.(*rules), nil
	}
	compiled, err := newRules(t, v.config.FingerprintKey)
	if err == nil {
		compiled.previous = v.config.PreviousFingerprintKeys
		v.rules.Store(t, compiled)
	}
	return compiled, err
}

const (
	indexFile    = "_index.json"
	namesFile    = "_names.json"
	coverageFile = "coverage.json"
	fileEnding   = ".json"
)

// isItem says whether an entry of a type's folder is an item. A link, a program, a
// folder is somebody else's.
func isItem(name string, mode filemode.FileMode) bool {
	return name != indexFile && name != namesFile && strings.HasSuffix(name, fileEnding) && isFile(mode)
}

func isFile(mode filemode.FileMode) bool {
	return mode == filemode.Regular || mode == filemode.Deprecated
}
