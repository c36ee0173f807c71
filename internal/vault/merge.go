package vault

import (
	"cmp"
	"errors"
	"io"
	"os"
	"slices"
	"strings"

	"understudy.internal/internal/durable"
)

const (
	// maxPacks is how many packs there may be before some are merged.
	maxPacks = 12
	// growth is how many times larger each pack is than the next smaller one, after
	// a merge. With it an object is copied only a few times in its life.
	growth = 2
)

// mergePacks keeps the number of packs low: the smallest are copied into one, so
// that the sizes of all grow geometrically. An old pack is removed only after the
// new one, which has all of its objects, is on the disk; to be killed in between
// costs some space until the next merge, which drops what is there twice.
func (v *Vault) mergePacks() error {
	paths, err := glob(v.packDirectory(), "pack-*.pack")
	if err != nil || len(paths) <= maxPacks {
		return err
	}
	packs, err := openPacks(v.packDirectory())
	if err != nil {
		return err
	}
	slices.SortFunc(packs, func(a, b *pack) int {
		return cmp.Or(cmp.Compare(a.size, b.size), strings.Compare(a.path, b.path))
	})
	small := packs[:split(packs)]
	if len(small) < 2 {
		return closePacks(packs)
	}
	merged, err := v.merge(small)
	if err := errors.Join(err, closePacks(packs)); err != nil {
		return err
	}
	return v.removePacks(small, merged)
}

// split returns how many of the packs, sorted by size, are to be merged.
func split(packs []*pack) int {
	n := len(packs)
	for n > 1 && packs[n-1].size >= growth*packs[n-2].size {
		n--
	}
	// Those below are merged, and whatever the sum outgrows.
	if n == 1 {
		return 0
	}
	total := int64(0)
	for _, p := range packs[:n] {
		total += p.size
	}
	for n < len(packs) && packs[n].size < growth*total {
		total += packs[n].size
		n++
	}
	return n
}

// merge writes one pack with the objects of many, durably.
func (v *Vault) merge(packs []*pack) (path string, err error) {
	w, err := newPackWriter(v.packDirectory())
	if err != nil {
		return "", err
	}
	storage := v.keptOpen()
	defer storage.Close()
	for _, p := range packs {
		entries, err := p.index.EntriesByOffset()
		if err != nil {
			w.abort()
			return "", err
		}
		for {
			entry, err := entries.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err == nil {
				err = copyObject(w, packs, storage, entry.Hash)
			}
			if err != nil {
				w.abort()
				return "", err
			}
		}
	}
	return w.finish()
}

// removePacks removes packs whose objects are in another. While somebody in this
// process reads, they stay: the next merge takes them again.
func (v *Vault) removePacks(packs []*pack, except string) error {
	if !v.reading.TryLock() {
		return nil
	}
	defer v.reading.Unlock()
	for _, p := range packs {
		if p.path == except {
			continue
		}
		// The pack first: without it nobody looks for the rest.
		for _, ending := range []string{".pack", ".idx", ".rev", ".bitmap", ".mtimes"} {
			err := os.Remove(strings.TrimSuffix(p.path, ".pack") + ending)
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
	}
	return durable.SyncFolder(v.packDirectory())
}
