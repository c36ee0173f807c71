package vault

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"pgregory.net/rapid"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
)

// model is what the commit rules say that the backup holds of a type.
type model struct {
	items map[string]modelItem
	// names is what the file of names says: id → the line.
	names map[string]string
	// short is the list that is not believed, and since when.
	short []string
	since time.Time
	// confirmed says that the tenant does not have the type any more, whose items are kept.
	confirmed bool
}

// modelItem is what the backup holds of an item.
type modelItem struct {
	document, displayName string
	// sealedFor is how many may read its secrets; 0: they are not sealed, or there are
	// none.
	sealedFor int
}

// sameContent says whether two items are the same but for their names, which are no
// part of them.
func sameContent(a, b modelItem) bool {
	a.displayName, b.displayName = "", ""
	return a == b
}

// referencesOf returns the ids that items refer to.
func referencesOf(items map[string]modelItem) map[string]bool {
	found := map[string]bool{}
	for id, item := range items {
		for _, other := range modelGUIDs {
			if other != id && strings.Contains(item.document, `"`+other+`"`) {
				found[other] = true
			}
		}
	}
	return found
}

// nameReferences makes the file of names of a type anew, for some ids.
func (m *model) nameReferences(ids map[string]bool, models map[string]*model) {
	m.names = map[string]string{}
	for id := range ids {
		for _, of := range slices.Sorted(maps.Keys(models)) {
			if item, ok := models[of].items[id]; ok && item.displayName != "" {
				m.names[id] = fmt.Sprintf(`{"configuration_type":%q,"display_name":%q}`, of, item.displayName)
				break
			}
		}
	}
}

// sync applies a reading, as simply as the rules can be said, and returns how the
// type ends.
func (m *model) sync(outcome understudyv1.ConfigurationOutcome, read map[string]modelItem, without []string, accept bool, at time.Time) understudyv1.ConfigurationOutcome {
	switch {
	case outcome == notAvailable && len(m.items) > 0 && !m.confirmed && !accept:
		outcome = incomplete
	case outcome == notAvailable:
		m.confirmed = len(m.items) > 0
	case outcome == complete && m.vanished(read, without) && !accept:
		outcome = incomplete
	case outcome == complete && m.collapsed(read, accept, at):
		outcome = incomplete
	case outcome == complete:
		m.short, m.confirmed = nil, false
		m.items = maps.Clone(read)
		return complete
	}
	if outcome == incomplete {
		m.confirmed = false
		maps.Copy(m.items, read)
	}
	return outcome
}

// vanished says whether there are items of parents that say that they do not have the
// type any more.
func (m *model) vanished(read map[string]modelItem, without []string) bool {
	for id := range m.items {
		for _, parent := range without {
			if _, ok := read[id]; !ok && (id == parent || strings.HasPrefix(id, parent+"/")) {
				return true
			}
		}
	}
	return false
}

func (m *model) collapsed(read map[string]modelItem, accept bool, at time.Time) bool {
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
	t.Parallel()
	types := []*catalog.Type{groups, apps, scripted}
	outcomes := []understudyv1.ConfigurationOutcome{complete, complete, complete, incomplete, failed, notBackedUp, notAvailable}
	n := 0
	folder := t.TempDir()
	readers := []*age.X25519Identity{newIdentity(t), newIdentity(t)}
	rapid.Check(t, func(r *rapid.T) {
		n++
		config := Config{Directory: filepath.Join(folder, string(rune('a'+n%26))+time.Now().Format("150405.000000000")), FingerprintKey: testKey}
		seals := sealedFiles{readers: readers, files: map[string]sealedFile{}}
		models := map[string]*model{}
		at := night
		commits := 0
		renamed := 0
		for range rapid.IntRange(1, 5).Draw(r, "syncs") {
			at = at.Add(time.Duration(rapid.SampledFrom([]int{1, 30, 59, 60, 61, 1440}).Draw(r, "minutes")) * time.Minute)
			sealedFor := rapid.SampledFrom([]int{2, 2, 2, 1, 0}).Draw(r, "recipients")
			config.Recipients = nil
			for _, reader := range readers[:sealedFor] {
				config.Recipients = append(config.Recipients, reader.Recipient().String())
			}
			v, err := Open(config)
			if err != nil {
				r.Fatal(err)
			}
			staging, err := v.Begin(t.Context(), port.Turn{Attempt: 1})
			if err != nil {
				r.Fatal(err)
			}
			refersTo := map[*model]map[string]bool{} // of those whose folders are written
			for _, configurationType := range types {
				if rapid.IntRange(0, 4).Draw(r, "selected") == 0 {
					continue
				}
				m := models[configurationType.ID]
				if m == nil {
					m = &model{items: map[string]modelItem{}}
					models[configurationType.ID] = m
				}
				before := maps.Clone(m.items)
				read := drawItems(r, m)
				if rapid.IntRange(0, 3).Draw(r, "rename") == 0 {
					renamed++
				}
				for id, item := range read {
					item.sealedFor = 0
					item.displayName = ""
					if !strings.Contains(item.document, "2") {
						item.displayName = fmt.Sprintf("%s of sync %d", id, renamed)
					}
					if configurationType == scripted && strings.Contains(item.document, `"key"`) {
						item.sealedFor = sealedFor
					}
					read[id] = item
				}
				reading := port.Reading{
					Outcome: rapid.SampledFrom(outcomes).Draw(r, "outcome"), AcceptCollapse: rapid.IntRange(0, 5).Draw(r, "accept") == 0,
					Identity: asServicePrincipal, Time: at,
					Without: rapid.SampledFrom([][]string{nil, nil, {"c"}, {"..", "x"}}).Draw(r, "without"),
				}
				for id, item := range read {
					if err := staging.Add(configurationType, port.Item{ID: id, DisplayName: item.displayName, JSON: []byte(item.document)}); err != nil {
						r.Fatal(err)
					}
				}
				got, err := staging.Settle(configurationType, reading)
				if err != nil {
					r.Fatal(err)
				}
				want := m.sync(reading.Outcome, read, reading.Without, reading.AcceptCollapse, at)
				checkSettlement(r, got, want, before, m.items)
				switch {
				case want == complete:
					refersTo[m] = referencesOf(read)
				case want == incomplete && len(read) > 0:
					refersTo[m] = referencesOf(read)
					for id := range m.names {
						refersTo[m][id] = true
					}
				}
			}
			for m, ids := range refersTo {
				m.nameReferences(ids, models)
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
			checkModel(r, v, models, seals)
		}
		if commits == 0 {
			r.Fatal("the first sync made no commit")
		}
	})
}

// modelGUIDs are ids that items have and refer to.
var modelGUIDs = []string{
	"0a0a0a0a-0000-4000-8000-000000000001", "0a0a0a0a-0000-4000-8000-000000000002", "f0f0f0f0-0000-4000-8000-000000000003",
}

// drawItems draws a list that often resembles what the backup holds.
func drawItems(r *rapid.T, m *model) map[string]modelItem {
	read := map[string]modelItem{}
	keepOneOf := rapid.SampledFrom([]int{1, 1, 1, 2, 20}).Draw(r, "keep one of")
	for i, id := range slices.Sorted(maps.Keys(m.items)) {
		if i%keepOneOf == 0 {
			read[id] = m.items[id]
		}
	}
	for range rapid.IntRange(0, 6).Draw(r, "new") {
		id := rapid.SampledFrom([]string{"a", "b", "c", "c/1", "e", "f", "g", "h", "A", "../x", "é", "CON", modelGUIDs[0], modelGUIDs[1], modelGUIDs[2]}).Draw(r, "id")
		read[id] = modelItem{document: rapid.SampledFrom([]string{
			`{}`, `{"v":1}`, `{"v":2}`, `{"script":"aGk="}`, `{"script":"aGVsbG8K","key":"a"}`, `{"key":"a"}`, `{"v":1,"key":"a"}`, `{"key":"b"}`, `{"script":"?"}`,
			`{"group":"` + modelGUIDs[0] + `"}`, `{"in":[{"x":"` + modelGUIDs[1] + `"}],"group":"` + modelGUIDs[0] + `"}`, `{"x":"` + modelGUIDs[2] + `","v":2}`,
		}).Draw(r, "document")}
	}
	return read
}

func checkSettlement(r *rapid.T, got port.Settlement, want understudyv1.ConfigurationOutcome, before, after map[string]modelItem) {
	added, modified, removed := 0, 0, 0
	for id, item := range after {
		if old, ok := before[id]; !ok {
			added++
		} else if !sameContent(old, item) {
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

// sealedFiles are those that were seen last, by path.
type sealedFiles struct {
	readers []*age.X25519Identity
	files   map[string]sealedFile
}

type sealedFile struct {
	content, secrets string
	sealedFor        int
}

// check opens a file by everybody who may, and nobody else. It has to be the one that
// there was while its secrets and who may read them are the same.
func (s sealedFiles) check(r *rapid.T, path, content, secrets string, sealedFor int) {
	for i, reader := range s.readers {
		got, err := opened(content, reader)
		if may := i < sealedFor; may != (err == nil) || (may && got != secrets) {
			r.Fatalf("%s for %d, opened by %d: %q, %v", path, sealedFor, i, got, err)
		}
	}
	now := sealedFile{content, secrets, sealedFor}
	if before := s.files[path]; before.secrets == secrets && before.sealedFor == sealedFor && before != now {
		r.Fatalf("%s was sealed again", path)
	}
	s.files[path] = now
}

// filesOfModel returns what the files of the items should be, but for sealed ones,
// and what is to be in those.
func filesOfModel(r *rapid.T, models map[string]*model) (files, secrets map[string]string, sealedFor map[string]int) {
	files, secrets, sealedFor = map[string]string{}, map[string]string{}, map[string]int{}
	for id, m := range models {
		for i, named := range slices.Sorted(maps.Keys(m.names)) {
			files[id+"/"+namesFile] += []string{"{\n", ",\n"}[min(i, 1)] + fmt.Sprintf("  %q:%s", named, m.names[named])
		}
		if len(m.names) > 0 {
			files[id+"/"+namesFile] += "\n}\n"
		}
		compiled := &rules{}
		if id == scripted.ID {
			compiled = mustCompile(r, scripted)
		}
		for item, held := range m.items {
			d, err := compiled.document([]byte(held.document), wanted{payloads: true, secrets: true})
			if err != nil {
				r.Fatal(err)
			}
			stem := id + "/" + SafeName(item)
			files[stem+fileEnding] = string(d.content)
			for _, p := range d.payloads {
				files[stem+p.suffix] = string(p.content)
			}
			if held.sealedFor > 0 {
				secrets[stem+secretsSuffix], sealedFor[stem+secretsSuffix] = string(d.secrets), held.sealedFor
			}
		}
	}
	return files, secrets, sealedFor
}

func mustCompile(r *rapid.T, t *catalog.Type) *rules {
	compiled, err := newRules(t, testKey)
	if err != nil {
		r.Fatal(err)
	}
	return compiled
}

// checkModel compares the tree of the branch with what it should be.
func checkModel(r *rapid.T, v *Vault, models map[string]*model, seals sealedFiles) {
	tip, err := v.tip(v.storage())
	if err != nil {
		r.Fatal(err)
	}
	tree, err := tip.Tree()
	if err != nil {
		r.Fatal(err)
	}
	want, secrets, sealedFor := filesOfModel(r, models)
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
	for path := range secrets {
		seals.check(r, path, got[path], secrets[path], sealedFor[path])
		delete(got, path)
	}
	for path := range seals.files {
		if _, ok := secrets[path]; !ok {
			delete(seals.files, path) // to be made anew when its item comes back
		}
	}
	if !maps.Equal(got, want) {
		r.Fatalf("the tree has %v, want %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
}
