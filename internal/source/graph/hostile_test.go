package graph

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
)

const (
	reasonInvalid     = understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_RESPONSE_INVALID
	reasonPermission  = understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_PERMISSION_MISSING
	reasonFeature     = understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_FEATURE_NOT_AVAILABLE
	reasonThrottled   = understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_THROTTLED
	reasonUnavailable = understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_SOURCE_UNAVAILABLE
)

func isReason(err error, reason understudyv1.ConfigurationFailureReason) bool {
	var readError *port.ReadError
	return errors.As(err, &readError) && readError.Reason == reason
}

// Every answer is tried as a first page, as a second page, and as a part of a
// batch that has innocent parts.
func TestHostileAnswers(t *testing.T) {
	raw := func(status int, header map[string]string, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for name, value := range header {
				w.Header().Set(name, value)
			}
			w.WriteHeader(status)
			io.WriteString(w, body)
		}
	}
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		want   understudyv1.ConfigurationFailureReason
	}{
		"empty":                  {ok(``), reasonInvalid},
		"cut":                    {ok(`{"value":[{"id":"a"},{"id"`), reasonInvalid},
		"cut after a value":      {ok(`{"value":[{"id":"a"}]`), reasonInvalid},
		"trailing":               {ok(`{"value":[]} x`), reasonInvalid},
		"html":                   {ok(`<html>login</html>`), reasonInvalid},
		"array":                  {ok(`[]`), reasonInvalid},
		"null":                   {ok(`null`), reasonInvalid},
		"no value":               {ok(`{"a":1}`), reasonInvalid},
		"value is an object":     {ok(`{"value":{}}`), reasonInvalid},
		"value is null":          {ok(`{"value":null}`), reasonInvalid},
		"error with 200":         {ok(`{"error":{"code":"InternalServerError","message":"x"}}`), reasonInvalid},
		"error beside a list":    {ok(`{"value":[{"id":"a"}],"error":{"code":"x","message":"y"}}`), reasonInvalid},
		"error before a list":    {ok(`{"error":{"message":"y"},"value":[{"id":"a"}]}`), reasonInvalid},
		"text of an error":       {ok(`{"value":[{"id":"a"}],"error":"x"}`), reasonInvalid},
		"item is a number":       {ok(`{"value":[1]}`), reasonInvalid},
		"item is null":           {ok(`{"value":[null]}`), reasonInvalid},
		"duplicate keys":         {ok(`{"value":[{"id":"a","x":1,"x":2}]}`), reasonInvalid},
		"duplicate value":        {ok(`{"value":[],"value":[]}`), reasonInvalid},
		"deep duplicate":         {ok(`{"value":[{"id":"a","x":{"y":[{"z":1,"\u007a":2}]}}]}`), reasonInvalid},
		"broken UTF-8":           {ok("{\"value\":[{\"id\":\"a\",\"x\":\"\xff\"}]}"), reasonInvalid},
		"too deep":               {ok(`{"value":[` + strings.Repeat("[", 20_000) + `]}`), reasonInvalid},
		"no id":                  {ok(`{"value":[{"x":1}]}`), reasonInvalid},
		"next is a number":       {ok(`{"value":[],"@odata.nextLink":1}`), reasonInvalid},
		"next, of OData 3":       {ok(`{"value":[{"id":"a"}],"odata.nextLink":"things?x=3"}`), reasonInvalid},
		"next, of OData 4.01":    {ok(`{"value":[{"id":"a"}],"@nextLink":"things?x=3"}`), reasonInvalid},
		"next is null":           {ok(`{"value":[],"@odata.nextLink":null}`), reasonInvalid},
		"next is empty":          {ok(`{"value":[],"@odata.nextLink":""}`), reasonInvalid},
		"an expanded list cut":   {ok(`{"value":[{"id":"a","p":[],"p@odata.nextLink":"https://evil.test/v1.0/x"}]}`), reasonInvalid},
		"an expanded list short": {ok(`{"value":[{"id":"a","o":{"p@odata.count":2,"p":[1]}}]}`), reasonInvalid},
		"too large":              {ok(`{"value":[{"id":"a","x":"` + strings.Repeat("x", 70_000) + `"}]}`), reasonInvalid},
		"redirect":               {raw(302, map[string]string{"Location": "https://evil.test/"}, ""), reasonInvalid},
		"400":                    {fail(400, "BadRequest", "no"), reasonInvalid},
		"404":                    {fail(404, "NotFound", "no"), reasonInvalid},
		"410":                    {fail(410, "Gone", "no"), reasonInvalid},
		"403":                    {fail(403, "Authorization_RequestDenied", "Insufficient privileges"), reasonPermission},
		"401 of a workload":      {fail(401, "Unauthorized", "no licence"), reasonPermission},
		"429":                    {fail(429, "TooManyRequests", "x"), reasonThrottled},
		"509":                    {fail(509, "x", "x"), reasonThrottled},
		"500":                    {fail(500, "x", "x"), reasonUnavailable},
		"501":                    {fail(501, "x", "x"), reasonInvalid},
		"502 html":               {raw(502, nil, "<html>"), reasonUnavailable},
		"503":                    {fail(503, "x", "x"), reasonUnavailable},
		"504":                    {fail(504, "x", "x"), reasonUnavailable},
		"404 without an error":   {raw(404, nil, "not here"), reasonInvalid},
		"403 odd error":          {raw(403, nil, `{"error":["x"]}`), reasonPermission},
		"403 for want of a role": {fail(403, "NotAdminRole", "x"), reasonPermission},
		"202":                    {raw(202, nil, things(2)), reasonInvalid},
		"204":                    {raw(204, nil, ""), reasonInvalid},
		"206":                    {raw(206, nil, things(2)), reasonInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			t.Run("first page", func(t *testing.T) {
				source, _ := serve(t, &fakeGraph{one: test.answer}, small)
				got := read(t, source, collection("/things"))
				if !isReason(got.err, test.want) {
					t.Error(got.err)
				}
			})
			t.Run("second page", func(t *testing.T) {
				var server string
				source, s := serve(t, &fakeGraph{one: func(w http.ResponseWriter, r *http.Request) {
					if r.URL.RawQuery == "" {
						fmt.Fprintf(w, `{"value":[{"id":"first"}],"@odata.nextLink":%q}`, server+"/v1.0/things?x=2")
						return
					}
					test.answer(w, r)
				}}, small)
				server = s.URL
				got := read(t, source, collection("/things"))
				if !isReason(got.err, test.want) || len(got.ids) < 1 {
					t.Error(got.err, got.ids)
				}
			})
			t.Run("part of a batch", func(t *testing.T) {
				source, _ := serve(t, &fakeGraph{one: routes(map[string]http.HandlerFunc{
					"/v1.0/things": ok(things(30)), "/v1.0/things/*": ok(`{"value":[]}`), "/v1.0/things/i3/c": test.answer,
				})}, small)
				typ := collection("/things")
				typ.Children = []catalog.Child{{Name: "c", Path: "c", Kind: catalog.Collection, SinglePage: true}}
				got := read(t, source, typ)
				if name == "no id" { // elements of a child need none
					if got.err != nil || len(got.ids) != 30 {
						t.Error(got.err, len(got.ids))
					}
					return
				}
				if !isReason(got.err, test.want) {
					t.Error(got.err)
				}
				if test.want != reasonThrottled && len(got.ids) != 29 {
					t.Errorf("%d innocent items were read", len(got.ids))
				}
			})
		})
	}
}

// small limits answers, and lets gates neither wait nor give up.
func small(c *Config) {
	c.MaxResponseBytes = 64 << 10
	c.MaxConnections = 4
	c.firstPause = 1
}

func TestForeignNextLinkIsNeverRequested(t *testing.T) {
	var hits atomic.Int32
	foreign := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits.Add(1) }))
	defer foreign.Close()
	var server string
	for name, link := range map[string]func() string{
		"another host":    func() string { return foreign.URL + "/v1.0/things?x" },
		"http":            func() string { return strings.Replace(server, "https", "http", 1) + "/v1.0/things?x" },
		"another port":    func() string { return server + "0/v1.0/things" },
		"user":            func() string { return strings.Replace(server, "//", "//evil@", 1) + "/v1.0/things" },
		"host as user":    func() string { return server + "@" + strings.TrimPrefix(foreign.URL, "https://") + "/v1.0/things" },
		"another version": func() string { return server + "/beta/things" },
		"no version":      func() string { return server + "/things" },
		"climbing":        func() string { return server + "/v1.0/../beta/things" },
		"encoded climb":   func() string { return server + "/v1.0/%2e%2e/x" },
		"relative":        func() string { return "/v1.0/things?x" },
		"no scheme":       func() string { return "//" + strings.TrimPrefix(foreign.URL, "https://") + "/v1.0/things" },
		"nonsense":        func() string { return "https://%zz" },
		"file":            func() string { return "file:///etc/passwd" },
	} {
		t.Run(name, func(t *testing.T) {
			f := &fakeGraph{}
			f.one = func(w http.ResponseWriter, _ *http.Request) {
				fmt.Fprintf(w, `{"value":[{"id":"a"}],"@odata.nextLink":%q}`, link())
			}
			source, s := serve(t, f)
			server = s.URL
			got := read(t, source, collection("/things"))
			if !isReason(got.err, reasonInvalid) || len(f.gets) != 1 || len(got.ids) != 1 {
				t.Error(got.err, f.gets, got.ids)
			}
		})
	}
	if hits.Load() != 0 {
		t.Error("the foreign host got a request")
	}
}

func TestRedirectIsNotFollowed(t *testing.T) {
	var hits atomic.Int32
	foreign := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits.Add(1) }))
	defer foreign.Close()
	source, _ := serve(t, &fakeGraph{one: func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, foreign.URL+"/v1.0/things", http.StatusTemporaryRedirect)
	}})
	if got := read(t, source, collection("/things")); !isReason(got.err, reasonInvalid) || hits.Load() != 0 {
		t.Error(got.err, hits.Load())
	}
}

func TestEndlessLists(t *testing.T) {
	var server string
	next := func(link func(n int) string) *fakeGraph {
		var n atomic.Int32
		return &fakeGraph{one: func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"value":[],"@odata.nextLink":%q}`, server+link(int(n.Add(1))))
		}}
	}
	for name, test := range map[string]struct {
		graph *fakeGraph
		most  int
	}{
		"same link":       {next(func(int) string { return "/v1.0/things?p" }), 2},
		"loop of three":   {next(func(n int) string { return fmt.Sprintf("/v1.0/things?p=%d", n%3) }), 5},
		"always new link": {next(func(n int) string { return fmt.Sprintf("/v1.0/things?p=%d", n) }), 50},
	} {
		t.Run(name, func(t *testing.T) {
			source, s := serve(t, test.graph, func(c *Config) { c.MaxPages = 50 })
			server = s.URL
			got := read(t, source, collection("/things"))
			if !isReason(got.err, reasonInvalid) || len(test.graph.gets) > test.most {
				t.Error(got.err, len(test.graph.gets))
			}
		})
	}
}

func TestEmptyPagesAreAllowed(t *testing.T) {
	var server string
	var n atomic.Int32
	source, s := serve(t, &fakeGraph{one: func(w http.ResponseWriter, _ *http.Request) {
		if i := n.Add(1); i < 30 {
			fmt.Fprintf(w, `{"value":[],"@odata.nextLink":"%s/v1.0/things?p=%d"}`, server, i)
			return
		}
		io.WriteString(w, things(2))
	}})
	server = s.URL
	if got := read(t, source, collection("/things")); got.err != nil || len(got.ids) != 2 {
		t.Error(got.err, got.ids)
	}
}

func TestTypeSizeLimit(t *testing.T) {
	var server string
	var n atomic.Int32
	source, s := serve(t, &fakeGraph{one: func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"value":[{"id":"%d","x":%q}],"@odata.nextLink":"%s/v1.0/things?p=%d"}`,
			n.Load(), strings.Repeat("x", 1000), server, n.Add(1))
	}}, func(c *Config) { c.MaxTypeBytes = 20_000 })
	server = s.URL
	got := read(t, source, collection("/things"))
	if !isReason(got.err, reasonInvalid) || n.Load() > 25 {
		t.Error(got.err, n.Load())
	}
}

// A body that ends before its time is tried again, and then no answer.
func TestBodyCutOnTheWire(t *testing.T) {
	cut := func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"value":[{"id":"a"}`)
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	f := &fakeGraph{one: inTurn(cut, cut, ok(things(1)))}
	source, _ := serve(t, f)
	if got := read(t, source, collection("/things")); got.err != nil || len(f.gets) != 3 {
		t.Error(got.err, f.gets)
	}
	f = &fakeGraph{one: cut}
	source, _ = serve(t, f)
	if got := read(t, source, collection("/things")); !isReason(got.err, reasonInvalid) || len(f.gets) != maxAttempts || len(got.ids) != 0 {
		t.Error(got.err, f.gets)
	}
}

func TestNotAvailable(t *testing.T) {
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		change func(*catalog.Type)
		want   understudyv1.ConfigurationFailureReason
		user   bool
	}{
		"for every type":              {fail(400, "BadRequest", "The REQUEST NOT applicable to target tenant."), nil, reasonFeature, false},
		"another status":              {fail(403, "BadRequest", "Request not applicable to target tenant"), nil, reasonPermission, false},
		"by code":                     {fail(403, "aadpremiumlicenserequired", "x"), nil, reasonFeature, false},
		"of the type":                 {fail(418, "Teapot", "x"), func(c *catalog.Type) { c.NotAvailable = []catalog.Answer{{Status: 418}} }, reasonFeature, false},
		"an answer that says nothing": {fail(404, "x", "x"), func(c *catalog.Type) { c.NotAvailable = []catalog.Answer{{}} }, reasonInvalid, false},
		"beta singleton 404":          {fail(404, "x", "x"), func(c *catalog.Type) { c.Kind, c.Version = catalog.Singleton, "beta" }, reasonFeature, false},
		"beta singleton 501":          {fail(501, "x", "x"), func(c *catalog.Type) { c.Kind, c.Version = catalog.Singleton, "beta" }, reasonFeature, false},
		"v1.0 singleton 404":          {fail(404, "x", "x"), func(c *catalog.Type) { c.Kind = catalog.Singleton }, reasonInvalid, false},
		"beta list 404":               {fail(404, "x", "x"), func(c *catalog.Type) { c.Version = "beta" }, reasonInvalid, false},
		"needs user":                  {fail(403, "Forbidden", "Requested API is not supported in application-only context"), nil, reasonPermission, true},
		"needs user, 412":             {fail(412, "PreconditionFailed", "Requested API is not supported in Application-Only context"), nil, reasonPermission, true},
		"needs user, me":              {fail(400, "BadRequest", "/me request is only valid with delegated authentication flow."), nil, reasonPermission, true},
	} {
		t.Run(name, func(t *testing.T) {
			source, _ := serve(t, &fakeGraph{one: test.answer}, func(c *Config) {
				c.NotAvailable = []catalog.Answer{{Status: 400, Message: "request not applicable to target tenant"}, {Code: "AadPremiumLicenseRequired"}}
			})
			typ := collection("/things")
			if test.change != nil {
				test.change(typ)
			}
			var readError *port.ReadError
			got := read(t, source, typ)
			if !errors.As(got.err, &readError) || readError.Reason != test.want || readError.NeedsUser != test.user {
				t.Fatalf("%+v", readError)
			}
			if readError.RequestID != "11111111-aaaa-4bbb-8ccc-222222222222" || readError.HTTPStatus == 0 ||
				readError.Operation != "GET /"+typ.Version+"/things" {
				t.Errorf("%+v", readError)
			}
		})
	}
}

// In the middle of a list "not available" is a failure like any other.
func TestNotAvailableInTheMiddleOfAList(t *testing.T) {
	var server string
	source, s := serve(t, &fakeGraph{one: func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery == "" {
			fmt.Fprintf(w, `{"value":[],"@odata.nextLink":%q}`, server+"/v1.0/things?x=2")
			return
		}
		fail(404, "Gone", "x")(w, r)
	}})
	server = s.URL
	typ := collection("/things")
	typ.NotAvailable = []catalog.Answer{{Status: 404}}
	if got := read(t, source, typ); !isReason(got.err, reasonInvalid) {
		t.Error(got.err)
	}
}
