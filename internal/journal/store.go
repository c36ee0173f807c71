package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
	"google.golang.org/protobuf/proto"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

// The headers of a record and of an event.
const (
	headerFinished = "Understudy-Finished"
	headerRequest  = "Understudy-Request-Id"
	headerDigest   = "Understudy-Request-Digest"
	// headerAppend names the append that stored an event: its writer knows by it
	// whether an event is its own.
	headerAppend = "Understudy-Append"
	// probe is no key of a sync.
	probe = "probe"

	// publishTimeout bounds one attempt to store.
	publishTimeout = 5 * time.Second
	// Between two attempts there is a pause.
	shortestPause = 50 * time.Millisecond
	longestPause  = 500 * time.Millisecond
	// maxBatch is how many events can be stored together: a limit of the engine.
	maxBatch = 1000
)

// store speaks JetStream.
type store struct {
	conn                *nats.Conn
	js                  jetstream.JetStream
	names               names
	syncs, events, keys jetstream.Stream
	// patience is how long it is tried to store something.
	patience time.Duration
}

// embeddedPatience is how long the embedded engine is waited for.
const embeddedPatience = 2 * time.Second

// openStore opens the streams. They do not allow direct reading: it would be
// answered by any node, also one that lags behind; the leader does not.
func openStore(ctx context.Context, conn *nats.Conn, n names, replicas int, config Config, patience time.Duration) (*store, error) {
	js, err := jetstream.New(conn)
	if err != nil {
		return nil, fmt.Errorf("opening the journal: %w", err)
	}
	if c := config.Cluster; c != nil {
		if err := c.check(ctx, conn, js, config.Logger); err != nil {
			return nil, err
		}
	}
	s := &store{conn: conn, js: js, names: n, patience: patience}
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
		err := patiently(ctx, max(patience, startTimeout/2), func(ctx context.Context) error {
			opened, err := js.CreateOrUpdateStream(ctx, stream.config)
			*stream.opened = opened
			return err
		})
		if err != nil {
			return nil, streamError(stream.what, replicas, err)
		}
	}
	return s, nil
}

// patiently tries something until it is answered, for as long as is useful: a
// cluster that loses a node is without a leader for some seconds.
func patiently(ctx context.Context, patience time.Duration, try func(context.Context) error) error {
	begin, pause := time.Now(), shortestPause
	for {
		attempt, cancel := context.WithTimeout(ctx, publishTimeout)
		err := try(attempt)
		cancel()
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
	return errors.Is(err, errFenced) || errors.Is(err, jetstream.ErrMsgNotFound) || (errors.As(err, &api) && api.Code < 500)
}

// fence is what has to be last in a stream for something to be stored.
type fence struct {
	subject  string
	sequence uint64
}

// putRecord stores the record of a sync in place of the one before, once, and
// returns its sequence. It returns errFenced when something else than the fence says
// was last.
func (s *store) putRecord(ctx context.Context, e *entry, sync *understudyv1.Sync, finished bool, last fence) (uint64, error) {
	data, err := proto.Marshal(sync)
	if err != nil {
		return 0, fmt.Errorf("encoding a sync: %w", err)
	}
	message := nats.NewMsg(s.names.record(key(e.name)))
	message.Data = data
	message.Header.Set(headerFinished, strconv.FormatBool(finished))
	if e.requestID != "" {
		message.Header.Set(headerRequest, e.requestID)
		message.Header.Set(headerDigest, e.digest)
	}
	message.Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(last.sequence, 10))
	message.Header.Set(jetstream.ExpectedLastSubjSeqSubjHeader, last.subject)
	reply, err := s.conn.RequestMsgWithContext(ctx, message)
	if err != nil {
		return 0, err
	}
	return acknowledged(reply.Data)
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

// kept is a record as it lies in the stream.
type kept struct {
	entry *entry
	// sync is nil when only the headers were read.
	sync     *understudyv1.Sync
	sequence uint64
}

// record returns the record of a sync, or a [*port.NotFoundError].
func (s *store) record(ctx context.Context, name string) (*kept, error) {
	record, err := s.getRecord(ctx, 0, s.names.record(key(name)))
	if err == nil && record == nil {
		err = &port.NotFoundError{Resource: name}
	}
	return record, err
}

// lastRecord returns the record of a tenant that was stored last, or nil.
func (s *store) lastRecord(ctx context.Context, tenant string) (*kept, error) {
	return s.getRecord(ctx, 0, s.names.record(tenantKey(tenant)))
}

// nextRecord returns the first record of a tenant behind a sequence, or nil.
func (s *store) nextRecord(ctx context.Context, tenant string, after uint64) (*kept, error) {
	return s.getRecord(ctx, after+1, s.names.record(tenantKey(tenant)))
}

// getRecord reads a record from the stream's leader: the first from a sequence on, or
// the last when it is 0; nil when there is none.
func (s *store) getRecord(ctx context.Context, from uint64, subject string) (*kept, error) {
	message, err := s.get(ctx, s.syncs, from, subject)
	if err != nil || message == nil {
		return nil, err
	}
	return s.decodeRecord(message.Subject, message.Header, message.Data, message.Sequence)
}

// decodeRecord reads a record; of its headers only when there is no data.
func (s *store) decodeRecord(subject string, header nats.Header, data []byte, sequence uint64) (*kept, error) {
	name := nameOf(strings.TrimPrefix(subject, s.names.record("")))
	record := &kept{sequence: sequence, entry: &entry{
		name:      name,
		tenant:    tenantOf(name),
		finished:  header.Get(headerFinished) == "true",
		requestID: header.Get(headerRequest),
		digest:    header.Get(headerDigest),
	}}
	if data == nil {
		return record, nil
	}
	record.sync = &understudyv1.Sync{}
	if err := proto.Unmarshal(data, record.sync); err != nil {
		return nil, fmt.Errorf("decoding the record of %s: %w", name, err)
	}
	return record, nil
}

// get reads a message from a stream's leader: the first of a subject from a sequence
// on, or its last when that is 0; nil when there is none.
func (s *store) get(ctx context.Context, stream jetstream.Stream, from uint64, subject string) (*jetstream.RawStreamMsg, error) {
	var message *jetstream.RawStreamMsg
	err := patiently(ctx, s.patience, func(ctx context.Context) (err error) {
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

// records yields what the headers say of every sync, oldest first.
func (s *store) records(ctx context.Context) iter.Seq2[*kept, error] {
	return func(yield func(*kept, error) bool) {
		for message, err := range s.scan(ctx, s.syncs, s.names.record(">"), true) {
			if err != nil {
				yield(nil, err)
				return
			}
			if message.Subject() == s.names.record(probe) {
				continue // left by a process that was killed while it probed
			}
			record, err := s.recordOf(message, nil)
			if !yield(record, err) || err != nil {
				return
			}
		}
	}
}

// recordOf reads a record that a consumer brought.
func (s *store) recordOf(message jetstream.Msg, data []byte) (*kept, error) {
	meta, err := message.Metadata()
	if err != nil {
		return nil, fmt.Errorf("reading where a record lies: %w", err)
	}
	return s.decodeRecord(message.Subject(), message.Headers(), data, meta.Sequence.Stream)
}

// lastEvent returns the last event of a sync, or nil.
func (s *store) lastEvent(ctx context.Context, name string) (*understudyv1.SyncEvent, error) {
	message, err := s.get(ctx, s.events, 0, s.names.event(key(name)))
	if err != nil || message == nil {
		return nil, err
	}
	return decodeEvent(message.Data)
}

// eventsOf yields the events of a sync that are stored now, in order.
func (s *store) eventsOf(ctx context.Context, name string) iter.Seq2[stored, error] {
	return func(yield func(stored, error) bool) {
		for message, err := range s.scan(ctx, s.events, s.names.event(key(name)), false) {
			if err != nil {
				yield(stored{}, err)
				return
			}
			event, err := storedEvent(message)
			if !yield(event, err) || err != nil {
				return
			}
		}
	}
}

// storedEvent reads an event that a consumer brought.
func storedEvent(message jetstream.Msg) (stored, error) {
	meta, err := message.Metadata()
	if err != nil {
		return stored{}, fmt.Errorf("reading where an event lies: %w", err)
	}
	event, err := decodeEvent(message.Data())
	return stored{event, meta.Sequence.Stream, message.Headers().Get(headerAppend)}, err
}

// scan yields the messages that a subject has now, in order.
func (s *store) scan(ctx context.Context, stream jetstream.Stream, subject string, headersOnly bool) iter.Seq2[jetstream.Msg, error] {
	return func(yield func(jetstream.Msg, error) bool) {
		left, err := s.count(ctx, stream, subject)
		if err != nil || left == 0 {
			if err != nil {
				yield(nil, err)
			}
			return
		}
		consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
			FilterSubjects: []string{subject}, HeadersOnly: headersOnly, InactiveThreshold: 30 * time.Second,
		})
		if err != nil {
			yield(nil, storageError(ctx, err))
			return
		}
		read := uint64(0)
		for left > 0 {
			batch, err := consumer.Fetch(int(min(left, 1000)), jetstream.FetchMaxWait(publishTimeout))
			if err != nil {
				yield(nil, storageError(ctx, err))
				return
			}
			got := uint64(0)
			for message := range batch.Messages() {
				got++
				read++
				if !yield(message, nil) {
					return
				}
				meta, err := message.Metadata()
				if err != nil || meta.NumPending > 0 || got == left {
					continue
				}
				// Either what was counted besides has expired meanwhile, or the node that
				// answers lags behind.
				if now, err := s.count(ctx, stream, subject); err == nil && now <= read {
					return
				}
			}
			if err := errors.Join(batch.Error(), ctx.Err()); err != nil || got == 0 {
				if now, countErr := s.count(ctx, stream, subject); countErr == nil && now == 0 {
					return // all of it has expired meanwhile
				}
				yield(nil, storageError(ctx, fmt.Errorf("reading the journal: %d messages missing: %w", left-got, err)))
				return
			}
			left -= min(left, got)
		}
	}
}

// count returns how many messages a subject has.
func (s *store) count(ctx context.Context, stream jetstream.Stream, subject string) (uint64, error) {
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(subject))
	if err != nil {
		return 0, storageError(ctx, err)
	}
	var total uint64
	for _, n := range info.State.Subjects {
		total += n
	}
	return total, nil
}

// nextEvent returns the first event of a sync behind a stream sequence, or nil.
func (s *store) nextEvent(ctx context.Context, name string, after uint64) (*stored, error) {
	message, err := s.get(ctx, s.events, after+1, s.names.event(key(name)))
	if err != nil || message == nil {
		return nil, err
	}
	event, err := decodeEvent(message.Data)
	if err != nil {
		return nil, err
	}
	return &stored{event, message.Sequence, message.Header.Get(headerAppend)}, nil
}

// append stores events after the one with a stream sequence, all or none, and
// returns the stream sequence of the last. The id names the append.
func (s *store) append(ctx context.Context, name, id string, expected uint64, events []*understudyv1.SyncEvent) (uint64, error) {
	subject := s.names.event(key(name))
	batch := nuid.Next()
	for i, event := range events {
		data, err := proto.Marshal(event)
		if err != nil {
			return 0, fmt.Errorf("encoding an event: %w", err)
		}
		message := nats.NewMsg(subject)
		message.Data = data
		message.Header.Set(headerAppend, id)
		if i == 0 {
			message.Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(expected, 10))
		}
		if len(events) > 1 {
			message.Header.Set("Nats-Batch-Id", batch)
			message.Header.Set("Nats-Batch-Sequence", strconv.Itoa(i+1))
		}
		last := i == len(events)-1
		if last && len(events) > 1 {
			message.Header.Set("Nats-Batch-Commit", "1")
		}
		if !last && i > 0 {
			if err := s.conn.PublishMsg(message); err != nil {
				return 0, err
			}
			continue
		}
		// The first of a batch is answered too: what is wrong with the batch is
		// known before the rest is sent.
		reply, err := s.conn.RequestMsgWithContext(ctx, message)
		if err != nil {
			return 0, err
		}
		if last {
			return acknowledged(reply.Data)
		}
		if len(reply.Data) > 0 {
			if _, err := acknowledged(reply.Data); err != nil {
				return 0, err
			}
		}
	}
	return 0, errors.New("there are no events to store")
}

// errFenced says that another event is where ours should be.
var errFenced = errors.New("another event was stored first")

// wrongLastSequence are JetStream's codes for an expected sequence that is not
// the last.
var wrongLastSequence = map[int]bool{10071: true, 10164: true}

func acknowledged(data []byte) (uint64, error) {
	var reply struct {
		Sequence uint64 `json:"seq"`
		Error    *struct {
			Code        int    `json:"err_code"`
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(data, &reply); err != nil {
		return 0, fmt.Errorf("the journal's engine answered something else than an acknowledgement: %w", err)
	}
	if reply.Error != nil {
		if wrongLastSequence[reply.Error.Code] {
			return 0, errFenced
		}
		return 0, fmt.Errorf("the journal's engine refused: %s (%d)", reply.Error.Description, reply.Error.Code)
	}
	return reply.Sequence, nil
}

func decodeEvent(data []byte) (*understudyv1.SyncEvent, error) {
	event := &understudyv1.SyncEvent{}
	if err := proto.Unmarshal(data, event); err != nil {
		return nil, fmt.Errorf("decoding an event: %w", err)
	}
	return event, nil
}
