package vault

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"

	"understudy.internal/internal/port"
)

// contentOf returns what is in a folder: path to a hash of the content.
func contentOf(t *testing.T, folder string) map[string]string {
	t.Helper()
	content := map[string]string{}
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || entry.Name() == lockFile {
			return err
		}
		text, err := os.ReadFile(path)
		sum := sha256.Sum256(text)
		content[strings.TrimPrefix(path, folder)] = hex.EncodeToString(sum[:6])
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// overwrite writes a file of a repository, whatever its mode; nil removes it.
func overwrite(t *testing.T, path string, change func([]byte) []byte) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	if content = change(content); content == nil {
		return
	}
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, content, 0o600)); err != nil {
		t.Fatal(err)
	}
}

func with(content string) func([]byte) []byte { return func([]byte) []byte { return []byte(content) } }
func without([]byte) []byte                   { return nil }
func half(content []byte) []byte              { return content[:len(content)/2] }

// asideOf returns what was put aside: path to content, without the folders of the
// repairs.
func asideOf(t *testing.T, v *Vault) map[string]string {
	t.Helper()
	aside := map[string]string{}
	root := v.path(damagedFolder)
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		_, inside, _ := strings.Cut(strings.TrimPrefix(path, root+"/"), "/")
		if _, twice := aside[inside]; twice {
			inside += " (2)"
		}
		aside[inside] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return aside
}

// packsWith returns the packs that have an object.
func packsWith(t *testing.T, v *Vault, object string) (paths []string) {
	t.Helper()
	id := plumbing.NewHash(git(t, v.config.Directory, "rev-parse", object))
	for _, path := range packsOf(t, v) {
		p, err := openPack(path)
		if err != nil {
			t.Fatal(err)
		}
		has, err := p.index.Contains(id)
		if err := errors.Join(err, p.file.Close()); err != nil {
			t.Fatal(err)
		}
		if has {
			paths = append(paths, path)
		}
	}
	if len(paths) == 0 {
		t.Fatalf("%s is in no pack", object)
	}
	return paths
}

// onePackOf returns the pack that has an object.
func onePackOf(t *testing.T, v *Vault, object string) string {
	t.Helper()
	return packsWith(t, v, object)[0]
}

// damageObject flips a byte in an object, in every pack that has it.
func damageObject(t *testing.T, v *Vault, object string) {
	t.Helper()
	id := plumbing.NewHash(git(t, v.config.Directory, "rev-parse", object))
	for _, path := range packsWith(t, v, id.String()) {
		p, err := openPack(path)
		if err != nil {
			t.Fatal(err)
		}
		offset, err := p.index.FindOffset(id)
		if err != nil {
			t.Fatal(err)
		}
		end := p.offsets[slices.Index(p.offsets, offset)+1]
		if err := p.file.Close(); err != nil {
			t.Fatal(err)
		}
		overwrite(t, path, func(content []byte) []byte { content[(offset+end)/2] ^= 0xff; return content })
	}
}

// Where nothing can be saved it is said, and nothing is removed.
func TestRepairOfNothing(t *testing.T) {
	v := newVault(t, nil)
	if got, err := v.Repair(t.Context(), true); err != nil || got.Exists {
		t.Errorf("no repository: %v, %v", got, err)
	}
	s := begin(t, v, theSync)
	if _, err := v.Repair(t.Context(), true); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("while a sync runs: %v", err)
	}
	read(t, s, night, whole(groups, documents("a")))
	if err := s.Close(); err != nil { // keeps a checkpoint
		t.Fatal(err)
	}
	if got, err := v.Repair(t.Context(), true); err != nil || !got.Exists || len(got.Faults) > 0 {
		t.Errorf("before the first commit: %v, %v", got, err)
	}
	s = begin(t, v, theSync)
	if _, ok := s.Resumed(groups); !ok {
		t.Error("the checkpoint is gone")
	}
	commit(t, s, night)
	for _, path := range packsOf(t, v) {
		overwrite(t, path, with("nothing"))
	}
	got, err := v.Repair(t.Context(), true)
	if err != nil || len(got.Left) == 0 || !got.Left[0].Loss || got.Left[0].Remedy != "" {
		t.Fatalf("%+v, %v", got, err)
	}
	if _, err := v.Begin(t.Context(), port.Turn{Sync: theSync, Attempt: 1}); err == nil {
		t.Error("a new backup begins by itself")
	}
	aside, err := os.ReadDir(v.path(damagedFolder))
	if err != nil || len(aside) == 0 {
		t.Errorf("put aside: %v, %v", aside, err)
	}
	shared, _ := shared(t)
	s = begin(t, shared, theSync)
	if _, err := shared.Repair(t.Context(), false); err == nil {
		t.Error("a shared repository that is in use is looked at")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var _ port.Vault = shared
}
