package vault

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"filippo.io/age"
	"filippo.io/age/armor"
)

// identityOf makes the key pair of somebody who may read secrets.
func newIdentity(t testing.TB) *age.X25519Identity {
	t.Helper()
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return identity
}

// opened returns what is sealed in a file.
func opened(sealed string, identity age.Identity) (string, error) {
	plain, err := age.Decrypt(armor.NewReader(strings.NewReader(sealed)), identity)
	if err != nil {
		return "", err
	}
	content, err := io.ReadAll(plain)
	return string(content), err
}

func TestSealer(t *testing.T) {
	alice, bob, eve := newIdentity(t), newIdentity(t), newIdentity(t)
	secrets := []byte("{\n  \"/key\": \"hunter2\"\n}\n")
	both := []string{bob.Recipient().String(), alice.Recipient().String(), bob.Recipient().String()}
	s, err := newSealer(both, [][]byte{testKey})
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := s.seal(secrets)
	if err != nil {
		t.Fatal(err)
	}
	for _, identity := range []*age.X25519Identity{alice, bob} {
		if got, err := opened(string(sealed), identity); err != nil || got != string(secrets) {
			t.Errorf("opened: %q, %v", got, err)
		}
	}
	if got, err := opened(string(sealed), eve); err == nil {
		t.Errorf("somebody else reads %q", got)
	}
	if again, err := s.seal(secrets); err != nil || bytes.Equal(again, sealed) {
		t.Errorf("encryption is not randomised, %v", err)
	}

	sealerOf := func(recipients []string, keys ...[]byte) *sealer {
		t.Helper()
		s, err := newSealer(recipients, keys)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	other := []byte("another key that is long enough.")
	turned := []string{both[1], both[0]}
	for name, test := range map[string]struct {
		by      *sealer
		sealed  string
		secrets string
		want    bool
	}{
		"the same":                  {s, string(sealed), string(secrets), true},
		"recipients turned":         {sealerOf(turned, testKey), string(sealed), string(secrets), true},
		"checked out with CRLF":     {s, strings.ReplaceAll(string(sealed), "\n", "\r\n"), string(secrets), true},
		"after a rotation":          {sealerOf(turned, other, testKey), string(sealed), string(secrets), true},
		"another key":               {sealerOf(turned, other), string(sealed), string(secrets), false},
		"other secrets":             {s, string(sealed), "{}\n", false},
		"a recipient less":          {sealerOf(turned[:1], testKey), string(sealed), string(secrets), false},
		"a recipient more":          {sealerOf(append(turned, eve.Recipient().String()), testKey), string(sealed), string(secrets), false},
		"nothing":                   {s, "", string(secrets), false},
		"broken by hand":            {s, "x" + string(sealed), string(secrets), false},
		"cut off within the header": {s, string(sealed[:80]), string(secrets), false},
	} {
		if got := test.by.holds([]byte(test.sealed), []byte(test.secrets)); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// A file by somebody else's program has no tag, and is no error.
func TestSealerWithForeignFile(t *testing.T) {
	identity := newIdentity(t)
	s, err := newSealer([]string{identity.Recipient().String()}, [][]byte{testKey})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	text := armor.NewWriter(&out)
	w, err := age.Encrypt(text, identity.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, "{}"); err != nil {
		t.Fatal(err)
	}
	if w.Close() != nil || text.Close() != nil {
		t.Fatal("not closed")
	}
	if s.holds(out.Bytes(), []byte("{}")) {
		t.Error("taken for ours")
	}
}

func TestPostQuantumRecipient(t *testing.T) {
	identity, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	s, err := newSealer([]string{identity.Recipient().String()}, [][]byte{testKey})
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := s.seal([]byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := opened(string(sealed), identity); err != nil || got != "{}" || !s.holds(sealed, []byte("{}")) {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := newSealer([]string{identity.Recipient().String(), newIdentity(t).Recipient().String()}, nil); err == nil {
		t.Error("recipients of both kinds are accepted")
	}
}

func TestCheckRecipient(t *testing.T) {
	identity := newIdentity(t)
	good := identity.Recipient().String()
	if err := CheckRecipient(good); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{
		"", "age1", "# " + good, good + "\n" + good, good + "\n", " " + good, good[:len(good)-1], strings.ToUpper(good),
		"ssh-ed25519 AAAA", identity.String(), strings.ToLower(identity.String()),
	} {
		err := CheckRecipient(bad)
		if err == nil {
			t.Errorf("%q is accepted", bad)
		} else if len(bad) > 8 && strings.Contains(err.Error(), bad[:8]) {
			t.Errorf("the message has the value: %v", err)
		}
		if _, err := newSealer([]string{bad}, nil); err == nil || (len(bad) > 8 && strings.Contains(err.Error(), bad[:8])) {
			t.Errorf("newSealer: %v", err)
		}
	}
	if err := CheckRecipient(identity.String()); err == nil || !strings.Contains(err.Error(), "private") {
		t.Errorf("a private key: %v", err)
	}
}
