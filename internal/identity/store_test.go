package identity

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"understudy.internal/internal/port"
)

var errAway = errors.New("the store is away")

// memory is a store that several processes share. It can be away, and can refuse to
// save.
type memory struct {
	mu     sync.Mutex
	values map[string][]byte
	// What fails: away everything, full only Save.
	away, full bool
	// saved runs after a value was saved, without the lock.
	saved func(key string)
}

func (m *memory) Load(key string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.away {
		return nil, errAway
	}
	return bytes.Clone(m.values[key]), nil
}

func (m *memory) Save(key string, value []byte) error {
	m.mu.Lock()
	if m.away || m.full {
		m.mu.Unlock()
		return errAway
	}
	if m.values == nil {
		m.values = map[string][]byte{}
	}
	m.values[key] = bytes.Clone(value)
	saved := m.saved
	m.mu.Unlock()
	if saved != nil {
		saved(key)
	}
	return nil
}

func (m *memory) Delete(key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.away {
		return errAway
	}
	delete(m.values, key)
	return nil
}

// set changes how the store is.
func (m *memory) set(away, full bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.away, m.full = away, full
}

// keyOf returns the only key with an ending.
func (m *memory) keyOf(t *testing.T, ending string) string {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	var found []string
	for key := range m.values {
		if strings.HasSuffix(key, ending) {
			found = append(found, key)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d keys end in %s: %v", len(found), ending, slices.Collect(maps.Keys(m.values)))
	}
	return found[0]
}

// TestStores is what every store does.
func TestStores(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) Store{
		"files":  func(t *testing.T) Store { return files{filepath.Join(t.TempDir(), "a", "b")} },
		"memory": func(*testing.T) Store { return &memory{} },
	} {
		t.Run(name, func(t *testing.T) {
			store := open(t)
			expect := func(key string, want []byte) {
				t.Helper()
				if got, err := store.Load(key); err != nil || !bytes.Equal(got, want) || (got == nil) != (want == nil) {
					t.Errorf("%s is %q, %v; want %q", key, got, err, want)
				}
			}
			expect("one.token", nil)
			if err := store.Delete("one.token"); err != nil {
				t.Errorf("removing what is not there: %v", err)
			}
			for _, value := range []string{"first", "second", "\x00\xff\n"} {
				if err := store.Save("one.token", []byte(value)); err != nil {
					t.Fatal(err)
				}
				expect("one.token", []byte(value))
			}
			if err := store.Save("two.token", []byte("other")); err != nil {
				t.Fatal(err)
			}
			if err := store.Delete("one.token"); err != nil {
				t.Fatal(err)
			}
			expect("one.token", nil)
			expect("two.token", []byte("other"))
		})
	}
}

// TestFilesStayInTheirFolder, private and whole.
func TestFilesStayInTheirFolder(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "tokens")
	store := files{folder}
	if err := store.Save("a", []byte("1")); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(folder, "a")); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if info, err := os.Stat(folder); err != nil || info.Mode() != fs.ModeDir|0o700 {
		t.Errorf("%v, %v", info, err)
	}
	for _, key := range []string{"", ".", "..", "../a", "b/a", "/a"} {
		_, loadErr := store.Load(key)
		if loadErr == nil || store.Save(key, nil) == nil || store.Delete(key) == nil {
			t.Errorf("%q is a key", key)
		}
	}
}

// replicas are processes with one store and folders of their own.
func replicas(f *fixture, store Store, own UserConfig, n int) []*User {
	f.t.Helper()
	users := make([]*User, n)
	for i := range users {
		config := f.config
		config.Store, config.CacheDir = store, filepath.Join(f.t.TempDir(), fmt.Sprint(i))
		var err error
		if users[i], err = NewUser(config, own); err != nil {
			f.t.Fatal(err)
		}
	}
	return users
}

func delegated() UserConfig {
	return UserConfig{ClientID: clientID, Username: username, Method: Delegated, SignInTimeout: 5 * time.Minute}
}

// signsInSilently demands that a user signs in without a person.
func signsInSilently(t *testing.T, who string, u *User) {
	t.Helper()
	if method, err := u.SignIn(t.Context(), port.SignInOptions{}); err != nil || method != byCache {
		t.Fatalf("%s: %v, %v", who, method, err)
	}
}

// signsInAsked demands that a person signs in.
func signsInAsked(t *testing.T, who string, u *User) {
	t.Helper()
	if method, err := u.SignIn(t.Context(), prompts(new([]*prompt))); err != nil || method != byDeviceCode {
		t.Fatalf("%s: %v, %v", who, method, err)
	}
}

// TestASignInIsShared: a person signs in at one replica, and every other one, also one
// that started before, signs in without a person.
func TestASignInIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, store := newFixture(t), &memory{}
		users := replicas(f, store, delegated(), 3)
		_, err := users[1].SignIn(t.Context(), port.SignInOptions{})
		reasonIs(t, err, "SIGN_IN_REQUIRED")
		signsInAsked(t, "the first", users[0])
		for range 2 {
			for i, u := range users {
				signsInSilently(t, fmt.Sprint("replica ", i), u)
			}
		}
		// Each used the token that the one before it had got.
		used := map[string]bool{}
		for _, r := range f.requests(refresh) {
			used[r.form.Get("refresh_token")] = true
		}
		if len(used) != 6 {
			t.Errorf("%d refresh tokens were used in 6 refreshes", len(used))
		}
		if len(f.files()) != 0 {
			t.Errorf("there are files: %v", f.files())
		}
		for key, value := range store.values {
			for _, word := range []string{marker, "RefreshToken", username, userID, directory, clientID} {
				if bytes.Contains(value, []byte(word)) || strings.Contains(key, word) {
					t.Errorf("the store sees %s", word)
				}
			}
		}
	})
}

// TestTwoRefreshAtOnce: both get a token, and the sign-in that stays is good.
func TestTwoRefreshAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, store := newFixture(t), &memory{}
		users := replicas(f, store, delegated(), 2)
		signsInAsked(t, "the first", users[0])
		held, open := gate()
		f.answer(refresh, held, held)
		var both sync.WaitGroup
		for i, u := range users {
			both.Go(func() { signsInSilently(t, fmt.Sprint("replica ", i), u) })
		}
		synctest.Wait()
		open()
		both.Wait()
		sent := f.requests(refresh)
		if len(sent) != 2 || sent[0].form.Get("refresh_token") != sent[1].form.Get("refresh_token") {
			t.Fatalf("%d refreshes, or not at once", len(sent))
		}
		before := sent[0].form.Get("refresh_token")
		for i, u := range users {
			signsInSilently(t, fmt.Sprint("replica ", i), u)
		}
		for _, r := range f.requests(refresh)[2:] {
			if r.form.Get("refresh_token") == before {
				t.Error("both lost what they had got")
			}
		}
	})
}

// TestASharedSignInThatCannotBeRead is put aside, and stops nobody.
func TestASharedSignInThatCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, store := newFixture(t), &memory{}
		users := replicas(f, store, delegated(), 2)
		signsInAsked(t, "the first", users[0])
		key := store.keyOf(t, ".token")
		store.values[key] = []byte("not ours")
		_, err := users[1].SignIn(t.Context(), port.SignInOptions{})
		reasonIs(t, err, "SIGN_IN_REQUIRED")
		if _, there := store.values[key]; there || string(store.values[key+".unreadable"]) != "not ours" {
			t.Errorf("it is not put aside: %q", store.values)
		}
		signsInAsked(t, "the second", users[1])
		signsInSilently(t, "the first", users[0])
	})
}

// TestWhatIsPutAsideIsNotASignInOfSomebodyElse, who signed in at that moment.
func TestWhatIsPutAsideIsNotASignInOfSomebodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, store := newFixture(t), &memory{}
		users := replicas(f, store, delegated(), 2)
		signsInAsked(t, "the first", users[0])
		key := store.keyOf(t, ".token")
		good := store.values[key]
		store.values[key] = []byte("not ours")
		store.saved = func(saved string) {
			if saved == key+".unreadable" {
				store.values[key] = good
			}
		}
		_, err := users[1].SignIn(t.Context(), port.SignInOptions{})
		reasonIs(t, err, "SIGN_IN_REQUIRED") // this time
		if !bytes.Equal(store.values[key], good) {
			t.Error("the sign-in of the other one is gone")
		}
		signsInSilently(t, "the second", users[1])
	})
}

// TestASignInOfAnotherKey is left alone: it may be that of the other replicas.
func TestASignInOfAnotherKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, store := newFixture(t), &memory{}
		first := replicas(f, store, delegated(), 1)[0]
		f.config.Key[0]++
		other := replicas(f, store, delegated(), 1)[0]
		signsInAsked(t, "the first", first)
		_, err := other.SignIn(t.Context(), port.SignInOptions{})
		reasonIs(t, err, "SIGN_IN_REQUIRED")
		if !strings.Contains(f.log.String(), "another encryption key") {
			t.Error("nobody was told")
		}
		signsInSilently(t, "the first", first)
		signsInAsked(t, "the other", other)
		signsInSilently(t, "the other", other)
		if len(store.values) != 1 {
			t.Errorf("something was put aside: %v", slices.Collect(maps.Keys(store.values)))
		}
	})
}

// TestAStoreThatIsAwayLosesNoToken: what a process knows it uses, and brings to the
// store once it is back.
func TestAStoreThatIsAwayLosesNoToken(t *testing.T) {
	for name, full := range map[string]bool{"away": false, "full": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, store := newFixture(t), &memory{}
				users := replicas(f, store, delegated(), 2)
				signsInAsked(t, "the first", users[0])
				store.set(!full, full)
				for range 3 {
					signsInSilently(t, "the first", users[0])
				}
				if !strings.Contains(f.log.String(), "could not be stored") {
					t.Error("nobody was told")
				}
				store.set(false, false)
				signsInSilently(t, "the first", users[0])
				signsInSilently(t, "the second", users[1])
				used := map[string]bool{}
				sent := f.requests(refresh)
				for _, r := range sent {
					used[r.form.Get("refresh_token")] = true
				}
				if len(used) != len(sent) {
					t.Errorf("an old refresh token was used: %d of %d", len(used), len(sent))
				}
			})
		})
	}
}

// TestAnUnsavedSignInDoesNotReplaceALaterOne: the first replica could not save what it
// got; a person signed in at the second one since.
func TestAnUnsavedSignInDoesNotReplaceALaterOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, store := newFixture(t), &memory{}
		users := replicas(f, store, delegated(), 2)
		signsInAsked(t, "the first", users[0])
		store.set(false, true)
		signsInSilently(t, "the first", users[0])
		store.set(false, false)
		f.answer(refresh, refused(400, "invalid_grant", "", 50173))
		signsInAsked(t, "the second", users[1])
		later := bytes.Clone(store.values[store.keyOf(t, ".token")])
		signsInSilently(t, "the first", users[0])
		sent := f.requests(refresh)
		last := sent[len(sent)-1].form.Get("refresh_token")
		opened, err := users[0].cache.box.open(later)
		if err != nil || !bytes.Contains(opened, []byte(`"`+last+`"`)) {
			t.Errorf("the first did not use the later sign-in: %v", err)
		}
	})
}

// TestASignInThatWasRemovedIsNotUsed: not by a process that still knows it either.
func TestASignInThatWasRemovedIsNotUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, store := newFixture(t), &memory{}
		users := replicas(f, store, delegated(), 2)
		signsInAsked(t, "the first", users[0])
		signsInSilently(t, "the second", users[1])
		if err := store.Delete(store.keyOf(t, ".token")); err != nil {
			t.Fatal(err)
		}
		for _, u := range users {
			_, err := u.SignIn(t.Context(), port.SignInOptions{})
			reasonIs(t, err, "SIGN_IN_REQUIRED")
		}
	})
}

// accounts are a service account at several replicas, each with a password that can
// change.
func accounts(f *fixture, store Store, current ...*string) []*User {
	f.t.Helper()
	users := make([]*User, len(current))
	for i := range users {
		users[i] = replicas(f, store, UserConfig{
			ClientID: clientID, Username: username, Method: ServiceAccount, SignInTimeout: time.Minute,
			Password: func() (string, error) { return *current[i], nil },
		}, 1)[0]
	}
	return users
}

// TestARefusalIsShared: what one replica saw refused no other one tries.
func TestARefusalIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, store := newFixture(t), &memory{}
		current := password
		users := accounts(f, store, &current, &current)
		f.answer(passwords, refused(400, "invalid_grant", "", 50126))
		var messages []string
		for range 2 {
			for _, u := range users {
				_, err := u.SignIn(t.Context(), port.SignInOptions{})
				messages = append(messages, reasonIs(t, err, "INVALID_CREDENTIAL").GetMessage())
			}
		}
		if n := len(f.requests(passwords)); n != 1 {
			t.Fatalf("the password was sent %d times", n)
		}
		if tried, others := messages[0], slices.Compact(messages[1:]); len(others) != 1 || others[0] == tried {
			t.Errorf("the replicas that did not try say %q, the one that did %q", others, tried)
		}
		for key, value := range store.values {
			if bytes.Contains(value, []byte("fingerprint")) || bytes.Contains(value, []byte("INVALID")) {
				t.Errorf("%s is in the clear", key)
			}
		}
		current += "2"
		for _, u := range users {
			if _, err := u.SignIn(t.Context(), port.SignInOptions{}); err != nil {
				t.Errorf("a new password: %v", err)
			}
		}
		// Whoever removes the value has the same password tried again.
		current = password
		if err := store.Delete(store.keyOf(t, ".refused")); err != nil {
			t.Fatal(err)
		}
		for _, u := range users {
			if _, err := u.SignIn(t.Context(), port.SignInOptions{}); err != nil {
				t.Errorf("after it was removed: %v", err)
			}
		}
	})
}

// TestTwoPasswordsOnTheirWay: a new secret reaches the replicas one by one, and both
// are wrong. Each is tried once.
func TestTwoPasswordsOnTheirWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, store := newFixture(t), &memory{}
		older, newer := password+"1", password+"2"
		users := accounts(f, store, &older, &newer)
		f.answerAlways(passwords, refused(400, "invalid_grant", "", 50126))
		for range 3 {
			for _, u := range users {
				_, err := u.SignIn(t.Context(), port.SignInOptions{})
				reasonIs(t, err, "INVALID_CREDENTIAL")
			}
		}
		if n := len(f.requests(passwords)); n != 2 {
			t.Errorf("passwords were sent %d times", n)
		}
	})
}

// TestARefusalReachesAStoreThatWasAway with the next sign-in.
func TestARefusalReachesAStoreThatWasAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, store := newFixture(t), &memory{}
		current := password
		users := accounts(f, store, &current, &current)
		f.answerAlways(passwords, refused(400, "invalid_grant", "", 50126))
		store.set(true, false)
		for range 2 {
			_, err := users[0].SignIn(t.Context(), port.SignInOptions{})
			reasonIs(t, err, "INVALID_CREDENTIAL")
		}
		store.set(false, false)
		for _, u := range users {
			_, err := u.SignIn(t.Context(), port.SignInOptions{})
			reasonIs(t, err, "INVALID_CREDENTIAL")
		}
		if n := len(f.requests(passwords)); n != 1 {
			t.Errorf("the password was sent %d times", n)
		}
	})
}

// TestARefusalOfTheVersionBefore was not encrypted, and holds.
func TestARefusalOfTheVersionBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, store := newFixture(t), &memory{}
		current := password
		u := accounts(f, store, &current)[0]
		before := fmt.Sprintf(`{"fingerprint":%q,"reason":"AUTH_FAILURE_REASON_CREDENTIAL_EXPIRED","codes":[50055]}`, u.passwords.fingerprint(password))
		if err := store.Save(u.passwords.name, []byte(before)); err != nil {
			t.Fatal(err)
		}
		_, err := u.SignIn(t.Context(), port.SignInOptions{})
		if failure := reasonIs(t, err, "CREDENTIAL_EXPIRED"); failure.GetProviderErrorCode() != "AADSTS50055" || len(f.requests(passwords)) != 0 {
			t.Errorf("%v, %d requests", failure, len(f.requests(passwords)))
		}
	})
}

// TestARefusalThatCannotBeRead is none: the password is tried once more.
func TestARefusalThatCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, store := newFixture(t), &memory{}
		current := password
		u := accounts(f, store, &current)[0]
		for _, value := range []string{"", "{", "not ours", "\x00"} {
			if err := store.Save(u.passwords.name, []byte(value)); err != nil {
				t.Fatal(err)
			}
			if _, err := u.SignIn(t.Context(), port.SignInOptions{}); err != nil {
				t.Errorf("%q: %v", value, err)
			}
		}
	})
}

// FuzzOpen: what was not sealed does not open, and nothing panics.
func FuzzOpen(f *testing.F) {
	b := box{tokenForm, [32]byte{1}}
	for _, value := range []string{"", "\n", b.head(), b.head() + "\n", tokenForm + "00000000\n", refusalForm + "x\ny"} {
		f.Add([]byte(value))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		if content, err := b.open(value); err == nil {
			t.Errorf("%q opens: %q", value, content)
		}
		sealed, err := b.seal(value)
		if err != nil {
			t.Fatal(err)
		}
		if content, err := b.open(sealed); err != nil || !bytes.Equal(content, value) {
			t.Errorf("%q became %q, %v", value, content, err)
		}
		sealed[len(sealed)-1] ^= 1
		if _, err := b.open(sealed); err == nil {
			t.Error("a damaged value opens")
		}
	})
}
