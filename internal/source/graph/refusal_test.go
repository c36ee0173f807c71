package graph

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
)

// Objects that are none, each with the status 200.
func noObjects() map[string]string {
	return map[string]string{
		"error":                       `{"error":{"code":"InternalServerError","message":"x"}}`,
		"error with annotations":      `{"@odata.context":"x","error":{"code":"x","innerError":{}}}`,
		"error with other content":    `{"error":{"code":"x"},"displayName":"x"}`,
		"error, escaped":              `{"\u0065rror":{"\u0063ode":"x"}}`,
		"error without a code":        `{"error":{"message":"x"}}`,
		"error in a word":             `{"error":"Unauthorized"}`,
		"error with a capital":        `{"Error":{"Message":"x"},"displayName":"x"}`,
		"errors":                      `{"errors":[{"code":"x"}],"displayName":"x"}`,
		"error of older OData":        `{"odata.error":{"code":"x"}}`,
		"error as an annotation":      `{"@odata.context":"x","@odata.error":{"code":"x"}}`,
		"bare error":                  `{"code":"Forbidden","message":"x"}`,
		"bare error of ASP.NET":       `{"Message":"x","ExceptionType":"y","StackTrace":"z"}`,
		"bare error and annotations":  `{"@odata.context":"x","message":"x","innerError":{"request-id":"y"}}`,
		"no error and nothing else":   `{"@odata.context":"x","error":null}`,
		"a value that is null":        `{"@odata.context":"x","value":null}`,
		"a list without elements":     `{"@odata.context":"x","value":[]}`,
		"a list in an object":         `{"@odata.context":"x","value":[{"id":"i1","displayName":"x"}]}`,
		"a list of older OData":       `{"odata.metadata":"x","value":[]}`,
		"nothing":                     `{}`,
		"nothing but a context":       `{"@odata.context":"x"}`,
		"nothing but annotations":     `{"@odata.context":"x","@odata.etag":"y","members@odata.context":"z"}`,
		"a list":                      `[{"id":"i1"}]`,
		"no JSON":                     `<html>`,
		"an object and something":     `{"x":1}{"x":1}`,
		"an object that ends early":   `{"id":"i1","x":`,
		"null":                        `null`,
		"an object with a name twice": `{"id":"i1","x":1,"x":2}`,
	}
}

// An answer that is no object takes the place of none that was backed up, wherever one
// is asked for; what is beside it is read.
func TestNoObject(t *testing.T) {
	others := noObjects()
	others["another item"] = `{"id":"i2","displayName":"x"}`
	others["an item without an id"] = `{"displayName":"x"}`
	for name, body := range others {
		_, anywhere := noObjects()[name]
		t.Run("detail/"+name, func(t *testing.T) {
			source, _ := serve(t, &fakeGraph{one: func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/v1.0/things":
					ok(things(3))(w, r)
				case "/v1.0/things/i1":
					ok(body)(w, r)
				default:
					fmt.Fprintf(w, `{"id":%q}`, r.URL.Path[len("/v1.0/things/"):])
				}
			}}, small)
			typ := collection("/things")
			typ.Detail = &catalog.Detail{}
			got := read(t, source, typ)
			if !isReason(got.err, reasonInvalid) || !slices.Equal(got.ids, []string{"i0", "i2"}) {
				t.Error(got.err, got.json)
			}
		})
		if !anywhere {
			continue
		}
		t.Run("singleton/"+name, func(t *testing.T) {
			source, _ := serve(t, &fakeGraph{one: ok(body)}, small)
			if got := read(t, source, singleton("/settings")); !isReason(got.err, reasonInvalid) || len(got.ids) > 0 {
				t.Error(got.err, got.json)
			}
		})
		t.Run("child/"+name, func(t *testing.T) {
			source, _ := serve(t, &fakeGraph{one: routes(map[string]http.HandlerFunc{
				"/v1.0/things": ok(things(3)), "/v1.0/things/*": ok(`{"x":1}`), "/v1.0/things/i1/c": ok(body),
			})}, small)
			got := read(t, source, withChildObject())
			if !isReason(got.err, reasonInvalid) || !slices.Equal(got.ids, []string{"i0", "i2"}) {
				t.Error(got.err, got.json)
			}
		})
	}
}

// What only looks like an error is content.
func TestNoRefusal(t *testing.T) {
	for name, body := range map[string]string{
		"an object with an id":        `{"id":"i0","error":{"code":"Conflict","message":"One unit was not added."}}`,
		"no error":                    `{"status":"x","error":null}`,
		"an object with an id, too":   `{"errors":["x"],"id":"i0"}`,
		"no errors":                   `{"status":"x","errors":[ ]}`,
		"a message, and more":         `{"message":"Welcome","isEnabled":true}`,
		"a value, and more":           `{"value":null,"isEnabled":true}`,
		"a value that is an object":   `{"value":{"isEnabled":true}}`,
		"further down":                `{"eventStatus":{"error":{"code":"x"}}}`,
		"an annotation and a content": `{"@odata.context":"x","n":null}`,
	} {
		t.Run(name, func(t *testing.T) {
			source, _ := serve(t, &fakeGraph{one: ok(body)})
			got := read(t, source, singleton("/settings"))
			if diff := cmp.Diff(map[string]string{port.SingletonID: body}, got.json); got.err != nil || diff != "" {
				t.Error(got.err, diff)
			}
		})
	}
	t.Run("beside a list", func(t *testing.T) {
		source, _ := serve(t, &fakeGraph{one: ok(`{"error":null,"errors":[],"value":[{"id":"a","error":{"code":"x"}}]}`)})
		if got := read(t, source, collection("/things")); got.err != nil || len(got.ids) != 1 {
			t.Error(got.err, got.json)
		}
	})
	t.Run("beside changes", func(t *testing.T) {
		for body, want := range map[string]error{
			`{"value":[],"@odata.deltaLink":"x","error":null}`:         nil,
			`{"value":[],"@odata.deltaLink":"x","error":{"code":"x"}}`: errRefusal,
			`{"value":[],"@odata.deltaLink":"x","Errors":["x"]}`:       errRefusal,
		} {
			if _, err := parseDeltaPage([]byte(body)); !errors.Is(err, want) {
				t.Error(body, err)
			}
		}
	})
	t.Run("a detail whose select leaves the id out", func(t *testing.T) {
		source, _ := serve(t, &fakeGraph{one: routes(map[string]http.HandlerFunc{
			"/v1.0/things": ok(things(1)), "/v1.0/things/i0": ok(`{"script":"x"}`),
		})})
		typ := collection("/things")
		typ.Detail = &catalog.Detail{Query: catalog.Query{Select: "displayName, script"}}
		if got := read(t, source, typ); got.err != nil || got.json["i0"] != `{"script":"x"}` {
			t.Error(got.err, got.json)
		}
	})
}

// An error beside a list makes it none, however it is written.
func TestErrorBesideAList(t *testing.T) {
	for _, name := range []string{"error", "Error", "errors", "ERRORS", "odata.error", "@odata.error"} {
		for _, value := range []string{`{"code":"x"}`, `{"message":"x"}`, `"x"`, `[{}]`} {
			source, _ := serve(t, &fakeGraph{one: ok(fmt.Sprintf(`{"value":[{"id":"a"}],%q:%s}`, name, value))}, small)
			if got := read(t, source, collection("/things")); !isReason(got.err, reasonInvalid) || len(got.ids) > 0 {
				t.Error(name, value, got.err, got.json)
			}
		}
	}
}

// OData says with 204 that a property with one object is null, and before it had that
// with an annotation: the item is complete without it.
func TestChildIsNull(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"204":  func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) },
		"null": ok(`{"@odata.context":"x","@odata.null":true}`),
	} {
		t.Run(name, func(t *testing.T) {
			source, _ := serve(t, &fakeGraph{one: routes(map[string]http.HandlerFunc{
				"/v1.0/things": ok(things(3)), "/v1.0/things/*": ok(`{"x":1}`), "/v1.0/things/i1/c": answer,
			})}, small)
			got := read(t, source, withChildObject())
			want := map[string]string{
				"i0": `{"id":"i0","displayName":"Thing 0","c":{"x":1}}`,
				"i1": `{"id":"i1","displayName":"Thing 1"}`,
				"i2": `{"id":"i2","displayName":"Thing 2","c":{"x":1}}`,
			}
			if diff := cmp.Diff(want, got.json); got.err != nil || diff != "" {
				t.Error(got.err, diff)
			}
		})
	}
	// Or with an object of nothing but annotations, where the catalog knows that there
	// may be none.
	for name, test := range map[string]struct {
		body   string
		absent []catalog.Answer
		whole  bool
	}{
		"annotations":               {`{"@odata.context":"x","@odata.etag":"y"}`, []catalog.Answer{{Status: 404}}, true},
		"annotations, never absent": {`{"@odata.context":"x"}`, nil, false},
		"nothing at all":            {`{}`, []catalog.Answer{{Status: 404}}, false},
		"a shell":                   {`{"@odata.context":"x","value":null}`, []catalog.Answer{{Status: 404}}, false},
		"an error":                  {`{"@odata.context":"x","@odata.error":{}}`, []catalog.Answer{{Status: 404}}, false},
		"no error and nothing else": {`{"@odata.context":"x","error":null}`, []catalog.Answer{{Status: 404}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			source, _ := serve(t, &fakeGraph{one: routes(map[string]http.HandlerFunc{
				"/v1.0/things": ok(things(1)), "/v1.0/things/*": ok(test.body),
			})}, small)
			typ := withChildObject()
			typ.Children[0].Absent = test.absent
			got := read(t, source, typ)
			if test.whole && (got.err != nil || got.json["i0"] != `{"id":"i0","displayName":"Thing 0"}`) ||
				!test.whole && (!isReason(got.err, reasonInvalid) || len(got.ids) > 0) {
				t.Error(got.err, got.json)
			}
		})
	}
	t.Run("not a list", func(t *testing.T) {
		source, _ := serve(t, &fakeGraph{one: routes(map[string]http.HandlerFunc{
			"/v1.0/things":   ok(things(1)),
			"/v1.0/things/*": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) },
		})}, small)
		if got := read(t, source, withChild("/things")); !isReason(got.err, reasonInvalid) || len(got.ids) > 0 {
			t.Error(got.err, got.json)
		}
	})
	t.Run("not the type itself", func(t *testing.T) {
		source, _ := serve(t, &fakeGraph{one: ok(`{"@odata.null":true}`)}, small)
		if got := read(t, source, singleton("/settings")); !isReason(got.err, reasonInvalid) || len(got.ids) > 0 {
			t.Error(got.err, got.json)
		}
	})
}

// A child of which the catalog asks for the id has one.
func TestChildWithoutTheIDThatWasAskedFor(t *testing.T) {
	for body, whole := range map[string]bool{`{"id":"c1","n":1}`: true, `{"n":1}`: false, `{"id":"","n":1}`: false} {
		source, _ := serve(t, &fakeGraph{one: routes(map[string]http.HandlerFunc{
			"/v1.0/things": ok(things(1)), "/v1.0/things/*": ok(body),
		})}, small)
		typ := withChildObject()
		typ.Children[0].Select = "n,id"
		if got := read(t, source, typ); whole != (got.err == nil) || whole != (len(got.ids) == 1) {
			t.Error(body, got.err, got.json)
		}
	}
}

func singleton(path string) *catalog.Type {
	return &catalog.Type{ID: "test/settings", Version: "v1.0", Path: path, Kind: catalog.Singleton}
}

// withChildObject is a type whose items have an object each.
func withChildObject() *catalog.Type {
	typ := collection("/things")
	typ.Children = []catalog.Child{{Name: "c", Path: "c", Kind: catalog.Singleton}}
	return typ
}
