package vault

import (
	"bufio"
	"context"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/klauspost/compress/zlib"
)

// copyUnfinished adds what an unfinished pack holds up to a size. Every object is
// unpacked, so that what is damaged is found out now.
func (w *packWriter) copyUnfinished(ctx context.Context, path string, size int64) (err error) {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if info, err := file.Stat(); err != nil || info.Size() < size {
		return errors.Join(err, fmt.Errorf("the unfinished pack is shorter than %d bytes", size))
	}
	return eachPacked(file, size, func(id plumbing.Hash, begin, end int64) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		entry := make([]byte, end-begin)
		if _, err := file.ReadAt(entry, begin); err != nil {
			return err
		}
		return w.append(id, entry)
	})
}

// eachPacked gives the objects of a pack without differences to visit, from the first
// to the one that ends at size: what it is, and where its entry begins and ends.
func eachPacked(pack io.ReaderAt, size int64, visit func(id plumbing.Hash, begin, end int64) error) error {
	counted := &countedReader{from: io.NewSectionReader(pack, packHeaderSize, size-packHeaderSize)}
	in := bufio.NewReaderSize(counted, packBuffer)
	place := func() int64 { return packHeaderSize + counted.n - int64(in.Buffered()) }
	var content io.ReadCloser
	buffer := make([]byte, packBuffer)
	for begin := place(); begin < size; begin = place() {
		kind, length, err := readEntryHeader(in)
		if err != nil {
			return err
		}
		if content == nil {
			content, err = zlib.NewReader(in)
		} else {
			err = content.(zlib.Resetter).Reset(in, nil)
		}
		if err != nil {
			return errors.Join(errDamaged, err)
		}
		sum := sha1.New()
		sum.Write(objectHeader(kind, length))
		n, err := io.CopyBuffer(sum, onlyReader{content}, buffer)
		if err != nil || n != length {
			return errors.Join(errDamaged, err)
		}
		var id plumbing.Hash
		sum.Sum(id[:0])
		if err := visit(id, begin, place()); err != nil {
			return err
		}
	}
	return nil
}

func readEntryHeader(in io.ByteReader) (kind plumbing.ObjectType, size int64, err error) {
	first, err := in.ReadByte()
	if err != nil {
		return 0, 0, errors.Join(errDamaged, err)
	}
	kind, size = plumbing.ObjectType(first>>4&7), int64(first&15)
	if first&0x80 != 0 {
		rest, err := binary.ReadUvarint(in)
		if err != nil || rest >= 1<<58 {
			return 0, 0, errors.Join(errDamaged, err)
		}
		size |= int64(rest << 4)
	}
	switch kind {
	case plumbing.CommitObject, plumbing.TreeObject, plumbing.BlobObject, plumbing.TagObject:
		return kind, size, nil
	}
	return 0, 0, errDamaged
}

// countedReader counts what was read.
type countedReader struct {
	from io.Reader
	n    int64
}

// Read implements [io.Reader].
func (c *countedReader) Read(p []byte) (int, error) {
	n, err := c.from.Read(p)
	c.n += int64(n)
	return n, err
}

// eachEntry gives the ids in a folder of the pack to visit.
func (w *packWriter) eachEntry(folder plumbing.Hash, visit func(id plumbing.Hash)) error {
	return w.eachEntryOf(folder, func(_ []byte, _ filemode.FileMode, id plumbing.Hash) error {
		visit(id)
		return nil
	})
}
