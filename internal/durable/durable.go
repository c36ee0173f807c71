// Package durable writes small files that a power cut can neither tear nor lose.
package durable

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
)

// temporary is how the names of files begin that a killed process may leave.
const temporary = ".tmp-"

// RemoveLeftovers removes from a folder, which need not exist, what a process left
// that was killed while it wrote. Nobody may be writing there.
func RemoveLeftovers(folder string) error {
	paths, err := filepath.Glob(filepath.Join(folder, temporary+"*"))
	for _, path := range paths {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

// WriteFile writes a file with mode 0600, in a folder that it makes with mode 0700
// when there is none. The file has its whole new content or its old one, and is on
// the disk when WriteFile returns.
func WriteFile(path string, content []byte) error {
	folder := filepath.Dir(path)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	file, err := os.CreateTemp(folder, temporary+"*") // mode 0600
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err = errors.Join(err, file.Sync(), file.Close()); err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return SyncFolder(folder)
}

// SyncFolder makes durable what a folder lists.
func SyncFolder(path string) error {
	if runtime.GOOS == "windows" {
		return nil // has no such call
	}
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
