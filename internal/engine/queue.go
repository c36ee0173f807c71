package engine

import (
	"context"
	"slices"
	"sync"
)

// queue holds the names of the syncs that wait for a worker, oldest first. It
// holds nothing that the journal does not: it is made anew at every start.
type queue struct {
	limit int
	// wake has a token when a worker should look.
	wake chan struct{}

	mu       sync.Mutex
	names    []string
	reserved int
}

func newQueue(limit int) *queue {
	return &queue{limit: limit, wake: make(chan struct{}, 1)}
}

// reserve takes a place, to be filled by add or given back by release.
func (q *queue) reserve() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.names)+q.reserved >= q.limit {
		return &LimitError{Subject: "queued syncs", Limit: q.limit}
	}
	q.reserved++
	return nil
}

func (q *queue) release() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.reserved--
}

// add fills a reserved place.
func (q *queue) add(name string) {
	q.mu.Lock()
	q.reserved--
	q.names = append(q.names, name)
	q.mu.Unlock()
	q.signal()
}

// restore adds a sync that was accepted by an earlier process, whatever the
// limit.
func (q *queue) restore(name string) {
	q.mu.Lock()
	q.names = append(q.names, name)
	q.mu.Unlock()
	q.signal()
}

// next blocks until there is a sync, and takes it.
func (q *queue) next(ctx context.Context) (string, error) {
	for {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		q.mu.Lock()
		if len(q.names) > 0 {
			name := q.names[0]
			q.names = slices.Delete(q.names, 0, 1)
			more := len(q.names) > 0
			q.mu.Unlock()
			if more {
				q.signal()
			}
			return name, nil
		}
		q.mu.Unlock()
		select {
		case <-q.wake:
		case <-ctx.Done():
		}
	}
}

// remove takes a sync out. It returns false when a worker has it, or nobody.
func (q *queue) remove(name string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(q.names, name)
	if i < 0 {
		return false
	}
	q.names = slices.Delete(q.names, i, i+1)
	return true
}

// waiting returns the syncs that wait, oldest first.
func (q *queue) waiting() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.names)
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}
