package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Who may use a data_dir beside whom. A lock is of an open file, so that one process
// can stand for two.
func TestLockDataDir(t *testing.T) {
	for _, c := range []struct {
		name           string
		first, second  bool // data_dir_shared
		secondIsLocked bool
	}{
		{"two that do not share", false, false, true},
		{"one does not share", false, true, true},
		{"the other does not share", true, false, true},
		{"both share", true, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			folder := filepath.Join(t.TempDir(), "data")
			unlock, err := lockDataDir(&config{DataDir: folder, DataDirShared: c.first})
			if err != nil {
				t.Fatal(err)
			}
			again, err := lockDataDir(&config{DataDir: folder, DataDirShared: c.second})
			if (err != nil) != c.secondIsLocked {
				t.Fatalf("the second gets %v", err)
			}
			if err != nil && !strings.Contains(err.Error(), "data_dir_shared: true") {
				t.Errorf("%v does not say what to do", err)
			}
			if err == nil {
				if err := again(); err != nil {
					t.Error(err)
				}
			}
			if err := unlock(); err != nil {
				t.Fatal(err)
			}
			unlock, err = lockDataDir(&config{DataDir: folder, DataDirShared: c.second})
			if err != nil {
				t.Fatalf("after the first went: %v", err)
			}
			if err := unlock(); err != nil {
				t.Error(err)
			}
		})
	}
}

// What a killed process left goes, unless a living one may be writing it.
func TestRemoveLeftovers(t *testing.T) {
	for _, shared := range []bool{false, true} {
		cfg := &config{DataDir: t.TempDir(), DataDirShared: shared}
		path := filepath.Join(cfg.DataDir, "tokens", ".tmp-123")
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := removeLeftovers(cfg); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(path); (err == nil) != shared {
			t.Errorf("shared %t: %v", shared, err)
		}
	}
}
