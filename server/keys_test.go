package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"understudy.internal/internal/tenant"
)

// testKey is 32 bytes with some that are no text.
func testKey(first byte) []byte {
	key := make([]byte, keySize)
	for i := range key {
		key[i] = first + byte(i*7)
	}
	return key
}

func logTo(log *bytes.Buffer) *slog.Logger { return slog.New(slog.NewTextHandler(log, nil)) }

func TestParseKey(t *testing.T) {
	key := testKey(0xf0)
	for name, content := range map[string]string{
		"base64 of openssl": base64.StdEncoding.EncodeToString(key) + "\n",
		"without padding":   base64.RawStdEncoding.EncodeToString(key),
		"for addresses":     base64.URLEncoding.EncodeToString(key),
		"hexadecimal":       hex.EncodeToString(key) + "\r\n",
		"upper case":        strings.ToUpper(hex.EncodeToString(key)),
		"bytes":             string(key),
	} {
		if got, err := parseKey("x", []byte(content)); err != nil || !bytes.Equal(got, key) {
			t.Errorf("%s: %x, %v", name, got, err)
		}
	}
	for name, content := range map[string]string{
		"empty":                          "",
		"a passphrase of 32 characters":  "correct horse battery staple !!!",
		"16 bytes in hexadecimal":        hex.EncodeToString(key[:16]),
		"24 bytes in base64":             base64.StdEncoding.EncodeToString(key[:24]),
		"24 bytes in base64, in a line":  base64.StdEncoding.EncodeToString(key[:24]) + "\n",
		"33 bytes":                       string(key) + "\n",
		"33 bytes in base64":             base64.StdEncoding.EncodeToString(append(testKey(0), 1)),
		"31 characters and a line break": "correct horse battery staple !!\n",
	} {
		got, err := parseKey("the source", []byte(content))
		if err == nil || !strings.HasPrefix(err.Error(), "the source is not a key of 32 bytes") {
			t.Errorf("%s: %x, %v", name, got, err)
		}
		if text := strings.TrimSpace(content); text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("%s: the message has it: %v", name, err)
		}
	}
}

// The first start makes the keys, the second one finds them.
func TestLoadKeysMakesThem(t *testing.T) {
	cfg := &config{DataDir: filepath.Join(t.TempDir(), "data")}
	var log bytes.Buffer
	made, err := loadKeys(cfg, logTo(&log))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(made.encryption[:], made.fingerprint) || bytes.Equal(made.fingerprint, make([]byte, keySize)) || len(made.fingerprint) != keySize {
		t.Error("the keys are not two random ones")
	}
	for _, name := range []string{"encryption", "fingerprint"} {
		path := filepath.Join(cfg.DataDir, "keys", name)
		if mode, ok := permissions(path); ok && mode != 0o600 {
			t.Errorf("%s has mode %o", name, mode)
		}
		if !strings.Contains(log.String(), path) {
			t.Errorf("the log does not warn of %s: %s", name, log.String())
		}
		if strings.Contains(log.String(), string(bytes.TrimSpace(readTestFile(t, path)))) {
			t.Errorf("the log has %s", name)
		}
	}
	if mode, ok := permissions(filepath.Join(cfg.DataDir, "keys")); ok && mode != 0o700 {
		t.Errorf("the folder has mode %o", mode)
	}
	entries, err := os.ReadDir(filepath.Join(cfg.DataDir, "keys"))
	if err != nil || len(entries) != 2 {
		t.Errorf("the folder has %v, %v", entries, err)
	}
	log.Reset()
	found, err := loadKeys(cfg, logTo(&log))
	if err != nil || found.encryption != made.encryption || !bytes.Equal(found.fingerprint, made.fingerprint) {
		t.Errorf("the second start has other keys: %v", err)
	}
	if log.Len() > 0 {
		t.Errorf("the second start warns: %s", log.String())
	}
	if printed := fmt.Sprintf("%v %+v %#v", made, made, &made); strings.Contains(printed, fmt.Sprint(made.fingerprint[0])) {
		t.Errorf("printed: %s", printed)
	}
}

// A lost key is not replaced in silence: that would make every backup look changed.
func TestLoadKeysMissesALostOne(t *testing.T) {
	for name, data := range map[string]string{"encryption": "tokens", "fingerprint": "repositories"} {
		cfg := &config{DataDir: t.TempDir()}
		if _, err := loadKeys(cfg, slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(cfg.DataDir, "keys", name)
		if err := os.MkdirAll(filepath.Join(cfg.DataDir, data, "contoso"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		_, err := loadKeys(cfg, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), path+" is missing") || !strings.Contains(err.Error(), "openssl rand -base64 32 > "+path) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s was made", name)
		}
	}
}

func TestLoadKeysRefusesOpenOnes(t *testing.T) {
	cfg := &config{DataDir: t.TempDir()}
	if _, err := loadKeys(cfg, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(cfg.DataDir, "keys", "encryption")
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	_, err := loadKeys(cfg, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "mode 0640") || !strings.Contains(err.Error(), "chmod 600 "+path) {
		t.Errorf("error %v", err)
	}
}

func keyFile(t *testing.T, content string, mode os.FileMode) *tenant.Secret {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	return secretFile(path)
}

func TestLoadKeysOfTheConfiguration(t *testing.T) {
	first, second := testKey(0xf0), testKey(0x80)
	t.Setenv("KEYS_TEST_FINGERPRINT", hex.EncodeToString(second))
	cfg := &config{DataDir: t.TempDir(), Keys: keysConfig{
		Encryption: keyFile(t, base64.StdEncoding.EncodeToString(first), 0o400), Fingerprint: secretVariable(t, "KEYS_TEST_FINGERPRINT"),
	}}
	var log bytes.Buffer
	k, err := loadKeys(cfg, logTo(&log))
	if err != nil || !bytes.Equal(k.encryption[:], first) || !bytes.Equal(k.fingerprint, second) || log.Len() > 0 {
		t.Errorf("keys %x %x, %v; log %s", k.encryption, k.fingerprint, err, log.String())
	}
	if _, err := os.Stat(filepath.Join(cfg.DataDir, "keys")); err == nil {
		t.Error("a folder for keys was made")
	}
	cfg.Keys.Encryption = keyFile(t, base64.StdEncoding.EncodeToString(first), 0o444)
	if _, err := loadKeys(cfg, logTo(&log)); err != nil || !strings.Contains(log.String(), "every user of this machine may read a key") {
		t.Errorf("error %v, log %s", err, log.String())
	}
}

func TestLoadKeysRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		keys keysConfig
		want string
	}{
		"one key for both": {
			keysConfig{Encryption: keyFile(t, string(testKey(0xf0)), 0o600), Fingerprint: keyFile(t, string(testKey(0xf0)), 0o600)},
			"keys.encryption and keys.fingerprint are the same",
		},
		"a passphrase": {keysConfig{Encryption: keyFile(t, "hunter2", 0o600)}, "keys.encryption: {file: "},
		"no file":      {keysConfig{Fingerprint: secretFile("/nonexistent/key")}, "keys.fingerprint: the secret {file: /nonexistent/key} cannot be read"},
	} {
		_, err := loadKeys(&config{DataDir: t.TempDir(), Keys: test.keys}, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A rotation names the key that was used before; one that is used still is none.
func TestLoadPreviousKeys(t *testing.T) {
	now, before, older := testKey(0xf0), testKey(0x80), testKey(0x90)
	t.Setenv("KEYS_TEST_OLDER", hex.EncodeToString(older))
	cfg := &config{DataDir: t.TempDir(), Keys: keysConfig{
		Encryption: keyFile(t, string(testKey(0xa0)), 0o400), Fingerprint: keyFile(t, string(now), 0o400),
		FingerprintPrevious: []tenant.Secret{*keyFile(t, base64.StdEncoding.EncodeToString(before), 0o444), *secretVariable(t, "KEYS_TEST_OLDER")},
	}}
	var log bytes.Buffer
	k, err := loadKeys(cfg, logTo(&log))
	if err != nil || len(k.previousFingerprints) != 2 || !bytes.Equal(k.previousFingerprints[0], before) || !bytes.Equal(k.previousFingerprints[1], older) {
		t.Errorf("keys %x, %v", k.previousFingerprints, err)
	}
	if !strings.Contains(log.String(), "every user of this machine may read a key") || !strings.Contains(log.String(), "fingerprint_previous[0]") {
		t.Errorf("log %s", log.String())
	}
	for name, test := range map[string]struct{ content, want string }{
		"the key of now":     {string(now), "keys.fingerprint_previous[0] is keys.fingerprint or keys.encryption too"},
		"the encryption key": {string(testKey(0xa0)), "keys.fingerprint_previous[0] is keys.fingerprint or keys.encryption too"},
		"no key":             {"hunter2", "keys.fingerprint_previous[0]: {file: "},
	} {
		cfg.Keys.FingerprintPrevious = []tenant.Secret{*keyFile(t, test.content, 0o400)}
		if _, err := loadKeys(cfg, logTo(&log)); err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
