package vault

import (
	"errors"
	"os"
)

// scratch holds what a staging needs of every item only once more: in memory while
// it is little, else in a file that has no name. So the memory of a sync does not
// grow with the names of the tenant. It is not for concurrent use.
type scratch struct {
	directory string
	file      *os.File
	// flushed is how much is in the file; the rest is in the buffer.
	flushed int64
	buffer  []byte
}

const scratchBuffer = 256 << 10

// add appends bytes and returns where they are.
func (s *scratch) add(record []byte) (int64, error) {
	if len(s.buffer)+len(record) > scratchBuffer {
		if err := s.flush(); err != nil {
			return 0, err
		}
	}
	at := s.end()
	s.buffer = append(s.buffer, record...)
	return at, nil
}

func (s *scratch) end() int64 { return s.flushed + int64(len(s.buffer)) }

func (s *scratch) flush() error {
	if len(s.buffer) == 0 {
		return nil
	}
	if s.file == nil {
		file, err := os.CreateTemp(s.directory, ".scratch.tmp*")
		if err != nil {
			return err
		}
		s.file = file
		// Where a file in use cannot be removed, close does it, or the next staging.
		_ = os.Remove(file.Name())
	}
	if _, err := s.file.Write(s.buffer); err != nil {
		return err
	}
	s.flushed += int64(len(s.buffer))
	s.buffer = s.buffer[:0]
	return nil
}

// read fills p with what begins at a place, and returns how much there was.
func (s *scratch) read(p []byte, at int64) (int, error) {
	p = p[:max(0, min(int64(len(p)), s.end()-at))]
	n := 0
	if at < s.flushed {
		n = int(min(int64(len(p)), s.flushed-at))
		if _, err := s.file.ReadAt(p[:n], at); err != nil {
			return 0, err
		}
	}
	if n < len(p) {
		copy(p[n:], s.buffer[at+int64(n)-s.flushed:])
	}
	return len(p), nil
}

func (s *scratch) close() error {
	if s.file == nil {
		return nil
	}
	err := s.file.Close()
	if removed := os.Remove(s.file.Name()); !errors.Is(removed, os.ErrNotExist) {
		err = errors.Join(err, removed)
	}
	s.file = nil
	return err
}

// scratchReader reads a scratch through a window.
type scratchReader struct {
	scratch *scratch
	window  []byte
	from    int64
}

// How much a window reads: from one place to the next, or here and there.
const (
	readAhead  = 32 << 10
	readRandom = 512
)

// bytes returns n bytes at a place; they are valid until the next call. It reads
// some more when it has to read.
func (r *scratchReader) bytes(at int64, n, more int) ([]byte, error) {
	if begin := at - r.from; at < r.from || begin+int64(n) > int64(len(r.window)) {
		size := max(n, min(more, int(min(r.scratch.end()-at, readAhead))))
		if cap(r.window) < size {
			r.window = make([]byte, size)
		}
		got, err := r.scratch.read(r.window[:size], at)
		r.window, r.from = r.window[:got], at
		if err != nil {
			r.window = r.window[:0]
			return nil, err
		}
		if got < n {
			return nil, errors.New("the scratch file is too short")
		}
	}
	begin := int(at - r.from)
	return r.window[begin : begin+n : begin+n], nil
}
