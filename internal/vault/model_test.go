package vault

import (
	"maps"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
)

// model is what the commit rules say that the backup holds of a type.
type model struct {
	items map[string]string
	// short is the list that is not believed, and since when.
	short []string
	since time.Time
}

// sync applies a reading, as simply as the rules can be said, and returns how the
// type ends.
func (m *model) sync(outcome understudyv1.ConfigurationOutcome, read map[string]string, accept bool, at time.Time) understudyv1.ConfigurationOutcome {
	if outcome == complete && m.collapsed(read, accept, at) {
		outcome = incomplete
	} else if outcome == complete {
		m.short = nil
		m.items = maps.Clone(read)
		return complete
	}
	if outcome == incomplete {
		maps.Copy(m.items, read)
	}
	return outcome
}

func (m *model) collapsed(read map[string]string, accept bool, at time.Time) bool {
	gone := 0
	for id := range m.items {
		if _, ok := read[id]; !ok {
			gone++
		}
	}
	all := gone > 0 && gone == len(m.items)
	many := gone >= 5 && float64(gone) > 0.2*float64(len(m.items))
	if accept || (!all && !many) {
		return false
	}
	ids := slices.Sorted(maps.Keys(read))
	if m.short != nil && slices.Equal(m.short, ids) {
		return at.Sub(m.since) < time.Hour
	}
	m.short, m.since = append([]string{}, ids...), at
	return true
}

// Whatever a sequence of syncs reads, the backup is what the model says, and
// nothing that was not complete ever removed anything.
func TestCommitRulesModel(t *testing.T) {
	types := []*catalog.Type{groups, apps, scripts}
	outcomes := []understudyv1.ConfigurationOutcome{complete, complete, complete, incomplete, failed, notBackedUp, notAvailable}
	n := 0
	folder := t.TempDir()
	rapid.Check(t, func(r *rapid.T) {
		n++
		v, err := Open(Config{Directory: filepath.Join(folder, string(rune('a'+n%26))+time.Now().Format("150405.000000000")), FingerprintKey: testKey})
		if err != nil {
			r.Fatal(err)
		}
		models := map[string]*model{}
		at := night
		commits := 0
		for range rapid.IntRange(1, 5).Draw(r, "syncs") {
			at = at.Add(time.Duration(rapid.SampledFrom([]int{1, 30, 59, 60, 61, 1440}).Draw(r, "minutes")) * time.Minute)
			staging, err := v.Begin(t.Context())
			if err != nil {
				r.Fatal(err)
			}
			for _, configurationType := range types {
				if rapid.IntRange(0, 4).Draw(r, "selected") == 0 {
					continue
				}
				m := models[configurationType.ID]
				if m == nil {
					m = &model{items: map[string]string{}}
					models[configurationType.ID] = m
				}
				before := maps.Clone(m.items)
				read := drawItems(r, m)
				reading := port.Reading{
					Outcome: rapid.SampledFrom(outcomes).Draw(r, "outcome"), AcceptCollapse: rapid.IntRange(0, 5).Draw(r, "accept") == 0,
					Identity: asServicePrincipal, Time: at,
				}
				for id, document := range read {
					if err := staging.Add(configurationType, port.Item{ID: id, JSON: []byte(document)}); err != nil {
						r.Fatal(err)
					}
				}
				got, err := staging.Settle(configurationType, reading)
				if err != nil {
					r.Fatal(err)
				}
				want := m.sync(reading.Outcome, read, reading.AcceptCollapse, at)
				checkSettlement(r, got, want, before, m.items)
			}
			snapshot, err := staging.Commit(t.Context(), port.CommitInfo{Sync: "x", Time: at})
			if err != nil {
				r.Fatal(err)
			}
			if snapshot.GetCreated() {
				commits++
			}
			if err := staging.Close(); err != nil {
				r.Fatal(err)
			}
			checkModel(r, v, models)
		}
		if commits == 0 {
			r.Fatal("the first sync made no commit")
		}
	})
}

// drawItems draws a list that often resembles what the backup holds.
func drawItems(r *rapid.T, m *model) map[string]string {
	read := map[string]string{}
	keepOneOf := rapid.SampledFrom([]int{1, 1, 1, 2, 20}).Draw(r, "keep one of")
	for i, id := range slices.Sorted(maps.Keys(m.items)) {
		if i%keepOneOf == 0 {
			read[id] = m.items[id]
		}
	}
	for range rapid.IntRange(0, 6).Draw(r, "new") {
		id := rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f", "g", "h", "A", "../x", "é", "CON"}).Draw(r, "id")
		read[id] = rapid.SampledFrom([]string{`{}`, `{"v":1}`, `{"v":2}`}).Draw(r, "document")
	}
	return read
}

func checkSettlement(r *rapid.T, got port.Settlement, want understudyv1.ConfigurationOutcome, before, after map[string]string) {
	added, modified, removed := 0, 0, 0
	for id, document := range after {
		if old, ok := before[id]; !ok {
			added++
		} else if old != document {
			modified++
		}
	}
	for id := range before {
		if _, ok := after[id]; !ok {
			removed++
		}
	}
	if want == complete && added+modified+removed == 0 {
		if got.Outcome == unchanged || len(before) == 0 { // an empty list is new once
			want = got.Outcome
		}
	}
	if got.Outcome != want || got.Items != len(after) || got.Added != added || got.Modified != modified || got.Removed != removed {
		r.Fatalf("got %+v, want %v, +%d ~%d -%d of %d", got, want, added, modified, removed, len(after))
	}
	if want != complete && want != unchanged && removed > 0 {
		r.Fatalf("%v removed %d", want, removed)
	}
}

// checkModel compares the tree of the branch with what it should be.
func checkModel(r *rapid.T, v *Vault, models map[string]*model) {
	tip, err := v.tip(v.storage())
	if err != nil {
		r.Fatal(err)
	}
	tree, err := tip.Tree()
	if err != nil {
		r.Fatal(err)
	}
	want := map[string]string{}
	for id, m := range models {
		for item, document := range m.items {
			content, err := (&rules{}).canonical([]byte(document))
			if err != nil {
				r.Fatal(err)
			}
			want[id+"/"+SafeName(item)+fileEnding] = string(content)
		}
	}
	got := map[string]string{}
	walk := tree.Files()
	for {
		file, err := walk.Next()
		if err != nil {
			break
		}
		if filepath.Base(file.Name) == indexFile || file.Name == coverageFile {
			continue
		}
		if got[file.Name], err = file.Contents(); err != nil {
			r.Fatal(err)
		}
	}
	if !maps.Equal(got, want) {
		r.Fatalf("the tree has %v, want %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
}
