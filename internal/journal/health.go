package journal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"understudy.internal/internal/port"
)

const (
	// mendInterval is how often it is looked whether the engine stores;
	// longestMendInterval after it was mended in vain.
	mendInterval        = 10 * time.Second
	longestMendInterval = time.Minute
)

// Healthy returns why the journal cannot store, or nil. A process that has not
// reached the cluster for the lease time is cut off: other processes take over what
// it runs, and it must stop that.
func (j *Journal) Healthy() error {
	if err := j.ready(); err != nil {
		return err
	}
	if j.members.cut() {
		return &port.StorageError{Err: fmt.Errorf("the journal's cluster has not answered for %s", j.members.lease)}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return cmp.Or(j.sick[j.names.syncs], j.sick[j.names.events])
}

// ready says whether the embedded engine has stopped, and does not answer.
func (j *Journal) ready() error {
	if j.embedded != nil && !j.embedded.stores() {
		return &port.StorageError{Err: errors.New("the journal's engine has stopped storing")}
	}
	return nil
}

// stored notes whether a stream stored what it was given: one of them may not though
// the other does.
func (j *Journal) stored(stream string, err error) {
	if err != nil && !errors.As(err, new(*port.StorageError)) {
		return // it was not the engine's fault
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.sick[stream] = err
}

// mend looks after an engine that does not store. The embedded one is restarted, once
// its directory can be written: what was stored stays, and can be read until then; what
// was not acknowledged is found out by those who wrote it. Of a cluster it is found out
// whether it stores again.
func (j *Journal) mend(ctx context.Context) {
	for pause := mendInterval; ; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = mendInterval
		if j.Healthy() == nil {
			continue
		}
		if j.embedded != nil {
			j.logger.Warn("the journal's engine does not store, and is restarted where its directory can be written")
		}
		if err := j.restartStorage(ctx); err != nil && ctx.Err() == nil {
			j.logger.Error("the journal's engine still does not store", "error", err)
			if j.embedded != nil && !errors.Is(err, errUnwritable) {
				pause = longestMendInterval // reading is interrupted too
			}
		}
	}
}

// restartStorage opens the storage of the embedded engine anew, and finds out whether
// the streams store.
func (j *Journal) restartStorage(ctx context.Context) error {
	if j.embedded != nil {
		if err := j.embedded.restart(ctx, j.conn); err != nil {
			return err
		}
	}
	var failures []error
	for _, stream := range []struct {
		jetstream.Stream
		name, subject string
	}{{j.store.syncs, j.names.syncs, j.names.record(probe)}, {j.store.events, j.names.events, j.names.event(probe)}} {
		err := j.store.probe(ctx, stream.Stream, stream.subject)
		j.stored(stream.name, err)
		failures = append(failures, err)
	}
	return errors.Join(failures...)
}

// storageError wraps a failure of the engine; what the context says stays.
func storageError(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	return &port.StorageError{Err: err}
}
