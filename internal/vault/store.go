package vault

import (
	"bytes"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/storage/filesystem"
	"github.com/klauspost/compress/zlib"
)

// store reads the objects of a repository. What is whole in a pack it finds with a
// few reads of the pack's index; go-git, which loads the indexes of all packs into
// memory, is asked for the rest: differences, and objects that are in no pack. It
// does not see packs that are added later.
type store struct {
	*filesystem.Storage
	directory string
	// kept says that files stay open until Close.
	kept bool

	mu    sync.Mutex
	packs []*packFile
	known bool
	// sound are the indexes whose checksum was looked at.
	sound map[string]bool
	// trouble is where errors of the system are noted, or nil.
	trouble *trouble
}

func newStore(directory string, kept bool) *store { return newWatchedStore(directory, kept, nil) }

// newWatchedStore returns a store that notes errors of the system.
func newWatchedStore(directory string, kept bool, t *trouble) *store {
	return &store{
		Storage: filesystem.NewStorageWithOptions(newRepositoryFiles(directory, t), cache.NewObjectLRU(8*cache.MiByte),
			filesystem.Options{KeepDescriptors: kept}),
		directory: filepath.Join(directory, "objects", "pack"), kept: kept, sound: map[string]bool{}, trouble: t,
	}
}

// EncodedObject implements [storer.EncodedObjectStorer].
func (s *store) EncodedObject(kind plumbing.ObjectType, id plumbing.Hash) (plumbing.EncodedObject, error) {
	if found := s.find(id); found != nil && (kind == plumbing.AnyObject || kind == found.Type()) {
		return found, nil
	}
	object, err := s.Storage.EncodedObject(kind, id)
	if errors.Is(err, plumbing.ErrObjectNotFound) || errors.Is(err, os.ErrNotExist) {
		// Another process may have merged the packs meanwhile.
		if found := s.find(id); found != nil && (kind == plumbing.AnyObject || kind == found.Type()) {
			return found, nil
		}
	}
	return object, err
}

// find returns an object that is whole in a pack, or nil. What is wrong with a pack
// is left to go-git to say.
func (s *store) find(id plumbing.Hash) plumbing.EncodedObject {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.known {
		s.openPacks()
	}
	defer func() {
		if !s.kept {
			_ = s.closePacks() // they were read only
		}
	}()
	for _, p := range s.packs {
		offset, ok := p.find(id)
		if !ok {
			continue
		}
		object := p.object(id, offset)
		if object == nil || (object.size >= largeObject && s.kept) {
			return orNil(object)
		}
		return object.inMemory()
	}
	return nil
}

func orNil(object *packedObject) plumbing.EncodedObject {
	if object == nil {
		return nil
	}
	return object
}

// Close closes what is open.
func (s *store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.closePacks(), s.Storage.Close())
}

func (s *store) closePacks() error {
	var err error
	for _, p := range s.packs {
		err = errors.Join(err, p.close())
	}
	s.packs, s.known = nil, false
	return err
}

// packFile is a pack with its index, of version 2.
// https://git-scm.com/docs/pack-format
type packFile struct {
	pack, index *watchedFile
	// fanout says how many ids begin with at most a byte.
	fanout [256]uint32
}

const (
	indexHeader = 8
	indexNames  = indexHeader + 256*4
	idSize      = len(plumbing.ZeroHash)
)

// openPacks opens the packs whose indexes are sound.
func (s *store) openPacks() {
	s.known = true
	paths, err := glob(s.directory, "pack-*.idx")
	_ = s.trouble.note(err) // go-git, which looks there too, says it
	for _, path := range paths {
		p := openPackFile(path, s.trouble)
		if p == nil {
			continue
		}
		if s.sound[path] = s.sound[path] || p.isSound(); s.sound[path] {
			s.packs = append(s.packs, p)
		} else {
			_ = p.close() // they were read only
		}
	}
}

func openPackFile(path string, t *trouble) *packFile {
	index, err := openWatched(path, t)
	if err != nil {
		return nil
	}
	var head [indexNames]byte
	pack, packErr := openWatched(strings.TrimSuffix(path, ".idx")+".pack", t)
	if _, err := index.ReadAt(head[:], 0); err != nil || packErr != nil || !bytes.Equal(head[:indexHeader], indexMagic) {
		index.Close()
		if packErr == nil {
			pack.Close()
		}
		return nil
	}
	p := &packFile{pack: pack, index: index}
	for i := range p.fanout {
		p.fanout[i] = binary.BigEndian.Uint32(head[indexHeader+4*i:])
	}
	return p
}

func (p *packFile) close() error { return errors.Join(p.pack.Close(), p.index.Close()) }

// isSound says whether the index has the checksum that it should have.
func (p *packFile) isSound() bool {
	info, err := p.index.Stat()
	if err != nil || info.Size() < indexNames+2*sha1.Size {
		return false
	}
	sum := sha1.New()
	content := io.NewSectionReader(p.index, 0, info.Size()-sha1.Size)
	if _, err := io.CopyBuffer(sum, onlyReader{content}, make([]byte, packBuffer)); err != nil {
		return false
	}
	var want [sha1.Size]byte
	_, err = p.index.ReadAt(want[:], info.Size()-sha1.Size)
	return err == nil && bytes.Equal(sum.Sum(nil), want[:])
}

// find returns where in the pack an object begins.
func (p *packFile) find(id plumbing.Hash) (offset int64, ok bool) {
	low, high := int64(0), int64(p.fanout[id[0]])
	if id[0] > 0 {
		low = int64(p.fanout[id[0]-1])
	}
	var name plumbing.Hash
	for low < high {
		middle := (low + high) / 2
		if _, err := p.index.ReadAt(name[:], indexNames+middle*int64(idSize)); err != nil {
			return 0, false
		}
		switch c := bytes.Compare(name[:], id[:]); {
		case c == 0:
			return p.offset(middle)
		case c < 0:
			low = middle + 1
		default:
			high = middle
		}
	}
	return 0, false
}

// offset returns where the object begins whose id stands at a place of the index.
func (p *packFile) offset(place int64) (int64, bool) {
	count := int64(p.fanout[255])
	offsets := indexNames + count*int64(idSize+4) // after the checksums
	var number [8]byte
	if _, err := p.index.ReadAt(number[:4], offsets+4*place); err != nil {
		return 0, false
	}
	short := binary.BigEndian.Uint32(number[:])
	if short < 1<<31 {
		return int64(short), true
	}
	if _, err := p.index.ReadAt(number[:], offsets+4*count+8*int64(short&(1<<31-1))); err != nil {
		return 0, false
	}
	long := binary.BigEndian.Uint64(number[:])
	return int64(long), long < 1<<62
}

// object returns the object that begins at a place of the pack; nil when it is a
// difference to another.
func (p *packFile) object(id plumbing.Hash, offset int64) *packedObject {
	var header [binary.MaxVarintLen64 + 1]byte
	n, err := p.pack.ReadAt(header[:], offset)
	if err != nil && !errors.Is(err, io.EOF) || n == 0 {
		return nil
	}
	kind := plumbing.ObjectType(header[0] >> 4 & 7)
	size, length := uint64(header[0]&15), 1
	if header[0]&0x80 != 0 {
		rest, read := binary.Uvarint(header[1:n])
		if read <= 0 {
			return nil
		}
		size, length = size|rest<<4, 1+read
	}
	switch kind {
	case plumbing.CommitObject, plumbing.TreeObject, plumbing.BlobObject, plumbing.TagObject:
		return &packedObject{pack: p.pack, id: id, kind: kind, size: int64(size), begin: offset + int64(length)}
	}
	return nil
}

// packedObject is an object in a pack. It is read anew with each Reader.
type packedObject struct {
	pack        *watchedFile
	id          plumbing.Hash
	kind        plumbing.ObjectType
	size, begin int64
}

// largeObject is how large an object is that is not held in memory.
const largeObject = 1 << 20

// inMemory returns the object as one that does not need the pack; nil when it
// cannot be read.
func (o *packedObject) inMemory() plumbing.EncodedObject {
	reader, err := o.Reader()
	if err != nil {
		return nil
	}
	defer reader.Close()
	content := make([]byte, 0, min(o.size, maxDocument))
	buffer := bytes.NewBuffer(content)
	if n, err := buffer.ReadFrom(reader); err != nil || n != o.size {
		return nil
	}
	memory := &plumbing.MemoryObject{}
	memory.SetType(o.kind)
	if _, err := memory.Write(buffer.Bytes()); err != nil {
		return nil
	}
	return memory
}

// Hash implements [plumbing.EncodedObject].
func (o *packedObject) Hash() plumbing.Hash { return o.id }

// Type implements [plumbing.EncodedObject].
func (o *packedObject) Type() plumbing.ObjectType { return o.kind }

// SetType implements [plumbing.EncodedObject]; the type stays as it is.
func (o *packedObject) SetType(plumbing.ObjectType) {}

// Size implements [plumbing.EncodedObject].
func (o *packedObject) Size() int64 { return o.size }

// SetSize implements [plumbing.EncodedObject]; the size stays as it is.
func (o *packedObject) SetSize(int64) {}

// Reader implements [plumbing.EncodedObject].
func (o *packedObject) Reader() (io.ReadCloser, error) {
	return zlib.NewReader(io.NewSectionReader(o.pack, o.begin, 1<<62))
}

// Writer implements [plumbing.EncodedObject].
func (o *packedObject) Writer() (io.WriteCloser, error) {
	return nil, errors.New("an object in a pack cannot be written")
}
