package identity

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"understudy.internal/internal/port"
)

// tokenFile returns the only file with a sign-in.
func (f *fixture) tokenFile() string {
	f.t.Helper()
	found, err := filepath.Glob(filepath.Join(f.config.CacheDir, "*.token"))
	if err != nil || len(found) != 1 {
		f.t.Fatalf("%v, %v", found, err)
	}
	return found[0]
}

func TestTheCacheIsEncrypted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		u := f.signedIn()
		path := f.tokenFile()
		info, err := os.Stat(path)
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("%v, %v", info, err)
		}
		if info, err = os.Stat(f.config.CacheDir); err != nil || info.Mode() != fs.ModeDir|0o700 {
			t.Errorf("%v, %v", info, err)
		}
		sealed, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range []string{marker, "RefreshToken", username, userID, directory, clientID} {
			if bytes.Contains(sealed, []byte(word)) || strings.Contains(path, word) {
				t.Errorf("%s is in the clear", word)
			}
		}
		opened, err := u.cache.box.open(sealed)
		if err != nil || !bytes.Contains(opened, []byte(marker+"REFRESH")) {
			t.Errorf("the refresh token is not kept: %v", err)
		}
		if bytes.Contains(opened, []byte(marker+"ACCESS")) {
			t.Error("the access token is kept")
		}
	})
}

// TestACacheThatCannotBeReadIsPutAside and the user signs in again.
func TestACacheThatCannotBeReadIsPutAside(t *testing.T) {
	for name, spoil := range map[string]func(f *fixture, content []byte) []byte{
		"cut off":       func(_ *fixture, content []byte) []byte { return content[:len(content)/2] },
		"empty":         func(*fixture, []byte) []byte { return nil },
		"a flipped bit": func(_ *fixture, content []byte) []byte { content[len(content)-1] ^= 1; return content },
		"another form":  func(*fixture, []byte) []byte { return []byte(`{"RefreshToken":{}}`) },
		"another key":   func(f *fixture, content []byte) []byte { f.config.Key[0]++; return content },
		"not MSAL's": func(f *fixture, _ []byte) []byte {
			content, err := box{tokenForm, f.config.Key}.seal([]byte(`{"RefreshToken":"` + marker + `"}`))
			if err != nil {
				f.t.Fatal(err)
			}
			return content
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				f.signedIn()
				path := f.tokenFile()
				content, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				spoilt := spoil(f, content)
				if err := os.WriteFile(path, spoilt, 0o600); err != nil {
					t.Fatal(err)
				}
				_, err = f.user(Delegated).SignIn(t.Context(), port.SignInOptions{})
				reasonIs(t, err, "SIGN_IN_REQUIRED")
				aside, err := os.ReadFile(path + ".unreadable")
				if err != nil || !bytes.Equal(aside, spoilt) {
					t.Errorf("it is not put aside: %v", err)
				}
				if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("it is still there: %v", err)
				}
				f.signedIn()
				if _, err := f.user(Delegated).SignIn(t.Context(), port.SignInOptions{}); err != nil {
					t.Errorf("after the next sign-in: %v", err)
				}
			})
		})
	}
}

// TestACacheThatCannotBeOpenedStays: it is not the file's fault.
func TestACacheThatCannotBeOpenedStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.signedIn()
		path := f.tokenFile()
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(path, 0o700); err != nil { // reading it fails, also for root
			t.Fatal(err)
		}
		_, err := f.user(Delegated).SignIn(t.Context(), port.SignInOptions{})
		reasonIs(t, err, "SIGN_IN_REQUIRED")
		if info, err := os.Stat(path); err != nil || !info.IsDir() {
			t.Errorf("it was moved: %v", err)
		}
	})
}

// TestARotatedRefreshTokenSurvivesAFailingExport: the old one may be dead already.
func TestARotatedRefreshTokenSurvivesAFailingExport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		u := f.signedIn()
		moved := f.config.CacheDir + ".moved"
		if err := os.Rename(f.config.CacheDir, moved); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(f.config.CacheDir, nil, 0o600); err != nil { // a file where the folder should be
			t.Fatal(err)
		}
		for i := range 3 {
			if method, err := u.SignIn(t.Context(), port.SignInOptions{}); err != nil || method != byCache {
				t.Fatalf("refresh %d: %v, %v", i, method, err)
			}
		}
		sent := f.requests(refresh)
		if len(sent) != 3 {
			t.Fatalf("%d refreshes", len(sent))
		}
		if !strings.Contains(f.log.String(), "could not be stored") {
			t.Error("nobody was told")
		}
		// The disk is well again: the sign-in reaches it with the next use.
		if err := errors.Join(os.Remove(f.config.CacheDir), os.Rename(moved, f.config.CacheDir)); err != nil {
			t.Fatal(err)
		}
		if _, err := u.SignIn(t.Context(), port.SignInOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := f.user(Delegated).SignIn(t.Context(), port.SignInOptions{}); err != nil {
			t.Errorf("after a restart: %v", err)
		}
		sent = f.requests(refresh)
		used := map[string]bool{}
		for _, r := range sent {
			used[r.form.Get("refresh_token")] = true
		}
		if len(used) != len(sent) {
			t.Errorf("an old refresh token was used: %d of %d", len(used), len(sent))
		}
	})
}

// TestARefusedSignInIsNotRemoved: the next sync without a prompt says again why.
func TestARefusedSignInIsNotRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		u := f.signedIn()
		f.answerAlways(refresh, refused(400, "invalid_grant", "", 700082))
		for range 3 {
			_, err := u.SignIn(t.Context(), port.SignInOptions{})
			reasonIs(t, err, "SIGN_IN_EXPIRED")
		}
	})
}

// TestASignInWithoutARefreshToken has nothing to redeem.
func TestASignInWithoutARefreshToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		u := f.signedIn()
		sealed, err := os.ReadFile(f.tokenFile())
		if err != nil {
			t.Fatal(err)
		}
		content, err := u.cache.box.open(sealed)
		if err != nil {
			t.Fatal(err)
		}
		var parts map[string]json.RawMessage
		if err := json.Unmarshal(content, &parts); err != nil {
			t.Fatal(err)
		}
		delete(parts, "RefreshToken")
		content, err = json.Marshal(parts)
		if err != nil {
			t.Fatal(err)
		}
		sealed, err = u.cache.box.seal(content)
		if err := errors.Join(err, os.WriteFile(f.tokenFile(), sealed, 0o600)); err != nil {
			t.Fatal(err)
		}
		_, err = f.user(Delegated).SignIn(t.Context(), port.SignInOptions{})
		reasonIs(t, err, "SIGN_IN_REQUIRED")
	})
}
