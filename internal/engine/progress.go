package engine

import (
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	understudyv1 "understudy.internal/gen/understudy/v1"
)

// How often progress is shown, and how many of the types that are being read it
// names.
const (
	progressInterval = 500 * time.Millisecond
	maxActiveTypes   = 20
)

// showProgress publishes how far the sync is until done is closed.
func (r *run) showProgress(done <-chan struct{}) {
	ticker := time.NewTicker(progressInterval)
	defer ticker.Stop()
	for {
		r.publish(r.progress())
		select {
		case <-ticker.C:
		case <-done:
			return
		}
	}
}

func (r *run) progress() *understudyv1.Progress {
	p := &understudyv1.Progress{Phase: understudyv1.SyncPhase_SYNC_PHASE_AUTHENTICATING}
	for _, who := range []*actor{r.servicePrincipal, r.user} {
		if state, _ := who.current(); state == understudyv1.IdentityState_IDENTITY_STATE_AUTHENTICATED {
			p.Phase = understudyv1.SyncPhase_SYNC_PHASE_READING
		}
	}
	r.mu.Lock()
	for id := range r.reading {
		p.ActiveConfigurationTypes = append(p.ActiveConfigurationTypes, id)
	}
	r.mu.Unlock()
	slices.Sort(p.ActiveConfigurationTypes)
	p.ActiveConfigurationTypes = p.ActiveConfigurationTypes[:min(len(p.ActiveConfigurationTypes), maxActiveTypes)]
	return p
}

// publish completes a progress with what the sync knows, and shows it.
func (r *run) publish(p *understudyv1.Progress) {
	p.Counts = r.counts()
	stats := r.session.Stats()
	p.ItemsRead = stats.ItemsRead
	if stats.ThrottleDelay > 0 {
		p.ThrottleDelay = durationpb.New(stats.ThrottleDelay)
	}
	r.log.Publish(&understudyv1.SyncEvent{Event: &understudyv1.SyncEvent_Progress{Progress: p}})
}

// active notes that a type is being read, or is not any more.
func (r *run) active(id string, reading bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if reading {
		r.reading[id] = true
	} else {
		delete(r.reading, id)
	}
}
