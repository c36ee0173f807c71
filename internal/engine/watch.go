package engine

import (
	"context"
	"sync"

	understudyv1 "understudy.internal/gen/understudy/v1"
)

// watch follows the log of the sync for what others append to it, until the function
// that it returns is called.
func (r *run) watch() (stop func()) {
	ctx, cancel := context.WithCancel(r.owned)
	var watching sync.WaitGroup
	watching.Go(func() {
		for ctx.Err() == nil {
			changed := r.log.Changed()
			if r.lost() {
				r.disown(errLost)
				return
			}
			if r.log.Sync().GetState() == understudyv1.SyncState_SYNC_STATE_CANCELLING {
				r.cancel(errCancelled)
			}
			select {
			case <-changed:
			case <-ctx.Done():
			}
		}
	})
	return func() {
		cancel()
		watching.Wait()
	}
}

// lost says whether the sync is not ours any more.
func (r *run) lost() bool {
	s := r.log.Sync()
	return r.owned.Err() != nil || s.GetAttempt() != r.attemptNumber || s.GetWorker() != r.worker || terminal(s.GetState())
}
