package vault

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
)

// Types are read at the same time; some of their items have the same content.
func TestAddAtTheSameTime(t *testing.T) {
	v := newVault(t, nil)
	staging, err := v.Begin(t.Context(), port.Turn{Attempt: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer staging.Close()
	var work sync.WaitGroup
	failures := make(chan error, 16)
	for i := range 8 {
		configurationType := &catalog.Type{ID: fmt.Sprintf("intune/type-%d", i)}
		work.Go(func() {
			for j := range 50 {
				if err := staging.Add(configurationType, port.Item{ID: fmt.Sprint(j), JSON: fmt.Appendf(nil, `{"n":%d}`, j)}); err != nil {
					failures <- err
					return
				}
			}
			got, err := staging.Settle(configurationType, port.Reading{Outcome: complete, Time: night})
			if err != nil || got.Items != 50 {
				failures <- fmt.Errorf("%+v: %w", got, err)
			}
		})
	}
	work.Wait()
	close(failures)
	for err := range failures {
		t.Error(err)
	}
	if _, err := staging.Commit(t.Context(), port.CommitInfo{Time: night}); err != nil {
		t.Fatal(err)
	}
	checkRepository(t, v)
	if got := len(files(t, v)); got != 8*51+1 {
		t.Errorf("%d files", got)
	}
}

func TestChanges(t *testing.T) {
	v := newVault(t, nil)
	long := strings.Repeat("é", 300)
	items := map[string]string{"a": `{}`, "b": `{}`, long: `{}`, "c1": `{}`, "c2": `{}`}
	first := runSync(t, v, night, whole(groups, items), whole(scripts, documents("s")))
	delete(items, "b")
	items["a"], items["d"] = `{"x":1}`, `{}`
	second := runSync(t, v, night.Add(hour), whole(groups, items), whole(apps, documents("x")))
	list := func(commit, configurationType string) (all []string) {
		t.Helper()
		for change, err := range v.Changes(t.Context(), commit, configurationType) {
			if err != nil {
				t.Fatal(err)
			}
			if n := len([]rune(change.GetDisplayName())); n > maxDisplayName || n == 0 {
				t.Errorf("a display name of %d characters", n)
			}
			all = append(all, strings.TrimPrefix(change.GetKind().String(), "CHANGE_KIND_")+" "+change.GetPath())
		}
		return all
	}
	want := []string{"ADDED entra/applications/x.json", "MODIFIED entra/groups/a.json", "REMOVED entra/groups/b.json", "ADDED entra/groups/d.json"}
	if got := list(second.snapshot.GetCommit(), ""); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	if got := list(second.snapshot.GetCommit(), groups.ID); !slices.Equal(got, want[1:]) {
		t.Errorf("got %q", got)
	}
	if got := list(first.snapshot.GetCommit(), ""); len(got) != 6 {
		t.Errorf("got %q", got)
	}
	for range v.Changes(t.Context(), first.snapshot.GetCommit(), "") {
		break // who has enough leaves
	}
	for _, commit := range []string{"", strings.Repeat("ab", 20), "main"} {
		var missing *port.NotFoundError
		var change *understudyv1.ItemChange
		var err error
		for change, err = range v.Changes(t.Context(), commit, "") {
			break
		}
		if !errors.As(err, &missing) {
			t.Errorf("%q: %v, %v", commit, change, err)
		}
	}
}
