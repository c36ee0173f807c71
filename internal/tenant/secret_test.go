package tenant

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const planted = "hunter2-planted"

func fileWith(t *testing.T, content string) Secret {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return FromFile(path)
}

func variableWith(t *testing.T, content string) Secret {
	t.Helper()
	t.Setenv("TENANT_TEST_SECRET", content)
	secret, err := FromEnvironment("TENANT_TEST_SECRET")
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

func TestSecretRead(t *testing.T) {
	for _, test := range []struct{ name, content, want string }{
		{"as it is", "s3cret", "s3cret"},
		{"a line break at the end", "s3cret\n", "s3cret"},
		{"one of Windows", "s3cret\r\n", "s3cret"},
		{"only one", "s3cret\n\n", "s3cret\n"},
		{"spaces belong to it", " s3cret ", " s3cret "},
		{"a carriage return belongs to it when it stands inside", "a\rb", "a\rb"},
	} {
		for kind, secret := range map[string]Secret{"file": fileWith(t, test.content), "env": variableWith(t, test.content)} {
			got, err := secret.Read()
			if err != nil || got != test.want {
				t.Errorf("%s in %s: %q, %v; want %q", test.name, kind, got, err, test.want)
			}
			raw, err := secret.ReadBytes()
			if err != nil || string(raw) != test.content {
				t.Errorf("%s in %s: bytes %q, %v; want %q", test.name, kind, raw, err, test.content)
			}
		}
	}
}

// A secret that is replaced is taken up without a restart.
func TestSecretIsReadAnew(t *testing.T) {
	secret := fileWith(t, "first")
	if got, err := secret.Read(); err != nil || got != "first" {
		t.Fatalf("%q, %v", got, err)
	}
	if err := os.WriteFile(secret.File(), []byte("second"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := secret.Read(); err != nil || got != "second" {
		t.Errorf("%q, %v", got, err)
	}
	variable := variableWith(t, "first")
	t.Setenv("TENANT_TEST_SECRET", "second")
	if got, err := variable.Read(); err != nil || got != "second" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestSecretErrors(t *testing.T) {
	unset, err := FromEnvironment("TENANT_TEST_UNSET_SECRET")
	if err != nil {
		t.Fatal(err)
	}
	missing := FromFile(filepath.Join(t.TempDir(), "none"))
	folder := t.TempDir()
	large := fileWith(t, strings.Repeat(planted, maxSecret/len(planted)+1))
	for _, test := range []struct {
		name, want string
		secret     Secret
	}{
		{"not set", "the secret {env: TENANT_TEST_UNSET_SECRET} is not set in the environment", unset},
		{"no file", "the secret {file: " + missing.File() + "} cannot be read: no such file or directory", missing},
		{"a folder", "the secret {file: " + folder + "} is not a regular file", FromFile(folder)},
		{"a device", "the secret {file: /dev/zero} is not a regular file", FromFile("/dev/zero")},
		{"too large", "the secret {file: " + large.File() + "} is larger than 1048576 bytes", large},
		{"empty variable", "the secret {env: TENANT_TEST_SECRET} is empty", variableWith(t, "")},
		{"no secret", "the secret {} is not configured", Secret{}},
	} {
		_, err := test.secret.Read()
		var failed *SecretError
		if !errors.As(err, &failed) || failed.Secret != test.secret || err.Error() != test.want {
			t.Errorf("%s: %v; want %s", test.name, err, test.want)
		}
	}
	if _, err := missing.Read(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v is not fs.ErrNotExist", err)
	}
	empty := fileWith(t, "\n")
	if _, err := empty.Read(); !errors.Is(err, ErrEmpty) {
		t.Errorf("only a line break: %v", err)
	}
}

func TestFromEnvironmentWantsAName(t *testing.T) {
	for _, name := range []string{"", "1A", "A-B", "$A", "A=B", "A B", "ä", "A\n"} {
		if _, err := FromEnvironment(name); err == nil || name != "" && strings.Contains(err.Error(), name) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// No formatting and no log shows a secret: the type does not hold it.
func TestSecretIsNotPrinted(t *testing.T) {
	secret := variableWith(t, planted)
	if _, err := secret.Read(); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "secret", secret, "pointer", &secret)
	definition := Definition{ServicePrincipal: ServicePrincipal{ClientSecret: &secret}}
	for _, printed := range []string{
		fmt.Sprintf("%v %+v %#v %s %q", secret, secret, secret, secret, secret), fmt.Sprintf("%+v %#v", &secret, &secret),
		fmt.Sprintf("%+v", definition), log.String(),
	} {
		if strings.Contains(printed, planted) {
			t.Errorf("printed: %s", printed)
		}
	}
	if got := fmt.Sprintf("%v %#v", secret, &secret); got != "{env: TENANT_TEST_SECRET} {env: TENANT_TEST_SECRET}" {
		t.Errorf("printed: %s", got)
	}
	if !strings.Contains(log.String(), `"secret":"{env: TENANT_TEST_SECRET}"`) {
		t.Errorf("logged: %s", log.String())
	}
}
