package vault

import (
	"errors"
	"io/fs"
	"os"
	"sync"
	"syscall"

	"github.com/go-git/go-billy/v5"
)

// trouble remembers the first error of the system while files were read: no permission,
// too many open files, a disk or a server that does not answer. What such an error hides
// may be whole, so nobody may take it for damaged. A nil one remembers nothing.
type trouble struct {
	mu    sync.Mutex
	first error
}

// note remembers an error, if it is one of the system, and returns it.
func (t *trouble) note(err error) error {
	if t == nil || !isTrouble(err) {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.first == nil {
		t.first = err
	}
	return err
}

// err returns what was remembered.
func (t *trouble) err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.first
}

// isTrouble says whether the system did not let something be read. That a file does not
// exist, or ends too early, is no trouble but an answer.
func isTrouble(err error) bool {
	var number syscall.Errno
	return errors.As(err, &number) && !isMissing(err)
}

// isMissing says whether there is no such file; that what is above it is no folder says
// so too.
func isMissing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// watchedFile is a file whose errors are noted.
type watchedFile struct {
	*os.File
	trouble *trouble
}

// openWatched opens a file. A folder in its place is trouble: it is not for this package
// to say what it is.
func openWatched(path string, t *trouble) (*watchedFile, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, t.note(err)
	}
	if t == nil {
		return &watchedFile{File: file}, nil
	}
	info, err := file.Stat()
	if err == nil && info.IsDir() {
		err = &fs.PathError{Op: "read", Path: path, Err: syscall.EISDIR}
	}
	if err != nil {
		file.Close()
		return nil, t.note(err)
	}
	return &watchedFile{file, t}, nil
}

// Read implements [io.Reader].
func (f *watchedFile) Read(p []byte) (int, error) {
	n, err := f.File.Read(p)
	return n, f.trouble.note(err)
}

// ReadAt implements [io.ReaderAt].
func (f *watchedFile) ReadAt(p []byte, offset int64) (int, error) {
	n, err := f.File.ReadAt(p, offset)
	return n, f.trouble.note(err)
}

// watchedFiles are files for go-git, whose errors are noted: its own errors do not always
// tell what was behind them.
type watchedFiles struct {
	billy.Filesystem
	trouble *trouble
}

// Open implements [billy.Filesystem].
func (f watchedFiles) Open(name string) (billy.File, error) {
	return f.watched(f.Filesystem.Open(name))
}

// OpenFile implements [billy.Filesystem].
func (f watchedFiles) OpenFile(name string, flag int, mode os.FileMode) (billy.File, error) {
	return f.watched(f.Filesystem.OpenFile(name, flag, mode))
}

// Create implements [billy.Filesystem].
func (f watchedFiles) Create(name string) (billy.File, error) {
	return f.watched(f.Filesystem.Create(name))
}

// TempFile implements [billy.Filesystem].
func (f watchedFiles) TempFile(folder, prefix string) (billy.File, error) {
	return f.watched(f.Filesystem.TempFile(folder, prefix))
}

// Rename implements [billy.Filesystem].
func (f watchedFiles) Rename(from, to string) error {
	return f.trouble.note(f.Filesystem.Rename(from, to))
}

// Chmod implements [billy.Chmod].
func (f watchedFiles) Chmod(name string, mode os.FileMode) error {
	if files, ok := f.Filesystem.(billy.Chmod); ok {
		return f.trouble.note(files.Chmod(name, mode))
	}
	return billy.ErrNotSupported
}

func (f watchedFiles) watched(file billy.File, err error) (billy.File, error) {
	if err != nil {
		return nil, f.trouble.note(err)
	}
	return watchedGitFile{file, f.trouble}, nil
}

// Stat implements [billy.Filesystem].
func (f watchedFiles) Stat(name string) (os.FileInfo, error) {
	info, err := f.Filesystem.Stat(name)
	return info, f.trouble.note(err)
}

// ReadDir implements [billy.Filesystem].
func (f watchedFiles) ReadDir(name string) ([]os.FileInfo, error) {
	files, err := f.Filesystem.ReadDir(name)
	return files, f.trouble.note(err)
}

type watchedGitFile struct {
	billy.File
	trouble *trouble
}

// Read implements [io.Reader].
func (f watchedGitFile) Read(p []byte) (int, error) {
	n, err := f.File.Read(p)
	return n, f.trouble.note(err)
}

// ReadAt implements [io.ReaderAt].
func (f watchedGitFile) ReadAt(p []byte, offset int64) (int, error) {
	n, err := f.File.ReadAt(p, offset)
	return n, f.trouble.note(err)
}

// Write implements [io.Writer].
func (f watchedGitFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	return n, f.trouble.note(err)
}
