package vault

import (
	"bufio"
	"io/fs"
	"os"
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
