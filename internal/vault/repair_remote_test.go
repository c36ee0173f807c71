package vault

import (
	"os"
	"strings"
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

// While the remote cannot be asked nothing is given up, and nothing is changed; when it is
// back, or the operator gives it up, the repair goes on.
func TestRepairWhileTheRemoteIsAway(t *testing.T) {
	for name, damage := range map[string]func(*testing.T, *Vault){
		"a file":      func(t *testing.T, v *Vault) { damageObject(t, v, "main:entra/groups/b.json") },
		"an old file": func(t *testing.T, v *Vault) { damageObject(t, v, "main~1:intune/scripts/s.json") },
		"the commit":  func(t *testing.T, v *Vault) { damageObject(t, v, "main") },
		"a file, no branch": func(t *testing.T, v *Vault) {
			damageObject(t, v, "main:entra/groups/b.json")
			overwrite(t, v.path("refs/heads/main"), without)
		},
		"no branch, no notes": func(t *testing.T, v *Vault) {
			overwrite(t, v.path("refs/heads/main"), without)
			overwrite(t, v.path(notesFile), without)
		},
		"an empty branch and a damaged commit": func(t *testing.T, v *Vault) {
			damageObject(t, v, "main")
			overwrite(t, v.path("refs/heads/main"), with(""))
		},
		"an old branch, and no last pack": func(t *testing.T, v *Vault) {
			old := git(t, v.config.Directory, "rev-parse", "main~1")
			overwrite(t, onePackOf(t, v, "main"), without)
			overwrite(t, v.path("refs/heads/main"), with(old+"\n"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := bareRemote(t)
			v, _ := remoteVault(t, Remote{URL: path})
			runSync(t, v, night, whole(groups, documents("a")), whole(scripts, documents("s")))
			wantPushed(t, runSync(t, v, night, whole(groups, map[string]string{"a": textOf("a", "x"), "b": textOf("b", "x")})))
			want := git(t, v.config.Directory, "rev-parse", "main")
			damage(t, v)
			damaged := contentOf(t, v.config.Directory)
			hideRemote(t, path)
			done, err := v.Repair(t.Context(), true)
			if err != nil || !done.Held || len(done.Left) < 2 { // the remote, and what it may have
				t.Fatalf("%+v, %v", done, err)
			}
			said, loss := saidOf(done)
			if loss || !strings.Contains(said, "cannot be asked (") || !strings.Contains(said, "make the remote reachable, and repeat this") || !strings.Contains(said, "repository.remote") {
				t.Error(said)
			}
			if diff := cmp.Diff(damaged, contentOf(t, v.config.Directory)); diff != "" {
				t.Errorf("something was changed: %s", diff)
			}
			bringBack(t, path)
			if done, err = v.Repair(t.Context(), true); err != nil || done.Held || len(done.Left) > 0 || done.Commit != want {
				t.Fatalf("with the remote: %+v, %v", done, err)
			}
			if said, loss := saidOf(done); loss {
				t.Error(said)
			}
			checkRepository(t, v)
		})
	}
}

// Of a remote that is gone for ever the configuration is told, and then what has no copy
// here is given up.
func TestRepairWithoutTheRemote(t *testing.T) {
	path := bareRemote(t)
	v, _ := remoteVault(t, Remote{URL: path})
	wantPushed(t, runSync(t, v, night, whole(groups, map[string]string{"a": textOf("a", "x"), "b": textOf("b", "x")})))
	damageObject(t, v, "main:entra/groups/b.json")
	hideRemote(t, path)
	if done, err := v.Repair(t.Context(), true); err != nil || !done.Held {
		t.Fatalf("%+v, %v", done, err)
	}
	without := newVault(t, func(c *Config) { c.Directory = v.config.Directory })
	if said := apply(t, without); !strings.Contains(said, "b.json cannot be read, and no copy was found: leave it out") {
		t.Error(said)
	}
}

// A remote that answers and has nothing was asked.
func TestRepairWithAnEmptyRemote(t *testing.T) {
	v, _ := remoteVault(t, Remote{URL: bareRemote(t)})
	v.remote, v.config.Remote = nil, nil
	runSync(t, v, night, whole(groups, map[string]string{"a": textOf("a", "x"), "b": textOf("b", "x")}))
	asked, _ := remoteVault(t, Remote{URL: bareRemote(t)})
	asked.config.Directory = v.config.Directory
	damageObject(t, v, "main:entra/groups/b.json")
	if said := apply(t, asked); !strings.Contains(said, "b.json cannot be read, and no copy was found: leave it out") {
		t.Error(said)
	}
}

// A reference of somebody else to a commit that comes back from the remote stays.
func TestRepairLooksAtReferencesLast(t *testing.T) {
	path := bareRemote(t)
	v, _ := remoteVault(t, Remote{URL: path})
	commits := threeSyncs(t, v)
	overwrite(t, v.path("refs/tags/old"), with(commits[1]+"\n"))
	damageObject(t, v, commits[1])
	if said := apply(t, v); strings.Contains(said, "refs/tags/old") {
		t.Error(said)
	}
	if got := git(t, v.config.Directory, "rev-parse", "old"); got != commits[1] {
		t.Errorf("the tag is %s", got)
	}
}
