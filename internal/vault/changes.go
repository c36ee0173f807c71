package vault

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

// maxDisplayName is how many characters of a name an item change carries.
const maxDisplayName = 256

// Changes implements [port.Vault].
func (v *Vault) Changes(ctx context.Context, commit, configurationType string) iter.Seq2[*understudyv1.ItemChange, error] {
	return func(yield func(*understudyv1.ItemChange, error) bool) {
		v.reading.RLock()
		defer v.reading.RUnlock()
		d := &differ{ctx: ctx, storage: v.storage(), only: configurationType, yield: yield}
		if err := d.commit(plumbing.NewHash(commit)); err != nil && !errors.Is(err, errStop) {
			yield(nil, err)
		}
	}
}

// errStop ends a walk because the caller has enough.
var errStop = errors.New("enough")

// differ walks two trees side by side, in the order of their paths, and opens only
// the folders that differ.
type differ struct {
	ctx     context.Context
	storage *store
	only    string
	yield   func(*understudyv1.ItemChange, error) bool
}

func (d *differ) commit(id plumbing.Hash) error {
	commit, err := object.GetCommit(d.storage, id)
	if errors.Is(err, plumbing.ErrObjectNotFound) {
		return &port.NotFoundError{Resource: "commit " + id.String()}
	}
	if err != nil {
		return fmt.Errorf("reading a commit: %w", err)
	}
	before := plumbing.ZeroHash
	if commit.NumParents() > 0 {
		parent, err := commit.Parent(0)
		if err != nil {
			return fmt.Errorf("reading a commit: %w", err)
		}
		before = parent.TreeHash
	}
	return d.folders(before, commit.TreeHash, "", 0)
}

// folders compares the workloads (level 0) and their types (level 1).
func (d *differ) folders(before, after plumbing.Hash, path string, level int) error {
	old, now, err := both(d.entries, before, after)
	if err != nil {
		return err
	}
	for _, name := range names(old, now) {
		a, b := old[name], now[name]
		if a.Hash == b.Hash || (a.Mode != filemode.Dir && b.Mode != filemode.Dir) {
			continue // nothing changed, or a file where no item is
		}
		below := path + name
		if d.only != "" && d.only != below && !strings.HasPrefix(d.only, below+"/") {
			continue
		}
		next := d.folders
		if level == 1 {
			next = d.files
		}
		if err := next(folderOf(a), folderOf(b), below+"/", level+1); err != nil {
			return err
		}
	}
	return nil
}

// folderOf returns the id of a folder, zero for what is none.
func folderOf(entry object.TreeEntry) plumbing.Hash {
	if entry.Mode != filemode.Dir {
		return plumbing.ZeroHash
	}
	return entry.Hash
}

// files compares the items of a type.
func (d *differ) files(before, after plumbing.Hash, path string, _ int) error {
	if err := d.ctx.Err(); err != nil {
		return context.Cause(d.ctx)
	}
	old, now, err := both(d.entries, before, after)
	if err != nil {
		return err
	}
	oldNames, nowNames, err := both(d.index, old, now)
	if err != nil {
		return err
	}
	oldItems, nowItems, err := both(itemsIn, old, now)
	if err != nil {
		return err
	}
	for _, name := range names(oldItems, nowItems) {
		a, hadIt := oldItems[name]
		b, hasIt := nowItems[name]
		if hadIt && hasIt && a.equal(b) {
			continue
		}
		change := &understudyv1.ItemChange{Path: path + name}
		item := nowNames[name]
		switch {
		case !hadIt:
			change.Kind = understudyv1.ChangeKind_CHANGE_KIND_ADDED
		case !hasIt:
			change.Kind, item = understudyv1.ChangeKind_CHANGE_KIND_REMOVED, oldNames[name]
		default:
			change.Kind = understudyv1.ChangeKind_CHANGE_KIND_MODIFIED
		}
		change.Id, change.DisplayName = item.id, item.displayName
		if runes := []rune(change.GetDisplayName()); len(runes) > maxDisplayName {
			change.DisplayName = string(runes[:maxDisplayName])
		}
		if !d.yield(change, nil) {
			return errStop
		}
	}
	return nil
}

// itemFiles are an item and the files beside it.
type itemFiles struct {
	id    plumbing.Hash
	sides []sideFile
}

func (f itemFiles) equal(other itemFiles) bool {
	return f.id == other.id && slices.Equal(f.sides, other.sides)
}

// itemsIn returns the items in the folder of a type.
func itemsIn(entries map[string]object.TreeEntry) (map[string]itemFiles, error) {
	items := make(map[string]itemFiles, len(entries))
	var others []treeEntry
	for name, e := range entries {
		if isItem(name, e.Mode) {
			items[name] = itemFiles{id: e.Hash}
		} else {
			others = append(others, treeEntry{name: name, mode: modeOf(e.Mode), id: e.Hash})
		}
	}
	sides, _, err := splitSides(others, func(name string) (bool, error) {
		_, ok := items[name]
		return ok, nil
	})
	for name, of := range sides {
		items[name] = itemFiles{id: items[name].id, sides: of}
	}
	return items, err
}

func (d *differ) entries(id plumbing.Hash) (map[string]object.TreeEntry, error) {
	entries := map[string]object.TreeEntry{}
	if id.IsZero() {
		return entries, nil
	}
	tree, err := object.GetTree(d.storage, id)
	if err != nil {
		return nil, fmt.Errorf("reading a tree: %w", err)
	}
	for _, e := range tree.Entries {
		entries[e.Name] = e
	}
	return entries, nil
}

func (d *differ) index(entries map[string]object.TreeEntry) (map[string]indexed, error) {
	entry, ok := entries[indexFile]
	if !ok {
		return nil, nil
	}
	return indexOf(d.storage, entry.Hash)
}

// both reads what there was and what there is.
func both[T, V any](read func(T) (V, error), before, after T) (old, now V, err error) {
	if old, err = read(before); err == nil {
		now, err = read(after)
	}
	return old, now, err
}

// names returns the names in either, sorted.
func names[V any](a, b map[string]V) []string {
	all := make(map[string]struct{}, len(a)+len(b))
	for name := range a {
		all[name] = struct{}{}
	}
	for name := range b {
		all[name] = struct{}{}
	}
	return sortedKeys(all)
}
