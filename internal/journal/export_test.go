package journal

import (
	"context"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

// StopStorage makes the engine refuse everything, as it does after a disk was full.
func (j *Journal) StopStorage() error { return j.embedded.server.DisableJetStream() }

// RestartStorage is what the journal does by itself after a while.
func (j *Journal) RestartStorage(ctx context.Context) error { return j.restartStorage(ctx) }

// LoseAnswer stores events behind the known ones, of which no writer then knows: as
// of an append through log that nobody answered, or, when it is nil, of another
// process.
func (j *Journal) LoseAnswer(ctx context.Context, name string, log port.Log, events ...*understudyv1.SyncEvent) error {
	l, err := j.find(ctx, name)
	if err != nil {
		return err
	}
	l.writing.Lock()
	defer l.writing.Unlock()
	l.mu.Lock()
	p := &pending{id: "lost"}
	for i, event := range events {
		event.Sequence = int64(len(l.events) + i + 1)
	}
	if h, ok := log.(*handle); ok {
		p.handle = h
		l.pending = p
	}
	expected := l.streamSequence
	l.mu.Unlock()
	_, err = j.store.append(ctx, name, p.id, expected, events)
	return err
}

// Silence cuts the connection of this process for good, and tells nobody.
func (j *Journal) Silence() { j.conn.Close() }
