package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/cache"
	"golang.org/x/crypto/nacl/secretbox"

	"understudy.internal/internal/durable"
)

// tokenCache keeps the sign-in of one user of one tenant and client on the disk,
// encrypted. Access tokens are not kept: they are short-lived, and a sync gets its
// own. It ignores MSAL's partitions: there is one.
type tokenCache struct {
	path   string
	key    [32]byte
	logger *slog.Logger

	mu sync.Mutex
	// unsaved is what could not be written: it may hold the only valid refresh
	// token.
	unsaved []byte
}

var _ cache.ExportReplace = (*tokenCache)(nil)

// magic begins a file: the form, then the id of the key.
const magic = "understudy-token-1:"

// cachePath returns where an owner's files are, without what they end in.
func cachePath(directory string, owner ...string) string {
	name := sha256.Sum256([]byte(strings.Join(owner, "\x00")))
	return filepath.Join(directory, hex.EncodeToString(name[:16]))
}

func keyID(key [32]byte) string {
	sum := sha256.Sum256(key[:])
	return hex.EncodeToString(sum[:4])
}

// Replace implements MSAL's cache: it replaces all that MSAL remembers. A cache
// that cannot be read is put aside, and the user signs in again.
func (c *tokenCache) Replace(_ context.Context, into cache.Unmarshaler, _ cache.ReplaceHints) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	content, err := c.load()
	if err == nil && into.Unmarshal(content) == nil {
		return nil
	}
	c.logger.Warn("a cached sign-in cannot be read and is put aside", "file", filepath.Base(c.path))
	if err := os.Rename(c.path, c.path+".unreadable"); err != nil && !errors.Is(err, os.ErrNotExist) {
		c.logger.Warn("putting it aside failed", "error", err)
	}
	c.unsaved = nil
	return into.Unmarshal([]byte("{}"))
}

// load returns the sign-in, or an empty one. It fails when the file is not one of
// ours. The caller holds mu.
func (c *tokenCache) load() ([]byte, error) {
	if c.unsaved != nil {
		content := c.unsaved
		c.store(content)
		return content, nil
	}
	sealed, err := os.ReadFile(c.path)
	if err != nil {
		if !errors.Is(err, os.ErrNotExist) {
			c.logger.Error("a cached sign-in cannot be opened", "error", err)
		}
		return []byte("{}"), nil
	}
	return c.open(sealed)
}

// Export implements MSAL's cache. A failure is logged and not returned: MSAL would
// lose the token that it has just got. What cannot be written stays in memory.
func (c *tokenCache) Export(_ context.Context, from cache.Marshaler, _ cache.ExportHints) error {
	content, err := from.Marshal()
	if err == nil {
		content, err = withoutAccessTokens(content)
	}
	if err != nil {
		c.logger.Error("MSAL's sign-in cannot be read; the user will have to sign in again", "file", filepath.Base(c.path))
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.store(content)
	return nil
}

// store writes, or keeps what cannot be written. The caller holds mu.
func (c *tokenCache) store(content []byte) {
	err := c.write(content)
	c.unsaved = nil
	if err != nil {
		c.unsaved = content
		c.logger.Error("the sign-in could not be stored: after a restart the user will have to sign in again", "error", err)
	}
}

func withoutAccessTokens(content []byte) ([]byte, error) {
	var parts map[string]json.RawMessage
	if err := json.Unmarshal(content, &parts); err != nil {
		return nil, err
	}
	delete(parts, "AccessToken")
	return json.Marshal(parts)
}

func (c *tokenCache) write(content []byte) error {
	var nonce [24]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		return err
	}
	head := []byte(magic + keyID(c.key) + "\n")
	sealed := secretbox.Seal(append(head, nonce[:]...), content, &nonce, &c.key)
	return durable.WriteFile(c.path, sealed)
}

func (c *tokenCache) open(content []byte) ([]byte, error) {
	head, sealed, found := strings.Cut(string(content), "\n")
	if !found || head != magic+keyID(c.key) || len(sealed) < 24 {
		return nil, errors.New("another form or key")
	}
	nonce := [24]byte([]byte(sealed[:24]))
	opened, ok := secretbox.Open(nil, []byte(sealed[24:]), &nonce, &c.key)
	if !ok {
		return nil, errors.New("damaged")
	}
	return opened, nil
}

// forget removes the cached sign-in.
func (c *tokenCache) forget() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unsaved = nil
	if err := os.Remove(c.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
