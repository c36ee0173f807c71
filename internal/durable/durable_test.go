package durable_test

import (
	"os"
	"path/filepath"
	"testing"

	"understudy.internal/internal/durable"
)

func TestWriteFileKeepsTheFileBefore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "file")
	for _, content := range []string{"one", "two"} {
		if err := durable.WriteFile(path, []byte(content)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != content {
			t.Fatalf("%q, %v", got, err)
		}
	}
	if err := os.Mkdir(path+".d", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := durable.WriteFile(path+".d", []byte("three")); err == nil { // a folder cannot be replaced
		t.Error("it replaced a folder")
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 2 {
		t.Errorf("a temporary file is left: %v, %v", entries, err)
	}
}
