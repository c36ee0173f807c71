package identity

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"understudy.internal/internal/durable"
)

// Store keeps what has to outlive a sign-in: the cached sign-ins of users, and which
// passwords were refused. Several processes that sign in the same users share one, so
// that all know what one of them learned. It only sees what is encrypted. It may be
// used at the same time; every call ends by itself, also when the store is away.
type Store interface {
	// Load returns the value of a key as it was saved last, by whichever process; nil
	// when there is none.
	Load(key string) ([]byte, error)
	// Save puts a value in the place of the one before. It is durable when Save
	// returns nil; when it returns an error it may be saved all the same.
	Save(key string, value []byte) error
	// Delete removes the value of a key, if there is one.
	Delete(key string) error
}

// files is a [Store] in a folder, a file for each key. A file has its whole new
// content or its old one, and is readable by its owner only.
type files struct{ folder string }

var _ Store = files{}

// path returns the file of a key. Keys are names of this package's own.
func (f files) path(key string) (string, error) {
	if key == "" || key != filepath.Base(key) || !filepath.IsLocal(key) {
		return "", fmt.Errorf("%q cannot be the name of a file", key)
	}
	return filepath.Join(f.folder, key), nil
}

// Load implements [Store].
func (f files) Load(key string) ([]byte, error) {
	path, err := f.path(key)
	if err != nil {
		return nil, err
	}
	value, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return value, err
}

// Save implements [Store].
func (f files) Save(key string, value []byte) error {
	path, err := f.path(key)
	if err != nil {
		return err
	}
	return durable.WriteFile(path, value)
}

// Delete implements [Store].
func (f files) Delete(key string) error {
	path, err := f.path(key)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
