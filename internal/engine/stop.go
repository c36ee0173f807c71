package engine

// StopTaking lets the engine take no more syncs; those that it has go on, until the
// context of Run ends. The channel is closed as soon as it has none any more: then
// nothing is lost when its worker says that it leaves.
func (e *Engine) StopTaking() (idle <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.stopping {
		e.stopping = true
		e.idleLocked()
	}
	return e.idle
}

// isStopping says whether no more syncs are taken.
func (e *Engine) isStopping() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.stopping
}

// idleLocked notes it when there is nothing left to do for an engine that takes nothing.
// A sync whose end is not recorded yet is something: nobody else knows how it ended.
func (e *Engine) idleLocked() {
	if !e.stopping || e.isIdle || len(e.active) > 0 || len(e.unended) > 0 {
		return
	}
	e.isIdle = true
	close(e.idle)
}
