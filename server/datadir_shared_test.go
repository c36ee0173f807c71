package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"understudy.internal/internal/journal"
)

var _ sharedMarks = (*journal.Store)(nil)

// Add is that of [journal.Store].
func (m *markMap) Add(name string, value []byte) ([]byte, error) {
	if m.adding != nil {
		m.adding()
	}
	if m.values[name] == nil {
		if err := m.Save(name, value); err != nil {
			return nil, err
		}
	}
	return m.values[name], nil
}

// sharing is the configuration of a replica with a data_dir that is declared to be all
// others'.
func sharing(folder string) *config { return &config{DataDir: folder, DataDirShared: true} }

// refusesDataDir fails unless a replica is refused, with what to do.
func refusesDataDir(t *testing.T, store *markMap, folder string) {
	t.Helper()
	err := checkSharedDataDir(store, sharing(folder))
	if err == nil {
		t.Fatal("it is accepted")
	}
	for _, part := range []string{folder, "is not the one that the replicas on this cluster share", "repository.remote", "`understudy forget data-dir --config FILE`"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%v does not say %s", err, part)
		}
	}
}

// Replicas on one folder start, whoever is first; one on another folder does not, also
// when the folder was never used, and leaves nothing there.
func TestSharedDataDir(t *testing.T) {
	store, shared, other := &markMap{}, t.TempDir(), t.TempDir()
	for range 3 {
		if err := checkSharedDataDir(store, sharing(shared)); err != nil {
			t.Fatal(err)
		}
	}
	if store.saves != 1 {
		t.Errorf("%d marks were saved", store.saves)
	}
	refusesDataDir(t, store, other)
	if entries, err := os.ReadDir(other); err != nil || len(entries) != 0 {
		t.Errorf("in the other folder: %v, %v", entries, err)
	}
	if entries, err := os.ReadDir(shared); err != nil || len(entries) != 1 || entries[0].Name() != sharedIDFile {
		t.Errorf("in the folder: %v, %v", entries, err)
	}
	// Who does not share is not compared.
	if err := checkSharedDataDir(store, &config{DataDir: other}); err != nil {
		t.Error(err)
	}
	// Begun anew on purpose, it is the other one's.
	delete(store.values, dataDirMark)
	if err := checkSharedDataDir(store, sharing(other)); err != nil {
		t.Fatal(err)
	}
	refusesDataDir(t, store, shared)
	if err := os.Remove(filepath.Join(other, sharedIDFile)); err != nil {
		t.Fatal(err)
	}
	refusesDataDir(t, store, other) // emptied
}

// TestSharedDataDirsThatBeginTogether: none has a mark when they look; one is accepted.
func TestSharedDataDirsThatBeginTogether(t *testing.T) {
	store, first := &markMap{}, t.TempDir()
	store.adding = func() {
		store.adding = nil
		if err := checkSharedDataDir(store, sharing(first)); err != nil {
			t.Error(err)
		}
	}
	refusesDataDir(t, store, t.TempDir())
	if err := checkSharedDataDir(store, sharing(first)); err != nil {
		t.Error(err)
	}
}

// TestSharedIDIsMadeOnce: of replicas that start at once on one folder one makes the id.
func TestSharedIDIsMadeOnce(t *testing.T) {
	folder := t.TempDir()
	var ids [16]string
	var group sync.WaitGroup
	for i := range ids {
		group.Go(func() {
			var err error
			if ids[i], err = makeSharedID(folder); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	for i, id := range ids {
		if id == "" || id != ids[0] {
			t.Errorf("replica %d has the id %q, and the first one %q", i, id, ids[0])
		}
	}
	if entries, err := os.ReadDir(folder); err != nil || len(entries) != 1 {
		t.Errorf("in the folder: %v, %v", entries, err)
	}
	if err := writeNew(filepath.Join(folder, sharedIDFile), nil); !errors.Is(err, os.ErrExist) {
		t.Errorf("an id is written over another: %v", err)
	}
}

// TestSharedDataDirThatCannotBeCompared: a replica does not start on a guess.
func TestSharedDataDirThatCannotBeCompared(t *testing.T) {
	damaged := t.TempDir()
	writeTestFile(t, filepath.Join(damaged, sharedIDFile), "0123")
	for name, test := range map[string]struct {
		store  *markMap
		folder string
		says   string
	}{
		"the store is away":  {&markMap{err: errors.New("away")}, t.TempDir(), "comparing data_dir"},
		"the store is full":  {&markMap{saveFails: true}, t.TempDir(), "noting which data_dir"},
		"the id is damaged":  {&markMap{}, damaged, "is damaged"},
		"there is no folder": {&markMap{}, filepath.Join(damaged, sharedIDFile, "x"), "the id of data_dir"},
	} {
		if err := checkSharedDataDir(test.store, sharing(test.folder)); err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestForgetDataDir: a replica on another folder, with the same keys, does not start on
// the cluster before the folder of before is forgotten; then those on that one do not.
func TestForgetDataDir(t *testing.T) {
	t.Parallel()
	h := newHarness(t, onSharedJournal(t))
	file := h.lab.configFile()
	data, folder := filepath.Join(h.lab.Folder, "data"), filepath.Join(h.lab.Folder, "other")
	if err := os.CopyFS(filepath.Join(folder, "keys"), os.DirFS(filepath.Join(data, "keys"))); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"encryption", "fingerprint"} {
		if err := os.Chmod(filepath.Join(folder, "keys", key), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	other := filepath.Join(h.lab.Folder, "other.yaml")
	writeTestFile(t, other, strings.ReplaceAll(string(readTestFile(t, file)), data, folder))
	start := func(file string) error { return h.start(t, file) }
	refused := func(file string) {
		t.Helper()
		if err := start(file); err == nil || !strings.Contains(err.Error(), "is not the one that the replicas on this cluster share") {
			t.Errorf("another data_dir: %v", err)
		}
	}
	if err := start(file); err != nil {
		t.Errorf("the same data_dir: %v", err)
	}
	refused(other)
	name, _, _ := strings.Cut(h.lab.service.journal.Worker(), "/")
	runForget(t, other, exitFailed, "stop all replicas first. On the cluster these are heard: "+name, "data-dir")
	refused(other)
	h.lab.service.journal.Leave()
	runForget(t, other, exitOK, "that of the replica that starts next counts", "data-dir")
	if err := start(other); err != nil {
		t.Errorf("after the data_dir was forgotten: %v", err)
	}
	refused(file)
}

// start makes the service of a configuration, as a process does that starts, and ends it.
func (h *harness) start(t *testing.T, file string) error {
	t.Helper()
	cfg, err := loadConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	s, err := newService(h.ctx, cfg, h.lab.Logger)
	if err == nil {
		s.close()
	}
	return err
}
