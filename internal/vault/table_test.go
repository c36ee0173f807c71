package vault

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"
)

// Two tables share a scratch, as those of all types do; what they hold does not fit
// into its buffer, and comes in any order.
func TestTable(t *testing.T) {
	t.Parallel()
	for name, ordered := range map[string]bool{"in order": true, "in any order": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &scratch{directory: t.TempDir()}
			one, other := newTable(s), newTable(s)
			names := make([]string, 3*listPiece)
			lines := map[string]string{}
			for i := range names {
				names[i] = fmt.Sprintf("item-%07d.json", i)
				lines[names[i]] = strings.Repeat("x", i%200)
			}
			lines[names[7]] = strings.Repeat("long", scratchBuffer) // longer than the buffer
			added := slices.Clone(names)
			if !ordered {
				rand.Shuffle(len(added), func(i, j int) { added[i], added[j] = added[j], added[i] })
			}
			for _, name := range added {
				if ok, err := one.has(name); ok || err != nil {
					t.Fatalf("%s before it was added: %v, %v", name, ok, err)
				}
				blob := objectID(plumbing.BlobObject, []byte(name))
				if err := one.add([]byte(name), []byte(lines[name]), blob); err != nil {
					t.Fatal(err)
				}
				if err := other.add([]byte(name), nil, plumbing.ZeroHash); err != nil {
					t.Fatal(err)
				}
			}
			for _, name := range names {
				if blob, ok, err := one.find(name); !ok || err != nil || blob != objectID(plumbing.BlobObject, []byte(name)) {
					t.Fatalf("%s: %s, %v, %v", name, blob, ok, err)
				}
			}
			var walked []string
			err := one.walk(true, func(name, line []byte, blob plumbing.Hash) error {
				walked = append(walked, string(name))
				if string(line) != lines[string(name)] || blob != objectID(plumbing.BlobObject, name) {
					t.Errorf("%s has the line %.20q, and %s", name, line, blob)
				}
				return nil
			})
			if err != nil || !slices.Equal(walked, names) || one.len() != len(names) {
				t.Errorf("%v, %d of %d names in order", err, len(walked), len(names))
			}
			if left, _ := os.ReadDir(s.directory); len(left) > 0 {
				t.Errorf("the scratch file has a name: %v", left)
			}
			if err := s.close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// What is needed of many items for each of them in memory.
func TestTableIsSmall(t *testing.T) {
	const items = 200_000
	s := &scratch{directory: t.TempDir()}
	defer s.close()
	before := liveHeap()
	held := newTable(s)
	name, line := make([]byte, 0, 64), bytes.Repeat([]byte("l"), 100)
	for i := range items {
		name = fmt.Appendf(name[:0], "%036d.json", i^0x155)
		if err := held.add(name, line, plumbing.ZeroHash); err != nil {
			t.Fatal(err)
		}
	}
	if per := float64(liveHeap()-before) / items; per > 50 {
		t.Errorf("%.0f bytes for an item", per)
	}
	runtime.KeepAlive(held)
}

// The streams write what the encoders in memory write, with anything beside.
func TestFolderIsAsEncoded(t *testing.T) {
	t.Parallel()
	items := newTable(&scratch{directory: t.TempDir()})
	known := map[string]indexed{}
	others := []treeEntry{
		{name: "_index.json", mode: modeFile, id: plumbing.NewHash("01")},
		{name: "b.json", mode: modeFolder, id: plumbing.NewHash("02")},
		{name: "b.json!", mode: modeFile},
		{name: "zz", mode: modeFolder},
		{name: "A", mode: "120000"},
	}
	all := slices.Clone(others)
	check := func() {
		t.Helper()
		var index, folder bytes.Buffer
		if err := writeIndex(&index, items, func([]byte) error { return nil }); err != nil {
			t.Fatal(err)
		}
		if want := encodeIndex(sortedKeys(known), known); index.String() != string(want) || indexSize(items) != int64(len(want)) {
			t.Errorf("the index of %d items is\n%s(%d)\nnot\n%s(%d)", len(known), index.String(), indexSize(items), want, len(want))
		}
		sortEntries(others)
		if err := writeFolder(&folder, items, others); err != nil {
			t.Fatal(err)
		}
		if want := encodeTree(all); folder.String() != string(want) || folderSize(items, others) != int64(len(want)) {
			t.Errorf("the folder of %d items is\n%q\nnot\n%q", len(known), folder.String(), want)
		}
	}
	check()
	for _, id := range []string{"c", "b", "a", "b.json/", "é", "zz", "zzz"} {
		name, item, blob := SafeName(id)+fileEnding, indexed{id: id, displayName: strings.Trim(id, "c")}, objectID(plumbing.BlobObject, []byte(id))
		if err := items.add([]byte(name), appendLine(nil, name, item), blob); err != nil {
			t.Fatal(err)
		}
		known[name] = item
		all = append(all, treeEntry{name: name, mode: modeFile, id: blob})
		check()
	}
}

// What an incomplete reading keeps has its line, also where somebody wrote the
// index in another way; an index that says nothing costs the names only.
func TestLinesOfAnIndex(t *testing.T) {
	t.Parallel()
	ours := "[\n" + `  {"id":"a","display_name":"Name of a","file":"a.json"},` + "\n" + `  {"id":"b","display_name":"Name of b","file":"b.json"}` + "\n]\n"
	for name, test := range map[string]struct{ index, want string }{
		"ours":       {ours, "Name of a"},
		"one line":   {`[{"id":"a","display_name":"By hand","file":"a.json"},{"id":"b","file":"b.json"}]`, "By hand"},
		"turned":     {"[\n" + `  {"id":"b","file":"b.json"},` + "\n" + `  {"id":"a","display_name":"Turned","file":"a.json"}` + "\n]\n", "Turned"},
		"after it":   {ours + "more\n", ""},
		"no JSON":    {"[\nx\n", ""},
		"empty":      {"[]\n", ""},
		"no file":    {"", ""},
		"a long one": {"[\n" + `  {"id":"a","display_name":"` + strings.Repeat("x", maxDocument) + `","file":"a.json"}` + "\n]\n", "x"},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVault(t, nil)
			runSync(t, v, night, whole(groups, documents("a", "b")))
			work := filepath.Join(t.TempDir(), "work")
			git(t, filepath.Dir(work), "clone", "-q", v.config.Directory, work)
			if err := os.WriteFile(filepath.Join(work, "entra", "groups", indexFile), []byte(test.index), 0o600); err != nil {
				t.Fatal(err)
			}
			git(t, work, "commit", "-q", "-a", "--allow-empty", "-m", "by hand")
			git(t, work, "push", "-q")
			runSync(t, v, night, ended(groups, incomplete, documents("b")))
			checkRepository(t, v)
			index := files(t, v)["entra/groups/"+indexFile]
			got := decodeIndex([]byte(index))
			if !maps.Equal(map[string]bool{"a.json": true, "b.json": true}, keysOf(got)) {
				t.Fatalf("the index has %v", got)
			}
			if a := got["a.json"]; !strings.HasPrefix(a.displayName, test.want) || (test.want == "") != (a.displayName == "") {
				t.Errorf("the kept item is %.50q", a)
			}
			if b := got["b.json"]; b.displayName != "Name of b" || b.id != "b" {
				t.Errorf("the item that was read is %q", b)
			}
		})
	}
}

func keysOf[V any](m map[string]V) map[string]bool {
	keys := map[string]bool{}
	for key := range m {
		keys[key] = true
	}
	return keys
}
