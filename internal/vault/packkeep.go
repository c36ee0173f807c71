package vault

import (
	"bufio"
	"crypto/sha1"
	"errors"
	"io"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/klauspost/compress/zlib"
)

// keep adds an object without using it: it is for this sync, or for another worker of
// it, and leaves the pack before the commit. The object is written only when its id is
// neither known nor that of before. See putStream.
func (w *packWriter) keep(kind plumbing.ObjectType, size int64, before plumbing.Hash, write func(io.Writer) error) (id plumbing.Hash, err error) {
	sum := sha1.New()
	sum.Write(objectHeader(kind, size))
	if err := write(sum); err != nil {
		return id, err
	}
	sum.Sum(id[:0])
	if id != before && !w.has(id) && w.broken == nil {
		w.broken = w.stream(kind, size, id, write)
	}
	return id, w.broken
}

// content reads an object of the pack.
func (w *packWriter) content(kind plumbing.ObjectType, id plumbing.Hash) (io.ReadCloser, error) {
	place, ok := w.find(id)
	if !ok {
		return nil, plumbing.ErrObjectNotFound
	}
	if err := w.flush(); err != nil {
		return nil, err
	}
	begin := w.objects.at(place).offset()
	entry := bufio.NewReader(io.NewSectionReader(w.file, begin, w.end(place)-begin))
	if found, _, err := readEntryHeader(entry); err != nil || found != kind {
		return nil, errors.Join(errDamaged, err)
	}
	return zlib.NewReader(entry)
}
