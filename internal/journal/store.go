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

// The streams, their subjects and the headers of a record.
const (
	syncsStream    = "SYNCS"
	eventsStream   = "EVENTS"
	recordSubject  = "understudy.syncs."
	eventSubject   = "understudy.events."
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
	conn   *nats.Conn
	js     jetstream.JetStream
	syncs  jetstream.Stream
	events jetstream.Stream
	// patience is how long it is tried to store something.
	patience time.Duration
}

// embeddedPatience is how long the embedded engine is waited for.
const embeddedPatience = 2 * time.Second

// openStore opens the streams. They do not allow direct reading: it would be
// answered by any node, also one that lags behind; the leader does not.
func openStore(ctx context.Context, conn *nats.Conn, retention time.Duration) (*store, error) {
	js, err := jetstream.New(conn)
	if err != nil {
		return nil, fmt.Errorf("opening the journal: %w", err)
	}
	s := &store{conn: conn, js: js, patience: embeddedPatience}
	s.syncs, err = js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: syncsStream, Subjects: []string{recordSubject + ">"}, Storage: jetstream.FileStorage,
		MaxMsgsPerSubject: 1, MaxAge: retention,
	})
	if err != nil {
		return nil, fmt.Errorf("opening the stream of syncs: %w", err)
	}
	s.events, err = js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: eventsStream, Subjects: []string{eventSubject + ">"}, Storage: jetstream.FileStorage,
		MaxAge: retention, AllowAtomicPublish: true,
	})
	if err != nil {
		return nil, fmt.Errorf("opening the stream of events: %w", err)
	}
	return s, nil
}

// key is the part of a subject that names a sync: `{tenant}.{id}`.
func key(name string) string {
	tenant, id, _ := strings.Cut(strings.TrimPrefix(name, "tenants/"), "/syncs/")
	return tenant + "." + id
}

// nameOf is the reverse of key.
func nameOf(key string) string {
	tenant, id, _ := strings.Cut(key, ".")
	return "tenants/" + tenant + "/syncs/" + id
}

// putRecord stores the record of a sync in place of one with a sequence; 0: there
// is none. It returns its sequence.
func (s *store) putRecord(ctx context.Context, e *entry, sync *understudyv1.Sync, finished bool, expected uint64) (uint64, error) {
	data, err := proto.Marshal(sync)
	if err != nil {
		return 0, fmt.Errorf("encoding a sync: %w", err)
	}
	message := nats.NewMsg(recordSubject + key(e.name))
	message.Data = data
	message.Header.Set(headerFinished, strconv.FormatBool(finished))
	if e.requestID != "" {
		message.Header.Set(headerRequest, e.requestID)
		message.Header.Set(headerDigest, e.digest)
	}
	ack, err := s.js.PublishMsg(ctx, message, jetstream.WithExpectLastSequencePerSubject(expected), jetstream.WithMsgID(nuid.Next()))
	if err != nil {
		return 0, storageError(ctx, fmt.Errorf("storing a sync: %w", err))
	}
	return ack.Sequence, nil
}

// probe stores a message of a page in a stream and removes it again: whether it can
// store at all.
func (s *store) probe(ctx context.Context, name string, stream jetstream.Stream) error {
	subject := eventSubject + probe
	if name == syncsStream {
		subject = recordSubject + probe
	}
	if _, err := s.js.Publish(ctx, subject, make([]byte, 4096)); err != nil {
		return storageError(ctx, fmt.Errorf("storing a probe: %w", err))
	}
	if err := stream.Purge(ctx, jetstream.WithPurgeSubject(subject)); err != nil {
		return storageError(ctx, fmt.Errorf("removing a probe: %w", err))
	}
	return nil
}

// record returns the record of a sync and its sequence.
func (s *store) record(ctx context.Context, name string) (*understudyv1.Sync, uint64, error) {
	message, err := s.syncs.GetLastMsgForSubject(ctx, recordSubject+key(name))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, 0, &port.NotFoundError{Resource: name}
	}
	if err != nil {
		return nil, 0, storageError(ctx, err)
	}
	sync := &understudyv1.Sync{}
	if err := proto.Unmarshal(message.Data, sync); err != nil {
		return nil, 0, fmt.Errorf("decoding the record of %s: %w", name, err)
	}
	return sync, message.Sequence, nil
}

// records yields what the headers say of every sync, oldest first.
func (s *store) records(ctx context.Context) iter.Seq2[*entry, error] {
	return func(yield func(*entry, error) bool) {
		for message, err := range s.scan(ctx, s.syncs, recordSubject+">", true) {
			if err != nil {
				yield(nil, err)
				return
			}
			key := strings.TrimPrefix(message.Subject(), recordSubject)
			if key == probe {
				continue // left by a process that was killed while it probed
			}
			name := nameOf(key)
			e := &entry{
				name:      name,
				tenant:    tenantOf(name),
				finished:  message.Headers().Get(headerFinished) == "true",
				requestID: message.Headers().Get(headerRequest),
				digest:    message.Headers().Get(headerDigest),
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

// lastEvent returns the last event of a sync, or nil.
func (s *store) lastEvent(ctx context.Context, name string) (*understudyv1.SyncEvent, uint64, error) {
	message, err := s.events.GetLastMsgForSubject(ctx, eventSubject+key(name))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, storageError(ctx, err)
	}
	event, err := decodeEvent(message.Data)
	return event, message.Sequence, err
}

// events yields the events of a sync, in order.
func (s *store) eventsOf(ctx context.Context, name string) iter.Seq2[stored, error] {
	return func(yield func(stored, error) bool) {
		for message, err := range s.scan(ctx, s.events, eventSubject+key(name), false) {
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
		for left > 0 {
			batch, err := consumer.Fetch(int(min(left, 1000)), jetstream.FetchMaxWait(publishTimeout))
			if err != nil {
				yield(nil, storageError(ctx, err))
				return
			}
			got := uint64(0)
			for message := range batch.Messages() {
				got++
				if !yield(message, nil) {
					return
				}
				if meta, err := message.Metadata(); err == nil && meta.NumPending == 0 {
					return // what was counted besides has expired meanwhile
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
	message, err := s.events.GetMsg(ctx, after+1, jetstream.WithGetMsgSubject(eventSubject+key(name)))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, storageError(ctx, err)
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
	subject := eventSubject + key(name)
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
