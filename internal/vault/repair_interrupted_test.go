package vault

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A file of packed references that is put aside does not take the branch along.
func TestRepairKeepsABranchThatGitPacked(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, v *Vault){
		"damaged notes": func(t *testing.T, v *Vault) { overwrite(t, v.path(notesFile), with("")) },
		"no notes":      func(t *testing.T, v *Vault) { overwrite(t, v.path(notesFile), without) },
		"sound notes":   func(*testing.T, *Vault) {},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVault(t, nil)
			commits := threeSyncs(t, v)
			git(t, v.config.Directory, "pack-refs", "--all")
			overwrite(t, v.path("packed-refs"), func(content []byte) []byte { return append(content, "garbage\n"...) })
			damage(t, v)
			if said := apply(t, v); !strings.Contains(said, "packed-refs is damaged") {
				t.Error(said)
			}
			if got := branchOf(t, v); got != commits[0] {
				t.Errorf("the branch is at %s", got)
			}
			runSync(t, v, night.Add(9*hour), ended(groups, failed, nil), whole(scripts, documents("s")))
			if got := itemsOf(files(t, v), groups); !cmp.Equal(got, []string{"a"}) {
				t.Errorf("the backup has %v", got)
			}
		})
	}
}

// errStopped stands for a process that is killed.
var errStopped = errors.New("stopped")

// stopAfter lets a repair end after so many steps.
func stopAfter(v *Vault, steps int) {
	v.stepped = func() error {
		if steps--; steps < 0 {
			return errStopped
		}
		return nil
	}
}

// A repair that is killed, after whichever step, and one that ends the work, say together
// what one says that was not killed, and leave the same backup.
func TestRepairThatIsKilled(t *testing.T) {
	for name, test := range map[string]struct {
		damage func(t *testing.T, v *Vault, commits []string)
		// at is which commit the branch is at in the end; -1: one that was made again.
		at   int
		loss bool
	}{
		"the last pack, the branch, the notes": {func(t *testing.T, v *Vault, commits []string) {
			overwrite(t, onePackOf(t, v, commits[0]), func(content []byte) []byte { return make([]byte, len(content)) })
			overwrite(t, v.path("refs/heads/main"), without)
			overwrite(t, v.path(notesFile), without)
		}, 1, true},
		"a file, the branch, the notes": {func(t *testing.T, v *Vault, _ []string) {
			damageObject(t, v, "main:entra/groups/a.json")
			overwrite(t, v.path("refs/heads/main"), with(""))
			overwrite(t, v.path(notesFile), with(""))
		}, -1, true},
		"an old commit": {func(t *testing.T, v *Vault, commits []string) {
			damageObject(t, v, commits[2])
		}, -1, true},
		"an old branch, and its commits": {func(t *testing.T, v *Vault, commits []string) {
			overwrite(t, v.path("refs/heads/main"), with(commits[1]+"\n"))
			overwrite(t, onePackOf(t, v, commits[0]), without)
		}, 1, true},
		"packed references": {func(t *testing.T, v *Vault, _ []string) {
			git(t, v.config.Directory, "pack-refs", "--all")
			overwrite(t, v.path("packed-refs"), func(content []byte) []byte { return append(content, "garbage\n"...) })
			overwrite(t, v.path(notesFile), with(""))
		}, 0, false},
		"everything around": {func(t *testing.T, v *Vault, _ []string) {
			for _, name := range []string{"HEAD", "config", "refs/heads/main", "refs/tags/x", notesFile, "objects/pack/tmp_pack_1", "objects/pack/pack-" + strings.Repeat("ab", 20) + ".idx"} {
				overwrite(t, v.path(name), with(""))
			}
		}, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			steps, done := 0, false
			for ; !done; steps++ {
				v := newVault(t, nil)
				commits := threeSyncs(t, v)
				test.damage(t, v, commits)
				stopAfter(v, steps)
				_, err := v.Repair(t.Context(), true)
				if done = err == nil; done {
					break
				}
				if !errors.Is(err, errStopped) {
					t.Fatalf("after %d steps: %v", steps, err)
				}
				stopAfter(v, 1000)
				// What is done in the end is to be said; after the last step of all there is
				// nothing left to do.
				looked, err := v.Repair(t.Context(), false)
				if err != nil {
					t.Fatal(err)
				}
				last := len(looked.Faults) == 0
				if _, loss := saidOf(looked); loss != test.loss && !last {
					t.Errorf("after %d steps: loss is %v", steps, loss)
				}
				if last && test.loss && !strings.Contains(strings.Join(sortedKeys(asideOf(t, v)), " "), lossesFile) {
					t.Errorf("after %d steps: it is forgotten what was lost", steps)
				}
				apply(t, v)
				if got := branchOf(t, v); test.at >= 0 && got != commits[test.at] {
					t.Errorf("after %d steps: the branch is at %s", steps, got)
				}
				if state := coverageOf(t, v, groups).State; name == "a file, the branch, the notes" && state != stateStale {
					t.Errorf("after %d steps: the type is %s", steps, state)
				}
			}
			if steps < 8 {
				t.Errorf("it was killed %d times only", steps)
			}
		})
	}
}

// That there were losses is said also where it cannot be read any more which.
func TestRepairOfDamagedLosses(t *testing.T) {
	v := newVault(t, nil)
	runSync(t, v, night, whole(groups, documents("a")))
	overwrite(t, v.path(lossesFile), with("{"))
	done, err := v.Repair(t.Context(), true)
	if err != nil || len(done.Left) > 0 {
		t.Fatalf("%+v, %v", done, err)
	}
	if said, loss := saidOf(done); !loss || !strings.Contains(said, "found losses") {
		t.Error(said)
	}
	if aside := asideOf(t, v); len(aside) != 1 || aside[lossesFile] == "" {
		t.Errorf("put aside: %v", aside)
	}
}
