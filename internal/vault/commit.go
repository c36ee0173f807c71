package vault

import (
	"context"
	"fmt"
	"maps"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

// Commit implements [port.Staging].
func (s *staging) Commit(_ context.Context, info port.CommitInfo) (*understudyv1.Snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if info.DryRun {
		return nil, nil
	}
	root, err := s.writeRoot()
	if err != nil {
		return nil, err
	}
	snapshot := &understudyv1.Snapshot{Ref: s.vault.ref().String(), Tree: root.String()}
	if s.previous != nil && s.previous.TreeHash == root {
		snapshot.Commit = s.previous.Hash.String()
		return snapshot, s.noteComplete()
	}
	content := s.encodeCommit(root, info)
	id := objectID(plumbing.CommitObject, content)
	if err := s.pack.put(plumbing.CommitObject, id, content); err != nil {
		return nil, &port.StorageError{Err: err}
	}
	if _, err := s.pack.finish(); err != nil {
		return nil, &port.StorageError{Err: err}
	}
	s.pack = nil
	before := plumbing.ZeroHash
	if s.previous != nil {
		before = s.previous.Hash
	}
	s.storage = s.vault.storage() // with the new pack
	if err := s.vault.setRef(s.storage, before, id); err != nil {
		return nil, &port.StorageError{Err: err}
	}
	if s.previous, err = s.vault.tip(s.storage); err != nil {
		return nil, err
	}
	snapshot.Commit, snapshot.Created = id.String(), true
	if err := s.vault.mergePacks(); err != nil {
		s.vault.logger.Warn("merging packs failed; the backup is whole", "error", err)
	}
	return snapshot, s.noteComplete()
}

func (s *staging) noteComplete() error {
	maps.Copy(s.last, s.complete)
	if err := s.vault.writeLastComplete(s.last); err != nil {
		s.vault.logger.Warn("noting the times of the last complete readings failed", "error", err)
	}
	return nil
}

// writeRoot makes the tree of the next commit: the last one, with the folders of
// the settled types and the coverage.
func (s *staging) writeRoot() (plumbing.Hash, error) {
	content, err := s.coverage.encode()
	if err != nil {
		return plumbing.ZeroHash, err
	}
	entries := map[string]treeEntry{}
	for _, entry := range s.root.Entries {
		entries[entry.Name] = treeEntry{name: entry.Name, mode: modeOf(entry.Mode), id: entry.Hash}
	}
	coverageID := objectID(plumbing.BlobObject, content)
	if entries[coverageFile].id != coverageID {
		if err := s.pack.put(plumbing.BlobObject, coverageID, content); err != nil {
			return plumbing.ZeroHash, &port.StorageError{Err: err}
		}
	}
	entries[coverageFile] = treeEntry{name: coverageFile, mode: modeFile, id: coverageID}

	workloads := map[string][]string{}
	for _, id := range s.settledTypes() {
		workload, _, _ := strings.Cut(id, "/")
		workloads[workload] = append(workloads[workload], id)
	}
	for workload, ids := range workloads {
		before := entries[workload].id
		id, err := s.writeWorkload(before, ids)
		if err != nil {
			return plumbing.ZeroHash, err
		}
		if id.IsZero() {
			delete(entries, workload)
			continue
		}
		entries[workload] = treeEntry{name: workload, mode: modeFolder, id: id}
	}
	before := plumbing.ZeroHash
	if s.previous != nil {
		before = s.previous.TreeHash
	}
	return s.putTree(values(entries), before)
}

// writeWorkload makes the folder of a workload.
func (s *staging) writeWorkload(before plumbing.Hash, ids []string) (plumbing.Hash, error) {
	entries := map[string]treeEntry{}
	if !before.IsZero() {
		tree, err := object.GetTree(s.storage, before)
		if err != nil {
			return plumbing.ZeroHash, fmt.Errorf("reading the last tree: %w", err)
		}
		for _, entry := range tree.Entries {
			entries[entry.Name] = treeEntry{name: entry.Name, mode: modeOf(entry.Mode), id: entry.Hash}
		}
	}
	for _, id := range ids {
		_, name, _ := strings.Cut(id, "/")
		if tree := s.types[id].tree; tree.IsZero() {
			delete(entries, name)
		} else {
			entries[name] = treeEntry{name: name, mode: modeFolder, id: tree}
		}
	}
	return s.putTree(values(entries), before)
}

func values(entries map[string]treeEntry) []treeEntry {
	list := make([]treeEntry, 0, len(entries))
	for _, e := range entries {
		list = append(list, e)
	}
	return list
}

func modeOf(mode filemode.FileMode) string { return strings.TrimLeft(fmt.Sprintf("%o", uint32(mode)), "0") }

// encodeCommit returns the commit object.
func (s *staging) encodeCommit(tree plumbing.Hash, info port.CommitInfo) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "tree %s\n", tree)
	if s.previous != nil {
		fmt.Fprintf(&b, "parent %s\n", s.previous.Hash)
	}
	who := fmt.Sprintf("%s <%s> %d +0000", s.vault.config.AuthorName, s.vault.config.AuthorEmail, info.Time.Unix())
	fmt.Fprintf(&b, "author %s\ncommitter %s\n\n%s", who, who, message(info))
	return []byte(b.String())
}

// message is the commit message: a summary, the counts, and trailers that tools
// can read. Nothing in it comes from the tenant.
func message(info port.CommitInfo) string {
	c := info.Counts
	var b strings.Builder
	fmt.Fprintf(&b, "Sync of %s: %d changed", info.Time.UTC().Format("2006-01-02 15:04"), c.GetChanged())
	if left := c.GetIncomplete() + c.GetFailed() + c.GetNotBackedUp(); left > 0 {
		fmt.Fprintf(&b, ", %d not backed up completely", left)
	}
	fmt.Fprintf(&b, "\n\n%d configuration types: %d changed, %d unchanged, %d incomplete, %d failed,\n%d not backed up, %d not available.\n\n",
		c.GetTotal(), c.GetChanged(), c.GetUnchanged(), c.GetIncomplete(), c.GetFailed(), c.GetNotBackedUp(), c.GetNotAvailable())
	fmt.Fprintf(&b, "Sync: %s\nStatus: %s\n", info.Sync, strings.TrimPrefix(info.State.String(), "SYNC_STATE_"))
	for _, r := range info.Results {
		name := ""
		switch r.GetOutcome() {
		case understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_INCOMPLETE:
			name = "Incomplete"
		case understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_FAILED:
			name = "Failed"
		case understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_NOT_BACKED_UP:
			name = "Not-Backed-Up"
		default:
			continue
		}
		fmt.Fprintf(&b, "%s: %s (%s)\n", name, r.GetConfigurationType(),
			strings.TrimPrefix(r.GetReason().String(), "CONFIGURATION_FAILURE_REASON_"))
	}
	return b.String()
}

