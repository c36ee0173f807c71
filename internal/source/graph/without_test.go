package graph

import (
	"fmt"
	"net/http"
	"slices"
	"testing"

	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
)

// A parent that is listed but says that it does not have the type is told apart from
// one that has no items: nothing is known of what there was of it.
func TestParentsWithoutTheType(t *testing.T) {
	parents := ok(`{"value":[{"id":"b"},{"id":"a"},{"id":"c"}]}`)
	list := func(typ *catalog.Type) { typ.Each = &catalog.Each{Path: "/sites"} }
	byIDs := func(typ *catalog.Type) { typ.Each = &catalog.Each{IDs: []string{"c", "b", "a"}} }
	object := func(typ *catalog.Type) {
		list(typ)
		typ.Kind = catalog.Singleton
	}
	none := fail(http.StatusNotFound, "NotFound", "x")
	for name, test := range map[string]struct {
		change  func(*catalog.Type)
		answers map[string]http.HandlerFunc
		ids     []string
		without []string
		failed  bool
	}{
		"one":          {list, map[string]http.HandlerFunc{"b": none}, []string{"a/i0", "c/i0"}, []string{"b"}, false},
		"of fixed ids": {byIDs, map[string]http.HandlerFunc{"c": none, "a": none}, []string{"b/i0"}, []string{"a", "c"}, false},
		"an object":    {object, map[string]http.HandlerFunc{"b": none}, []string{"a", "c"}, []string{"b"}, false},
		"no items":     {list, map[string]http.HandlerFunc{"b": ok(`{"value":[]}`)}, []string{"a/i0", "c/i0"}, nil, false},
		"all":          {list, map[string]http.HandlerFunc{"a": none, "b": none, "c": none}, nil, nil, true},
		"and another that failed": {
			list, map[string]http.HandlerFunc{"b": none, "c": fail(http.StatusForbidden, "x", "x")}, []string{"a/i0"}, nil, true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			source, _ := serve(t, &fakeGraph{one: func(w http.ResponseWriter, r *http.Request) {
				var parent string
				if _, err := fmt.Sscanf(r.URL.Path, "/v1.0/sites/%1s/tgs", &parent); err != nil {
					parents(w, r)
				} else if answer := test.answers[parent]; answer != nil {
					answer(w, r)
				} else {
					fmt.Fprintf(w, `{"name":%q,"value":[{"id":"i0"}]}`, parent)
				}
			}}, small)
			typ := collection("/sites/{id}/tgs")
			typ.NotAvailable = []catalog.Answer{{Status: http.StatusNotFound}}
			test.change(typ)
			session := source.Open()
			defer session.Close()
			var ids []string
			increment, err := session.ReadSince(t.Context(), typ, &fakeIdentity{}, nil, func(i port.Item) error {
				ids = append(ids, i.ID)
				return nil
			})
			slices.Sort(ids)
			if (err != nil) != test.failed || increment.Mode != modeFull || !slices.Equal(increment.Without, test.without) || !slices.Equal(ids, test.ids) {
				t.Errorf("%+v, %v, items %v", increment, err, ids)
			}
		})
	}
}
