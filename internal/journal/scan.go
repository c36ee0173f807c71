package journal

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// filter is what a consumer of a subject asks for: of everything, where there is none,
// the engine knows how much there is without counting.
func filter(subject string) []string {
	if subject == "" {
		return nil
	}
	return []string{subject}
}

// scan yields the messages that a subject has now, in order; those of the whole stream
// when it is empty. It goes on where it was when a node is lost meanwhile.
func (s *store) scan(ctx context.Context, stream jetstream.Stream, subject string, headersOnly bool) iter.Seq2[jetstream.Msg, error] {
	return func(yield func(jetstream.Msg, error) bool) {
		var read, position uint64
		stopped := false
		for begin, pause := time.Now(), shortestPause; ; {
			before := read
			err := s.scanFrom(ctx, stream, subject, headersOnly, position+1, &read, func(message jetstream.Msg, at uint64) bool {
				position = at
				stopped = !yield(message, nil)
				return !stopped
			})
			switch {
			case err == nil || stopped:
				return
			case ctx.Err() != nil:
				yield(nil, context.Cause(ctx))
				return
			case read > before:
				begin, pause = time.Now(), shortestPause
			case time.Since(begin) > s.patience:
				yield(nil, storageError(ctx, fmt.Errorf("reading the journal: %w", err)))
				return
			}
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
			pause = min(2*pause, longestPause)
		}
	}
}

// scanFrom reads the messages of a subject from a sequence on, until read, the number
// of all that were, is the number that there are.
func (s *store) scanFrom(
	ctx context.Context, stream jetstream.Stream, subject string, headersOnly bool, from uint64, read *uint64, take func(jetstream.Msg, uint64) bool,
) error {
	total, err := s.count(ctx, stream, subject)
	if err != nil || total <= *read {
		return err
	}
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
		FilterSubjects: filter(subject), HeadersOnly: headersOnly, InactiveThreshold: 30 * time.Second, MaxResetAttempts: 1,
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: from,
	})
	if err != nil {
		return err
	}
	for *read < total {
		batch, err := consumer.Fetch(int(min(total-*read, 1000)), jetstream.FetchMaxWait(publishTimeout))
		if err != nil {
			return err
		}
		got := 0
		for message := range batch.Messages() {
			meta, err := message.Metadata()
			if err != nil {
				return err
			}
			got++
			*read++
			if !take(message, meta.Sequence.Stream) {
				return nil
			}
			if meta.NumPending > 0 || *read == total {
				continue
			}
			// Either what was counted besides has expired meanwhile, or the node that
			// answers lags behind.
			if now, err := s.count(ctx, stream, subject); err == nil && now <= *read {
				return nil
			}
		}
		if err := errors.Join(batch.Error(), ctx.Err()); err != nil {
			return err
		}
		if got > 0 {
			continue
		}
		if now, err := s.count(ctx, stream, subject); err == nil && now == 0 {
			return nil // all of it has expired meanwhile
		}
		return fmt.Errorf("%d messages are missing", total-*read)
	}
	return nil
}

// count returns how many messages a subject has, or the stream when it is empty.
func (s *store) count(ctx context.Context, stream jetstream.Stream, subject string) (uint64, error) {
	if subject == "" {
		info, err := stream.Info(ctx)
		if err != nil {
			return 0, storageError(ctx, err)
		}
		return info.State.Msgs, nil
	}
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
