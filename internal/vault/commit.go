package vault

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

// Commit implements [port.Staging]. Once begun it is not given up.
func (s *staging) Commit(_ context.Context, info port.CommitInfo) (*understudyv1.Snapshot, error) {
	s.checkpointing.Lock()
	defer s.checkpointing.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pack == nil || s.closed {
		return nil, errDone
	}
	if err := s.held.check(); err != nil {
		return nil, err // the checkpoint is that of whoever takes the sync over
	}
	s.checkpoints.ended = true
	s.disarmCheckpoint()
	if info.DryRun {
		return nil, nil
	}
	if err := s.writeNames(); err != nil {
		return nil, &port.StorageError{Err: err}
	}
	root, err := s.writeRoot()
	if err != nil {
		return nil, err
	}
	snapshot := &understudyv1.Snapshot{Ref: s.vault.ref().String(), Tree: root.String()}
	if s.previous == nil || s.previous.TreeHash != root {
		if err := s.writeCommit(root, info); err != nil {
			return nil, &port.StorageError{Err: err}
		}
		snapshot.Created = true
	}
	snapshot.Commit = s.previous.Hash.String()
	s.snapshot = snapshot
	s.notes.Commit = snapshot.GetCommit()
	if s.held.check() == nil {
		s.vault.writeNotes(s.notes)
	}
	return snapshot, nil
}

// writeCommit makes the commit: first the pack, then the branch.
func (s *staging) writeCommit(root plumbing.Hash, info port.CommitInfo) error {
	content := s.encodeCommit(root, info)
	id := objectID(plumbing.CommitObject, content)
	if err := s.pack.put(plumbing.CommitObject, id, content); err != nil {
		return err
	}
	pack := s.pack
	s.pack = nil
	// What was staged for nothing must not travel to the remote with the commit.
	pack, err := pack.withoutUnused()
	if err != nil {
		return err
	}
	before := plumbing.ZeroHash
	if s.previous != nil {
		before = s.previous.Hash
	} else if err := s.vault.noteBegin(); err != nil {
		pack.abort()
		return err
	}
	finished := make(chan error, 1) // pack and lock reach the disk at the same time
	go func() {
		_, err := pack.finish()
		finished <- err
	}()
	lock, err := s.vault.lockRef(s.held, s.storage, before, id)
	if err := errors.Join(<-finished, err); err != nil {
		if lock != nil {
			lock.release()
		}
		return err
	}
	err = lock.commit()
	if unconfirmed := (*unconfirmedError)(nil); errors.As(err, &unconfirmed) {
		// Whoever reads the branch finds the commit: to call it failed would be untrue.
		s.vault.logger.Error("the commit is made, but may be lost by a power cut: look after the disk", "commit", id.String(), "error", err)
		err = nil
	}
	if err != nil {
		return err
	}
	if s.previous == nil {
		_ = os.Remove(s.vault.path(beginFile)) // else the next sync does
	}
	s.previous, err = decodeCommit(content)
	return err
}

func decodeCommit(content []byte) (*object.Commit, error) {
	var stored plumbing.MemoryObject
	stored.SetType(plumbing.CommitObject)
	if _, err := stored.Write(content); err != nil {
		return nil, err
	}
	commit := &object.Commit{}
	return commit, commit.Decode(&stored)
}

// writeRoot makes the tree of the next commit: the last one, with the folders of
// the settled types and the coverage.
func (s *staging) writeRoot() (plumbing.Hash, error) {
	content, err := s.coverage.encode()
	if err != nil {
		return plumbing.ZeroHash, err
	}
	entries := entriesOf(s.root)
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
		if err := s.writeWorkload(entries, workload, ids); err != nil {
			return plumbing.ZeroHash, err
		}
	}
	before := plumbing.ZeroHash
	if s.previous != nil {
		before = s.previous.TreeHash
	}
	return s.pack.putTree(values(entries), before)
}

// writeWorkload puts the folder of a workload into the root. Somebody else's file
// of that name gives way as soon as there is content for the folder.
func (s *staging) writeWorkload(root map[string]treeEntry, workload string, ids []string) error {
	entries := map[string]treeEntry{}
	before := plumbing.ZeroHash
	if now := root[workload]; now.isFolder() {
		tree, err := object.GetTree(s.storage, now.id)
		if err != nil {
			return fmt.Errorf("reading the last tree: %w", err)
		}
		before, entries = now.id, entriesOf(tree)
	}
	for _, id := range ids {
		_, name, _ := strings.Cut(id, "/")
		if tree := s.types[id].tree; !tree.IsZero() {
			entries[name] = treeEntry{name: name, mode: modeFolder, id: tree}
		}
	}
	id, err := s.pack.putTree(values(entries), before)
	if err == nil && !id.IsZero() {
		root[workload] = treeEntry{name: workload, mode: modeFolder, id: id}
	}
	return err
}

// encodeCommit returns the commit object.
func (s *staging) encodeCommit(tree plumbing.Hash, info port.CommitInfo) []byte {
	who := fmt.Sprintf("%s <%s> %d +0000", s.vault.config.AuthorName, s.vault.config.AuthorEmail, info.Time.Unix())
	var b strings.Builder
	fmt.Fprintf(&b, "tree %s\n", tree)
	if s.previous != nil {
		fmt.Fprintf(&b, "parent %s\n", s.previous.Hash)
	}
	fmt.Fprintf(&b, "author %s\ncommitter %s\n\n%s", who, who, message(info))
	return []byte(b.String())
}
