package vault

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"understudy.internal/internal/durable"
)

// apply carries out what was found to be done. It may be killed after each step, and the
// next repair goes on: so what is new comes before what it is in the place of goes, and
// what shows a loss is noted before anything hides it.
func (r *repairer) apply() error {
	v := r.vault
	for _, step := range []func() error{
		r.noteLosses,
		func() error { return os.MkdirAll(v.packDirectory(), 0o700) },
		r.leaveReplaced,
		func() error { return v.adopt(r.view.packDirectory(), r.linked) },
		// References first: one may be in the place of a folder that the branch needs.
		func() error { return r.putAside(r.isReference) },
		r.moveBranch,
		func() error { return r.putAside(func(string) bool { return true }) },
		r.removeLeft,
		r.reinitialize,
		r.writeNotes,
		func() error {
			return errors.Join(durable.SyncFolder(v.packDirectory()), durable.SyncFolder(v.config.Directory))
		},
		r.forgetLosses,
	} {
		if err := step(); err != nil {
			return err
		}
		if err := v.stepped(); err != nil {
			return err
		}
	}
	return nil
}

// leaveReplaced leaves packs where they are in whose place comes the same one, as it was
// before it was damaged: a pack is called by what is in it.
func (r *repairer) leaveReplaced() error {
	r.aside = slices.DeleteFunc(r.aside, func(path string) bool {
		if filepath.Dir(path) != r.vault.packDirectory() {
			return false
		}
		pack := strings.TrimSuffix(filepath.Base(path), filepath.Ext(path)) + ".pack"
		_, err := os.Lstat(filepath.Join(r.view.packDirectory(), pack))
		return err == nil
	})
	return nil
}

func (r *repairer) isReference(path string) bool {
	return strings.HasPrefix(r.relative(path), "refs/")
}

func (r *repairer) removeLeft() error {
	for _, path := range r.remove {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	return nil
}

func (r *repairer) reinitialize() error {
	if !r.initialize {
		return nil
	}
	return r.vault.initialize()
}

// putAside moves what is damaged into the folder of this repair, where it is as it was
// here.
func (r *repairer) putAside(which func(path string) bool) error {
	var left []string
	for _, path := range r.aside {
		if !which(path) {
			left = append(left, path)
			continue
		}
		if err := r.putOneAside(path); err != nil {
			return err
		}
		if err := r.vault.stepped(); err != nil {
			return err
		}
	}
	r.aside = left
	return nil
}

func (r *repairer) putOneAside(path string) (err error) {
	if r.folder == "" {
		if r.folder, err = r.vault.newDamagedFolder(); err != nil {
			return err
		}
	}
	target := filepath.Join(r.folder, filepath.FromSlash(r.relative(path)))
	if err := makeDirectory(filepath.Dir(target)); err != nil {
		return err
	}
	if err := os.Rename(path, target); err != nil {
		return err
	}
	return durable.SyncFolder(filepath.Dir(target))
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

// moveBranch lets the branch name the tip.
func (r *repairer) moveBranch() error {
	if !r.moved {
		return nil
	}
	branch := r.vault.path(r.vault.ref().String())
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
	return durable.SyncFolder(filepath.Dir(branch))
}

// writeNotes lets the notes name the tip. Damaged ones were put aside.
func (r *repairer) writeNotes() error {
	if !r.moved {
		return nil
	}
	n, err := r.vault.readNotes()
	if err != nil {
		return err
	}
	n.Commit = r.tip.String()
	r.vault.writeNotes(n)
	return nil
}
