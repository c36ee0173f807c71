package vault

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/klauspost/compress/zlib"

	"github.com/go-git/go-git/v5/plumbing"
)

// packWriter streams objects into one pack: compressed at the lowest level, no
// deltas, everything on the disk before it is used. Only ids and offsets stay in
// memory. It is not for concurrent use.
//
// Format: https://git-scm.com/docs/pack-format
type packWriter struct {
	directory string
	file      *os.File
	out       *bufio.Writer
	offset    int64
	zip       *zlib.Writer
	header    [20]byte
	objects   []packed
	known     map[plumbing.Hash]struct{}
}

// packed is one object of a pack.
type packed struct {
	id     plumbing.Hash
	offset int64
	crc    uint32
}

const packHeaderSize = 12

// temporaryPack is how the names of unfinished packs begin; git removes files of
// this form too.
const temporaryPack = "tmp_pack_"

// newPackWriter begins a pack in the `objects/pack` folder of a repository.
func newPackWriter(directory string) (*packWriter, error) {
	file, err := os.CreateTemp(directory, temporaryPack+"*")
	if err != nil {
		return nil, err
	}
	w := &packWriter{
		directory: directory, file: file, out: bufio.NewWriterSize(file, 1<<18),
		known: make(map[plumbing.Hash]struct{}),
	}
	if w.zip, err = zlib.NewWriterLevel(io.Discard, zlib.BestSpeed); err != nil {
		return nil, err
	}
	// The number of objects is known at the end, and written then.
	_, err = w.out.Write(make([]byte, packHeaderSize))
	w.offset = packHeaderSize
	return w, err
}

// objectID returns the id of an object.
func objectID(kind plumbing.ObjectType, content []byte) plumbing.Hash {
	h := sha1.New()
	h.Write(append(strconv.AppendInt(append(append([]byte{}, kind.Bytes()...), ' '), int64(len(content)), 10), 0))
	h.Write(content)
	return plumbing.Hash(h.Sum(nil))
}

// put adds an object, unless the pack has it.
func (w *packWriter) put(kind plumbing.ObjectType, id plumbing.Hash, content []byte) error {
	if _, ok := w.known[id]; ok {
		return nil
	}
	crc := crc32.NewIEEE()
	counter := &countingWriter{to: w.out, crc: crc}
	n := binary.PutUvarint(w.header[1:], uint64(len(content))>>4)
	w.header[0] = byte(kind)<<4 | byte(len(content)&15)
	head := w.header[:1]
	if len(content) > 15 {
		w.header[0] |= 0x80
		head = w.header[:1+n]
	}
	if _, err := counter.Write(head); err != nil {
		return err
	}
	w.zip.Reset(counter)
	if _, err := w.zip.Write(content); err != nil {
		return err
	}
	if err := w.zip.Close(); err != nil {
		return err
	}
	w.objects = append(w.objects, packed{id: id, offset: w.offset, crc: crc.Sum32()})
	w.known[id] = struct{}{}
	w.offset += counter.n
	return nil
}

// countingWriter counts and sums what goes through it.
type countingWriter struct {
	to  io.Writer
	crc hash.Hash32
	n   int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.to.Write(p)
	c.crc.Write(p[:n])
	c.n += int64(n)
	return n, err
}

// abort removes the pack.
func (w *packWriter) abort() {
	w.file.Close()
	os.Remove(w.file.Name())
}

// finish completes the pack and its index, durably, and returns the name of the
// pack's file.
func (w *packWriter) finish() (name string, err error) {
	defer func() {
		if err != nil {
			w.abort()
		}
	}()
	if err := w.out.Flush(); err != nil {
		return "", err
	}
	header := [packHeaderSize]byte{'P', 'A', 'C', 'K', 0, 0, 0, 2}
	binary.BigEndian.PutUint32(header[8:], uint32(len(w.objects)))
	if _, err := w.file.WriteAt(header[:], 0); err != nil {
		return "", err
	}
	if _, err := w.file.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	sum := sha1.New()
	if _, err := io.Copy(sum, bufio.NewReaderSize(w.file, 1<<18)); err != nil {
		return "", err
	}
	checksum := sum.Sum(nil)
	if _, err := w.file.Write(checksum); err != nil {
		return "", err
	}
	if err := w.file.Sync(); err != nil {
		return "", err
	}
	if err := w.file.Chmod(0o444); err != nil {
		return "", err
	}
	if err := w.file.Close(); err != nil {
		return "", err
	}
	base := filepath.Join(w.directory, "pack-"+hex.EncodeToString(checksum))
	// The index comes last: git takes a pack for real when it has one.
	if err := os.Rename(w.file.Name(), base+".pack"); err != nil {
		return "", err
	}
	if err := writeDurably(base+".idx", 0o444, w.index(checksum)); err != nil {
		return "", err
	}
	return base + ".pack", syncDirectory(w.directory)
}

// index returns the version 2 index of the pack.
func (w *packWriter) index(checksum []byte) []byte {
	objects := slices.Clone(w.objects)
	slices.SortFunc(objects, func(a, b packed) int { return bytes.Compare(a.id[:], b.id[:]) })
	out := make([]byte, 0, 8+1024+len(objects)*28+40)
	out = append(out, 0xff, 't', 'O', 'c', 0, 0, 0, 2)
	counts := [256]uint32{}
	for _, o := range objects {
		counts[o.id[0]]++
	}
	total := uint32(0)
	for _, n := range counts {
		total += n
		out = binary.BigEndian.AppendUint32(out, total)
	}
	for _, o := range objects {
		out = append(out, o.id[:]...)
	}
	for _, o := range objects {
		out = binary.BigEndian.AppendUint32(out, o.crc)
	}
	var large []int64
	for _, o := range objects {
		if o.offset < 1<<31 {
			out = binary.BigEndian.AppendUint32(out, uint32(o.offset))
			continue
		}
		out = binary.BigEndian.AppendUint32(out, 1<<31|uint32(len(large)))
		large = append(large, o.offset)
	}
	for _, offset := range large {
		out = binary.BigEndian.AppendUint64(out, uint64(offset))
	}
	out = append(out, checksum...)
	sum := sha1.Sum(out)
	return append(out, sum[:]...)
}

// writeDurably writes a file so that it has its whole content or does not exist.
// The caller makes the folder durable.
func writeDurably(path string, mode os.FileMode, content []byte) error {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".tmp*")
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	err = errors.Join(err, file.Chmod(mode), file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		os.Remove(file.Name())
		return fmt.Errorf("writing %s: %w", filepath.Base(path), err)
	}
	return nil
}

func syncDirectory(path string) error {
	directory, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(directory.Sync(), directory.Close())
}
