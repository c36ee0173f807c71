package vault

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/klauspost/compress/zlib"
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
	objects   []packed
	known     map[plumbing.Hash]struct{}
	// broken is the first error: what was to be written is missing.
	broken error
}

// packed is one object of a pack.
type packed struct {
	id     plumbing.Hash
	offset int64
	crc    uint32
}

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
		known: make(map[plumbing.Hash]struct{}),
	}
	// The number of objects is known at the end, and written then.
	_, err = w.out.Write(make([]byte, packHeaderSize))
	return w, err
}

// objectID returns the id of an object.
func objectID(kind plumbing.ObjectType, content []byte) plumbing.Hash {
	var header [32]byte
	h := sha1.New()
	h.Write(append(strconv.AppendInt(append(append(header[:0], kind.Bytes()...), ' '), int64(len(content)), 10), 0))
	h.Write(content)
	var id plumbing.Hash
	h.Sum(id[:0])
	return id
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
	header := [binary.MaxVarintLen64 + 1]byte{byte(kind)<<4 | byte(len(content)&15)}
	size := 1
	if len(content) > 15 {
		header[0] |= 0x80
		size += binary.PutUvarint(header[1:], uint64(len(content))>>4)
	}
	d.entry.Write(header[:size])
	d.zip.Reset(&d.entry)
	if _, err := d.zip.Write(content); err != nil {
		return nil, err
	}
	err := d.zip.Close()
	return d.entry.Bytes(), err
}

// has says whether the pack has an object.
func (w *packWriter) has(id plumbing.Hash) bool {
	_, ok := w.known[id]
	return ok
}

// put adds an object, unless the pack has it.
func (w *packWriter) put(kind plumbing.ObjectType, id plumbing.Hash, content []byte) error {
	if w.has(id) {
		return w.broken
	}
	d := deflaters.get()
	defer d.release()
	entry, err := d.deflate(kind, content)
	if err != nil {
		return err
	}
	return w.append(id, entry)
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
	w.objects = append(w.objects, packed{id: id, offset: w.offset, crc: crc32.ChecksumIEEE(entry)})
	w.known[id] = struct{}{}
	w.offset += int64(len(entry))
	return nil
}

// abort removes the pack.
func (w *packWriter) abort() {
	w.file.Close()
	_ = os.Remove(w.file.Name()) // else the next sync does
}

// seal writes what is left of the pack and returns its checksum.
func (w *packWriter) seal() ([]byte, error) {
	if w.broken != nil {
		return nil, w.broken
	}
	if err := w.out.Flush(); err != nil {
		return nil, err
	}
	header := [packHeaderSize]byte{'P', 'A', 'C', 'K', 0, 0, 0, 2}
	binary.BigEndian.PutUint32(header[8:], uint32(len(w.objects)))
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
	go func() { indexed <- writeDurably(base+".idx", 0o444, w.index(checksum)) }()
	err = errors.Join(w.file.Chmod(0o444), w.file.Sync(), w.file.Close())
	if err = errors.Join(err, <-indexed); err != nil {
		return "", err
	}
	// The pack comes last: go-git takes one without an index for damage, while git
	// does not mind an index without a pack.
	if err := os.Rename(w.file.Name(), base+".pack"); err != nil {
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

// without returns the pack without some objects: a new one, in place of this one.
func (w *packWriter) without(drop map[plumbing.Hash]struct{}) (_ *packWriter, err error) {
	defer w.abort()
	if w.broken != nil {
		return nil, w.broken
	}
	if err := w.out.Flush(); err != nil {
		return nil, err
	}
	smaller, err := newPackWriter(w.directory)
	if err != nil {
		return nil, err
	}
	for i, o := range w.objects {
		if _, ok := drop[o.id]; ok {
			continue
		}
		end := w.offset
		if i+1 < len(w.objects) {
			end = w.objects[i+1].offset
		}
		entry := make([]byte, end-o.offset)
		if _, err := w.file.ReadAt(entry, o.offset); err != nil {
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
