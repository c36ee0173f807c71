// Package cursor keeps on the disk where the readings of one tenant left off.
//
// In: a record per configuration type, which can hold links that give access to the
// tenant's changes. Out: the same record, or nothing. A file per type,
// `<directory>/<workload>__<type>`, encrypted with the service's key and readable by
// its owner only. A record that was damaged, moved to another type, or made with
// another key is none: the type is read in full.
package cursor

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/nacl/secretbox"

	"understudy.internal/internal/durable"
	"understudy.internal/internal/port"
)

// Config says where records are kept. All fields but the logger are required.
type Config struct {
	// Directory is the tenant's own; it is made with the first record.
	Directory string
	// Tenant is `tenants/{tenant}`: a record of another one is not used.
	Tenant string
	// Key encrypts the records.
	Key [32]byte
	// Logger is told of records that cannot be used.
	Logger *slog.Logger
}

// Store keeps records. It implements [port.Cursors].
type Store struct {
	config Config
	logger *slog.Logger
}

var _ port.Cursors = (*Store)(nil)

// New returns a store. It touches nothing on the disk.
func New(config Config) (*Store, error) {
	if config.Directory == "" || config.Tenant == "" || config.Key == [32]byte{} {
		return nil, errors.New("a store of cursors needs a directory, a tenant and a key")
	}
	s := &Store{config: config, logger: config.Logger}
	if s.logger == nil {
		s.logger = slog.New(slog.DiscardHandler)
	}
	return s, nil
}

// magic begins a file: the form, then the id of the key.
const magic = "understudy-cursor-1:"

const nonceSize = 24

func (s *Store) path(configurationType string) string {
	return filepath.Join(s.config.Directory, strings.ReplaceAll(configurationType, "/", "__"))
}

func (s *Store) head() string {
	sum := sha256.Sum256(s.config.Key[:])
	return magic + hex.EncodeToString(sum[:4]) + "\n"
}

// owner begins the plain text of a record, so that one that was moved is not used.
func (s *Store) owner(configurationType string) string {
	return s.config.Tenant + "\n" + configurationType + "\n"
}

// Load implements [port.Cursors].
func (s *Store) Load(configurationType string) []byte {
	content, err := os.ReadFile(s.path(configurationType))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var record []byte
	if err == nil {
		record, err = s.open(configurationType, content)
	}
	if err != nil {
		s.logger.Warn("where a reading left off cannot be read: the configuration type is read in full",
			"configuration_type", configurationType, "error", err)
		return nil
	}
	return record
}

func (s *Store) open(configurationType string, content []byte) ([]byte, error) {
	sealed, ours := bytes.CutPrefix(content, []byte(s.head()))
	if !ours || len(sealed) < nonceSize {
		return nil, errors.New("it has another form or key")
	}
	nonce := [nonceSize]byte(sealed[:nonceSize])
	plain, ok := secretbox.Open(nil, sealed[nonceSize:], &nonce, &s.config.Key)
	if !ok {
		return nil, errors.New("it is damaged")
	}
	record, ours := bytes.CutPrefix(plain, []byte(s.owner(configurationType)))
	if !ours {
		return nil, errors.New("it is of another tenant or configuration type")
	}
	return record, nil
}

// Save implements [port.Cursors].
func (s *Store) Save(configurationType string, record []byte) error {
	var nonce [nonceSize]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		return fmt.Errorf("making a nonce: %w", err)
	}
	// Records can be large: everything is copied once.
	head, owner := s.head(), s.owner(configurationType)
	plain := append(append(make([]byte, 0, len(owner)+len(record)), owner...), record...)
	content := make([]byte, 0, len(head)+nonceSize+len(plain)+secretbox.Overhead)
	content = append(append(content, head...), nonce[:]...)
	content = secretbox.Seal(content, plain, &nonce, &s.config.Key)
	if err := durable.WriteFile(s.path(configurationType), content); err != nil {
		return &port.StorageError{Err: err}
	}
	return nil
}
