package vault

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/idxfile"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
	"github.com/klauspost/compress/zlib"

	"understudy.internal/internal/port"
)

// packs looks at every pack: what is sound is linked into the view, and of what is not
// everything that can be read is copied there.
func (r *repairer) packs(ctx context.Context) error {
	files, err := r.readFolder(r.vault.packDirectory())
	if err != nil {
		return &port.StorageError{Err: err}
	}
	if r.hasPacks, err = r.vault.hadPacks(); err != nil {
		return &port.StorageError{Err: r.trouble.note(err)}
	}
	names := map[string]struct{}{}
	for _, file := range files {
		name := strings.TrimSuffix(strings.TrimSuffix(file.Name(), ".idx"), ".pack")
		if strings.HasPrefix(name, "pack-") && name != file.Name() {
			names[name] = struct{}{}
		}
	}
	for _, name := range sortedKeys(names) {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if err := r.pack(name); err != nil {
			return &port.StorageError{Err: err}
		}
	}
	return nil
}

func (r *repairer) pack(name string) error {
	base := filepath.Join(r.vault.packDirectory(), name)
	in := filepath.Join(r.view.packDirectory(), name)
	trailer, packErr := r.packTrailer(base + ".pack")
	indexErr := r.checkIndex(base+".idx", trailer)
	if err := r.trouble.err(); err != nil {
		return err
	}
	switch {
	case errors.Is(packErr, os.ErrNotExist):
		return r.orphan(base + ".idx")
	case packErr == nil && indexErr == nil:
		return errors.Join(r.link(base+".idx", in+".idx"), r.link(base+".pack", in+".pack"))
	case packErr == nil:
		if err := r.link(base+".pack", in+".pack"); err != nil {
			return err
		}
		switch err := r.indexPack(base+".pack", in+".idx"); {
		case isTrouble(err): // of the disk that the index is written to, too
			return err
		case err == nil:
			r.fault("make it anew", "the index of %s is missing or damaged", r.relative(base+".pack"))
			return nil
		}
		if err := errors.Join(os.Remove(in+".pack"), removeIfThere(in+".idx")); err != nil {
			return err
		}
	}
	saved, of, err := r.salvage(base)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(in + ".pack"); err == nil {
		r.fault("write it anew", "%s is damaged, and all of its %d objects can be read", r.relative(base+".pack"), saved)
		return nil
	}
	r.aside = append(r.aside, base+".pack")
	if _, err := os.Lstat(base + ".idx"); err == nil {
		r.aside = append(r.aside, base+".idx")
	}
	r.fault("put it aside, and keep what can be read of it", "%s is damaged: %d of %s objects can be read", r.relative(base+".pack"), saved, of)
	return nil
}

// orphan looks at an index whose pack is gone. A process that was killed leaves one, and
// somebody who removes a pack: it alone says what may be lost.
func (r *repairer) orphan(index string) error {
	ids, err := r.indexedIDs(index)
	if err != nil {
		r.unindexed = true
	}
	r.unread = append(r.unread, ids...)
	r.aside = append(r.aside, index)
	r.fault("put it aside", "%s is the index of a pack that is not there", r.relative(index))
	return nil
}

// indexedIDs returns the objects that an index names.
func (r *repairer) indexedIDs(path string) (ids []plumbing.Hash, err error) {
	if err := r.checkIndex(path, nil); err != nil {
		return nil, err
	}
	file, err := openWatched(path, r.trouble)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	index := idxfile.NewMemoryIndex()
	if err := idxfile.NewDecoder(bufio.NewReader(file)).Decode(index); err != nil {
		return nil, err
	}
	entries, err := index.Entries()
	if err != nil {
		return nil, err
	}
	for {
		entry, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return ids, nil
		}
		if err != nil {
			return nil, err
		}
		ids = append(ids, entry.Hash)
	}
}

// link shows a file in the view. It is a hard link, because go-git follows none that
// leave a repository; where the disk has none it is a copy.
func (r *repairer) link(path, in string) error {
	r.linked[in] = true
	if os.Link(path, in) == nil {
		return nil
	}
	file, err := openWatched(path, r.trouble)
	if err != nil {
		return err
	}
	err = makeFile(in, 0o600, func(out io.Writer) error {
		_, err := io.Copy(out, file)
		return err
	}, false)
	return errors.Join(err, file.Close())
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// packTrailer returns the checksum of a pack that has the right one.
func (r *repairer) packTrailer(path string) ([]byte, error) {
	file, err := openWatched(path, r.trouble)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() < packHeaderSize+packTrailerSize {
		return nil, errDamaged
	}
	sum := sha1.New()
	content := io.NewSectionReader(file, 0, info.Size()-packTrailerSize)
	if _, err := io.CopyBuffer(sum, onlyReader{content}, make([]byte, packBuffer)); err != nil {
		return nil, err
	}
	trailer := make([]byte, packTrailerSize)
	if _, err := file.ReadAt(trailer, info.Size()-packTrailerSize); err != nil {
		return nil, err
	}
	if !bytes.Equal(sum.Sum(nil), trailer) {
		return nil, errDamaged
	}
	return trailer, nil
}

// checkIndex says whether an index is sound and that of a pack, whose checksum may be
// unknown.
func (r *repairer) checkIndex(path string, trailer []byte) error {
	file, err := openWatched(path, r.trouble)
	if err != nil {
		return err
	}
	defer file.Close()
	p := &packFile{index: file}
	if !p.isSound() {
		return errDamaged
	}
	info, err := file.Stat()
	if err != nil {
		return err
	}
	of := make([]byte, packTrailerSize)
	if _, err := file.ReadAt(of, info.Size()-2*sha1.Size); err != nil {
		return err
	}
	head := make([]byte, indexHeader)
	if _, err := file.ReadAt(head, 0); err != nil {
		return err
	}
	if !bytes.Equal(head, indexMagic) || (trailer != nil && !bytes.Equal(of, trailer)) {
		return errDamaged
	}
	return nil
}

// indexPack makes the index of a pack.
func (r *repairer) indexPack(path, to string) (err error) {
	file, err := openWatched(path, r.trouble)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	var writer idxfile.Writer
	parser, err := packfile.NewParser(packfile.NewScanner(file), &writer)
	if err != nil {
		return err
	}
	if _, err := parser.Parse(); err != nil {
		return err
	}
	index, err := writer.Index()
	if err != nil {
		return err
	}
	return streamDurably(to, 0o444, func(out io.Writer) error {
		_, err := idxfile.NewEncoder(out).Encode(index)
		return err
	})
}

// salvage copies what can be read of a damaged pack into a new one in the view. It
// returns how many objects that were, and of how many, if that is known.
func (r *repairer) salvage(base string) (saved int, of string, err error) {
	w, err := newPackWriter(r.view.packDirectory())
	if err != nil {
		return 0, "", err
	}
	of = "an unknown number of"
	ids, indexErr := r.indexedIDs(base + ".idx")
	if indexErr == nil {
		of = fmt.Sprint(len(ids))
		err = r.readIndexed(base, ids, w)
	} else {
		r.unindexed = true
		err = r.readUnindexed(base+".pack", w)
	}
	if err != nil {
		w.abort()
		return 0, "", err
	}
	saved = w.objects.n
	if saved == 0 {
		w.abort()
		return 0, of, nil
	}
	_, err = w.finish()
	return saved, of, err
}

// readUnindexed copies the objects of a pack up to the first one that is damaged, or is a
// difference to another.
func (r *repairer) readUnindexed(path string, w *packWriter) error {
	file, err := openWatched(path, r.trouble)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	// Where it ends is where it is damaged, unless the new pack cannot be written.
	_ = eachPacked(file, info.Size(), func(id plumbing.Hash, begin, end int64) error {
		entry := make([]byte, end-begin)
		if _, err := file.ReadAt(entry, begin); err != nil {
			return err
		}
		return w.append(id, entry)
	})
	return w.broken
}

// readIndexed copies every object that can be read of those that an index names.
func (r *repairer) readIndexed(base string, ids []plumbing.Hash, w *packWriter) (err error) {
	alone, err := r.vault.newView()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(alone.config.Directory)) }()
	for _, ending := range []string{".idx", ".pack"} {
		if err := r.link(base+ending, filepath.Join(alone.packDirectory(), filepath.Base(base)+ending)); err != nil {
			return err
		}
	}
	storage := newWatchedStore(alone.config.Directory, true, r.trouble)
	defer storage.Close()
	for _, id := range ids {
		// What cannot be read is what is damaged.
		if kind, content, err := readObject(storage, id); err == nil {
			if err := w.put(kind, id, content); err != nil {
				return err
			}
		} else {
			r.unread = append(r.unread, id)
		}
	}
	return nil
}

var looseFolder = regexp.MustCompile(`^[0-9a-f]{2}$`)

// loose looks at the objects that are in no pack: git writes them, not this package.
func (r *repairer) loose(context.Context) error {
	folders, err := r.readFolder(r.vault.path("objects"))
	if err != nil {
		return &port.StorageError{Err: err}
	}
	for _, folder := range folders {
		if !folder.IsDir() || !looseFolder.MatchString(folder.Name()) {
			continue
		}
		path := r.vault.path("objects/" + folder.Name())
		files, err := r.readFolder(path)
		if err != nil {
			return &port.StorageError{Err: err}
		}
		in := r.view.path("objects/" + folder.Name())
		if err := os.MkdirAll(in, 0o700); err != nil {
			return &port.StorageError{Err: err}
		}
		for _, file := range files {
			id, ok := parseID(folder.Name() + file.Name())
			if !ok {
				continue
			}
			path := filepath.Join(path, file.Name())
			if r.looseID(path) != id {
				r.aside = append(r.aside, path)
				r.fault("put it aside", "the object %s is damaged", r.relative(path))
				continue
			}
			if err := r.link(path, filepath.Join(in, file.Name())); err != nil {
				return &port.StorageError{Err: err}
			}
		}
	}
	return nil
}

// looseID returns the id of what a file holds, zero when it cannot be read.
func (r *repairer) looseID(path string) (id plumbing.Hash) {
	file, err := openWatched(path, r.trouble)
	if err != nil {
		return id
	}
	defer file.Close()
	content, err := zlib.NewReader(bufio.NewReader(file))
	if err != nil {
		return id
	}
	sum := sha1.New()
	if _, err := io.CopyBuffer(sum, onlyReader{content}, make([]byte, packBuffer)); err != nil {
		return id
	}
	sum.Sum(id[:0])
	return id
}
