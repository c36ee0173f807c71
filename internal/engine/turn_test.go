package engine_test

import (
	"errors"
	"testing"
	"testing/synctest"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

// TestStands: of which syncs a commit that was not pushed is part of the backup.
func TestStands(t *testing.T) {
	created := func(commit string, state understudyv1.PushState) *understudyv1.Snapshot {
		return &understudyv1.Snapshot{Commit: commit, Created: true, PushState: state}
	}
	const failed, pushed = understudyv1.PushState_PUSH_STATE_FAILED, understudyv1.PushState_PUSH_STATE_PUSHED
	for name, c := range map[string]struct {
		state    understudyv1.SyncState
		snapshot *understudyv1.Snapshot
		want     bool
	}{
		"it was not pushed":            {understudyv1.SyncState_SYNC_STATE_PARTIALLY_SUCCEEDED, created("ours", failed), true},
		"it was built again":           {understudyv1.SyncState_SYNC_STATE_PARTIALLY_SUCCEEDED, created("before", failed), true},
		"it was pushed":                {understudyv1.SyncState_SYNC_STATE_SUCCEEDED, created("ours", pushed), true},
		"another worker's was pushed":  {understudyv1.SyncState_SYNC_STATE_SUCCEEDED, created("theirs", pushed), false},
		"another worker found nothing": {understudyv1.SyncState_SYNC_STATE_SUCCEEDED, &understudyv1.Snapshot{Commit: "theirs"}, false},
		"cancelled":                    {understudyv1.SyncState_SYNC_STATE_CANCELLED, nil, false},
		"failed":                       {understudyv1.SyncState_SYNC_STATE_FAILED, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStage(t)
				log := s.start(nil)
				s.append(log, eventStarted("entra/sp-1"))
				if c.snapshot != nil {
					s.append(log, &understudyv1.SyncEvent{Event: &understudyv1.SyncEvent_SnapshotCommitted{
						SnapshotCommitted: &understudyv1.SnapshotCommitted{Snapshot: c.snapshot},
					}})
				}
				final := log.Sync()
				final.State = c.state
				s.append(log, &understudyv1.SyncEvent{Event: &understudyv1.SyncEvent_Finished{Finished: &understudyv1.SyncFinished{Sync: final}}})
				asked := false
				s.vault.onBegin = func(turn port.Turn) {
					asked = true
					if got, err := turn.Stands(t.Context(), log.Sync().GetName(), "ours"); err != nil || got != c.want {
						t.Errorf("it stands: %v, %v", got, err)
					}
					if got, err := turn.Stands(t.Context(), "tenants/contoso/syncs/forgotten", "ours"); err != nil || !got {
						t.Errorf("a forgotten one stands: %v, %v", got, err)
					}
				}
				s.run()
				s.finished(s.start(nil))
				if !asked {
					t.Error("nothing was begun")
				}
			})
		})
	}
}

// TestCommitArrivesLate: a sync was taken over from a worker that had begun to commit,
// and whose commit arrives when its successor has begun again.
func TestCommitArrivesLate(t *testing.T) {
	for name, cancelled := range map[string]bool{"before the successor begins": false, "and the sync is cancelled": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				killed := newStage(t)
				log := killed.start(nil)
				killed.append(log, eventStarted("entra/sp-1"), eventState(understudyv1.SyncState_SYNC_STATE_COMMITTING))
				s := killed.restart()
				s.vault.pushState = understudyv1.PushState_PUSH_STATE_PUSHED
				arrive := func() { s.vault.commits = []port.CommitInfo{{Sync: log.Sync().GetName()}} }
				if cancelled {
					s.source.reads["entra/sp-1"] = blocks("a")
				} else {
					s.vault.onBegin = func(port.Turn) { arrive() }
				}
				s.run()
				if cancelled {
					synctest.Wait()
					arrive()
					if _, err := s.engine.Cancel(t.Context(), log.Sync().GetName()); err != nil {
						t.Fatal(err)
					}
				}
				final := s.finished(log)
				if final.GetState() != understudyv1.SyncState_SYNC_STATE_SUCCEEDED || final.GetSnapshot() == nil || len(s.vault.commits) != 1 {
					t.Errorf("the sync is %s, with %v; %d commits", final.GetState(), final.GetSnapshot(), len(s.vault.commits))
				}
				s.checkDense(log)
			})
		})
	}
}

// TestPushWaitsForTheJournal: nothing is pushed while it is not known whose the sync is.
func TestPushWaitsForTheJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		tries := 0
		s.vault.afterCommit = func() {
			s.syncs.openErr = func() error {
				if tries++; tries <= 5 {
					return &port.StorageError{Err: errors.New("away")}
				}
				return nil
			}
		}
		s.run()
		final := s.finished(s.start(nil))
		if final.GetState() != understudyv1.SyncState_SYNC_STATE_SUCCEEDED || s.vault.pushes != 1 || tries <= 5 {
			t.Errorf("the sync is %s after %d pushes and %d questions", final.GetState(), s.vault.pushes, tries)
		}
	})
}
