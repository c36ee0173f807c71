package vault

import (
	"bufio"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/go-git/go-billy/v5"
	"github.com/go-git/go-billy/v5/osfs"
)

// repositoryFiles are the files of a repository as go-git is to see them. It reads
// the index of a pack four bytes at a time, each with a system call; here it reads
// them from a buffer.
type repositoryFiles struct{ billy.Filesystem }

// newRepositoryFiles notes errors of the system, unless t is nil.
func newRepositoryFiles(directory string, t *trouble) billy.Filesystem {
	if t != nil {
		return repositoryFiles{watchedFiles{osfs.New(directory), t}}
	}
	return repositoryFiles{osfs.New(directory)}
}

// Open implements [billy.Filesystem].
func (f repositoryFiles) Open(name string) (billy.File, error) {
	file, err := f.Filesystem.Open(name)
	if err != nil || !strings.HasSuffix(name, ".idx") {
		return file, err
	}
	return bufferedFile{File: file, reader: bufio.NewReaderSize(file, packBuffer)}, nil
}

// bufferedFile is a file that is read from its begin to its end.
type bufferedFile struct {
	billy.File
	reader *bufio.Reader
}

// Read implements [io.Reader].
func (f bufferedFile) Read(p []byte) (int, error) { return f.reader.Read(p) }

// readFolder reads a folder; one that is missing has nothing.
func readFolder(path string) ([]fs.DirEntry, error) {
	files, err := os.ReadDir(path)
	if isMissing(err) {
		return nil, nil
	}
	return files, err
}

// glob returns what matches a pattern below a folder, in its order. Unlike with
// [filepath.Glob] the folder is no part of the pattern, and it is an error when a folder
// cannot be read.
func glob(folder, pattern string) (paths []string, err error) {
	here, below, deeper := strings.Cut(pattern, "/")
	files, err := readFolder(folder)
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		found := []string{filepath.Join(folder, file.Name())}
		matches, err := path.Match(here, file.Name())
		if matches && deeper && err == nil {
			found, err = glob(found[0], below)
		}
		if err != nil {
			return nil, err
		}
		if matches {
			paths = append(paths, found...)
		}
	}
	return paths, nil
}
