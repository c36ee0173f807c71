package vault

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"understudy.internal/internal/port"
)

// copyObjects puts some objects of another repository into that of a vault, as one
// pack.
func copyObjects(t *testing.T, v *Vault, from string, ids ...string) {
	t.Helper()
	base := filepath.Join(t.TempDir(), "pack")
	if out, err := tryGit(t, from, strings.Join(ids, "\n")+"\n", "pack-objects", "-q", base); err != nil {
		t.Fatal(out)
	}
	made, err := filepath.Glob(base + "-*")
	if err != nil || len(made) < 2 {
		t.Fatal(made, err)
	}
	for _, path := range made {
		if err := os.Rename(path, filepath.Join(v.packDirectory(), filepath.Base(path))); err != nil {
			t.Fatal(err)
		}
	}
}

// What a remote sent may have been cut short: a commit that is here without all that
// it needs is fetched again, and does not stop the backup for good.
func TestCommitOfTheRemoteAlone(t *testing.T) {
	for name, objects := range map[string][]string{
		"the commit":                     {"main"},
		"the commit and its root":        {"main", "main^{tree}"},
		"all but a file":                 {"main", "main^{tree}", "main:entra", "main:entra/groups"},
		"the commits, and nothing below": {"main", "main~1"},
	} {
		t.Run(name, func(t *testing.T) {
			path := bareRemote(t)
			v, log := remoteVault(t, Remote{URL: path})
			other, _ := remoteVault(t, Remote{URL: path})
			wantPushed(t, runSync(t, v, night, whole(groups, documents("a"))))
			wantPushed(t, runSync(t, other, night, whole(groups, documents("a", "b"))))
			wantPushed(t, runSync(t, other, night, whole(groups, documents("a", "b", "c"))))
			ids := strings.Fields(git(t, path, append([]string{"rev-parse"}, objects...)...))
			copyObjects(t, v, path, ids...)
			s := runSync(t, v, night.Add(hour), whole(groups, documents("a", "b", "c", "d")))
			settledAs(t, s.settled[groups.ID], changed, 4, 1, 0, 0)
			wantPushed(t, s)
			sameBranch(t, v, path)
			if log.Len() > 0 {
				t.Errorf("log: %s", log)
			}
		})
	}
}

// A branch that cannot be read is not one that is not there: the sync stops, says what
// to do, and changes nothing.
func TestBranchThatCannotBeRead(t *testing.T) {
	for name, content := range map[string]string{
		"empty": "", "zeros": strings.Repeat("\x00", 41), "text": "not an id\n", "cut": strings.Repeat("ab", 12),
		"the id of nothing": strings.Repeat("0", 40) + "\n", "a folder": "/",
	} {
		for _, hasNotes := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				v := newVault(t, nil)
				runSync(t, v, night, whole(groups, documents("a", "b")))
				if !hasNotes {
					if err := os.Remove(v.path(notesFile)); err != nil {
						t.Fatal(err)
					}
				}
				branch := v.path(v.ref().String())
				err := os.WriteFile(branch, []byte(content), 0o600)
				if content == "/" {
					err = errors.Join(os.Remove(branch), os.Mkdir(branch, 0o700))
				}
				if err != nil {
					t.Fatal(err)
				}
				packs := packsOf(t, v)
				_, err = v.Begin(t.Context(), port.Turn{Sync: "tenants/x/syncs/1", Attempt: 1})
				var storage *port.StorageError
				if !errors.As(err, &storage) || !strings.Contains(err.Error(), "understudy repair") {
					t.Fatalf("got %v", err)
				}
				if now, _ := os.ReadFile(branch); content != "/" && string(now) != content {
					t.Errorf("the branch is %q now", now)
				}
				if now := packsOf(t, v); !slices.Equal(now, packs) {
					t.Errorf("packs %v, before %v", now, packs)
				}
				if _, err := v.Committed(t.Context(), "tenants/x/syncs/1"); err == nil {
					t.Error("Committed reads it")
				}
			})
		}
	}
}
