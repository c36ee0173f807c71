package graph

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
)

func TestItemsAreTheBytesThatWereSent(t *testing.T) {
	one := `{ "id" : "a", "big":12345678901234567890.10, "e":1E+2,"name":"N", "esc":"\u00e9\/", "nested":{"id":"x","displayName":"no"} }`
	two := `{"@odata.type":"#t","id":"b","displayName":"Second","name":"not this"}`
	var server string
	f := &fakeGraph{one: func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("$skiptoken") == "" {
			fmt.Fprintf(w, `{"@odata.nextLink":%q,"value":[%s]}`, server+"/v1.0/things?$skiptoken=a%20b%2Fc", one)
			return
		}
		if got := r.URL.RawQuery; got != "$skiptoken=a%20b%2Fc" {
			t.Errorf("the next link was changed: %s", got)
		}
		fmt.Fprintf(w, `{"value":[%s] , "@odata.count":2}`, two)
	}}
	source, s := serve(t, f)
	server = s.URL
	got := read(t, source, collection("/things"))
	if got.err != nil {
		t.Fatal(got.err)
	}
	if diff := cmp.Diff(map[string]string{"a": one, "b": two}, got.json); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"N", "Second"}, got.names); diff != "" {
		t.Error(diff)
	}
	if got.stats.ItemsRead != 2 || got.stats.Requests != 2 {
		t.Errorf("stats: %+v", got.stats)
	}
}

func TestQueryAndHeaders(t *testing.T) {
	var server string
	f := &fakeGraph{one: func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("page") == "2" {
			io.WriteString(w, things(0))
			return
		}
		fmt.Fprintf(w, `{"value":[],"@odata.nextLink":%q}`, server+"/beta/x?page=2")
	}}
	source, s := serve(t, f)
	server = s.URL
	typ := &catalog.Type{ID: "test/x", Version: "beta", Path: "/dir/{tenantId}/x", Kind: catalog.Collection, Query: catalog.Query{
		Select: "id,displayName", Expand: "a($select=b;$top=5)", Filter: "name eq 'a b&c'", Top: 50,
		Headers: map[string]string{"ConsistencyLevel": "eventual", "Prefer": "odata.maxpagesize=5"},
	}}
	if got := read(t, source, typ); got.err != nil {
		t.Fatal(got.err)
	}
	want := []string{
		"/beta/dir/22222222-2222-4222-8222-222222222222/x?$select=id%2CdisplayName&$expand=a%28%24select%3Db%3B%24top%3D5%29&$filter=name%20eq%20%27a%20b%26c%27&$top=50",
		"/beta/x?page=2",
	}
	if diff := cmp.Diff(want, f.gets); diff != "" {
		t.Error(diff)
	}
	for _, h := range f.seen {
		if h.Get("ConsistencyLevel") != "eventual" || h.Get("Prefer") != "include-unknown-enum-members, odata.maxpagesize=5" ||
			h.Get("X-Ms-Throttle-Priority") != "low" || h.Get("Authorization") != "Bearer token-1" || len(h.Get("Client-Request-Id")) != 36 {
			t.Errorf("headers: %v", h)
		}
	}
}

func TestSinglePageSendsNoTop(t *testing.T) {
	f := &fakeGraph{one: ok(things(1))}
	source, _ := serve(t, f)
	typ := collection("/things")
	typ.SinglePage, typ.Top = true, 10
	if got := read(t, source, typ); got.err != nil || f.gets[0] != "/v1.0/things" {
		t.Error(got.err, f.gets)
	}
}

func TestSingleton(t *testing.T) {
	body := `{"@odata.context":"x","displayName":"Settings","n":1.0}`
	source, _ := serve(t, &fakeGraph{one: routes(map[string]http.HandlerFunc{
		"/v1.0/settings": ok(body), "/v1.0/settings/more": ok(`{"m":2}`),
	})})
	typ := &catalog.Type{
		ID: "test/settings", Version: "v1.0", Path: "/settings", Kind: catalog.Singleton,
		Children: []catalog.Child{{Name: "more", Path: "more", Kind: catalog.Singleton}},
	}
	got := read(t, source, typ)
	want := map[string]string{port.SingletonID: `{"@odata.context":"x","displayName":"Settings","n":1.0,"more":{"m":2}}`}
	if diff := cmp.Diff(want, got.json); got.err != nil || diff != "" {
		t.Error(got.err, diff)
	}
}

func TestEach(t *testing.T) {
	f := &fakeGraph{one: routes(map[string]http.HandlerFunc{
		"/v1.0/sites":           ok(`{"value":[{"id":"s,1"},{"id":"s2"},{"id":"s3"}]}`),
		"/v1.0/sites/s%2C1/tgs": ok(`{"value":[{"id":"g","displayName":"G"}]}`),
		"/v1.0/sites/s2/tgs":    ok(`{"value":[{"id":"g","displayName":"G2"}]}`),
		"/v1.0/sites/s3/tgs":    fail(404, "noStore", "this site has none"),
		"/v1.0/sites/s2/tgs/g/terms": ok(
			`{"value":[{"id":1},{"id":"2"}]}`),
		"/v1.0/sites/s%2C1/tgs/g/terms": ok(`{"value":[]}`),
		"/v1.0/profiles/a":              ok(`{"x":1}`),
		"/v1.0/profiles/b":              ok(`{"x":2}`),
	})}
	source, _ := serve(t, f)
	typ := &catalog.Type{
		ID: "test/groups", Version: "v1.0", Path: "/sites/{id}/tgs", Kind: catalog.Collection,
		Each:         &catalog.Each{Path: "/sites"},
		Children:     []catalog.Child{{Name: "terms", Path: "terms", Kind: catalog.Collection}},
		NotAvailable: []catalog.Answer{{Status: 404, Code: "NOSTORE"}},
	}
	got := read(t, source, typ)
	want := map[string]string{
		"s,1/g": `{"id":"g","displayName":"G","terms":[]}`,
		"s2/g":  `{"id":"g","displayName":"G2","terms":[{"id":1},{"id":"2"}]}`,
	}
	if diff := cmp.Diff(want, got.json); got.err != nil || diff != "" {
		t.Error(got.err, diff)
	}

	profiles := &catalog.Type{ID: "test/profiles", Version: "v1.0", Path: "/profiles/{id}", Kind: catalog.Singleton, Each: &catalog.Each{IDs: []string{"a", "b"}}}
	got = read(t, source, profiles)
	if diff := cmp.Diff(map[string]string{"a": `{"x":1}`, "b": `{"x":2}`}, got.json); got.err != nil || diff != "" {
		t.Error(got.err, diff)
	}

	typ.Path = "/nowhere/{id}"
	typ.NotAvailable = []catalog.Answer{{Status: 404}}
	if got = read(t, source, typ); !isReason(got.err, reasonFeature) {
		t.Errorf("no parent has it: %v", got.err)
	}
	typ.NotAvailable = nil
	if got = read(t, source, typ); !isReason(got.err, reasonInvalid) {
		t.Errorf("every parent failed: %v", got.err)
	}
}

func TestDetailAndChildren(t *testing.T) {
	f := &fakeGraph{one: routes(map[string]http.HandlerFunc{
		"/beta/scripts":                  ok(`{"value":[{"id":"a","displayName":"A","assignments":"stale"},{"id":"b","@odata.type":"#x.special"}]}`),
		"/beta/scripts/a":                ok(`{"id":"A","displayName":"A2","scriptContent":"c3Q=","assignments" : "stale","z":1}`),
		"/beta/scripts/b":                ok(`{"id":"b","displayName":"B"}`),
		"/beta/scripts/a/assignments":    ok(`{"value":[{"id":"1","k":1.50}]}`),
		"/beta/scripts/b/assignments":    ok(`{"value":[]}`),
		"/beta/scripts/b/settings":       ok(`{"value":[{"id":"s1"},{"id":"s2","definition":"old"}]}`),
		"/beta/scripts/b/settings/s1/d":  ok(`{"d":1}`),
		"/beta/scripts/b/settings/s2/d":  ok(`{"d":2}`),
		"/beta/scripts/a/gone":           fail(404, "ResourceNotFound", "no such thing"),
		"/beta/scripts/b/gone":           ok(`{"here":true}`),
		"/beta/elsewhere(key='a')/rules": ok(`{"value":[1]}`),
		"/beta/elsewhere(key='b')/rules": ok(`{"value":[{"r":1}]}`),
	})}
	source, _ := serve(t, f)
	typ := &catalog.Type{
		ID: "test/scripts", Version: "beta", Path: "/scripts", Kind: catalog.Collection,
		Detail: &catalog.Detail{},
		Children: []catalog.Child{
			{Name: "assignments", Path: "assignments", Kind: catalog.Collection},
			{Name: "settings", Path: "settings", Kind: catalog.Collection, When: []string{"#x.special"}, Children: []catalog.Child{
				{Name: "definition", Path: "d", Kind: catalog.Singleton},
			}},
			{Name: "gone", Path: "gone", Kind: catalog.Singleton, Absent: []catalog.Answer{{Status: 404}}},
		},
	}
	got := read(t, source, typ)
	want := map[string]string{
		"a": `{"id":"A","displayName":"A2","scriptContent":"c3Q=","z":1,"assignments":[{"id":"1","k":1.50}]}`,
		"b": `{"id":"b","displayName":"B","assignments":[],"settings":[{"id":"s1","definition":{"d":1}},{"id":"s2","definition":{"d":2}}],"gone":{"here":true}}`,
	}
	if diff := cmp.Diff(want, got.json); got.err != nil || diff != "" {
		t.Error(got.err, diff)
	}

	typ.Detail = nil
	typ.Children = []catalog.Child{{Name: "rules", Path: "/elsewhere(key='{id}')/rules", Kind: catalog.Collection}}
	got = read(t, source, typ)
	if diff := cmp.Diff([]string{"b"}, got.ids); diff != "" || !isReason(got.err, reasonInvalid) {
		t.Error("an element that is no object", diff, got.err)
	}
}

func TestChildListPages(t *testing.T) {
	var server string
	f := &fakeGraph{one: func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v1.0/things":
			io.WriteString(w, things(3))
		default:
			n := r.URL.Query().Get("n")
			if n == "" || len(n) < 3 {
				fmt.Fprintf(w, `{"value":[{"n":"%s"}],"@odata.nextLink":%q}`, n, server+r.URL.Path+"?n="+n+"x")
				return
			}
			fmt.Fprintf(w, `{"value":[{"n":"%s"}]}`, n)
		}
	}}
	source, s := serve(t, f)
	server = s.URL
	typ := collection("/things")
	typ.Children = []catalog.Child{{Name: "c", Path: "c", Kind: catalog.Collection}}
	got := read(t, source, typ)
	want := `{"id":"i1","displayName":"Thing 1","c":[{"n":""},{"n":"x"},{"n":"xx"},{"n":"xxx"}]}`
	if got.err != nil || len(got.ids) != 3 || got.json["i1"] != want {
		t.Error(got.err, got.json["i1"])
	}
	typ.Children[0].SinglePage = true
	if got = read(t, source, typ); !isReason(got.err, reasonInvalid) || len(got.ids) != 0 {
		t.Error(got.err, got.ids)
	}
}

// A child that fails makes its item unread, not the others, and the type
// incomplete.
func TestChildFailureLeavesTheItemOut(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"vanished":   fail(404, "ResourceNotFound", "gone"),
		"forbidden":  fail(403, "Forbidden", "no"),
		"broken":     ok(`{"value":[{"a":1},{"a":1,"a":2}]}`),
		"down":       fail(500, "x", "x"),
		"bad page":   ok(`{"value":[],"@odata.nextLink":"https://evil.test/v1.0/x"}`),
		"no list":    ok(`{"a":1}`),
		"null value": ok(`{"value":null}`),
	} {
		t.Run(name, func(t *testing.T) {
			source, _ := serve(t, &fakeGraph{one: routes(map[string]http.HandlerFunc{
				"/v1.0/things":      ok(things(45)),
				"/v1.0/things/*":    ok(`{"value":[]}`),
				"/v1.0/things/i7/c": h,
			})})
			typ := collection("/things")
			typ.Children = []catalog.Child{{Name: "c", Path: "c", Kind: catalog.Collection}}
			got := read(t, source, typ)
			var readError *port.ReadError
			if !errors.As(got.err, &readError) || len(got.ids) != 44 || slices.Contains(got.ids, "i7") {
				t.Fatal(got.err, len(got.ids))
			}
			if readError.Operation != "GET /v1.0/things/{id}/c" {
				t.Error(readError.Operation)
			}
		})
	}
}

// A cloud that does not have the path of a regional child does not have the child. Where
// it should be there, and of other children, the same answer is a failure.
func TestRegionalChild(t *testing.T) {
	unknown := fail(http.StatusBadRequest, "BadRequest", "Resource not found for the segment 'c'.")
	for name, test := range map[string]struct {
		answer   http.HandlerFunc
		regional bool
		paths    []catalog.Answer
		whole    bool
	}{
		"a national cloud":                  {unknown, true, catalog.UnknownPathIn("https://graph.microsoft.us"), true},
		"the global cloud":                  {unknown, true, catalog.UnknownPathIn("https://graph.microsoft.com"), false},
		"a national cloud, another child":   {unknown, false, catalog.UnknownPathIn("https://graph.microsoft.us"), false},
		"a national cloud, another failure": {fail(http.StatusNotFound, "x", "x"), true, catalog.UnknownPathIn("https://graph.microsoft.us"), false},
	} {
		t.Run(name, func(t *testing.T) {
			source, _ := serve(t, &fakeGraph{one: routes(map[string]http.HandlerFunc{
				"/v1.0/things": ok(things(1)), "/v1.0/things/*": test.answer,
			})}, func(c *Config) { c.UnknownPath = test.paths })
			typ := withChild("/things")
			typ.Children[0].Regional = test.regional
			got := read(t, source, typ)
			if test.whole && (got.err != nil || got.json["i0"] != `{"id":"i0","displayName":"Thing 0"}`) ||
				!test.whole && (!isReason(got.err, reasonInvalid) || len(got.ids) > 0) {
				t.Error(got.err, got.json)
			}
		})
	}
}

func TestDetailOfAnotherItemIsRefused(t *testing.T) {
	source, _ := serve(t, &fakeGraph{one: routes(map[string]http.HandlerFunc{
		"/v1.0/things": ok(things(2)), "/v1.0/things/i0": ok(`{"id":"i1"}`), "/v1.0/things/i1": ok(`{"id":"i1"}`),
	})})
	typ := collection("/things")
	typ.Detail = &catalog.Detail{}
	got := read(t, source, typ)
	if diff := cmp.Diff([]string{"i1"}, got.ids); diff != "" || !isReason(got.err, reasonInvalid) {
		t.Error(diff, got.err)
	}
}

func TestRepeatedItems(t *testing.T) {
	source, _ := serve(t, &fakeGraph{one: ok(`{"value":[{"id":"a","v":1},{"id":"b"},{"id":"a","v":1},{"id":"b","v":2}]}`)})
	got := read(t, source, collection("/things"))
	if diff := cmp.Diff([]string{"a", "a", "b", "b"}, got.ids); got.err != nil || diff != "" {
		t.Error(got.err, diff)
	}
}

// TestRepeatedItemsAreReadOnce: what a list says twice of an item costs its other
// requests once, also in another page; what differs is read again, and is the vault's
// to judge.
func TestRepeatedItemsAreReadOnce(t *testing.T) {
	detailed := withChild("/things")
	detailed.Detail = &catalog.Detail{}
	for name, typ := range map[string]*catalog.Type{"children": withChild("/things"), "detail and children": detailed} {
		t.Run(name, func(t *testing.T) {
			f := &fakeGraph{}
			source, server := serve(t, f)
			f.one = routes(map[string]http.HandlerFunc{
				"/v1.0/things": func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Query().Has("page") {
						io.WriteString(w, `{"value":[{"id":"b","v":1},{"id":"a","v":1},{"id":"a","v":2},{"id":"c","v":1}]}`)
						return
					}
					fmt.Fprintf(w, `{"value":[{"id":"a","v":1},{"id":"b","v":1}],"@odata.nextLink":"%s/v1.0/things?page=2"}`, server.URL)
				},
				"/v1.0/things/*": ok(`{"value":[]}`),
				"/v1.0/things/a": ok(`{"id":"a"}`),
				"/v1.0/things/b": ok(`{"id":"b"}`),
				"/v1.0/things/c": ok(`{"id":"c"}`),
			})
			got := read(t, source, typ)
			if diff := cmp.Diff([]string{"a", "a", "b", "c"}, got.ids); got.err != nil || diff != "" {
				t.Error(got.err, diff)
			}
			for id, want := range map[string]int{"a": 2, "b": 1, "c": 1} {
				if n := f.count("/v1.0/things/" + id + "/c"); n != want {
					t.Errorf("the children of %s were read %d times, want %d", id, n, want)
				}
			}
		})
	}
}

// TestRepeatedForgets: what is kept of a list does not grow with it.
func TestRepeatedForgets(t *testing.T) {
	var r repeated
	for i := range 5 * repeatedWithin {
		id := strconv.Itoa(i)
		if r.same(id, 1) || !r.same(id, 1) || r.same(id, 2) {
			t.Fatalf("item %d", i)
		}
		if n := len(r.recent) + len(r.before); n > 2*repeatedWithin {
			t.Fatalf("%d are kept", n)
		}
	}
	for back := range repeatedWithin {
		if id := strconv.Itoa(5*repeatedWithin - 1 - back); !r.same(id, 2) {
			t.Fatalf("the item %d back is forgotten", back)
		}
	}
}

func TestIdentityAndNameProperties(t *testing.T) {
	source, _ := serve(t, &fakeGraph{one: ok(`{"value":[{"id":"x","app\u0049d":"k1","title":"T"},{"title":null,"appId":7}]}`)})
	typ := collection("/things")
	typ.IdentityProperty, typ.NameProperty = "appId", "title"
	got := read(t, source, typ)
	if diff := cmp.Diff([]string{"7", "k1"}, got.ids); got.err != nil || diff != "" {
		t.Error(got.err, diff)
	}
	if diff := cmp.Diff([]string{"T", ""}, got.names); diff != "" {
		t.Error(diff)
	}
}

func TestUnsafeIDs(t *testing.T) {
	f := &fakeGraph{one: routes(map[string]http.HandlerFunc{
		"/v1.0/things":   ok(`{"value":[{"id":"../../x"},{"id":".."},{"id":""},{"displayName":"none"},{"id":"a?b#c%2F"},{"id":null}]}`),
		"/v1.0/things/*": ok(`{"value":[]}`),
	})}
	source, _ := serve(t, f)
	typ := collection("/things")
	typ.Children = []catalog.Child{{Name: "c", Path: "c", Kind: catalog.Collection}}
	got := read(t, source, typ)
	if diff := cmp.Diff([]string{"../../x", "a?b#c%2F"}, got.ids); diff != "" || !isReason(got.err, reasonInvalid) {
		t.Error(diff, got.err)
	}
	slices.Sort(f.gets)
	want := []string{"/v1.0/things", "/v1.0/things/..%2F..%2Fx/c", "/v1.0/things/a%3Fb%23c%252F/c"}
	if diff := cmp.Diff(want, f.gets); diff != "" {
		t.Error(diff)
	}
}

func TestSinkErrorEndsTheReading(t *testing.T) {
	source, _ := serve(t, &fakeGraph{one: routes(map[string]http.HandlerFunc{
		"/v1.0/things": ok(things(500)), "/v1.0/things/*": ok(`{"value":[]}`),
	})})
	typ := collection("/things")
	typ.Children = []catalog.Child{{Name: "c", Path: "c", Kind: catalog.Collection}}
	session := source.Open()
	defer session.Close()
	full := errors.New("disk full")
	calls := 0
	err := session.Read(t.Context(), typ, &fakeIdentity{}, func(port.Item) error { calls++; return full })
	if !errors.Is(err, full) || calls != 1 {
		t.Error(err, calls)
	}
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	good := Config{Endpoint: "https://graph.microsoft.com/", DirectoryID: "x"}
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"http":         func(c *Config) { c.Endpoint = "http://graph.microsoft.com" },
		"no host":      func(c *Config) { c.Endpoint = "https://" },
		"user":         func(c *Config) { c.Endpoint = "https://u:p@graph.microsoft.com" },
		"query":        func(c *Config) { c.Endpoint = "https://graph.microsoft.com?x" },
		"no directory": func(c *Config) { c.DirectoryID = "" },
		"haste":        func(c *Config) { c.RetryDelay = -1 },
		"patience":     func(c *Config) { c.RetryDelay = 3e9 },
		"limit":        func(c *Config) { c.Limits = map[string]Limit{"x": {}} },
	} {
		t.Run(name, func(t *testing.T) {
			config := good
			change(&config)
			if _, err := New(config); err == nil || strings.Contains(err.Error(), "u:p") {
				t.Error(err)
			}
		})
	}
}
