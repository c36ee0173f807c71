package vault

import (
	"bufio"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/idxfile"
)

// pack is a pack on the disk, opened to copy entries out of it.
type pack struct {
	path  string
	file  *os.File
	size  int64
	index *idxfile.MemoryIndex
	// offsets are where entries begin, sorted; the last is where they end.
	offsets []int64
}

const packTrailerSize = 20

// openPacks opens every pack of a folder. The caller closes them.
func openPacks(directory string) ([]*pack, error) {
	paths, err := glob(directory, "pack-*.pack")
	if err != nil {
		return nil, err
	}
	var packs []*pack
	for _, path := range paths {
		p, err := openPack(path)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("opening %s: %w", filepath.Base(path), err), closePacks(packs))
		}
		packs = append(packs, p)
	}
	return packs, nil
}

func closePacks(packs []*pack) error {
	var err error
	for _, p := range packs {
		err = errors.Join(err, p.file.Close())
	}
	return err
}

func openPack(path string) (_ *pack, err error) {
	p := &pack{path: path, index: idxfile.NewMemoryIndex()}
	if p.file, err = os.Open(path); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			p.file.Close()
		}
	}()
	info, err := p.file.Stat()
	if err != nil {
		return nil, err
	}
	p.size = info.Size()
	return p, p.readIndex()
}

func (p *pack) readIndex() error {
	file, err := os.Open(strings.TrimSuffix(p.path, ".pack") + ".idx")
	if err != nil {
		return err
	}
	defer file.Close()
	if err := idxfile.NewDecoder(bufio.NewReaderSize(file, packBuffer)).Decode(p.index); err != nil {
		return err
	}
	entries, err := p.index.Entries()
	if err != nil {
		return err
	}
	for {
		entry, err := entries.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		p.offsets = append(p.offsets, int64(entry.Offset))
	}
	p.offsets = append(p.offsets, p.size-packTrailerSize)
	slices.Sort(p.offsets)
	return nil
}

// errDamaged says that a pack does not hold what its index says.
var errDamaged = errors.New("the pack is damaged")

// entry returns the bytes of an object in the pack, checked against the index. ok
// is false when the pack does not have it, or only as a difference to another.
func (p *pack) entry(id plumbing.Hash) (_ []byte, ok bool, err error) {
	offset, err := p.index.FindOffset(id)
	if errors.Is(err, plumbing.ErrObjectNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	i, found := slices.BinarySearch(p.offsets, offset)
	if !found || i+1 >= len(p.offsets) {
		return nil, false, errDamaged
	}
	content := make([]byte, p.offsets[i+1]-offset)
	if _, err := p.file.ReadAt(content, offset); err != nil {
		return nil, false, err
	}
	crc, err := p.index.FindCRC32(id)
	if err != nil {
		return nil, false, err
	}
	if len(content) == 0 || crc != crc32.ChecksumIEEE(content) {
		return nil, false, errDamaged
	}
	kind := plumbing.ObjectType(content[0] >> 4 & 7)
	return content, !kind.IsDelta(), nil
}

// copyObject adds an object of the repository to a pack: as it is stored where
// that can be, else unpacked and packed again.
func copyObject(w *packWriter, packs []*pack, storage *store, id plumbing.Hash) error {
	if w.has(id) {
		return nil
	}
	for _, p := range packs {
		entry, ok, err := p.entry(id)
		if err != nil {
			return fmt.Errorf("reading %s: %w", filepath.Base(p.path), err)
		}
		if ok {
			return w.append(id, entry)
		}
	}
	kind, content, err := readObject(storage, id)
	if err != nil {
		return err
	}
	return w.put(kind, id, content)
}

// readObject returns an object, whose content is what its id says.
func readObject(storage *store, id plumbing.Hash) (_ plumbing.ObjectType, _ []byte, err error) {
	stored, err := storage.EncodedObject(plumbing.AnyObject, id)
	if err != nil {
		return 0, nil, fmt.Errorf("reading %s: %w", id, err)
	}
	reader, err := stored.Reader()
	if err != nil {
		return 0, nil, fmt.Errorf("reading %s: %w", id, err)
	}
	defer func() { err = errors.Join(err, reader.Close()) }()
	content, err := io.ReadAll(reader)
	if err != nil {
		return 0, nil, fmt.Errorf("reading %s: %w", id, err)
	}
	if objectID(stored.Type(), content) != id {
		return 0, nil, fmt.Errorf("reading %s: %w", id, errDamaged)
	}
	return stored.Type(), content, nil
}
