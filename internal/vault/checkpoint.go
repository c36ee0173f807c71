package vault

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/go-git/go-git/v5/plumbing"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/catalog"
	"understudy.internal/internal/durable"
	"understudy.internal/internal/port"
)

// A checkpoint keeps what a sync settled, so that another worker of the same sync on
// the same disk need not read it again: docs/decisions/checkpoints.md. It is the part
// of the unfinished pack that is on the disk, and a file beside the repository's that
// says what it is of. Nothing in the repository names any of it.
type checkpoint struct {
	Form int `json:"form"`
	// Sync is the name of the sync, Base the commit that it builds on, if there is
	// one, and Keys names what stands in for secrets: with any other, it is of no use.
	Sync string `json:"sync"`
	Base string `json:"base,omitempty"`
	Keys string `json:"keys"`
	// Pack is the file of the unfinished pack, and Size how much of it is meant.
	Pack string `json:"pack"`
	Size int64  `json:"size"`
	// Types are the settled types.
	Types map[string]*settledType `json:"types"`
}

// settledType is what the commit needs of a type, and what Settle returned.
type settledType struct {
	// Rules identifies the entry of the catalog.
	Rules string `json:"rules"`
	// Tree is the folder without its names, which are made with the commit, if it is
	// Written anew, and References a list of the ids that they are of.
	Tree       string          `json:"tree,omitempty"`
	Written    bool            `json:"written,omitempty"`
	References string          `json:"references,omitempty"`
	Coverage   *coverageEntry  `json:"coverage"`
	Settlement port.Settlement `json:"settlement"`
}

const (
	checkpointFile = "understudy-checkpoint.json"
	// checkpointForm is the form of a checkpoint. It changes, too, when this package
	// begins to store the same answers in another way.
	checkpointForm = 2
	// checkpointShare is how large a part of a sync may pass between checkpoints, when
	// that is more than the interval: a long sync makes fewer.
	checkpointShare = 10
)

// checkpoints is what a staging knows of its checkpoints.
type checkpoints struct {
	// sync is the name of the sync; empty: none are made.
	sync string
	// left is what an earlier worker settled and was not asked for yet.
	left map[string]*settledType
	// settled is what is settled by now.
	settled map[string]*settledType
	// fresh says that something of it is in no checkpoint.
	fresh bool
	// begun is when the staging began, last when the last checkpoint was made.
	begun, last time.Time
	// kept says that the file names the pack of this staging.
	kept bool
	// ended says that the sync needs none any more.
	ended bool
	// timer brings the next one, or is nil; timing counts it while it may do something,
	// and stopped says that there is to be none any more.
	timer   *time.Timer
	timing  sync.WaitGroup
	stopped bool
}

// Settle implements [port.Staging].
func (s *staging) Settle(t *catalog.Type, reading port.Reading) (port.Settlement, error) {
	result, err := s.settle(t, reading)
	if err != nil {
		return result, err
	}
	s.mu.Lock()
	c := &s.checkpoints
	if staged := s.types[t.ID]; c.sync != "" && staged != nil && wasComplete(result) {
		kept := &settledType{Rules: rulesName(t), Coverage: s.coverage[t.ID], Settlement: result, Written: staged.written}
		if !staged.bare.IsZero() {
			kept.Tree = staged.bare.String()
		}
		if !staged.kept.IsZero() {
			kept.References = staged.kept.String()
		}
		c.settled[t.ID], c.fresh = kept, true
		delete(c.left, t.ID)
	}
	s.mu.Unlock()
	s.checkpointIfDue()
	s.mu.Lock()
	s.armCheckpoint()
	s.mu.Unlock()
	return result, nil
}

// wasComplete says whether a type was read completely, believed or not. Only such a
// type is not read again: with any other a second try may do better.
func wasComplete(s port.Settlement) bool {
	return isComplete(s) || s.Reason == understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_COUNT_COLLAPSED
}

// isComplete says whether the backup of a type is complete.
func isComplete(s port.Settlement) bool {
	return s.Outcome == understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_CHANGED ||
		s.Outcome == understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_UNCHANGED
}

// rulesName identifies an entry of the catalog.
func rulesName(t *catalog.Type) string {
	content, err := json.Marshal(t)
	if err != nil {
		return "" // it is data, so this does not happen; the type is then read again
	}
	sum := sha256.Sum256(append(content, t.TenantFilter...))
	return hex.EncodeToString(sum[:8])
}

// Resumed implements [port.Staging].
func (s *staging) Resumed(t *catalog.Type) (port.Settlement, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	left := s.checkpoints.left[t.ID]
	if left == nil || s.pack == nil || s.closed {
		return port.Settlement{}, false
	}
	if staged := s.types[t.ID]; staged != nil && (staged.settled || staged.staged.len() > 0) {
		return port.Settlement{}, false
	}
	delete(s.checkpoints.left, t.ID)
	if name := rulesName(t); name == "" || name != left.Rules {
		return port.Settlement{}, false
	}
	staged := &stagedType{id: t.ID, settled: true, written: left.Written}
	folder, err := s.folderBefore(t)
	if err == nil && !folder.IsZero() {
		err = staged.readNames(s.storage, folder)
	}
	if err == nil && left.Tree != "" {
		staged.bare = plumbing.NewHash(left.Tree)
		err = s.useFolder(staged)
	}
	if err == nil && left.Written {
		err = s.resumeNames(staged, left.References)
	}
	if err != nil {
		s.vault.logger.Warn("what an earlier worker of the sync staged of a type cannot be used; it is read again",
			"configuration_type", t.ID, "error", err)
		return port.Settlement{}, false
	}
	if left.Coverage != nil {
		s.coverage[t.ID] = left.Coverage
	}
	if isComplete(left.Settlement) {
		s.notes.LastComplete[t.ID] = left.Settlement.LastComplete
	}
	s.types[t.ID] = staged
	s.checkpoints.settled[t.ID] = left
	return left.Settlement, true
}

// useFolder notes that what is in the folder of a type belongs to the commit.
func (s *staging) useFolder(staged *stagedType) error {
	switch {
	case staged.bare != staged.bareBefore && s.pack.has(staged.bare):
		return s.pack.eachEntry(staged.bare, s.pack.use)
	case staged.bare != staged.bareBefore:
		return errors.New("its folder is not there")
	}
	return nil
}

// checkpointIfDue makes a checkpoint when something was settled since the last one,
// and that is long enough ago. That it fails is logged: the sync goes on without.
func (s *staging) checkpointIfDue() {
	if !s.checkpointing.TryLock() {
		return // somebody is at it
	}
	defer s.checkpointing.Unlock()
	s.checkpointWhenDue()
}

// checkpointWhenDue is checkpointIfDue for who holds checkpointing.
func (s *staging) checkpointWhenDue() {
	s.mu.Lock()
	c := &s.checkpoints
	interval := s.vault.config.CheckpointInterval
	due := c.fresh && interval > 0 && !s.vault.now().Before(c.dueAt(interval))
	s.mu.Unlock()
	if due {
		s.checkpoint()
	}
}

// checkpoint makes one. The caller holds checkpointing.
func (s *staging) checkpoint() {
	made, pack, err := s.beginCheckpoint()
	if made == nil {
		return
	}
	if err == nil {
		if err = pack.Sync(); err != nil {
			// The disk may have lost what it was to keep, and does not say so again.
			s.mu.Lock()
			if s.pack != nil {
				s.pack.broken = errors.Join(s.pack.broken, err)
			}
			s.mu.Unlock()
		}
	}
	if err == nil {
		err = s.held.check()
	}
	if err == nil {
		// The pack is on the disk before the file names it.
		err = s.vault.writeCheckpoint(made)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checkpoints.kept = s.checkpoints.kept || err == nil
	if err != nil {
		s.checkpoints.fresh = true
		s.vault.logger.Warn("keeping what the sync settled so far failed; if another worker has to take it over, it reads that again", "error", err)
	}
}

// beginCheckpoint returns what is to be kept, and the file to be brought to the disk
// before; nil when there is nothing to keep it in.
func (s *staging) beginCheckpoint() (*checkpoint, *os.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &s.checkpoints
	if s.pack == nil || s.closed || c.ended {
		return nil, nil, nil
	}
	c.last, c.fresh = s.vault.now(), false
	err := s.pack.flush()
	made := &checkpoint{
		Form: checkpointForm, Sync: c.sync, Base: s.baseName(), Keys: s.vault.keysName(),
		Pack: filepath.Base(s.pack.file.Name()), Size: s.pack.offset, Types: maps.Clone(c.left),
	}
	if made.Types == nil {
		made.Types = map[string]*settledType{}
	}
	maps.Copy(made.Types, c.settled)
	return made, s.pack.file, err
}

func (s *staging) baseName() string {
	if s.previous == nil {
		return ""
	}
	return s.previous.Hash.String()
}

// writeCheckpoint writes the file, durably.
func (v *Vault) writeCheckpoint(c *checkpoint) error {
	content, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if err := durable.SyncFolder(v.packDirectory()); err != nil {
		return err
	}
	if err := writeDurably(v.path(checkpointFile), append(content, '\n')); err != nil {
		return err
	}
	return durable.SyncFolder(v.config.Directory)
}

// readCheckpoint returns the checkpoint that an earlier worker of a sync left, or nil.
func (v *Vault) readCheckpoint(sync string) *checkpoint {
	content, err := os.ReadFile(v.path(checkpointFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	c := &checkpoint{}
	if err == nil {
		err = json.Unmarshal(content, c)
	}
	if err != nil {
		v.logger.Warn("what an earlier worker of a sync staged cannot be used", "error", err)
		return nil
	}
	if sync == "" || c.Sync != sync || c.Form != checkpointForm || c.Keys != v.keysName() ||
		c.Pack != filepath.Base(c.Pack) || !strings.HasPrefix(c.Pack, temporaryPack) || len(c.Types) == 0 {
		return nil
	}
	maps.DeleteFunc(c.Types, func(_ string, t *settledType) bool { return t == nil })
	return c
}

// removeCheckpoint removes the file. The pack that it names is left to clean.
func (v *Vault) removeCheckpoint() error {
	if err := os.Remove(v.path(checkpointFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// resume takes over what an earlier worker of the sync left, into a pack of this
// staging: that worker may be frozen only, and write on in its own.
func (s *staging) resume(ctx context.Context, left *checkpoint) error {
	s.checkpointing.Lock()
	defer s.checkpointing.Unlock()
	pack := filepath.Join(s.vault.packDirectory(), left.Pack)
	err := errors.New("the branch moved since")
	if left.Base == s.baseName() {
		err = s.pack.copyUnfinished(ctx, pack, left.Size)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx) // it stays for the next one
	}
	if err != nil {
		if s.pack.broken != nil {
			return &port.StorageError{Err: s.pack.broken}
		}
		s.vault.logger.Warn("what an earlier worker of the sync staged cannot be used; everything is read again", "error", err)
	} else {
		s.mu.Lock()
		s.checkpoints.left = left.Types
		s.mu.Unlock()
		s.checkpoint()
	}
	if err == nil && !s.checkpoints.kept {
		return nil // the file names the old pack
	}
	if err != nil {
		err = s.vault.removeCheckpoint()
	}
	if err := errors.Join(err, os.Remove(pack)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return &port.StorageError{Err: fmt.Errorf("removing what an earlier worker of the sync staged: %w", err)}
	}
	return nil
}

// discard ends the pack of a staging that made no commit, but for what another worker
// of the same sync can use. If the repository is lost to one, that may be copying it at
// this moment, and removes it. The caller holds the locks.
func (s *staging) discard(lost bool) error {
	if s.checkpoints.kept && (lost || !s.checkpoints.ended) {
		return s.pack.file.Close()
	}
	s.pack.abort()
	return nil
}
