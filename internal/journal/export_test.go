package journal

import (
	"context"

	understudyv1 "understudy.internal/gen/understudy/v1"
)

// StopStorage makes the engine refuse everything, as it does after a disk was full.
func (j *Journal) StopStorage() error { return j.server.DisableJetStream() }

// RestartStorage is what the journal does by itself after a while.
func (j *Journal) RestartStorage(ctx context.Context) error { return j.restartStorage(ctx) }

// LoseAnswer stores events, of which the writer then does not know.
func (j *Journal) LoseAnswer(ctx context.Context, name string, events ...*understudyv1.SyncEvent) error {
	l, err := j.find(name)
	if err != nil {
		return err
	}
	l.writing.Lock()
	defer l.writing.Unlock()
	for i, event := range events {
		event.Sequence = l.Sync().GetLastSequence() + int64(i) + 1
	}
	l.doubtful = events
	_, err = j.store.append(ctx, name, l.streamSequence, events)
	return err
}
