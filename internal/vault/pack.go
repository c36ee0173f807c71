package vault

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/klauspost/compress/zlib"

	"understudy.internal/internal/durable"
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
	objects   list[packed]
	known     hashIndex
	// broken is the first error: what was to be written is missing.
	broken error
}

// packed is one object of a pack.
type packed struct {
	id  plumbing.Hash
	crc uint32
	// place is where it begins, and, as the highest bit, that it is in use.
	place uint64
}

const inUse = 1 << 63

func (p *packed) offset() int64 { return int64(p.place &^ inUse) }

const (
	packHeaderSize = 12
	packBuffer     = 1 << 16
)

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
		directory: directory, file: file, out: bufio.NewWriterSize(file, packBuffer), offset: packHeaderSize,
	}
	// The number of objects is known at the end, and written then.
	_, err = w.out.Write(make([]byte, packHeaderSize))
	return w, err
}

// objectID returns the id of an object.
func objectID(kind plumbing.ObjectType, content []byte) plumbing.Hash {
	h := sha1.New()
	h.Write(objectHeader(kind, int64(len(content))))
	h.Write(content)
	var id plumbing.Hash
	h.Sum(id[:0])
	return id
}

func objectHeader(kind plumbing.ObjectType, size int64) []byte {
	header := append(append(make([]byte, 0, 32), kind.Bytes()...), ' ')
	return append(strconv.AppendInt(header, size, 10), 0)
}

// deflater makes entries of packs. It is used again for the next.
type deflater struct {
	zip   *zlib.Writer
	entry bytes.Buffer
}

// deflaters are apart from the writers, so that many objects are compressed at the
// same time.
var deflaters = newFreeList(func() *deflater {
	zip, err := zlib.NewWriterLevel(io.Discard, zlib.BestSpeed)
	if err != nil {
		panic(err) // the level is a constant
	}
	return &deflater{zip: zip}
})

// maxKeptEntry is how large the buffer of an idle deflater may be.
const maxKeptEntry = 1 << 20

func (d *deflater) release() {
	if d.entry.Cap() <= maxKeptEntry {
		deflaters.put(d)
	}
}

// deflate returns the entry of an object: its kind and size, and the compressed
// content. It is valid until release or the next call.
func (d *deflater) deflate(kind plumbing.ObjectType, content []byte) ([]byte, error) {
	d.entry.Reset()
	d.entry.Write(entryHeader(kind, int64(len(content))))
	d.zip.Reset(&d.entry)
	if _, err := d.zip.Write(content); err != nil {
		return nil, err
	}
	err := d.zip.Close()
	return d.entry.Bytes(), err
}

func entryHeader(kind plumbing.ObjectType, size int64) []byte {
	header := append(make([]byte, 0, binary.MaxVarintLen64+1), byte(kind)<<4|byte(size&15))
	if size > 15 {
		header[0] |= 0x80
		header = binary.AppendUvarint(header, uint64(size)>>4)
	}
	return header
}

// has says whether the pack has an object.
func (w *packWriter) has(id plumbing.Hash) bool {
	_, ok := w.find(id)
	return ok
}

func (w *packWriter) find(id plumbing.Hash) (int, bool) {
	return w.known.find(hashOf(id), func(place int) bool { return w.objects.at(place).id == id })
}

func hashOf(id plumbing.Hash) uint32 { return binary.LittleEndian.Uint32(id[:]) }

// use notes that an object, if the pack has it, belongs to the commit.
func (w *packWriter) use(id plumbing.Hash) {
	if place, ok := w.find(id); ok {
		w.objects.at(place).place |= inUse
	}
}

// put adds an object, unless the pack has it, and uses it.
func (w *packWriter) put(kind plumbing.ObjectType, id plumbing.Hash, content []byte) error {
	if !w.has(id) {
		d := deflaters.get()
		defer d.release()
		entry, err := d.deflate(kind, content)
		if err != nil {
			return err
		}
		if err := w.append(id, entry); err != nil {
			return err
		}
	}
	w.use(id)
	return w.broken
}

// putStream is put for an object that is too large to hold: write writes its
// content, the same each time that it is called. The object is written only when
// its id is neither known nor that of before.
func (w *packWriter) putStream(kind plumbing.ObjectType, size int64, before plumbing.Hash, write func(io.Writer) error) (plumbing.Hash, error) {
	id, err := w.keep(kind, size, before, write)
	w.use(id)
	return id, err
}

func (w *packWriter) stream(kind plumbing.ObjectType, size int64, id plumbing.Hash, write func(io.Writer) error) error {
	d := deflaters.get()
	defer d.release()
	out := &entryWriter{out: w.out, crc: crc32.NewIEEE()}
	if _, err := out.Write(entryHeader(kind, size)); err != nil {
		return err
	}
	d.zip.Reset(out)
	content := bufio.NewWriterSize(d.zip, packBuffer)
	if err := errors.Join(write(content), content.Flush(), d.zip.Close()); err != nil {
		return err
	}
	w.note(id, out.size, out.crc.Sum32())
	return nil
}

// entryWriter counts and sums what becomes an entry.
type entryWriter struct {
	out  io.Writer
	crc  hash.Hash32
	size int64
}

// Write implements [io.Writer].
func (e *entryWriter) Write(p []byte) (int, error) {
	n, err := e.out.Write(p)
	e.size += int64(n)
	e.crc.Write(p[:n])
	return n, err
}

// append adds an entry, unless the pack has its object. After an error the pack
// cannot be finished.
func (w *packWriter) append(id plumbing.Hash, entry []byte) error {
	if w.broken != nil || w.has(id) {
		return w.broken
	}
	if _, w.broken = w.out.Write(entry); w.broken != nil {
		return w.broken
	}
	w.note(id, int64(len(entry)), crc32.ChecksumIEEE(entry))
	return nil
}

func (w *packWriter) note(id plumbing.Hash, size int64, crc uint32) {
	w.objects.add(packed{id: id, place: uint64(w.offset), crc: crc})
	w.known.add(hashOf(id), w.objects.n-1, func(place int) uint32 { return hashOf(w.objects.at(place).id) })
	w.offset += size
}

// flush writes what is in the buffer.
func (w *packWriter) flush() error {
	if w.broken == nil {
		w.broken = w.out.Flush()
	}
	return w.broken
}

// end returns where an object of the pack ends.
func (w *packWriter) end(place int) int64 {
	if place+1 < w.objects.n {
		return w.objects.at(place + 1).offset()
	}
	return w.offset
}

// abort removes the pack.
func (w *packWriter) abort() {
	w.file.Close()
	_ = os.Remove(w.file.Name()) // else the next sync does
}

// seal writes what is left of the pack and returns its checksum.
func (w *packWriter) seal() ([]byte, error) {
	if err := w.flush(); err != nil {
		return nil, err
	}
	header := [packHeaderSize]byte{'P', 'A', 'C', 'K', 0, 0, 0, 2}
	binary.BigEndian.PutUint32(header[8:], uint32(w.objects.n))
	if _, err := w.file.WriteAt(header[:], 0); err != nil {
		return nil, err
	}
	if _, err := w.file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	sum := sha1.New()
	if _, err := io.CopyBuffer(sum, onlyReader{w.file}, make([]byte, packBuffer)); err != nil {
		return nil, err
	}
	checksum := sum.Sum(nil)
	_, err := w.file.Write(checksum)
	return checksum, err
}

// onlyReader hides that a file can copy itself, in small pieces.
type onlyReader struct{ io.Reader }

// finish completes the pack and its index, durably, and returns the path of the
// pack. The pack is visible, with its index, or not at all.
func (w *packWriter) finish() (path string, err error) {
	defer func() {
		if err != nil {
			w.abort()
		}
	}()
	checksum, err := w.seal()
	if err != nil {
		return "", err
	}
	base := filepath.Join(w.directory, "pack-"+hex.EncodeToString(checksum))
	indexed := make(chan error, 1) // both reach the disk at the same time
	go func() {
		indexed <- streamDurably(base+".idx", 0o444, func(out io.Writer) error { return w.writeIndex(out, checksum) })
	}()
	err = errors.Join(w.file.Chmod(0o444), w.file.Sync(), w.file.Close())
	if err = errors.Join(err, <-indexed); err != nil {
		return "", err
	}
	// The pack comes last: go-git takes one without an index for damage, while git
	// does not mind an index without a pack.
	if err := os.Rename(w.file.Name(), base+".pack"); err != nil {
		return "", err
	}
	return base + ".pack", durable.SyncFolder(w.directory)
}

// withoutUnused returns the pack without the objects that are not in use: this one
// if all are, else a new one in its place.
func (w *packWriter) withoutUnused() (_ *packWriter, err error) {
	unused := 0
	for i := range w.objects.n {
		if w.objects.at(i).place&inUse == 0 {
			unused++
		}
	}
	if unused == 0 {
		return w, nil
	}
	defer w.abort()
	if err := w.flush(); err != nil {
		return nil, err
	}
	smaller, err := newPackWriter(w.directory)
	if err != nil {
		return nil, err
	}
	for i := range w.objects.n {
		o := w.objects.at(i)
		if o.place&inUse == 0 {
			continue
		}
		entry := make([]byte, w.end(i)-o.offset())
		if _, err := w.file.ReadAt(entry, o.offset()); err != nil {
			smaller.abort()
			return nil, err
		}
		if err := smaller.append(o.id, entry); err != nil {
			smaller.abort()
			return nil, err
		}
	}
	return smaller, nil
}
