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
			sync := r.log.Sync()
			if !r.owns(sync) {
				r.disown(errLost)
				return
			}
			if sync.GetState() == understudyv1.SyncState_SYNC_STATE_CANCELLING {
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

// owns says whether a sync is still ours, by its log.
func (r *run) owns(s *understudyv1.Sync) bool {
	return s.GetAttempt() == r.attemptNumber && s.GetWorker() == r.worker && !terminal(s.GetState())
}
