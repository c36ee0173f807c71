package vault

import "time"

// The next item or type brings the next checkpoint. Where none comes, because one slow
// type is all that is left, a timer does.

// dueAt returns when the next checkpoint is due: between it and the last one lie the
// interval, and a tenth (checkpointShare) of the time since the begin. So the time up to
// the last one is at most the other nine.
func (c *checkpoints) dueAt(interval time.Duration) time.Time {
	share := c.begun.Add(c.last.Sub(c.begun) * checkpointShare / (checkpointShare - 1))
	if soonest := c.last.Add(interval); soonest.After(share) {
		return soonest
	}
	return share
}

// armCheckpoint lets a checkpoint come when it is due, if something is in none, and none
// is on its way. Of a pack that is broken, and after the commit, there are none. The
// caller holds mu.
func (s *staging) armCheckpoint() {
	c := &s.checkpoints
	interval := s.vault.config.CheckpointInterval
	if !c.fresh || interval <= 0 || c.timer != nil || c.stopped || c.ended || s.pack == nil || s.pack.broken != nil {
		return
	}
	c.timing.Add(1)
	c.timer = time.AfterFunc(c.dueAt(interval).Sub(s.vault.now()), s.checkpointByTime)
}

// checkpointByTime is what the timer does. It waits for whoever is at a checkpoint or at
// the commit.
func (s *staging) checkpointByTime() {
	defer s.checkpoints.timing.Done()
	s.checkpointing.Lock()
	defer s.checkpointing.Unlock()
	s.checkpointWhenDue()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checkpoints.timer = nil
	s.armCheckpoint() // it failed, or another one came before, and something was settled since
}

// disarmCheckpoint stops the timer, if it has not begun. The caller holds mu.
func (s *staging) disarmCheckpoint() {
	if c := &s.checkpoints; c.timer != nil && c.timer.Stop() {
		c.timer = nil
		c.timing.Done()
	}
}

// endTimer stops the timer for good, and returns when it does nothing any more. The
// caller holds no lock.
func (s *staging) endTimer() {
	s.mu.Lock()
	s.checkpoints.stopped = true
	s.disarmCheckpoint()
	s.mu.Unlock()
	s.checkpoints.timing.Wait()
}
