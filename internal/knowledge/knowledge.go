// Package knowledge remembers in a file what probes taught of one tenant: which
// configuration types its service principal reads though Microsoft documents them
// for users only.
//
// In: lessons, with the version of the catalog that they hold for. Out: the lessons
// of that version. The file is the process's own (data_dir is locked) and is no
// part of the backup: one that cannot be read is forgotten with a warning, and the
// types are probed again.
package knowledge

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"strings"
	"sync"
	"time"

	"understudy.internal/internal/durable"
	"understudy.internal/internal/port"
)

// File implements [port.Knowledge]. It may be used at the same time.
type File struct {
	path   string
	logger *slog.Logger

	mu sync.Mutex
	// known is what the file says; nil before it was read.
	known *content
}

var _ port.Knowledge = (*File)(nil)

// content is what is in the file.
type content struct {
	CatalogVersion string            `json:"catalog_version"`
	Lessons        map[string]lesson `json:"lessons"`
}

// lesson is a [port.Lesson] in the file.
type lesson struct {
	Answer port.ProbeAnswer `json:"answer"`
	Filter string           `json:"filter,omitempty"`
	// ServicePrincipal and User are what [Reader] returned for the identities. What
	// was written before there were such names has none, and holds for nobody.
	ServicePrincipal string    `json:"service_principal,omitempty"`
	User             string    `json:"user,omitempty"`
	Time             time.Time `json:"time"`
}

// Reader returns a name for an identity of a directory: the id of its application
// and, of a user, the user name. It is the same for the same identity, and says
// nothing of it.
func Reader(directoryID, clientID, username string) string {
	sum := sha256.Sum256([]byte(strings.ToLower(strings.Join([]string{directoryID, clientID, username}, "\x00"))))
	return hex.EncodeToString(sum[:16])
}

// maxFile bounds what is read: some hundred lessons take a few kilobytes.
const maxFile = 1 << 20

// Open returns the knowledge in a file, which need not exist. It touches nothing on
// the disk.
func Open(path string, logger *slog.Logger) *File {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	return &File{path: path, logger: logger}
}

// Lessons implements [port.Knowledge].
func (f *File) Lessons(catalogVersion string) map[string]port.Lesson {
	f.mu.Lock()
	defer f.mu.Unlock()
	lessons := make(map[string]port.Lesson)
	if known := f.load(); known.CatalogVersion == catalogVersion {
		for id, l := range known.Lessons {
			lessons[id] = port.Lesson{
				Answer: l.Answer, Filter: l.Filter, Time: l.Time,
				Readers: port.Readers{ServicePrincipal: l.ServicePrincipal, User: l.User},
			}
		}
	}
	return lessons
}

// Learn implements [port.Knowledge].
func (f *File) Learn(catalogVersion string, lessons map[string]port.Lesson) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	next := &content{CatalogVersion: catalogVersion, Lessons: make(map[string]lesson)}
	if known := f.load(); known.CatalogVersion == catalogVersion {
		maps.Copy(next.Lessons, known.Lessons)
	}
	for id, l := range lessons {
		next.Lessons[id] = lesson{
			Answer: l.Answer, Filter: l.Filter, Time: l.Time.UTC(),
			ServicePrincipal: l.Readers.ServicePrincipal, User: l.Readers.User,
		}
	}
	f.known = next // true in this process, whatever becomes of the file
	text, err := json.MarshalIndent(next, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding what was learned: %w", err)
	}
	if err := durable.WriteFile(f.path, append(text, '\n')); err != nil {
		return &port.StorageError{Err: err}
	}
	return nil
}

// load returns what is known, from the file at first. The caller holds the lock.
func (f *File) load() *content {
	if f.known != nil {
		return f.known
	}
	known, err := read(f.path)
	if err != nil {
		f.logger.Warn("what probes learned of the tenant cannot be read and is forgotten; it is learned again", "error", err)
		known = &content{}
	}
	f.known = known
	return known
}

// read reads a file; one that does not exist is empty.
func read(path string) (*content, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &content{}, nil
	}
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err = errors.Join(err, file.Close()); err != nil {
		return nil, err
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("it has more than %d bytes", maxFile)
	}
	return decode(text)
}

// decode is strict: half of what was learned may be the wrong half.
func decode(text []byte) (*content, error) {
	known := &content{}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(known); err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is something after the document")
	}
	for id, l := range known.Lessons {
		switch l.Answer {
		case port.ProbeEqual, port.ProbeDifferent, port.ProbeRefused:
		default:
			return nil, fmt.Errorf("the answer %q of %q is not one of this program", l.Answer, id)
		}
	}
	return known, nil
}
