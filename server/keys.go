package main

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"understudy.internal/internal/durable"
	"understudy.internal/internal/tenant"
)

// keySize is the size of every key, in bytes.
const keySize = 32

// keys are the keys of the service itself. Printed, they are redacted.
type keys struct {
	// encryption encrypts what is kept of sign-ins, and where readings left off.
	encryption [keySize]byte
	// fingerprint makes the fingerprints that stand for secrets in backups.
	fingerprint []byte
	// previousFingerprints are the keys that made them before.
	previousFingerprints [][]byte
}

// String redacts the keys, so that no formatting can show them.
func (keys) String() string { return "[redacted]" }

// GoString redacts the keys, so that no formatting can show them.
func (keys) GoString() string { return "[redacted]" }

// keyUse is what a key is for.
type keyUse struct {
	// name is the key in `keys` of the configuration and in <data_dir>/keys.
	name string
	// data is the folder of data_dir with what was made with the key.
	data string
	// loss says what becomes of it without the key.
	loss string
}

var (
	encryptionUse = keyUse{
		name: "encryption", data: "tokens",
		loss: "without it every user has to sign in again, and who has it and the folder tokens can sign in as them",
	}
	fingerprintUse = keyUse{
		name: "fingerprint", data: "repositories",
		loss: "without it every secret in every backup looks changed once, and who has it can test guesses of secrets against a backup",
	}
)

// loadKeys returns the keys that the configuration names. One that it does not name
// is made under <data_dir>/keys by the first start, with a warning, and read from
// there by every other. Call it when no other process uses data_dir.
func loadKeys(cfg *config, logger *slog.Logger) (_ keys, err error) {
	var k keys
	if cfg.DataDirShared && (cfg.Keys.Encryption == nil || cfg.Keys.Fingerprint == nil) {
		// Of several that start at once one makes the keys.
		unlock, err := lockFile(filepath.Join(cfg.DataDir, "keys.lock"))
		if err != nil {
			return keys{}, err
		}
		defer unlock()
	}
	encryption, encryptionErr := loadKey(cfg.DataDir, encryptionUse, cfg.Keys.Encryption, logger)
	fingerprint, fingerprintErr := loadKey(cfg.DataDir, fingerprintUse, cfg.Keys.Fingerprint, logger)
	if err := errors.Join(encryptionErr, fingerprintErr); err != nil {
		return keys{}, err
	}
	if bytes.Equal(encryption, fingerprint) {
		return keys{}, errors.New("keys.encryption and keys.fingerprint are the same. Make another: openssl rand -base64 32")
	}
	k.encryption, k.fingerprint = [keySize]byte(encryption), fingerprint
	k.previousFingerprints, err = loadPreviousKeys(cfg.Keys.FingerprintPrevious, k, logger)
	return k, err
}

// loadPreviousKeys returns the keys before that of the fingerprints. One that is in
// use still is a mistake: the rotation would not be one.
func loadPreviousKeys(configured []tenant.Secret, now keys, logger *slog.Logger) ([][]byte, error) {
	var previous [][]byte
	for i := range configured {
		name := fmt.Sprintf("fingerprint_previous[%d]", i)
		key, err := loadConfiguredKey(name, &configured[i], logger)
		if err != nil {
			return nil, err
		}
		if bytes.Equal(key, now.fingerprint) || bytes.Equal(key, now.encryption[:]) {
			return nil, fmt.Errorf("keys.%s is keys.fingerprint or keys.encryption too. Name the key that was used before, or leave it out", name)
		}
		previous = append(previous, key)
	}
	return previous, nil
}

func loadKey(dataDir string, use keyUse, configured *tenant.Secret, logger *slog.Logger) ([]byte, error) {
	if configured == nil {
		return loadOwnKey(dataDir, use, logger)
	}
	return loadConfiguredKey(use.name, configured, logger)
}

// loadConfiguredKey reads the key that `keys` has under a name.
func loadConfiguredKey(name string, configured *tenant.Secret, logger *slog.Logger) ([]byte, error) {
	content, err := configured.ReadBytes()
	if err != nil {
		return nil, fmt.Errorf("keys.%s: %w", name, err)
	}
	if mode, ok := permissions(configured.File()); ok && mode&0o007 != 0 {
		logger.Warn("every user of this machine may read a key; take the permission away", "key", name, "file", configured.File())
	}
	return parseKey("keys."+name+": "+configured.String(), content)
}

// loadOwnKey reads the key under data_dir, or makes it.
func loadOwnKey(dataDir string, use keyUse, logger *slog.Logger) ([]byte, error) {
	path := filepath.Join(dataDir, "keys", use.name)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		if err := makeKey(dataDir, path, use); err != nil {
			return nil, err
		}
		logger.Warn("made a key; back it up apart from the data, or name one of your own in the configuration",
			"key", use.name, "file", path, "loss", use.loss)
	}
	if mode, ok := permissions(path); ok && mode&0o077 != 0 {
		return nil, fmt.Errorf("the key %s can be read by others (mode %04o): %s. Consider whether somebody did, then: chmod 600 %s",
			path, mode, use.loss, path)
	}
	content, err := tenant.FromFile(path).ReadBytes()
	if err != nil {
		return nil, err
	}
	return parseKey(path, content)
}

// permissions returns the mode of a file, where the system has such modes.
func permissions(path string) (fs.FileMode, bool) {
	if path == "" || runtime.GOOS == "windows" {
		return 0, false
	}
	info, err := os.Stat(path)
	if err != nil {
		return 0, false
	}
	return info.Mode().Perm(), true
}

// makeKey makes a key, unless there is data that was made with another one: then
// the key was lost, which a new one must not hide.
func makeKey(dataDir, path string, use keyUse) error {
	entries, err := os.ReadDir(filepath.Join(dataDir, use.data))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("looking for data of the key %s: %w", path, err)
	}
	if len(entries) > 0 {
		return fmt.Errorf("the key %s is missing, and %s has data that was made with it. Restore it from its backup. "+
			"If it is lost for good (%s), make a new one: openssl rand -base64 32 > %s; chmod 600 %s",
			path, filepath.Join(dataDir, use.data), use.loss, path, path)
	}
	key := make([]byte, keySize)
	rand.Read(key) // never fails
	if err := writeKey(path, base64.StdEncoding.EncodeToString(key)+"\n"); err != nil {
		return fmt.Errorf("making the key %s: %w", path, err)
	}
	return nil
}

// writeKey puts a file there as a whole, which no power cut takes away.
func writeKey(path, content string) error {
	folder := filepath.Dir(path)
	return errors.Join(durable.WriteFile(path, []byte(content)), durable.SyncFolder(filepath.Dir(folder)))
}

// parseKey returns the key in the content of a file: 32 bytes in base64 or
// hexadecimal, or as they are. Source is for the message, which has nothing of it.
func parseKey(source string, content []byte) ([]byte, error) {
	if key, ok := rawKey(content); ok {
		return key, nil
	}
	text := strings.TrimSpace(string(content))
	if key, err := hex.DecodeString(text); err == nil && len(key) == keySize {
		return key, nil
	}
	unified := strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(text, "="))
	if key, err := base64.RawStdEncoding.DecodeString(unified); err == nil && len(key) == keySize {
		return key, nil
	}
	return nil, fmt.Errorf("%s is not a key of %d bytes in base64 or hexadecimal. Make one: openssl rand -base64 %d", source, keySize, keySize)
}

// rawKey accepts 32 bytes that are no text: 32 characters would be a passphrase, or
// a shorter key in base64 or hexadecimal.
func rawKey(content []byte) ([]byte, bool) {
	if len(content) != keySize {
		return nil, false
	}
	isText := !bytes.ContainsFunc(content, func(r rune) bool { return r < ' ' && r != '\n' && r != '\r' && r != '\t' || r > '~' })
	return content, !isText
}
