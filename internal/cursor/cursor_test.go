package cursor_test

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"understudy.internal/internal/cursor"
	"understudy.internal/internal/port"
)

const (
	groups = "entra/groups"
	link   = "https://graph.example/v1.0/groups/delta?$deltatoken=very-secret"
)

func open(t *testing.T, directory, tenant string, key byte, log *bytes.Buffer) *cursor.Store {
	t.Helper()
	s, err := cursor.New(cursor.Config{
		Directory: directory, Tenant: tenant, Key: [32]byte{key}, Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestRecordsAreKeptEncrypted(t *testing.T) {
	t.Parallel()
	directory, log := filepath.Join(t.TempDir(), "cursors"), &bytes.Buffer{}
	s := open(t, directory, "tenants/a", 1, log)
	if got := s.Load(groups); got != nil || log.Len() > 0 {
		t.Errorf("an empty store has %q, and says %q", got, log)
	}
	for _, record := range []string{"first " + link, "second " + link} {
		if err := s.Save(groups, []byte(record)); err != nil {
			t.Fatal(err)
		}
		if got := open(t, directory, "tenants/a", 1, log).Load(groups); string(got) != record {
			t.Errorf("kept %q, want %q", got, record)
		}
	}
	files, err := os.ReadDir(directory)
	if err != nil || len(files) != 1 {
		t.Fatalf("%d files, %v; want one", len(files), err)
	}
	info, err := files[0].Info()
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	content, err := os.ReadFile(filepath.Join(directory, files[0].Name()))
	if err != nil || strings.Contains(string(content), "deltatoken") {
		t.Errorf("the file shows the link (%v)", err)
	}
}

func TestRecordsThatAreNotUsed(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(t *testing.T, file string) (tenant string, key byte){
		"another key": func(*testing.T, string) (string, byte) { return "tenants/a", 2 },
		"another tenant": func(*testing.T, string) (string, byte) {
			return "tenants/b", 1
		},
		"damaged": func(t *testing.T, file string) (string, byte) {
			content, err := os.ReadFile(file)
			content[len(content)-1] ^= 1
			if err := errors.Join(err, os.WriteFile(file, content, 0o600)); err != nil {
				t.Fatal(err)
			}
			return "tenants/a", 1
		},
		"cut": func(t *testing.T, file string) (string, byte) {
			if err := os.Truncate(file, 30); err != nil {
				t.Fatal(err)
			}
			return "tenants/a", 1
		},
		"of another type": func(t *testing.T, file string) (string, byte) {
			other := filepath.Join(filepath.Dir(file), "entra__applications")
			if err := os.Rename(other, file); err != nil {
				t.Fatal(err)
			}
			return "tenants/a", 1
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			directory, log := t.TempDir(), &bytes.Buffer{}
			s := open(t, directory, "tenants/a", 1, log)
			if err := errors.Join(s.Save(groups, []byte(link)), s.Save("entra/applications", []byte(link))); err != nil {
				t.Fatal(err)
			}
			tenant, key := spoil(t, filepath.Join(directory, "entra__groups"))
			if got := open(t, directory, tenant, key, log).Load(groups); got != nil {
				t.Errorf("it is used: %q", got)
			}
			if !strings.Contains(log.String(), groups) || strings.Contains(log.String(), "deltatoken") {
				t.Errorf("log %q", log)
			}
		})
	}
}

func TestSaveFails(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err := open(t, file, "tenants/a", 1, &bytes.Buffer{}).Save(groups, nil)
	if storage := (*port.StorageError)(nil); !errors.As(err, &storage) {
		t.Errorf("%v is no StorageError", err)
	}
	if _, err := cursor.New(cursor.Config{Directory: file}); err == nil {
		t.Error("a store without tenant and key is made")
	}
}
