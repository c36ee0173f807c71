package engine_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/engine"
)

// isClosed says whether a channel is closed by now.
func isClosed(channel <-chan struct{}) bool {
	select {
	case <-channel:
		return true
	default:
		return false
	}
}

// TestStopTaking: an engine that is about to stop takes nothing more, brings what it has
// to its end, and says when that is.
func TestStopTaking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pair(t)
		a.syncs.setAlive(a.syncs.worker)
		names := a.more(1)
		b.tenants.more = a.tenants.more
		a.source.reads["entra/sp-1"] = lasting(time.Minute, items("a"))
		a.run()
		running := a.start(nil)
		synctest.Wait()
		idle := a.engine.StopTaking()
		waiting, err := a.engine.Start(t.Context(), engine.StartRequest{Tenant: names[0]})
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(30 * time.Second)
		if got := a.logOf(waiting.GetName()).Sync(); got.GetAttempt() != 0 {
			t.Errorf("it took a sync: %v", got)
		}
		if isClosed(idle) || isClosed(a.engine.StopTaking()) {
			t.Error("it is idle, and runs a sync")
		}
		if final := a.finished(running); final.GetState() != understudyv1.SyncState_SYNC_STATE_SUCCEEDED || final.GetAttempt() != 1 {
			t.Errorf("the sync that ran is %s at attempt %d", final.GetState(), final.GetAttempt())
		}
		synctest.Wait()
		if !isClosed(idle) {
			t.Error("it is not idle")
		}
		a.syncs.setAlive(b.syncs.worker)
		b.run()
		if final := a.finished(a.logOf(waiting.GetName())); final.GetWorker() != b.syncs.worker || final.GetAttempt() != 1 {
			t.Errorf("the sync that waited is of %s at attempt %d", final.GetWorker(), final.GetAttempt())
		}
	})
}

// TestIdle: an engine with nothing to do is idle at once, one that is stopped when what it
// ran is put down, and one that could not store how a sync ended not before it could.
func TestIdle(t *testing.T) {
	for name, test := range map[string]struct {
		read     readFunc
		unstored bool
		stop     bool
		want     time.Duration
	}{
		"nothing runs": {read: items("a")},
		"stopped":      {read: blocks("a"), stop: true, want: time.Minute},
		"no ending":    {read: blocks("a"), unstored: true, want: 2 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStageOf(t, func(c *engine.Config) { c.MaxSyncDuration = time.Second })
				if test.stop {
					s = newStage(t)
				}
				s.source.reads["entra/sp-1"] = test.read
				s.run()
				log := s.start(nil)
				<-time.After(500 * time.Millisecond)
				if test.unstored {
					outage := between(0, 10*time.Minute)
					s.syncs.refuse(outage)
					<-time.After(9 * time.Minute) // it gave up, and tries to end it
				}
				begin := time.Now()
				idle := s.engine.StopTaking()
				if test.stop {
					time.AfterFunc(time.Minute, s.stop)
				}
				<-idle
				if took := time.Since(begin); took < test.want/2 || took > test.want {
					t.Errorf("it was idle after %s, want %s", took, test.want)
				}
				if got := log.Sync().GetEndTime() == nil; got != test.stop {
					t.Error(fmt.Sprint("the sync is ", log.Sync().GetState()))
				}
			})
		})
	}
}
