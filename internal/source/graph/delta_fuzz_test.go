package graph

import (
	"testing"

	"understudy.internal/internal/port"
)

// FuzzDeltaPage gives the parser what a server could send: what it accepts has a
// usable id for every mention, and one way to go on.
func FuzzDeltaPage(f *testing.F) {
	for _, seed := range []string{
		`{"value":[{"id":"a"},{"id":"b","@removed":{"reason":"deleted"}}],"@odata.deltaLink":"https://graph.test/v1.0/x/delta?$deltatoken=1"}`,
		`{"value":[],"@odata.nextLink":"x"}`, `{"value":[{"id":".."}],"@odata.nextLink":"x"}`, `{"value":[{"@removed":1,"id":"a"}]}`, `[]`, `{`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := parseDeltaPage(data)
		if err != nil {
			return
		}
		if (p.next == "") == (p.delta == "") {
			t.Fatalf("%q goes on in %q and %q", data, p.next, p.delta)
		}
		for _, m := range p.mentions {
			if !safeID(m.id) {
				t.Fatalf("%q has the id %q", data, m.id)
			}
		}
	})
}

// FuzzCursor: nothing but what this source wrote for a type is taken for its cursor.
func FuzzCursor(f *testing.F) {
	source := offline(f, nil)
	things := trackedThings()
	good, err := source.encodeCursor(things, cursorState{Links: [][]string{{"a", "b"}}, Items: map[string]string{"a": ""}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(good))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		state, ok := source.decodeCursor(things, port.Cursor(data))
		if !ok {
			return
		}
		digest, err := source.digest(things)
		if err != nil || state.Of != digest || len(state.Links) == 0 || state.Items == nil {
			t.Fatalf("%q is taken for a cursor: %+v", data, state)
		}
	})
}
