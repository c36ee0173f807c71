package vault

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
)

const theSync = "tenants/x/syncs/one"

var (
	roles   = &catalog.Type{ID: "entra/roles"}
	unloved = &catalog.Type{ID: "intune/unloved"}
)

// always makes a checkpoint with the first type that is settled, and then often.
func always(c *Config) { c.CheckpointInterval = 1 }

// begin begins a sync of a name.
func begin(t testing.TB, v *Vault, name string) *staging {
	t.Helper()
	staged, err := v.Begin(t.Context(), port.Turn{Sync: name, Attempt: 1})
	if err != nil {
		t.Fatal(err)
	}
	return staged.(*staging)
}

// read reads types, in a staging.
func read(t testing.TB, s *staging, at time.Time, readings ...typeReading) map[string]port.Settlement {
	t.Helper()
	settled := map[string]port.Settlement{}
	for _, r := range readings {
		for _, id := range sortedKeys(r.items) {
			if err := s.Add(r.t, port.Item{ID: id, DisplayName: r.nameOf(id), JSON: []byte(r.items[id])}); err != nil {
				t.Fatal(err)
			}
		}
		var err error
		r.reading.Time = at
		if settled[r.t.ID], err = s.Settle(r.t, r.reading); err != nil {
			t.Fatal(err)
		}
	}
	return settled
}

func commit(t testing.TB, s *staging, at time.Time) {
	t.Helper()
	if _, err := s.Commit(t.Context(), port.CommitInfo{Sync: theSync, Time: at}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// die ends a staging as kill -9 does: nothing is put in order.
func die(t testing.TB, s *staging) {
	t.Helper()
	s.endTimer()
	if err := s.held.release(); err != nil {
		t.Fatal(err)
	}
	s.pack.file.Close()
	s.storage.Close()
	s.closed = true
}

// nothingLeft fails when there is a checkpoint, or an unfinished pack.
func nothingLeft(t testing.TB, v *Vault) {
	t.Helper()
	checkRepository(t, v)
	if _, err := os.Stat(v.path(checkpointFile)); err == nil {
		t.Error("the checkpoint is left")
	}
}

// A worker died. The next one of the same sync takes over what was settled, and the
// backup is that of a sync that nobody disturbed.
func TestTakenOver(t *testing.T) {
	empty := &catalog.Type{ID: "entra/empty"}
	first := []typeReading{whole(groups, documents(numbered(0, 30)...)), whole(apps, documents("x", "y")), whole(scripted, documents("s"))}
	inTime := []typeReading{
		whole(groups, documents(numbered(0, 29)...)),           // changed, one is removed
		whole(apps, documents("x", "y")),                       // unchanged
		whole(empty, nil),                                      // complete, and nothing in it
		whole(scripted, map[string]string{"s": `{"key":"a"}`}), // with a sealed secret
	}
	collapsing := whole(scripts, documents("z"))
	late := []typeReading{ended(unloved, incomplete, documents("u")), whole(roles, documents("r", "item-000"))}

	recipient := newIdentity(t).Recipient().String()
	seal := func(c *Config) {
		always(c)
		c.Recipients = []string{recipient}
	}
	v, undisturbed := newVault(t, seal), newVault(t, seal)
	for _, v := range []*Vault{v, undisturbed} {
		runSync(t, v, night, append(first, whole(scripts, documents(numbered(0, 9)...)))...)
	}
	s := begin(t, undisturbed, theSync)
	want := read(t, s, night.Add(hour), append(slices.Clone(inTime), append(late, collapsing)...)...)
	commit(t, s, night.Add(hour))

	s = begin(t, v, theSync)
	said := read(t, s, night.Add(hour), append(slices.Clone(inTime), collapsing)...)
	for _, id := range []string{"r", "never seen again"} { // half a type, which the pack has at the checkpoint
		if err := s.Add(roles, port.Item{ID: id, JSON: []byte(`{"id":"` + id + `"}`)}); err != nil {
			t.Fatal(err)
		}
	}
	s.checkpoint()
	read(t, s, night.Add(hour), ended(unloved, failed, nil))
	die(t, s)
	for range 3 { // and those who take over die as well, before they asked for all
		s = begin(t, v, theSync)
		if _, ok := s.Resumed(groups); !ok {
			t.Fatal("the groups are to be read again")
		}
		die(t, s)
	}
	// Who is cancelled while he takes over leaves it as it is.
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := v.Begin(cancelled, port.Turn{Sync: theSync, Attempt: 1}); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	s = begin(t, v, theSync)
	for _, r := range append(slices.Clone(inTime), collapsing) {
		got, ok := s.Resumed(r.t)
		if !ok {
			t.Errorf("%s is to be read again", r.t.ID)
		}
		if diff := cmp.Diff(said[r.t.ID], got); diff != "" {
			t.Errorf("%s was settled otherwise: %s", r.t.ID, diff)
		}
		if _, again := s.Resumed(r.t); again {
			t.Errorf("%s is resumed twice", r.t.ID)
		}
		if err := s.Add(r.t, port.Item{ID: "a", JSON: []byte(`{}`)}); err == nil {
			t.Errorf("%s is settled, and takes items", r.t.ID)
		}
		if _, err := s.Settle(r.t, r.reading); err == nil {
			t.Errorf("%s is settled twice", r.t.ID)
		}
	}
	for _, r := range late {
		if got, ok := s.Resumed(r.t); ok {
			t.Errorf("%s was not read completely, and is not to be read again: %v", r.t.ID, got)
		}
	}
	got := read(t, s, night.Add(hour), late...)
	for _, r := range late {
		if diff := cmp.Diff(want[r.t.ID], got[r.t.ID]); diff != "" {
			t.Errorf("%s: %s", r.t.ID, diff)
		}
	}
	commit(t, s, night.Add(hour))
	now, then := files(t, v), files(t, undisturbed)
	for path := range then {
		if strings.HasSuffix(path, secretsSuffix) {
			now[path] = then[path] // encryption is randomised
		}
	}
	if diff := cmp.Diff(then, now); diff != "" {
		t.Errorf("the backup is another: %s", diff)
	}
	nothingLeft(t, v)
	if strings.Contains(git(t, v.config.Directory, "cat-file", "--batch-all-objects", "--batch"), "never seen again") {
		t.Error("what was staged for nothing is in the repository")
	}
	// What is remembered beside the repository is that of the undisturbed sync, too.
	for _, v := range []*Vault{v, undisturbed} {
		s := begin(t, v, "")
		settled := read(t, s, night.Add(2*hour), ended(groups, failed, nil))
		if at := settled[groups.ID].LastComplete; !at.Equal(night.Add(hour)) {
			t.Errorf("last complete %v", at)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Whatever makes a checkpoint unfit: everything is read again, and nothing of it is left.
func TestUnfitCheckpoints(t *testing.T) {
	readAgain := func(change func(*testing.T, *Vault)) func(*testing.T, *Vault) string {
		return func(t *testing.T, v *Vault) string { change(t, v); return theSync }
	}
	pack := func(change func(content []byte) []byte) func(*testing.T, *Vault) string {
		return readAgain(func(t *testing.T, v *Vault) {
			paths, err := filepath.Glob(filepath.Join(v.packDirectory(), temporaryPack+"*"))
			if err != nil || len(paths) != 1 {
				t.Fatal(paths, err)
			}
			content, err := os.ReadFile(paths[0])
			if err != nil {
				t.Fatal(err)
			}
			if content = change(content); content == nil {
				err = os.Remove(paths[0])
			} else {
				err = os.WriteFile(paths[0], content, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		})
	}
	file := func(old, now string) func(*testing.T, *Vault) string {
		return readAgain(func(t *testing.T, v *Vault) {
			content, err := os.ReadFile(v.path(checkpointFile))
			if err != nil || !strings.Contains(string(content), old) {
				t.Fatal(string(content), err)
			}
			if err := os.WriteFile(v.path(checkpointFile), []byte(strings.Replace(string(content), old, now, 1)), 0o600); err != nil {
				t.Fatal(err)
			}
		})
	}
	for name, change := range map[string]func(*testing.T, *Vault) string{
		"another sync":   func(*testing.T, *Vault) string { return "tenants/x/syncs/two" },
		"no sync":        func(*testing.T, *Vault) string { return "" },
		"another key":    readAgain(func(_ *testing.T, v *Vault) { v.config.FingerprintKey = []byte("another key of thirty-two bytes!") }),
		"a key is old":   readAgain(func(_ *testing.T, v *Vault) { v.config.PreviousFingerprintKeys = [][]byte{testKey} }),
		"another commit": readAgain(func(t *testing.T, v *Vault) { handCommit(t, v, map[string][2]string{"README.md": {"100644", "x"}}) }),
		"another form":   file(`"form":2`, `"form":1`),
		"half a file":    file(`"types"`, ``),
		"other rules":    file(`"rules":"`, `"rules":"0`),
		"another folder": file(`"tree":"`, `"tree":"0000`),
		"no pack":        pack(func([]byte) []byte { return nil }),
		"a short pack":   pack(func(c []byte) []byte { return c[:len(c)-1] }),
		"a damaged pack": pack(func(c []byte) []byte { c[len(c)/2] ^= 0x10; return c }),
		"a pack of nothing": pack(func(c []byte) []byte {
			clear(c)
			return c
		}),
	} {
		t.Run(name, func(t *testing.T) {
			v := newVault(t, always)
			runSync(t, v, night, whole(groups, documents(numbered(0, 3)...)))
			s := begin(t, v, theSync)
			read(t, s, night.Add(hour), whole(groups, documents(numbered(0, 30)...)))
			die(t, s)
			s = begin(t, v, change(t, v))
			if got, ok := s.Resumed(groups); ok {
				t.Errorf("it is taken over: %v", got)
			}
			read(t, s, night.Add(hour), whole(groups, documents(numbered(0, 20)...)))
			commit(t, s, night.Add(hour))
			nothingLeft(t, v)
			if got := itemsOf(files(t, v), groups); len(got) != 20 {
				t.Errorf("items %v", got)
			}
		})
	}
}

// A staging that is closed in order keeps what it settled, unless its sync is over.
func TestClosedWithoutCommit(t *testing.T) {
	for name, test := range map[string]struct {
		interval time.Duration
		end      func(*staging) error
		kept     bool
	}{
		"closed":           {time.Hour, func(*staging) error { return nil }, true},
		"no checkpoints":   {-1, func(*staging) error { return nil }, false},
		"a dry run":        {1, func(s *staging) error { _, err := s.Commit(t.Context(), port.CommitInfo{DryRun: true}); return err }, false},
		"without a change": {1, func(s *staging) error { _, err := s.Commit(t.Context(), port.CommitInfo{Time: night}); return err }, false},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVault(t, func(c *Config) { c.CheckpointInterval = test.interval })
			runSync(t, v, night, whole(groups, documents("a")))
			s := begin(t, v, theSync)
			read(t, s, night, whole(groups, documents("a")))
			if err := test.end(s); err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if !test.kept {
				nothingLeft(t, v)
			}
			s = begin(t, v, theSync)
			if _, ok := s.Resumed(groups); ok != test.kept {
				t.Errorf("resumed: %v", ok)
			}
			commit(t, s, night)
			nothingLeft(t, v)
		})
	}
}

// How often: at least the interval lies between two checkpoints, and a tenth of the
// time; and what is settled is kept then also when no other type is settled.
func TestCheckpointIntervals(t *testing.T) {
	v := newVault(t, nil)
	var since atomic.Int64
	v.now = func() time.Time { return night.Add(time.Duration(since.Load())) }
	s := begin(t, v, theSync)
	made := func(at time.Duration, do func()) bool {
		t.Helper()
		before, _ := os.ReadFile(v.path(checkpointFile))
		since.Store(int64(at))
		do()
		after, _ := os.ReadFile(v.path(checkpointFile))
		return string(before) != string(after)
	}
	settle := func(n int) func() {
		return func() { read(t, s, v.now(), whole(&catalog.Type{ID: fmt.Sprintf("entra/type-%d", n)}, documents("a"))) }
	}
	add := func(n int) func() {
		return func() {
			if err := s.Add(groups, port.Item{ID: fmt.Sprint(n), JSON: []byte(`{}`)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i, step := range []struct {
		at   time.Duration
		do   func()
		want bool
	}{
		{9 * time.Second, settle(0), false},
		{9 * time.Second, add(0), false},
		{10 * time.Second, add(1), true},
		{40 * time.Second, add(2), false /* nothing new is settled */},
		{41 * time.Second, settle(1), true},
		{50 * time.Second, settle(2), false},
		{51 * time.Second, settle(3), true},
		{600 * time.Second, settle(4), true},
		{659 * time.Second, settle(5), false},
		{665 * time.Second, settle(6), false},
		{667 * time.Second, add(3), true},
	} {
		if got := made(step.at, step.do); got != step.want {
			t.Errorf("step %d after %v: a checkpoint: %v", i, step.at, got)
		}
	}
	die(t, s)
	s = begin(t, v, theSync)
	for i := range 7 {
		if _, ok := s.Resumed(&catalog.Type{ID: fmt.Sprintf("entra/type-%d", i)}); !ok {
			t.Errorf("type %d is read again", i)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// A disk that could not keep a checkpoint may have lost what it was to keep: there is
// no commit of it.
func TestCheckpointOnABrokenDisk(t *testing.T) {
	v := newVault(t, always)
	runSync(t, v, night, whole(groups, documents("a")))
	s := begin(t, v, theSync)
	s.pack.file.Close() // as if it failed
	read(t, s, night, whole(groups, documents("a", "b")))
	if _, err := s.Commit(t.Context(), port.CommitInfo{Time: night}); err == nil {
		t.Error("it is committed")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	runSync(t, v, night, whole(groups, documents("a", "c")))
	nothingLeft(t, v)
}
