package journal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The headers of a record and of an event.
const (
	headerFinished = "Understudy-Finished"
	headerRequest  = "Understudy-Request-Id"
	headerDigest   = "Understudy-Request-Digest"
	// probe is no key of a sync.
	probe = "probe"

	// publishTimeout bounds one attempt to store: after it another one is of more use
	// than waiting, where the leader is gone.
	publishTimeout = 3 * time.Second
	// Between two attempts there is a pause.
	shortestPause = 50 * time.Millisecond
	longestPause  = 500 * time.Millisecond
)

// store speaks JetStream.
type store struct {
	conn                *nats.Conn
	js                  jetstream.JetStream
	names               names
	syncs, events, keys jetstream.Stream
	// patience is how long it is tried to store something.
	patience time.Duration
	// ready says why there is no use in asking the engine now, which would not answer.
	ready func() error
}

// embeddedPatience is how long the embedded engine is waited for.
const embeddedPatience = time.Second

// openStore opens the streams. They do not allow direct reading: it would be
// answered by any node, also one that lags behind; the leader does not.
func openStore(ctx context.Context, conn *nats.Conn, n names, replicas int, config Config, patience time.Duration, ready func() error) (*store, error) {
	js, err := jetstream.New(conn)
	if err != nil {
		return nil, fmt.Errorf("opening the journal: %w", err)
	}
	if c := config.Cluster; c != nil {
		if err := c.check(ctx, conn, js, config.Logger); err != nil {
			return nil, err
		}
	}
	s := &store{conn: conn, js: js, names: n, patience: patience, ready: ready}
	var refusals []error
	for _, stream := range []struct {
		what   string
		opened *jetstream.Stream
		config jetstream.StreamConfig
	}{
		{"the stream of syncs", &s.syncs, jetstream.StreamConfig{
			Name: n.syncs, Subjects: []string{n.record(">")}, MaxMsgsPerSubject: 1, MaxAge: config.Retention,
		}},
		{"the stream of events", &s.events, jetstream.StreamConfig{
			Name: n.events, Subjects: []string{n.event(">")}, MaxAge: config.Retention, AllowAtomicPublish: true,
		}},
		{"the stream of keys", &s.keys, jetstream.StreamConfig{
			Name: n.keys, Subjects: []string{n.value(">")}, MaxMsgsPerSubject: 1,
		}},
	} {
		stream.config.Storage, stream.config.Replicas = jetstream.FileStorage, replicas
		var err error
		for range 4 {
			err = s.patiently(ctx, max(patience, startTimeout/2), func(ctx context.Context) (err error) {
				*stream.opened, err = openAndSay(ctx, js, stream.config, config)
				return err
			})
			if api := (*jetstream.APIError)(nil); !errors.As(err, &api) || api.ErrorCode != noPeers {
				break
			}
			select {
			case <-time.After(time.Second): // the others may be about to start
			case <-ctx.Done():
			}
		}
		if errors.As(err, new(*StreamError)) {
			refusals = append(refusals, err) // of all of them at once
			continue
		}
		if err != nil {
			return nil, streamError(stream.what, replicas, err)
		}
	}
	if err := errors.Join(refusals...); err != nil {
		return nil, err
	}
	return s, nil
}

// openAndSay is openStream. On a cluster it says when the stream keeps more from now on:
// the other processes do not start with what they have in their configuration any more.
func openAndSay(ctx context.Context, js jetstream.JetStream, wanted jetstream.StreamConfig, config Config) (jetstream.Stream, error) {
	if config.Cluster == nil {
		return openStream(ctx, js, wanted, false)
	}
	before, err := js.Stream(ctx, wanted.Name)
	if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, err
	}
	opened, err := openStream(ctx, js, wanted, true)
	if before == nil || err != nil {
		return opened, err
	}
	was := before.CachedInfo().Config
	if was.MaxAge != wanted.MaxAge {
		config.Logger.Warn("changed how long a stream of all replicas keeps what is stored; the others need the same journal.retention in their configuration before they start again",
			"stream", wanted.Name, "before", ageText(was.MaxAge), "now", ageText(wanted.MaxAge))
	}
	if was.Replicas != wanted.Replicas {
		config.Logger.Warn("changed on how many servers a stream of all replicas is; the others need the same journal.cluster.replicas in their configuration before they start again",
			"stream", wanted.Name, "before", was.Replicas, "now", wanted.Replicas)
	}
	return opened, nil
}

// ageText is for how long a stream keeps what is stored.
func ageText(age time.Duration) string {
	if age == 0 {
		return "for ever"
	}
	return hours(age)
}

// patiently tries something until it is answered, for as long as is useful: a
// cluster that loses a node is without a leader for some seconds.
func (s *store) patiently(ctx context.Context, patience time.Duration, try func(context.Context) error) error {
	begin, pause := time.Now(), shortestPause
	for {
		err := s.ready()
		if err == nil {
			attempt, cancel := context.WithTimeout(ctx, publishTimeout)
			err = try(attempt)
			cancel()
		}
		switch {
		case err == nil || answered(err):
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case time.Since(begin) > patience:
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		pause = min(2*pause, longestPause)
	}
}

// answered says whether an error is a decision of the engine, which asking again
// does not change; a server that is not ready is none.
func answered(err error) bool {
	api := (*jetstream.APIError)(nil)
	return errors.Is(err, errFenced) || errors.Is(err, jetstream.ErrMsgNotFound) || errors.As(err, new(*StreamError)) ||
		(errors.As(err, &api) && (api.ErrorCode == notClustered || api.Code < 500))
}

// probe stores a message of a page in a stream and removes it again: whether it can
// store at all.
func (s *store) probe(ctx context.Context, stream jetstream.Stream, subject string) error {
	if _, err := s.js.Publish(ctx, subject, make([]byte, 4096)); err != nil {
		return storageError(ctx, fmt.Errorf("storing a probe: %w", err))
	}
	if err := stream.Purge(ctx, jetstream.WithPurgeSubject(subject)); err != nil {
		return storageError(ctx, fmt.Errorf("removing a probe: %w", err))
	}
	return nil
}

// get reads a message from a stream's leader: the first of a subject from a sequence
// on, or its last when that is 0; nil when there is none.
func (s *store) get(ctx context.Context, stream jetstream.Stream, from uint64, subject string) (*jetstream.RawStreamMsg, error) {
	var message *jetstream.RawStreamMsg
	err := s.patiently(ctx, s.patience, func(ctx context.Context) (err error) {
		if from == 0 {
			message, err = stream.GetLastMsgForSubject(ctx, subject)
		} else {
			message, err = stream.GetMsg(ctx, from, jetstream.WithGetMsgSubject(subject))
		}
		return err
	})
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	return message, storageError(ctx, err)
}
