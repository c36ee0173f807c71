package vault

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"understudy.internal/internal/durable"
)

// writeDurably writes a file so that it has its whole content or does not exist.
// The caller makes the folder durable.
func writeDurably(path string, content []byte) error {
	return writeFile(path, 0o600, content, true)
}

// streamDurably is writeDurably for what is written piece by piece.
func streamDurably(path string, mode os.FileMode, write func(io.Writer) error) error {
	return makeFile(path, mode, write, true)
}

// writeFile writes a file so that nobody sees a part of it. Unless it is durable, a
// power cut may still leave a part.
func writeFile(path string, mode os.FileMode, content []byte, durable bool) error {
	return makeFile(path, mode, func(out io.Writer) error {
		_, err := out.Write(content)
		return err
	}, durable)
}

func makeFile(path string, mode os.FileMode, write func(io.Writer) error, durable bool) error {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".tmp*")
	if err != nil {
		return err
	}
	err = errors.Join(write(file), file.Chmod(mode))
	if durable {
		err = errors.Join(err, file.Sync())
	}
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		_ = os.Remove(file.Name())
		return fmt.Errorf("writing %s: %w", filepath.Base(path), err)
	}
	return nil
}

// makeDirectory makes a folder and those above it, durably.
func makeDirectory(path string) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	above := filepath.Dir(path)
	if above != path {
		if err := makeDirectory(above); err != nil {
			return err
		}
	}
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return durable.SyncFolder(above)
}

// syncFile makes the content of a file durable that somebody else wrote.
func syncFile(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}
