package vault

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
)

// treeState is what became of something that cannot be read.
type treeState int

const (
	isRead treeState = iota // nothing: it can be read
	isKept                  // it is as it was in the commit before
	isOut                   // it is left out
)

// madeTree is what became of a tree.
type madeTree struct {
	// id is zero when nothing of it is left.
	id plumbing.Hash
	// state is that of the tree itself. One that can be read has what of it cannot: names
	// that are as they were in the commit before, names that are left out, and folders that
	// have such.
	state     treeState
	kept, out []string
	below     map[string]*madeTree
}

// take notes what became of an entry of this tree. They come in the order of a tree.
func (m *madeTree) take(name string, of *madeTree) {
	switch {
	case of.state == isKept:
		m.kept = append(m.kept, name)
	case of.state == isOut:
		m.out = append(m.out, name)
	case len(of.kept) > 0 || len(of.out) > 0 || len(of.below) > 0:
		if m.below == nil {
			m.below = map[string]*madeTree{}
		}
		m.below[name] = of
	}
}

// share lets a tree use the lists of the one that was made at its place in the commit
// before, where they are the same: most files that are lost are so in many commits.
func (m *madeTree) share(before *madeTree) {
	slices.Sort(m.kept) // a folder is elsewhere in a tree than its name is
	if before == nil {
		return
	}
	if slices.Equal(m.kept, before.kept) {
		m.kept = before.kept
	}
	if slices.Equal(m.out, before.out) {
		m.out = before.out
	}
}

// keeps says whether a path is as it was in the commit before.
func (m *madeTree) keeps(path string) bool {
	for at := m; at != nil; {
		if at.state == isKept {
			return true
		}
		name, rest, _ := strings.Cut(path, "/")
		if _, found := slices.BinarySearch(at.kept, name); found {
			return true
		}
		at, path = at.below[name], rest
	}
	return false
}

// each calls a function with each path below a tree that cannot be read. An empty one is
// the tree itself.
func (m *madeTree) each(folder string, call func(path string, state treeState)) {
	if m.state != isRead {
		call(strings.TrimSuffix(folder, "/"), m.state)
	}
	for _, name := range m.kept {
		call(folder+name, isKept)
	}
	for _, name := range m.out {
		call(folder+name, isOut)
	}
	for name, below := range m.below {
		below.each(folder+name+"/", call)
	}
}

// madeCommit is what became of a commit.
type madeCommit struct {
	*madeTree
	commit plumbing.Hash
	when   time.Time
	// first is the one before, of which is what is kept in it; nil: there is none.
	first *madeCommit
}

// timeOf returns of which time a path is.
func (m *madeCommit) timeOf(path string) time.Time {
	at := m
	for at.first != nil && at.keeps(path) {
		at = at.first
	}
	return at.when
}

// confession is the message of a commit that says what was lost.
func (m *madeCommit) confession() string {
	var b strings.Builder
	losses := m.losses()
	fmt.Fprintf(&b, "Repair: %s\n\n", counted(len(losses), "file could not be read", "files could not be read"))
	for i, l := range losses {
		if i == maxListed {
			fmt.Fprintf(&b, "and %d more\n", len(losses)-maxListed)
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
func (m *madeCommit) losses() (losses []fileLoss) {
	m.each("", func(path string, state treeState) {
		loss := fileLoss{path: path}
		if state == isKept {
			loss.kept = m.timeOf(path)
		}
		losses = append(losses, loss)
	})
	slices.SortFunc(losses, func(a, b fileLoss) int { return cmp.Compare(a.path, b.path) })
	return losses
}
