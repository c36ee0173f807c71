package vault

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/go-git/go-git/v5/plumbing/object"
)

// lines finds the lines of an index for names that are asked for in order.
type lines struct {
	reader  io.ReadCloser
	scanner *bufio.Scanner
	// file and line are where the walk is.
	file, line []byte
	// known is what an index says that is not built as ours are, or nil.
	known map[string]indexed
}

// linesOf returns the lines of the index of the last commit.
func (s *staging) linesOf(staged *stagedType) (*lines, error) {
	if staged.index.IsZero() {
		return &lines{}, nil
	}
	blob, err := object.GetBlob(s.storage, staged.index)
	if err != nil {
		return nil, fmt.Errorf("reading an index: %w", err)
	}
	ours, err := isOurs(blob)
	if err != nil {
		return nil, fmt.Errorf("reading an index: %w", err)
	}
	if !ours {
		known, err := indexOf(s.storage, staged.index)
		return &lines{known: known}, err
	}
	return openLines(blob)
}

// isOurs says whether an index is built as this package builds them, in order.
func isOurs(blob *object.Blob) (bool, error) {
	l, err := openLines(blob)
	if err != nil {
		return false, err
	}
	defer l.close()
	first := l.scanner.Text()
	if first != "[" && first != "[]" {
		return false, nil
	}
	var last []byte
	for l.next() {
		if bytes.Compare(last, l.file) >= 0 {
			return false, nil
		}
		last = append(last[:0], l.file...)
	}
	if err := l.scanner.Err(); err != nil && !errors.Is(err, bufio.ErrTooLong) {
		return false, err
	}
	// An index of nothing is `[]`: one that is cut off after the bracket is broken.
	empty := last == nil
	return l.line == nil && empty == (first == "[]") && !l.scanner.Scan() && l.scanner.Err() == nil, nil
}

func openLines(blob *object.Blob) (*lines, error) {
	reader, err := blob.Reader()
	if err != nil {
		return nil, err
	}
	return linesIn(reader), nil
}

func linesIn(reader io.ReadCloser) *lines {
	l := &lines{reader: reader, scanner: bufio.NewScanner(reader)}
	l.scanner.Buffer(nil, maxDocument)
	l.scanner.Scan() // `[`, or `[]`
	return l
}

func (l *lines) close() {
	if l.reader != nil {
		l.reader.Close()
	}
}

// next goes on to the next line. At the end of the index line is nil; where the
// index is not one of ours it is not.
func (l *lines) next() bool {
	if !l.scanner.Scan() {
		return false
	}
	l.line = l.scanner.Bytes()
	if string(l.line) == "]" {
		l.file, l.line = nil, nil
		return false
	}
	l.line = bytes.TrimSuffix(l.line, []byte(","))
	at := bytes.LastIndex(l.line, []byte(lineFile+`"`))
	if at < 0 || !bytes.HasPrefix(l.line, []byte(lineBegin+`"`)) || !bytes.HasSuffix(l.line, []byte(lineEnd)) {
		return false
	}
	begin, end := at+len(lineFile)+1, len(l.line)-len(lineEnd)
	if begin > end {
		return false
	}
	l.file = l.line[begin:end]
	return true
}

// of returns the line of a file. The names come in order.
func (l *lines) of(name []byte) ([]byte, error) {
	if l.scanner == nil {
		return appendLine(nil, string(name), l.known[string(name)]), nil
	}
	for bytes.Compare(l.file, name) < 0 {
		if !l.next() {
			if err := l.scanner.Err(); err != nil {
				return nil, errors.Join(errors.New("reading an index"), err)
			}
			break
		}
	}
	if bytes.Equal(l.file, name) {
		return l.line, nil
	}
	return appendLine(nil, string(name), indexed{}), nil
}
