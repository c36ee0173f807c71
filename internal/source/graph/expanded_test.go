package graph

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
)

// expandedGraph answers a list of three items, of which i1 is the one given, and the
// pages below /v1.0/things/i1/.
func expandedGraph(t *testing.T, item string, pages map[string]string) (*Source, *fakeGraph) {
	t.Helper()
	var server string
	f := &fakeGraph{one: func(w http.ResponseWriter, r *http.Request) {
		body, ok := pages[strings.TrimPrefix(r.URL.RequestURI(), "/v1.0/things/i1/")]
		switch {
		case r.URL.Path == "/v1.0/things":
			body = `{"value":[{"id":"i0"},` + item + `,{"id":"i2"}]}`
		case !ok:
			fail(http.StatusForbidden, "Forbidden", "x")(w, r)
			return
		}
		io.WriteString(w, strings.ReplaceAll(body, "SERVER", server+"/v1.0/things/i1"))
	}}
	source, s := serve(t, f, small, func(c *Config) { c.MaxPages = 5 })
	server = s.URL
	return source, f
}

// A list of $expand that goes on is read to its end, wherever it is in the item.
func TestExpandedListsAreRead(t *testing.T) {
	for name, test := range map[string]struct {
		item  string
		pages map[string]string
		want  string
	}{
		"one page": {
			`{"id":"i1","policies":[{"id":"a"}],"policies@odata.nextLink":"SERVER/p?2","x":1.0}`,
			map[string]string{"p?2": `{"value":[{"id":"b"},{"id":"c"}]}`},
			`{"id":"i1","policies":[{"id":"a"},{"id":"b"},{"id":"c"}],"x":1.0}`,
		},
		"three pages, the link before the list": {
			`{"id":"i1","policies@odata.nextLink":"SERVER/p?2","policies":[]}`,
			map[string]string{
				"p?2": `{"value":[{"id":"b"}],"@odata.nextLink":"SERVER/p?3"}`, "p?3": `{"@odata.nextLink":"SERVER/p?4","value":[]}`,
				"p?4": `{"value":[{"id":"c"}]}`,
			},
			`{"id":"i1","policies":[{"id":"b"},{"id":"c"}]}`,
		},
		"further down": {
			`{"id":"i1","a":{"b":[{"c":[1,{}],"d":[{"n":1}],"d@odata.nextLink":"SERVER/d"},{"d":[]}]}}`,
			map[string]string{"d": `{"value":[{"n":2}]}`},
			`{"id":"i1","a":{"b":[{"c":[1,{}],"d":[{"n":1},{"n":2}]},{"d":[]}]}}`,
		},
		"in what is read": {
			`{"id":"i1","a":[],"a@odata.nextLink":"SERVER/a","a@odata.count":1}`,
			map[string]string{
				"a": `{"value":[{"b":[{"n":1}],"b@odata.nextLink":"SERVER/b"}]}`, "b": `{"value":[{"n":2}]}`,
			},
			`{"id":"i1","a":[{"b":[{"n":1},{"n":2}]}],"a@odata.count":1}`,
		},
		"with an escape, of OData 4.01": {
			`{"id":"i1","a":[],"a\u0040nextLin\u006b":"SERVER/a"}`,
			map[string]string{"a": `{"value":[{"n":1}]}`},
			`{"id":"i1","a":[{"n":1}]}`,
		},
		"it says how long it is": {
			`{"id":"i1","a@odata.count":2,"a":[{"n":1}, {"n":2}],"b@odata.count":1,"b":[1,2],"c@odata.count":3}`, nil,
			`{"id":"i1","a@odata.count":2,"a":[{"n":1}, {"n":2}],"b@odata.count":1,"b":[1,2],"c@odata.count":3}`,
		},
		"a text that looks like it": {
			`{"id":"i1","a":"a@odata.nextLink", "b":"\u003cx>","c@odata.context":"SERVER"}`, nil,
			"",
		},
	} {
		t.Run(name, func(t *testing.T) {
			source, f := expandedGraph(t, test.item, test.pages)
			got := read(t, source, collection("/things"))
			if test.want == "" {
				test.want = strings.ReplaceAll(test.item, "SERVER", source.endpoint.String()+"/v1.0/things/i1")
			}
			if diff := cmp.Diff(map[string]string{"i0": `{"id":"i0"}`, "i1": test.want, "i2": `{"id":"i2"}`}, got.json); got.err != nil || diff != "" {
				t.Error(got.err, diff)
			}
			if len(f.gets) != 1+len(test.pages) {
				t.Error(f.gets)
			}
		})
	}
}

// An item with a list that is cut is not read; the others are.
func TestExpandedListsThatAreCut(t *testing.T) {
	deep := strings.Repeat(`{"o":`, maxExpandedDepth+1) + `{"a":[],"a@odata.nextLink":"SERVER/a"}` + strings.Repeat(`}`, maxExpandedDepth+1)
	for name, test := range map[string]struct {
		properties, page string
		permission       bool
	}{
		"the rest is refused":        {`"a":[],"a@odata.nextLink":"SERVER/other"`, ``, true},
		"the rest is an error":       {`"a":[],"a@odata.nextLink":"SERVER/a"`, `{"error":{"code":"x"}}`, false},
		"the rest is cut":            {`"a":[],"a@odata.nextLink":"SERVER/a"`, `{"value":[{"n":1}`, false},
		"the rest has no objects":    {`"a":[],"a@odata.nextLink":"SERVER/a"`, `{"value":[1]}`, false},
		"the rest repeats":           {`"a":[],"a@odata.nextLink":"SERVER/a"`, `{"value":[{"n":1}],"@odata.nextLink":"SERVER/a"}`, false},
		"what it has is cut":         {`"a":[],"a@odata.nextLink":"SERVER/a"`, `{"value":[{"b":[],"b@odata.count":1}]}`, false},
		"on another host":            {`"a":[],"a@odata.nextLink":"https://evil.test/v1.0/things/i1/a"`, `{"value":[]}`, false},
		"of another version":         {`"a":[],"a@odata.nextLink":"SERVER/../../../beta/a"`, `{"value":[]}`, false},
		"relative":                   {`"a":[],"a@odata.nextLink":"a"`, `{"value":[]}`, false},
		"empty":                      {`"a":[],"a@odata.nextLink":""`, `{"value":[]}`, false},
		"no text":                    {`"a":[],"a@odata.nextLink":1`, `{"value":[]}`, false},
		"of nothing":                 {`"a@odata.nextLink":"SERVER/a"`, `{"value":[]}`, false},
		"of an object":               {`"a":{},"a@odata.nextLink":"SERVER/a"`, `{"value":[]}`, false},
		"of null":                    {`"a":null,"a@odata.nextLink":"SERVER/a"`, `{"value":[]}`, false},
		"of the item":                {`"@odata.nextLink":"SERVER/a"`, `{"value":[]}`, false},
		"of an object further down":  {`"o":{"value":[],"@odata.nextLink":"SERVER/a"}`, `{"value":[]}`, false},
		"it says that it is longer":  {`"a":[1],"a@odata.count":2`, ``, false},
		"so, further down":           {`"o":[[{"a@odata.count":1,"a":[]}]]`, ``, false},
		"longer than with the rest":  {`"a":[{}],"a@odata.nextLink":"SERVER/a","a@odata.count":3`, `{"value":[{}]}`, false},
		"deeper than anybody nests":  {`"o":` + deep, `{"value":[]}`, false},
		"its first page of too many": {`"a":[],"a@odata.nextLink":"SERVER/p1"`, ``, false},
	} {
		t.Run(name, func(t *testing.T) {
			pages := map[string]string{"a": test.page}
			for i := range 10 {
				pages[fmt.Sprintf("p%d", i)] = fmt.Sprintf(`{"value":[],"@odata.nextLink":"SERVER/p%d"}`, i+1)
			}
			source, f := expandedGraph(t, `{"id":"i1",`+test.properties+`}`, pages)
			got := read(t, source, collection("/things"))
			reason := reasonInvalid
			if test.permission {
				reason = reasonPermission
			}
			if !isReason(got.err, reason) || !slices.Equal(got.ids, []string{"i0", "i2"}) {
				t.Error(got.err, got.json)
			}
			if f.count("/beta") > 0 {
				t.Error(f.gets)
			}
		})
	}
}

// Wherever an object comes from.
func TestExpandedListsEverywhere(t *testing.T) {
	const cut, whole = `"a":[{"n":1}],"a@odata.nextLink":"SERVER/a"`, `"a":[{"n":1},{"n":2}]`
	pages := map[string]string{"a": `{"value":[{"n":2}]}`}
	child := func(kind catalog.Kind) *catalog.Type {
		typ := collection("/things/i1/list")
		typ.Children = []catalog.Child{{Name: "c", Path: "c", Kind: kind}}
		return typ
	}
	detailed := collection("/things/i1/list")
	detailed.Detail = &catalog.Detail{}
	for name, test := range map[string]struct {
		typ   *catalog.Type
		pages map[string]string
		id    string
		want  string
	}{
		"a singleton": {singleton("/things/i1/object"), map[string]string{"object": `{` + cut + `}`}, port.SingletonID, `{` + whole + `}`},
		"a detail": {
			detailed,
			map[string]string{"list": `{"value":[{"id":"x","a":[],"a@odata.nextLink":"no"}]}`, "list/x": `{"id":"x",` + cut + `}`},
			"x", `{"id":"x",` + whole + `}`,
		},
		"an object of an item": {
			child(catalog.Singleton), map[string]string{"list": `{"value":[{"id":"x"}]}`, "list/x/c": `{` + cut + `}`}, "x", `{"id":"x","c":{` + whole + `}}`,
		},
		"an element of an item": {
			child(catalog.Collection),
			map[string]string{"list": `{"value":[{"id":"x"}]}`, "list/x/c": `{"value":[{` + cut + `}]}`},
			"x",
			`{"id":"x","c":[{` + whole + `}]}`,
		},
		"a list that is read on its own": {
			child(catalog.Collection),
			map[string]string{"list": `{"value":[{"id":"x","c@odata.nextLink":"no","c":[{}]}]}`, "list/x/c": `{"value":[{"n":1}]}`},
			"x",
			`{"id":"x","c":[{"n":1}]}`,
		},
		"its link alone": {
			child(catalog.Collection),
			map[string]string{"list": `{"value":[{"id":"x","c@odata.nextLink":"no"}]}`, "list/x/c": `{"value":[]}`},
			"x",
			`{"id":"x","c":[]}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			test.pages["a"] = pages["a"]
			source, _ := expandedGraph(t, "", test.pages)
			got := read(t, source, test.typ)
			if diff := cmp.Diff(map[string]string{test.id: test.want}, got.json); got.err != nil || diff != "" {
				t.Error(got.err, diff)
			}
		})
	}
}

// A reading by delta reads the rest of a list, too, and becomes a full one where it
// cannot.
func TestExpandedListsByDelta(t *testing.T) {
	for name, test := range map[string]struct {
		item, rest string
		mode       understudyv1.ReadMode
	}{
		"whole":     {`{"id":"b","p":[],"p@odata.nextLink":"SERVER/v1.0/things/b/rest"}`, `{"value":[{}]}`, modeDelta},
		"no rest":   {`{"id":"b","p":[],"p@odata.nextLink":"SERVER/v1.0/things/b/rest"}`, `{"error":{}}`, modeFull},
		"too short": {`{"id":"b","p":[],"p@odata.count":1}`, ``, modeFull},
	} {
		t.Run(name, func(t *testing.T) {
			g := newTrackedGraph(t, "a", "b")
			since := g.begun(t)
			g.pages = []deltaAnswer{{value: `{"id":"b"}`}}
			g.answers["/b"] = ok(strings.ReplaceAll(test.item, "SERVER", g.server))
			g.answers["/b/rest"] = ok(test.rest)
			r := g.readSince(t, trackedThings(), since)
			if r.err != nil || r.Mode != test.mode || (g.count("/v1.0/things/b/rest") > 0) != (test.rest != "") {
				t.Errorf("%+v, %v", r, g.gets)
			}
		})
	}
}
