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
}

// madeTree is what became of a tree.
type madeTree struct {
	// id is zero when nothing of it is left.
	id plumbing.Hash
	// kept are the paths that cannot be read and are as they were in the commit before,
	// out those that are left out. An empty path is the tree itself.
	kept, out []string
}

// take notes what became of a tree below this one.
func (m *madeTree) take(name string, below *madeTree) {
	for _, path := range below.kept {
		m.kept = append(m.kept, strings.TrimSuffix(name+"/"+path, "/"))
	}
	for _, path := range below.out {
		m.out = append(m.out, strings.TrimSuffix(name+"/"+path, "/"))
	}
}

// madeCommit is what became of a commit.
type madeCommit struct {
	*madeTree
	commit plumbing.Hash
	when   time.Time
	// from says of what is kept in it of which time it is.
	from map[string]time.Time
}

// timeOf returns of which time a path is.
func (m *madeCommit) timeOf(path string) time.Time {
	for kept, at := range m.from {
		if kept == "" || kept == path || strings.HasPrefix(path, kept+"/") {
			return at
		}
	}
	return m.when
}

// tree returns a tree without what cannot be read. before is what is at its place in the
// commit before, which can be read as a whole, or zero.
func (l *leaver) tree(id, before plumbing.Hash) (*madeTree, error) {
	if state := l.walk.trees[id]; state != nil && len(state.bad) == 0 {
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
		made.out = []string{""}
		return made, nil
	case !l.walk.read[id]:
		made.kept = []string{""}
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
	made.id, err = l.pack.putTree(entries, plumbing.ZeroHash)
	return made, err
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
		below = &madeTree{out: []string{""}}
	}
	// A folder that can be read and of which nothing is left is not that of before: what was
	// removed from that stays removed.
	if below.id.IsZero() && !was.id.IsZero() && (!e.isFolder() || !was.isFolder()) {
		below, e = &madeTree{id: was.id, kept: []string{""}}, was
	}
	made.take(e.name, below)
	e.id = below.id
	return e, nil
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
	made := &madeCommit{madeTree: tree, commit: commit.Hash, when: commit.Committer.When, from: map[string]time.Time{}}
	for _, path := range tree.kept {
		made.from[path] = first.timeOf(path)
	}
	if tree.id.IsZero() { // nothing of it is left: an empty tree
		made.madeTree = &madeTree{id: objectID(plumbing.TreeObject, nil), out: tree.out}
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
			covered.damaged(append(slices.Clone(last.kept), last.out...), now)
			if slices.Contains(last.kept, coverageFile) || slices.Contains(last.kept, "") {
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

// confession is the message of a commit that says what was lost.
func (m *madeCommit) confession() string {
	var b strings.Builder
	n := len(m.kept) + len(m.out)
	fmt.Fprintf(&b, "Repair: %s\n\n", counted(n, "file could not be read", "files could not be read"))
	for i, l := range m.losses() {
		if i == maxListed {
			fmt.Fprintf(&b, "and %d more\n", n-maxListed)
			break
		}
		if l.kept.IsZero() {
			fmt.Fprintf(&b, "%s: left out\n", l)
		} else {
			fmt.Fprintf(&b, "%s: as it was %s\n", l, minute(l.kept))
		}
	}
	return b.String()
}

// fileLoss is a file or folder of which the last version is lost.
type fileLoss struct {
	path string
	// kept is of when the version is that stands in; zero: there is none.
	kept time.Time
}

// String returns what is lost.
func (l fileLoss) String() string {
	if l.path == "" {
		return "the whole tree"
	}
	return l.path
}

// losses returns what is lost of a commit, by path.
func (m *madeCommit) losses() []fileLoss {
	var losses []fileLoss
	for _, path := range m.kept {
		losses = append(losses, fileLoss{path, m.from[path]})
	}
	for _, path := range m.out {
		losses = append(losses, fileLoss{path: path})
	}
	slices.SortFunc(losses, func(a, b fileLoss) int { return strings.Compare(a.path, b.path) })
	return losses
}

func minute(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// damagedReason is the reason of a type that lost files.
const damagedReason = "damaged"

// damaged notes that files are lost: their types are not complete.
func (c coverage) damaged(paths []string, now time.Time) {
	for id, entry := range c {
		if slices.ContainsFunc(paths, func(path string) bool {
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
