package vault

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"understudy.internal/internal/durable"
	"understudy.internal/internal/port"
)

// beginFile is there from before the first commit is made until a branch names one: a
// process that is killed in between leaves a commit that nothing names, and is no damage.
const beginFile = "understudy-begin"

// noteBegin notes, durably, that the first commit is being made.
func (v *Vault) noteBegin() error {
	if err := writeDurably(v.path(beginFile), nil); err != nil {
		return err
	}
	return durable.SyncFolder(v.config.Directory)
}

// isBeginning says whether no branch named a commit yet.
func (v *Vault) isBeginning() bool {
	_, err := os.Stat(v.path(beginFile))
	return err == nil
}

// checkBegin refuses to begin a new backup where there was one: the branch is missing,
// nobody knows its last commit, and there are packs. A backup that begins anew leaves
// everything out that is not read now.
func (v *Vault) checkBegin() error {
	id, err := v.branch(v.storage())
	if err != nil {
		return err
	}
	if !id.IsZero() {
		if err := removeIfThere(v.path(beginFile)); err != nil {
			return &port.StorageError{Err: err}
		}
		return nil
	}
	if v.isBeginning() {
		return nil
	}
	had, err := v.hadPacks()
	if err == nil && had {
		err = fmt.Errorf("the branch %s of %s is missing, and there was a backup. Nothing was changed. Stop the service and run `understudy repair`",
			v.config.Branch, v.config.Directory)
	}
	if err != nil {
		return &port.StorageError{Err: err}
	}
	return nil
}

// hadPacks says whether there is a pack, whatever is in it, or a repair put one aside.
func (v *Vault) hadPacks() (bool, error) {
	folders := []string{v.packDirectory()}
	repairs, err := readFolder(v.path(damagedFolder))
	if err != nil {
		return false, err
	}
	for _, repair := range repairs {
		folders = append(folders, filepath.Join(v.path(damagedFolder), repair.Name(), "objects", "pack"))
	}
	for _, folder := range folders {
		files, err := readFolder(folder)
		if err != nil {
			return false, err
		}
		for _, file := range files {
			if strings.HasPrefix(file.Name(), "pack-") && strings.HasSuffix(file.Name(), ".pack") {
				return true, nil
			}
		}
	}
	return false, nil
}
