package journal_test

import (
	"fmt"
	"sync"
	"testing"

	"understudy.internal/internal/journal"
)

// TestAdd: of values that are added at once one stays, and all hear which.
func TestAdd(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func() []*journal.Journal{
		"embedded": func() []*journal.Journal { return []*journal.Journal{open(t, t.TempDir())} },
		"cluster":  func() []*journal.Journal { return replicas(t, 3) },
	} {
		t.Run(name, func(t *testing.T) {
			all := open()
			for round := range 3 {
				var got [6]string
				var group sync.WaitGroup
				for i := range got {
					group.Go(func() {
						value, err := all[i%len(all)].Store("s").Add("k", fmt.Append(nil, "value ", i))
						if err != nil {
							t.Error(err)
						}
						got[i] = string(value)
					})
				}
				group.Wait()
				for i, value := range got {
					if value == "" || value != got[0] {
						t.Errorf("round %d: %d heard of %q, and 0 of %q", round, i, value, got[0])
					}
				}
				if value, err := all[0].Store("s").Add("another", nil); err != nil || len(value) != 0 {
					t.Errorf("%q, %v", value, err)
				}
				if err := all[0].Store("s").Delete("k"); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
