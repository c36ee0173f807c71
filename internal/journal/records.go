package journal

import (
	"context"
	"fmt"
	"iter"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

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

// records yields what the headers say of every sync, oldest first.
func (s *store) records(ctx context.Context) iter.Seq2[*kept, error] {
	return func(yield func(*kept, error) bool) {
		for message, err := range s.scan(ctx, s.syncs, "", true) {
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
