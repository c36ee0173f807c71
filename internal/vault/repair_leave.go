package vault

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// leaver makes commits again without what cannot be read. In its place comes what the
// commit before has there: so nothing of the backup goes that can still be read.
type leaver struct {
	walk *walk
	pack *packWriter
	// trees are what became of a tree, and of the one at its place in the commit before.
	trees   map[[2]plumbing.Hash]*madeTree
	commits map[plumbing.Hash]*madeCommit
	// last are the trees that were made, by their ids, and names those in them.
	last  map[plumbing.Hash]*madeTree
	names map[string]string
}

func newLeaver(w *walk, pack *packWriter) *leaver {
	return &leaver{
		walk: w, pack: pack, trees: map[[2]plumbing.Hash]*madeTree{}, commits: map[plumbing.Hash]*madeCommit{},
		last: map[plumbing.Hash]*madeTree{}, names: map[string]string{},
	}
}

// tree returns a tree without what cannot be read. before is what is at its place in the
// commit before, which can be read as a whole, or zero.
func (l *leaver) tree(id, before plumbing.Hash) (*madeTree, error) {
	if damaged, known := l.walk.trees[id]; known && !damaged {
		return &madeTree{id: id}, nil
	}
	key := [2]plumbing.Hash{id, before}
	made := l.trees[key]
	if made != nil {
		return made, nil
	}
	made = &madeTree{id: before}
	l.trees[key] = made
	switch {
	case !l.walk.read[id] && before.IsZero():
		made.state = isOut
		return made, nil
	case !l.walk.read[id]:
		made.state = isKept
		return made, nil
	}
	tree, err := object.GetTree(l.walk.storage, id)
	if err != nil {
		return nil, err
	}
	old, err := l.entries(before)
	if err != nil {
		return nil, err
	}
	var entries []treeEntry
	for _, entry := range tree.Entries {
		e, err := l.entry(made, treeEntry{name: entry.Name, mode: modeOf(entry.Mode), id: entry.Hash}, old[entry.Name])
		if err != nil {
			return nil, err
		}
		if !e.id.IsZero() {
			entries = append(entries, e)
		}
	}
	if made.id, err = l.pack.putTree(entries, plumbing.ZeroHash); err != nil {
		return nil, err
	}
	made.share(l.last[before])
	l.last[made.id] = made
	return made, nil
}

// entry returns what is to be in a tree for an entry; was is the one of its name before.
func (l *leaver) entry(made *madeTree, e, was treeEntry) (treeEntry, error) {
	below := &madeTree{id: e.id}
	switch {
	case e.isFolder():
		before := plumbing.ZeroHash
		if was.isFolder() {
			before = was.id
		}
		var err error
		if below, err = l.tree(e.id, before); err != nil {
			return e, err
		}
	case e.mode != modeOf(filemode.Submodule) && !l.walk.read[e.id]:
		below = &madeTree{state: isOut}
	}
	// A folder that can be read and of which nothing is left is not that of before: what was
	// removed from that stays removed.
	if below.id.IsZero() && !was.id.IsZero() && (!e.isFolder() || !was.isFolder()) {
		below, e = &madeTree{id: was.id, state: isKept}, was
	}
	made.take(l.name(e.name), below)
	e.id = below.id
	return e, nil
}

// name returns a name, the same string each time: many commits lose the same files.
func (l *leaver) name(name string) string {
	if known, ok := l.names[name]; ok {
		return known
	}
	l.names[name] = name
	return name
}

// entries returns the entries of a tree, which may be one that was made; none of zero.
func (l *leaver) entries(id plumbing.Hash) (map[string]treeEntry, error) {
	entries := map[string]treeEntry{}
	if id.IsZero() {
		return entries, nil
	}
	if !l.pack.has(id) {
		tree, err := object.GetTree(l.walk.storage, id)
		if err != nil {
			return nil, err
		}
		return entriesOf(tree), nil
	}
	err := l.pack.eachTreeEntry(id, func(name []byte, mode filemode.FileMode, id plumbing.Hash) error {
		entries[string(name)] = treeEntry{name: string(name), mode: modeOf(mode), id: id}
		return nil
	})
	return entries, err
}

// remake makes a commit again, if it has to be. Those that it builds on come before.
func (l *leaver) remake(commit *object.Commit, gone map[plumbing.Hash]bool) error {
	same := true
	var parents []plumbing.Hash
	var first *madeCommit
	for _, id := range commit.ParentHashes {
		if gone[id] {
			same = false
			continue
		}
		parent := l.commits[id]
		if first == nil {
			first = parent
		}
		parents = append(parents, parent.commit)
		same = same && parent.commit == id
	}
	before := plumbing.ZeroHash
	if first != nil {
		before = first.id
	}
	tree, err := l.tree(commit.TreeHash, before)
	if err != nil {
		return err
	}
	made := &madeCommit{madeTree: tree, commit: commit.Hash, when: commit.Committer.When, first: first}
	if tree.id.IsZero() { // nothing of it is left: an empty tree
		empty := *tree
		empty.id = objectID(plumbing.TreeObject, nil)
		made.madeTree = &empty
		if err := l.pack.put(plumbing.TreeObject, made.id, nil); err != nil {
			return err
		}
	}
	l.commits[commit.Hash] = made
	if same && made.id == commit.TreeHash {
		return nil
	}
	content := commitOn(commit, made.id, parents...)
	made.commit = objectID(plumbing.CommitObject, content)
	return l.pack.put(plumbing.CommitObject, made.commit, content)
}

// confess makes a commit on the last one that says what of it was lost, and a coverage
// that does not call a type complete that is not.
func (l *leaver) confess(v *Vault, last *madeCommit, now time.Time) (plumbing.Hash, error) {
	entries, err := l.entries(last.id)
	if err != nil {
		return plumbing.ZeroHash, err
	}
	if file := entries[coverageFile]; file.isFile() {
		content, err := readBlob(l.walk.storage, file.id)
		if err != nil {
			return plumbing.ZeroHash, fmt.Errorf("reading %s: %w", coverageFile, err)
		}
		if covered, err := decodeCoverage(content); err == nil {
			covered.damaged(last.losses(), now)
			if last.keeps(coverageFile) {
				covered.outdated(now)
			}
			if content, err = covered.encode(); err != nil {
				return plumbing.ZeroHash, err
			}
			file.id = objectID(plumbing.BlobObject, content)
			if err := l.pack.put(plumbing.BlobObject, file.id, content); err != nil {
				return plumbing.ZeroHash, err
			}
			entries[coverageFile] = file
		}
	}
	tree := last.id
	if len(entries) > 0 {
		if tree, err = l.pack.putTree(values(entries), last.id); err != nil {
			return plumbing.ZeroHash, err
		}
	}
	who := fmt.Sprintf("%s <%s> %d +0000", v.config.AuthorName, v.config.AuthorEmail, now.Unix())
	content := fmt.Appendf(nil, "tree %s\nparent %s\nauthor %s\ncommitter %s\n\n%s", tree, last.commit, who, who, last.confession())
	id := objectID(plumbing.CommitObject, content)
	return id, l.pack.put(plumbing.CommitObject, id, content)
}

func minute(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// damagedReason is the reason of a type that lost files.
const damagedReason = "damaged"

// damaged notes that files are lost: their types are not complete.
func (c coverage) damaged(losses []fileLoss, now time.Time) {
	for id, entry := range c {
		if slices.ContainsFunc(losses, func(l fileLoss) bool {
			path := l.path
			return path == "" || path == id || strings.HasPrefix(path, id+"/") || strings.HasPrefix(id, path+"/")
		}) {
			entry.damaged(now)
		}
	}
}

// outdated notes that this is an older coverage, in place of a lost one. Nobody knows how
// the types stood since, and a short list that was seen may have been taken back.
func (c coverage) outdated(now time.Time) {
	for _, entry := range c {
		entry.damaged(now)
		entry.Collapse = nil
	}
}

// damaged lets an entry say that something of its type is lost. One of a type that has
// nothing in the backup says that still.
func (e *coverageEntry) damaged(now time.Time) {
	if e.State != stateComplete && e.State != stateStale || e.Reason == damagedReason {
		return
	}
	if e.State == stateComplete && e.LastComplete == nil {
		since := e.Since
		e.LastComplete = &since
	}
	e.State, e.Reason, e.Since = stateStale, damagedReason, now.UTC().Truncate(time.Second)
}
