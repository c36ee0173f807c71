package vault

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What is lost here and is on the remote comes back.
func TestRepairFromTheRemote(t *testing.T) {
	for name, damage := range map[string]func(*testing.T, *Vault){
		"a file":      func(t *testing.T, v *Vault) { damageObject(t, v, "main:entra/groups/a.json") },
		"a tree":      func(t *testing.T, v *Vault) { damageObject(t, v, "main^{tree}") },
		"the commit":  func(t *testing.T, v *Vault) { damageObject(t, v, "main") },
		"an old file": func(t *testing.T, v *Vault) { damageObject(t, v, "main~1:intune/scripts/s.json") },
		"all packs": func(t *testing.T, v *Vault) {
			for _, path := range packsOf(t, v) {
				overwrite(t, path, without)
			}
		},
		"an empty branch and a damaged file": func(t *testing.T, v *Vault) {
			damageObject(t, v, "main:entra/groups/b.json")
			overwrite(t, v.path("refs/heads/main"), with(""))
		},
		"an empty branch and a damaged tree": func(t *testing.T, v *Vault) {
			damageObject(t, v, "main^{tree}")
			overwrite(t, v.path("refs/heads/main"), with(""))
		},
		"an empty branch, no notes, a damaged commit": func(t *testing.T, v *Vault) {
			damageObject(t, v, "main")
			overwrite(t, v.path("refs/heads/main"), with(""))
			overwrite(t, v.path(notesFile), without)
		},
		"an empty branch and a damaged commit": func(t *testing.T, v *Vault) {
			damageObject(t, v, "main")
			overwrite(t, v.path("refs/heads/main"), with(""))
		},
		"an empty branch and no packs": func(t *testing.T, v *Vault) {
			overwrite(t, v.path("refs/heads/main"), with(""))
			if err := os.RemoveAll(v.path("objects")); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := bareRemote(t)
			v, _ := remoteVault(t, Remote{URL: path})
			runSync(t, v, night, whole(groups, documents("a")), whole(scripts, documents("s")))
			wantPushed(t, runSync(t, v, night, whole(groups, documents("a", "b"))))
			want := git(t, v.config.Directory, "rev-parse", "main")
			damage(t, v)
			damaged := contentOf(t, v.config.Directory)
			if looked, err := v.Repair(t.Context(), false); err != nil || len(looked.Left) == 0 {
				t.Fatalf("%v, %v", looked, err)
			}
			if diff := cmp.Diff(damaged, contentOf(t, v.config.Directory)); diff != "" {
				t.Fatalf("a look changed something: %s", diff)
			}
			done, err := v.Repair(t.Context(), true)
			if err != nil || len(done.Left) > 0 || done.Commit != want {
				t.Fatalf("%+v, %v", done, err)
			}
			for _, fault := range done.Faults {
				if fault.Loss {
					t.Errorf("lost: %v", fault)
				}
			}
			if got := git(t, v.config.Directory, "rev-parse", "main"); got != want {
				t.Errorf("the branch is at %s", got)
			}
			wantPushed(t, runSync(t, v, night.Add(hour), whole(groups, documents("a", "b", "c"))))
			sameBranch(t, v, path)
		})
	}
}
