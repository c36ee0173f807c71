package vault

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"understudy.internal/internal/durable"
)

// apply carries out what was found to be done: first what is new comes in, then what is
// damaged goes, then the branch moves.
func (r *repairer) apply() error {
	v := r.vault
	if err := os.MkdirAll(v.packDirectory(), 0o700); err != nil {
		return err
	}
	if err := v.adopt(r.view.packDirectory(), r.linked); err != nil {
		return err
	}
	if err := r.putAside(); err != nil {
		return err
	}
	for _, path := range r.remove {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	if r.initialize {
		if err := v.initialize(); err != nil {
			return err
		}
	}
	if r.moved {
		if err := r.move(); err != nil {
			return err
		}
	}
	return errors.Join(durable.SyncFolder(v.packDirectory()), durable.SyncFolder(v.config.Directory))
}

// putAside moves what is damaged into a folder of this repair, where it is as it was here.
func (r *repairer) putAside() error {
	if len(r.aside) == 0 {
		return nil
	}
	folder, err := r.vault.newDamagedFolder()
	if err != nil {
		return err
	}
	for _, path := range r.aside {
		target := filepath.Join(folder, filepath.FromSlash(r.relative(path)))
		if err := makeDirectory(filepath.Dir(target)); err != nil {
			return err
		}
		if err := os.Rename(path, target); err != nil {
			return err
		}
		if err := durable.SyncFolder(filepath.Dir(target)); err != nil {
			return err
		}
	}
	return nil
}

// newDamagedFolder makes a folder that no repair before this one used.
func (v *Vault) newDamagedFolder() (string, error) {
	above := v.path(damagedFolder)
	if err := makeDirectory(above); err != nil {
		return "", err
	}
	for n := 1; ; n++ {
		folder := filepath.Join(above, fmt.Sprintf("%s-%d", v.now().UTC().Format("20060102T150405Z"), n))
		err := os.Mkdir(folder, 0o700)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		return folder, errors.Join(err, durable.SyncFolder(above))
	}
}

// move lets the branch and the notes name the tip.
func (r *repairer) move() error {
	v := r.vault
	branch := v.path(v.ref().String())
	if info, err := os.Lstat(branch); err == nil && info.IsDir() {
		if err := os.Remove(branch); err != nil {
			return err
		}
	}
	if err := makeDirectory(filepath.Dir(branch)); err != nil {
		return err
	}
	if err := writeDurably(branch, []byte(r.tip.String()+"\n")); err != nil {
		return err
	}
	if err := durable.SyncFolder(filepath.Dir(branch)); err != nil {
		return err
	}
	n, err := v.readNotes()
	if err != nil {
		return err
	}
	n.Commit = r.tip.String()
	v.writeNotes(n)
	return nil
}
