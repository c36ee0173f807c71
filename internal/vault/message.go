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

// syncTrailer names the sync that made a commit.
const syncTrailer = "Sync: "

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
	fmt.Fprintf(&b, "%s%s\nStatus: %s\n", syncTrailer, info.Sync, strings.TrimPrefix(info.State.String(), "SYNC_STATE_"))
	for _, r := range info.Results {
		var name string
		switch r.GetOutcome() {
		case understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_INCOMPLETE:
			name = "Incomplete"
		case understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_FAILED:
			name = "Failed"
		case understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_NOT_BACKED_UP:
			name = "Not-Backed-Up"
		}
		if name != "" {
			fmt.Fprintf(&b, "%s: %s (%s)\n", name, r.GetConfigurationType(),
				strings.TrimPrefix(r.GetReason().String(), "CONFIGURATION_FAILURE_REASON_"))
		}
		if filter := r.GetFilter(); filter != "" {
			fmt.Fprintf(&b, "Filtered: %s (%s)\n", r.GetConfigurationType(), filter)
		}
	}
	return b.String()
}

// committedDepth is how many commits of the branch are looked at: what an
// interrupted sync committed is the last one, or a few below it.
const committedDepth = 32

// Committed returns the snapshot that a sync committed, or nil when there is none
// among the last commits of the branch, here and, where several machines write, of the
// remote.
func (v *Vault) Committed(ctx context.Context, sync string) (*understudyv1.Snapshot, error) {
	if v.remote != nil && v.config.Replicated {
		return v.committedAnywhere(ctx, sync)
	}
	if _, err := os.Stat(v.path("HEAD")); errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	v.reading.RLock()
	defer v.reading.RUnlock()
	storage := v.storage()
	id, err := v.branch(storage)
	if err != nil {
		return nil, err
	}
	return v.findSync(ctx, storage, id, sync)
}

// committedAnywhere is Committed where the remote is the truth. What it has and we do
// not is fetched; the branch stays where it is.
func (v *Vault) committedAnywhere(ctx context.Context, sync string) (_ *understudyv1.Snapshot, err error) {
	if err := makeDirectory(v.config.Directory); err != nil {
		return nil, &port.StorageError{Err: err}
	}
	if !v.config.Shared { // there it takes the repository from nobody: see [hold]
		held, err := v.lock()
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, held.release()) }()
	}
	if err := v.initialize(); err != nil {
		return nil, &port.StorageError{Err: err}
	}
	ours, err := v.branch(v.storage())
	if err != nil {
		return nil, err
	}
	theirs, failed := v.remoteTip(ctx, v.storage(), ours)
	if failed == nil {
		found, err := v.findSync(ctx, v.storage(), theirs, sync)
		if found != nil {
			found.PushState = understudyv1.PushState_PUSH_STATE_PUSHED
		}
		if found != nil || err != nil {
			return found, err
		}
	}
	found, err := v.findSync(ctx, v.storage(), ours, sync)
	if found != nil || err != nil {
		return found, err
	}
	return nil, failed
}

// findSync returns the snapshot of a sync among a commit, which may be zero, and a few
// below it.
func (v *Vault) findSync(ctx context.Context, storage *store, id plumbing.Hash, sync string) (*understudyv1.Snapshot, error) {
	if sync == "" {
		return nil, nil
	}
	for range committedDepth {
		if id.IsZero() {
			break
		}
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		commit, err := object.GetCommit(storage, id)
		if err != nil {
			return nil, fmt.Errorf("reading a commit: %w", err)
		}
		if madeBy(commit) == sync {
			return v.snapshotOf(commit), nil
		}
		id = plumbing.ZeroHash
		if commit.NumParents() > 0 {
			id = commit.ParentHashes[0]
		}
	}
	return nil, nil
}

// madeBy returns the name of the sync that made a commit, by its trailers; empty: none.
func madeBy(commit *object.Commit) string {
	body := strings.TrimRight(commit.Message, "\n")
	trailers := body[strings.LastIndex(body, "\n\n")+1:]
	for line := range strings.SplitSeq(trailers, "\n") {
		if sync, ok := strings.CutPrefix(line, syncTrailer); ok {
			return sync
		}
	}
	return ""
}

func (v *Vault) snapshotOf(commit *object.Commit) *understudyv1.Snapshot {
	snapshot := &understudyv1.Snapshot{
		Ref: v.ref().String(), Commit: commit.Hash.String(), Tree: commit.TreeHash.String(), Created: true,
	}
	if v.remote == nil {
		snapshot.PushState = understudyv1.PushState_PUSH_STATE_NO_REMOTE
	}
	return snapshot
}
