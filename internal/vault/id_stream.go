package vault

import (
	"cmp"
	"container/heap"
	"encoding/binary"
	"errors"
	"io"
)

// idStream gives the ids of a run, sorted: of references, or of items with their names.
type idStream struct {
	in *spoolReader
	// named says that names are in the run.
	named bool
	// of is the configuration type, refersTo of references where their names go.
	of       string
	refersTo *stagedType

	id   objectGUID
	name []byte
}

// appendNamed appends an item to a run. The name is JSON.
func appendNamed(out []byte, id objectGUID, name []byte) []byte {
	out = append(out, id[:]...)
	return append(binary.AppendUvarint(out, uint64(len(name))), name...)
}

// next goes on to the next id; it returns false at the end.
func (s *idStream) next() (bool, error) {
	if _, err := io.ReadFull(s.in, s.id[:]); err != nil {
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		return false, err
	}
	if !s.named {
		return true, nil
	}
	size, err := binary.ReadUvarint(s.in)
	if err != nil || size > maxDocument {
		return false, errors.Join(errors.New("a run of names is damaged"), err)
	}
	if uint64(cap(s.name)) < size {
		s.name = make([]byte, size)
	}
	s.name = s.name[:size]
	_, err = io.ReadFull(s.in, s.name)
	return err == nil, err
}

// idStreams gives the ids of many runs in order; those that are the same by the names
// of their types.
type idStreams []*idStream

// add adds a run.
func (s *idStreams) add(run *spool, stream idStream) error {
	stream.in = run.reader()
	if ok, err := stream.next(); !ok || err != nil {
		return err
	}
	heap.Push(s, &stream)
	return nil
}

// first returns the stream that is at the lowest id, or nil.
func (s *idStreams) first() *idStream {
	if len(*s) == 0 {
		return nil
	}
	return (*s)[0]
}

// find goes on to an id, and returns the stream that is at it, or nil. Ids are asked for
// in order.
func (s *idStreams) find(id objectGUID) (*idStream, error) {
	for first := s.first(); first != nil; first = s.first() {
		switch order := compareGUIDs(first.id, id); {
		case order == 0:
			return first, nil
		case order > 0:
			return nil, nil
		}
		if err := s.advance(); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// advance goes on from the lowest id.
func (s *idStreams) advance() error {
	ok, err := (*s)[0].next()
	if !ok || err != nil {
		heap.Pop(s)
		return err
	}
	heap.Fix(s, 0)
	return nil
}

// Len implements [heap.Interface].
func (s *idStreams) Len() int { return len(*s) }

// Less implements [heap.Interface].
func (s *idStreams) Less(i, j int) bool {
	a, b := (*s)[i], (*s)[j]
	return cmp.Or(compareGUIDs(a.id, b.id), cmp.Compare(a.of, b.of)) < 0
}

// Swap implements [heap.Interface].
func (s *idStreams) Swap(i, j int) { (*s)[i], (*s)[j] = (*s)[j], (*s)[i] }

// Push implements [heap.Interface].
func (s *idStreams) Push(x any) { *s = append(*s, x.(*idStream)) }

// Pop implements [heap.Interface].
func (s *idStreams) Pop() any {
	last := len(*s) - 1
	popped := (*s)[last]
	*s = (*s)[:last]
	return popped
}
