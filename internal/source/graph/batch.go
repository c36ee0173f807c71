package graph

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// queueKey says which parts may share a batch.
type queueKey struct{ token, version string }

// queue holds the parts that wait for a batch. It has a goroutine while it is not
// empty. Its fields are guarded by the session's mutex.
type queue struct {
	parts []*part
	full  chan struct{} // signalled when a batch is full
}

// part is one attempt of a call that goes into a batch.
type part struct {
	call *call
	done chan partResult // buffered: whoever answers never waits

	// Guarded by the session's mutex.
	abandoned bool
	flight    *flight
}

// answer gives a part its result, unless it has one.
func (p *part) answer(result partResult) {
	select {
	case p.done <- result:
	default:
	}
}

// flight is a batch on the wire. When nobody waits for it any more it is
// cancelled.
type flight struct {
	waiting int
	cancel  context.CancelFunc
}

type partResult struct {
	answer *answer
	err    error
	// alone says that the next attempt has to be made without a batch: one part
	// that breaks the batch's answer must not harm the others twice.
	alone bool
}

// errGateClosed sends a part back to its gate, which was told to wait while the
// part was in the queue.
var errGateClosed = errors.New("the gate closed")

// submit makes one attempt of a call as a part of a batch.
func (s *session) submit(ctx context.Context, c *call) (*answer, error) {
	p := &part{call: c, done: make(chan partResult, 1)}
	key := queueKey{token: c.token, version: c.version}
	s.mu.Lock()
	q := s.queues[key]
	if q == nil {
		q = &queue{full: make(chan struct{}, 1)}
		s.queues[key] = q
		s.running.Go(func() {
			if err := s.source.recovering(func() error { s.dispatch(key, q); return nil }); err != nil {
				s.dropAll(key, q, err)
			}
		})
	}
	q.parts = append(q.parts, p)
	if len(q.parts) >= batchSize {
		select {
		case q.full <- struct{}{}:
		default:
		}
	}
	s.mu.Unlock()

	select {
	case result := <-p.done:
		c.alone = c.alone || result.alone
		return result.answer, result.err
	case <-ctx.Done():
		s.abandon(p)
		return nil, context.Cause(ctx)
	}
}

// abandon forgets a part whose caller went away.
func (s *session) abandon(p *part) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.abandoned = true
	if p.flight == nil {
		return
	}
	if p.flight.waiting--; p.flight.waiting == 0 {
		p.flight.cancel()
	}
}

// dispatch sends what is in a queue until it is empty: a batch as soon as it is
// full, or nothing more arrives, and a connection is free.
func (s *session) dispatch(key queueKey, q *queue) {
	linger := time.NewTimer(s.source.config.Linger)
	defer linger.Stop()
	occupied := false
	defer func() {
		if occupied { // a panic
			s.release()
		}
	}()
	for {
		s.linger(q, linger)
		if err := s.occupy(s.ctx); err != nil {
			s.dropAll(key, q, err)
			return
		}
		occupied = true
		parts, empty := s.take(key, q)
		occupied = false
		if len(parts) == 0 {
			s.release()
		} else {
			s.running.Go(func() {
				defer s.release()
				if s.source.recovering(func() error { s.fly(key, parts); return nil }) != nil {
					for _, p := range parts {
						p.answer(partResult{err: errUnusable, alone: true}) // whose it is shows then
					}
				}
			})
		}
		if empty {
			return
		}
	}
}

// linger waits until a batch is full or nothing arrived for a moment.
func (s *session) linger(q *queue, timer *time.Timer) {
	for before := -1; ; {
		s.mu.Lock()
		n := len(q.parts)
		s.mu.Unlock()
		if n >= batchSize || n == before {
			return
		}
		before = n
		timer.Reset(s.source.config.Linger)
		select {
		case <-timer.C:
		case <-q.full:
		case <-s.ctx.Done():
			return
		}
	}
}

// take removes the parts of one batch from a queue. When nothing is left the
// queue is gone, and its goroutine has to end.
func (s *session) take(key queueKey, q *queue) (parts []*part, empty bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	n := 0
	for n < len(q.parts) && len(parts) < batchSize {
		p := q.parts[n]
		n++
		switch {
		case p.abandoned:
		case p.call.workload.gate.closedFor(now, p.call.operation) > 0:
			p.answer(partResult{err: errGateClosed})
		default:
			parts = append(parts, p)
		}
	}
	clear(q.parts[:n])
	q.parts = q.parts[n:]
	if len(q.parts) < batchSize {
		select {
		case <-q.full: // it was
		default:
		}
	}
	if len(q.parts) > 0 {
		return parts, false
	}
	delete(s.queues, key)
	return parts, true
}

func (s *session) dropAll(key queueKey, q *queue, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range q.parts {
		p.answer(partResult{err: &finalError{err}})
	}
	delete(s.queues, key)
}

// fly sends one batch and answers its parts, each once. A single part needs no
// batch.
func (s *session) fly(key queueKey, parts []*part) {
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	f := &flight{cancel: cancel}
	s.mu.Lock()
	for _, p := range parts {
		if !p.abandoned {
			p.flight = f
			f.waiting++
		}
	}
	wanted := f.waiting > 0
	s.mu.Unlock()
	if !wanted {
		return
	}
	if len(parts) == 1 {
		a, err := s.get(ctx, parts[0].call)
		s.observe(a, err, parts[0].call)
		parts[0].answer(partResult{answer: a, err: err})
		return
	}
	a, err := s.exchange(ctx, exchange{
		method:    http.MethodPost,
		address:   s.source.endpoint.String() + "/" + key.version + "/$batch",
		token:     key.token,
		body:      batchBody(parts),
		operation: "POST /" + key.version + "/$batch",
		parts:     len(parts),
	})
	s.land(parts, a, err)
}

// land gives every part of a batch its answer.
func (s *session) land(parts []*part, a *answer, err error) {
	if err != nil || a.status != http.StatusOK {
		// One answer for all parts.
		calls := make([]*call, 0, len(parts))
		for _, p := range parts {
			calls = append(calls, p.call)
		}
		s.observe(a, err, calls...)
		for _, p := range parts {
			p.answer(refusedBatch(a, err))
		}
		return
	}
	answers, err := parseBatch(a.body, len(parts))
	if err != nil {
		for _, p := range parts {
			p.answer(partResult{err: errUnusable, alone: true})
		}
		return
	}
	for i, p := range parts {
		if answers[i] == nil {
			p.answer(partResult{err: errUnusable, alone: true})
			continue
		}
		if id := requestID(a.header); id != "" && answers[i].header.Get("request-id") == "" {
			answers[i].header.Set("request-id", id)
		}
		s.observe(answers[i], nil, p.call)
		p.answer(partResult{answer: answers[i]})
	}
}

// refusedBatch is what a part gets when its batch as a whole was not answered with
// 200: the answer, if it speaks of every part alike, else another attempt alone.
func refusedBatch(a *answer, err error) partResult {
	switch {
	case errors.Is(err, errNoAnswer):
		return partResult{err: err}
	case err != nil:
		// Cut, or larger than the limit: both can be the fault of one part.
		return partResult{err: errUnusable, alone: true}
	case a.status == http.StatusUnauthorized, isRetried(a.status):
		return partResult{answer: &answer{status: a.status, header: a.header.Clone(), body: a.body}}
	default:
		return partResult{err: errUnusable, alone: true}
	}
}

// batchBody writes the request body of a batch; the id of a part is its index.
// https://learn.microsoft.com/graph/json-batching
func batchBody(parts []*part) []byte {
	body := make([]byte, 0, 256*len(parts))
	body = append(body, `{"requests":[`...)
	for i, p := range parts {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, `{"id":"`...)
		body = strconv.AppendInt(body, int64(i), 10)
		body = append(body, `","method":"GET","url":`...)
		body = appendString(body, p.call.relative)
		body = append(body, `,"headers":{`...)
		header := make(http.Header, 4)
		setHeaders(header, p.call.header)
		first := true
		for name := range header {
			if !first {
				body = append(body, ',')
			}
			first = false
			body = appendString(body, name)
			body = append(body, ':')
			body = appendString(body, header.Get(name))
		}
		body = append(body, `}}`...)
	}
	return append(body, `]}`...)
}

// appendString appends a JSON string; bytes that are not UTF-8 are replaced.
func appendString(dst []byte, s string) []byte {
	// The error says only that bytes were replaced.
	quoted, _ := jsontext.AppendQuote(dst, s)
	return quoted
}
