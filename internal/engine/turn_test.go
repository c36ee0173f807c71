package engine_test

import (
	"errors"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

// TestFate: what the end of a sync says of its commit.
func TestFate(t *testing.T) {
	created := func(state understudyv1.PushState) *understudyv1.Snapshot {
		return &understudyv1.Snapshot{Commit: "c0ffee", Created: true, PushState: state}
	}
	for name, c := range map[string]struct {
		state    understudyv1.SyncState
		snapshot *understudyv1.Snapshot
		want     port.Fate
	}{
		"not pushed": {
			understudyv1.SyncState_SYNC_STATE_PARTIALLY_SUCCEEDED, created(understudyv1.PushState_PUSH_STATE_FAILED), port.Fate{Committed: true},
		},
		"pushed": {
			understudyv1.SyncState_SYNC_STATE_SUCCEEDED, created(understudyv1.PushState_PUSH_STATE_PUSHED),
			port.Fate{Committed: true, Pushed: "c0ffee"},
		},
		"nothing changed": {understudyv1.SyncState_SYNC_STATE_SUCCEEDED, &understudyv1.Snapshot{Commit: "theirs"}, port.Fate{}},
		"cancelled":       {understudyv1.SyncState_SYNC_STATE_CANCELLED, nil, port.Fate{}},
		"failed":          {understudyv1.SyncState_SYNC_STATE_FAILED, nil, port.Fate{}},
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
					if got, err := turn.Fate(t.Context(), log.Sync().GetName()); err != nil || got != c.want {
						t.Errorf("its fate is %+v, %v", got, err)
					}
					if got, err := turn.Fate(t.Context(), "tenants/contoso/syncs/forgotten"); err != nil || got != (port.Fate{Forgotten: true}) {
						t.Errorf("that of a forgotten one is %+v, %v", got, err)
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

// TestFateIsWaitedFor: while the journal does not answer, or with an old state, it is not
// said that a commit is, or is not, part of the backup.
func TestFateIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		log := s.start(nil)
		s.append(log, eventStarted("entra/sp-1"))
		final := log.Sync()
		final.State = understudyv1.SyncState_SYNC_STATE_CANCELLED
		s.append(log, &understudyv1.SyncEvent{Event: &understudyv1.SyncEvent_Finished{Finished: &understudyv1.SyncFinished{Sync: final}}})
		answers := 0
		s.syncs.onGet = func(sync *understudyv1.Sync) (*understudyv1.Sync, error) {
			switch answers++; answers {
			case 1:
				return nil, &port.StorageError{Err: errors.New("away")}
			case 2:
				old := proto.CloneOf(sync)
				old.State = understudyv1.SyncState_SYNC_STATE_RUNNING
				return old, nil
			}
			return sync, nil
		}
		s.vault.onBegin = func(turn port.Turn) {
			if got, err := turn.Fate(t.Context(), log.Sync().GetName()); err != nil || got != (port.Fate{}) || answers != 3 {
				t.Errorf("after %d answers its fate is %+v, %v", answers, got, err)
			}
		}
		s.run()
		s.finished(s.start(nil))
		if answers < 3 {
			t.Errorf("asked %d times", answers)
		}
	})
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

// TestCommitIsLeftOut: what the worker before committed is found, and is not on the branch
// any more when the repository is opened: the sync is read on.
func TestCommitIsLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		killed := newStage(t)
		log := killed.start(nil)
		killed.append(log, eventStarted("entra/sp-1"), eventState(understudyv1.SyncState_SYNC_STATE_COMMITTING))
		killed.vault.commits = []port.CommitInfo{{Sync: log.Sync().GetName()}}
		s := killed.restart()
		s.vault.onBegin = func(port.Turn) { s.vault.commits = nil }
		s.run()
		final := s.finished(log)
		want := []string{
			"state COMMITTING by worker'", "state RUNNING", "authenticated SERVICE_PRINCIPAL", "committed", "finished SUCCEEDED",
			"entra/sp-1 CHANGED UNSPECIFIED by SERVICE_PRINCIPAL",
		}
		if diff := cmp.Diff(want, summary(log.stored()[2:])); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
		if len(s.vault.commits) != 1 || final.GetSnapshot() == nil {
			t.Errorf("%d commits, %v", len(s.vault.commits), final.GetSnapshot())
		}
		s.checkDense(log)
	})
}
