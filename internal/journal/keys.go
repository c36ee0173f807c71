package journal

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"understudy.internal/internal/port"
)

// Store keeps small values of the service itself, by key, durably and for all
// processes that share the journal. What is secret is encrypted by the caller: the
// journal does not know what it keeps. All methods may be called at the same time.
type Store struct {
	journal *Journal
	name    string
}

// maxValue is the greatest value; a cluster with a small max_payload takes less.
const maxValue = 1 << 20

// Store returns the values under a name.
func (j *Journal) Store(name string) *Store { return &Store{journal: j, name: name} }

// subject is where the value of a key lies. Any string is a key.
func (s *Store) subject(key string) string {
	return s.journal.names.value(hex.EncodeToString([]byte(s.name)) + "." + hex.EncodeToString([]byte("k"+key)))
}

// Load returns the value of a key as it was saved last, by whichever process; nil
// when there is none.
func (s *Store) Load(key string) ([]byte, error) {
	message, err := s.journal.store.get(context.Background(), s.journal.store.keys, 0, s.subject(key))
	if err != nil || message == nil {
		return nil, err
	}
	return message.Data, nil
}

// Save puts a value in the place of the one before. Of two at the same time the later
// one stays.
func (s *Store) Save(key string, value []byte) error {
	j := s.journal
	if limit := min(maxValue, j.conn.MaxPayload()-1024); int64(len(value)) > limit {
		return fmt.Errorf("a value of %d bytes cannot be kept: %d are the most", len(value), limit)
	}
	ctx := context.Background()
	err := j.store.patiently(ctx, j.store.patience, func(ctx context.Context) error {
		_, err := j.store.js.Publish(ctx, s.subject(key), value)
		return err
	})
	return storageError(ctx, err)
}

// Add saves a value unless the key has one, and returns the one that it has then: of two
// at the same time the earlier one stays.
func (s *Store) Add(key string, value []byte) ([]byte, error) {
	j, ctx := s.journal, context.Background()
	var is []byte
	err := j.store.patiently(ctx, j.store.patience, func(ctx context.Context) error {
		_, err := j.store.js.Publish(ctx, s.subject(key), value, jetstream.WithExpectLastSequencePerSubject(0))
		if api := (*jetstream.APIError)(nil); errors.As(err, &api) && wrongLastSequence[int(api.ErrorCode)] {
			err = nil // there is one, ours too when nobody answered at first
		}
		if err != nil {
			return err
		}
		message, err := j.store.keys.GetLastMsgForSubject(ctx, s.subject(key))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return errors.New("another value is about to be stored")
		}
		if err == nil {
			is = message.Data
		}
		return err
	})
	return is, storageError(ctx, err)
}

// Delete removes the value of a key, if there is one.
func (s *Store) Delete(key string) error {
	ctx := context.Background()
	err := s.journal.store.patiently(ctx, s.journal.store.patience, func(ctx context.Context) error {
		return s.journal.store.keys.Purge(ctx, jetstream.WithPurgeSubject(s.subject(key)))
	})
	return storageError(ctx, err)
}

// isNotFound says whether something does not exist, and the engine said so.
func isNotFound(err error) bool { return errors.As(err, new(*port.NotFoundError)) }
