package journal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"

	understudyv1 "understudy.internal/gen/understudy/v1"
)

const (
	// headerAppend names the append that stored an event: its writer knows by it
	// whether an event is its own.
	headerAppend = "Understudy-Append"
	// headerPacked says that a message has several events, each behind its length: the
	// engine writes to the disk once for every message.
	headerPacked = "Understudy-Packed"
	// packSize is how large a message may become before there is another one.
	packSize = 512 << 10
	// maxBatch is how many events can be stored together: the engine takes as many
	// messages all or none.
	maxBatch = 1000
)

// pack makes messages of events that are stored together: one, unless they are large.
func pack(subject, id string, events []*understudyv1.SyncEvent) ([]*nats.Msg, error) {
	var messages []*nats.Msg
	for len(events) > 0 {
		message := nats.NewMsg(subject)
		message.Header.Set(headerAppend, id)
		if len(events) == 1 {
			data, err := proto.Marshal(events[0])
			if err != nil {
				return nil, fmt.Errorf("encoding an event: %w", err)
			}
			message.Data = data
			return append(messages, message), nil
		}
		var data bytes.Buffer
		n := 0
		for n < len(events) && (n == 0 || data.Len()+proto.Size(events[n]) < packSize) {
			if _, err := protodelim.MarshalTo(&data, events[n]); err != nil {
				return nil, fmt.Errorf("encoding an event: %w", err)
			}
			n++
		}
		message.Data = data.Bytes()
		message.Header.Set(headerPacked, strconv.Itoa(n))
		messages, events = append(messages, message), events[n:]
	}
	return messages, nil
}

// unpack returns the events of a message, at least one.
func unpack(header nats.Header, data []byte, sequence uint64) ([]stored, error) {
	id := header.Get(headerAppend)
	if header.Get(headerPacked) == "" {
		event := &understudyv1.SyncEvent{}
		if err := proto.Unmarshal(data, event); err != nil {
			return nil, fmt.Errorf("decoding an event: %w", err)
		}
		return []stored{{event, sequence, id}}, nil
	}
	var events []stored
	for reader := bytes.NewReader(data); ; {
		event := &understudyv1.SyncEvent{}
		// No part is larger than the whole.
		err := protodelim.UnmarshalOptions{MaxSize: int64(len(data))}.UnmarshalFrom(reader, event)
		if errors.Is(err, io.EOF) && len(events) > 0 {
			return events, nil
		}
		if err != nil {
			return nil, fmt.Errorf("decoding events that were stored together: %w", err)
		}
		events = append(events, stored{event, sequence, id})
	}
}

// unpackMessage returns the events of a message that a consumer brought.
func unpackMessage(message jetstream.Msg) ([]stored, error) {
	meta, err := message.Metadata()
	if err != nil {
		return nil, fmt.Errorf("reading where an event lies: %w", err)
	}
	return unpack(message.Headers(), message.Data(), meta.Sequence.Stream)
}

// lastEvent returns the last event of a sync, or nil.
func (s *store) lastEvent(ctx context.Context, name string) (*understudyv1.SyncEvent, error) {
	events, err := s.eventsAt(ctx, name, 0)
	if err != nil || len(events) == 0 {
		return nil, err
	}
	return events[len(events)-1].event, nil
}

// nextEvents returns the first events of a sync behind a stream sequence that were
// stored together, or none.
func (s *store) nextEvents(ctx context.Context, name string, after uint64) ([]stored, error) {
	return s.eventsAt(ctx, name, after+1)
}

// eventsAt reads a message of a sync from the stream's leader: see get.
func (s *store) eventsAt(ctx context.Context, name string, from uint64) ([]stored, error) {
	message, err := s.get(ctx, s.events, from, s.names.event(key(name)))
	if err != nil || message == nil {
		return nil, err
	}
	return unpack(message.Header, message.Data, message.Sequence)
}

// eventsOf yields the events of a sync that are stored now, in order.
func (s *store) eventsOf(ctx context.Context, name string) iter.Seq2[stored, error] {
	return func(yield func(stored, error) bool) {
		for message, err := range s.scan(ctx, s.events, s.names.event(key(name)), false) {
			var events []stored
			if err == nil {
				events, err = unpackMessage(message)
			}
			if err != nil {
				yield(stored{}, err)
				return
			}
			for _, event := range events {
				if !yield(event, nil) {
					return
				}
			}
		}
	}
}

// append stores events behind the message with a stream sequence, all or none, and
// returns the stream sequence of the last. The id names the append.
func (s *store) append(ctx context.Context, name, id string, expected uint64, events []*understudyv1.SyncEvent) (uint64, error) {
	messages, err := pack(s.names.event(key(name)), id, events)
	if err != nil {
		return 0, err
	}
	batch := nuid.Next()
	for i, message := range messages {
		if i == 0 {
			message.Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(expected, 10))
		}
		if len(messages) > 1 {
			message.Header.Set("Nats-Batch-Id", batch)
			message.Header.Set("Nats-Batch-Sequence", strconv.Itoa(i+1))
		}
		last := i == len(messages)-1
		if last && len(messages) > 1 {
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
