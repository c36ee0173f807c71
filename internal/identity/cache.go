package identity

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/cache"
	"golang.org/x/crypto/nacl/secretbox"
)

// tokenCache keeps the sign-in of one user of one tenant and client on the disk,
// encrypted. Access tokens are not kept: they are short-lived, and a sync gets its
// own.
type tokenCache struct {
	path   string
	key    [32]byte
	logger *slog.Logger
}

var _ cache.ExportReplace = (*tokenCache)(nil)

// magic begins a file: the form, then the id of the key.
const magic = "understudy-token-1:"

func newTokenCache(directory string, key [32]byte, logger *slog.Logger, owner ...string) *tokenCache {
	name := sha256.Sum256([]byte(strings.Join(owner, "\x00")))
	return &tokenCache{path: filepath.Join(directory, hex.EncodeToString(name[:16])+".token"), key: key, logger: logger}
}

func keyID(key [32]byte) string {
	sum := sha256.Sum256(key[:])
	return hex.EncodeToString(sum[:4])
}

// Replace implements MSAL's cache. A cache that cannot be read is put aside: the
// user signs in again.
func (c *tokenCache) Replace(_ context.Context, into cache.Unmarshaler, _ cache.ReplaceHints) error {
	content, err := os.ReadFile(c.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil {
		if content, err = c.open(content); err == nil {
			err = into.Unmarshal(content)
		}
	}
	if err != nil {
		c.logger.Warn("a cached sign-in cannot be read and is put aside", "file", filepath.Base(c.path))
		if err := os.Rename(c.path, c.path+".unreadable"); err != nil {
			c.logger.Warn("putting it aside failed", "error", err)
		}
	}
	return nil
}

// Export implements MSAL's cache. A failure is logged and not returned: MSAL would
// lose the token that it has just got.
func (c *tokenCache) Export(_ context.Context, from cache.Marshaler, _ cache.ExportHints) error {
	content, err := from.Marshal()
	if err == nil {
		content, err = withoutAccessTokens(content)
	}
	if err == nil {
		err = c.write(content)
	}
	if err != nil {
		c.logger.Error("the sign-in could not be stored; the user will have to sign in again", "file", filepath.Base(c.path))
	}
	return nil
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
	return writeDurably(c.path, sealed)
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
	if err := os.Remove(c.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// writeDurably writes a file so that it has its whole content or the one before.
func writeDurably(path string, content []byte) error {
	directory := filepath.Dir(path)
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return err
	}
	file, err := os.CreateTemp(directory, ".tmp-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	folder, err := os.Open(directory)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// refusedPassword remembers, by a keyed fingerprint, a password that was refused:
// trying it again would lock the account.
type refusedPassword struct {
	path string
	key  [32]byte
}

func (r refusedPassword) fingerprint(password string) string {
	mac := hmac.New(sha256.New, r.key[:])
	mac.Write([]byte("refused password\x00" + password))
	return hex.EncodeToString(mac.Sum(nil))
}

func (r refusedPassword) is(password string) bool {
	content, err := os.ReadFile(r.path)
	return err == nil && hmac.Equal(content, []byte(r.fingerprint(password)))
}

func (r refusedPassword) remember(password string) error {
	if err := writeDurably(r.path, []byte(r.fingerprint(password))); err != nil {
		return fmt.Errorf("remembering a refused password: %w", err)
	}
	return nil
}
