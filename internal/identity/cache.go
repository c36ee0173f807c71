package identity

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"

	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/cache"
)

// tokenCache keeps the sign-in of one user of one tenant and client in a store,
// encrypted. Access tokens are not kept: they are short-lived, and a sync gets its
// own. It ignores MSAL's partitions: there is one.
//
// Other processes may sign the same user in. MSAL asks for the sign-in before each use
// and right before it adds a token, so it has what they saved; of two that save at the
// same moment the later one stays, and the refresh tokens of both are good.
type tokenCache struct {
	store  Store
	name   string
	box    box
	logger *slog.Logger

	mu sync.Mutex
	// content is the sign-in as this process knows it; nil: none. It is used when the
	// store cannot be read.
	content []byte
	// unsaved says that the store does not have it: it may hold the only valid refresh
	// token.
	unsaved bool
	// stored is what the store held when it was read or written last; known says that
	// it ever was.
	stored []byte
	known  bool
}

var _ cache.ExportReplace = (*tokenCache)(nil)

// unreadable ends the name of a value that was put aside.
const unreadable = ".unreadable"

// ownerName returns how the values of an owner are named, without what they end in.
func ownerName(owner ...string) string {
	name := sha256.Sum256([]byte(strings.Join(owner, "\x00")))
	return hex.EncodeToString(name[:16])
}

// Replace implements MSAL's cache: it replaces all that MSAL remembers. A sign-in that
// cannot be read is put aside, and the user signs in again.
func (c *tokenCache) Replace(_ context.Context, into cache.Unmarshaler, _ cache.ReplaceHints) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	content, err := c.load()
	if err == nil {
		if content == nil {
			content = []byte("{}")
		}
		err = into.Unmarshal(content)
	}
	if err == nil {
		return nil
	}
	c.putAside()
	return into.Unmarshal([]byte("{}"))
}

// load returns the sign-in, nil where there is none. It fails when what is stored is
// not one of ours. The caller holds mu.
func (c *tokenCache) load() ([]byte, error) {
	value, err := c.store.Load(c.name)
	if err != nil {
		c.logger.Error("a cached sign-in cannot be opened; what this process knows of it is used", "name", c.name, "error", err)
		return c.content, nil
	}
	if c.unsaved && (!c.known || bytes.Equal(value, c.stored)) {
		c.save()
		return c.content, nil
	}
	// Somebody else saved or removed a sign-in since, and that is the later one.
	c.stored, c.known, c.content, c.unsaved = value, true, nil, false
	if value != nil {
		c.content, err = c.box.open(value)
	}
	return c.content, err
}

// putAside keeps a value that cannot be read under another name. The caller holds mu.
func (c *tokenCache) putAside() {
	c.logger.Warn("a cached sign-in cannot be read and is put aside", "name", c.name)
	value := c.stored
	c.content, c.unsaved = nil, false
	if err := c.store.Save(c.name+unreadable, value); err != nil {
		c.logger.Warn("putting it aside failed", "error", err)
		return
	}
	if now, err := c.store.Load(c.name); err != nil || !bytes.Equal(now, value) {
		return // somebody signed in meanwhile
	}
	if err := c.store.Delete(c.name); err != nil {
		c.logger.Warn("what was put aside could not be removed", "error", err)
		return
	}
	c.stored = nil
}

// Export implements MSAL's cache. A failure is logged and not returned: MSAL would
// lose the token that it has just got. What cannot be saved stays in memory.
func (c *tokenCache) Export(_ context.Context, from cache.Marshaler, _ cache.ExportHints) error {
	content, err := from.Marshal()
	if err == nil {
		content, err = withoutAccessTokens(content)
	}
	if err != nil {
		c.logger.Error("MSAL's sign-in cannot be read; the user will have to sign in again", "name", c.name)
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.content = content
	c.save()
	return nil
}

// save saves the sign-in that this process knows, or notes that it could not. The
// caller holds mu.
func (c *tokenCache) save() {
	value, err := c.box.seal(c.content)
	if err == nil {
		err = c.store.Save(c.name, value)
	}
	if err != nil {
		c.unsaved = true
		c.logger.Error("the sign-in could not be stored: after a restart the user will have to sign in again", "error", err)
		return
	}
	c.stored, c.known, c.unsaved = value, true, false
}

func withoutAccessTokens(content []byte) ([]byte, error) {
	var parts map[string]json.RawMessage
	if err := json.Unmarshal(content, &parts); err != nil {
		return nil, err
	}
	delete(parts, "AccessToken")
	return json.Marshal(parts)
}

// forget removes the cached sign-in.
func (c *tokenCache) forget() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.content, c.unsaved = nil, false
	return c.store.Delete(c.name)
}
