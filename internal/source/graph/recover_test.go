package graph

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
)

const panicMarker = "S3CRET-OF-A-PANIC"

// trap is a transport with a bug: a request whose address, or whose batch, has a text
// in it makes it panic, in the goroutine that sends the request.
type trap struct {
	handler http.Handler
	at      string
}

func (t *trap) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	if strings.Contains(r.URL.RequestURI(), t.at) || bytes.Contains(body, []byte(t.at)) {
		panic(panicMarker)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return inProcess{t.handler}.RoundTrip(r)
}

// twoPages is a list of a and b, and z in a second page.
func twoPages(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Has("page") {
		io.WriteString(w, `{"value":[{"id":"z"}]}`)
		return
	}
	io.WriteString(w, `{"value":[{"id":"a"},{"id":"b"}],"@odata.nextLink":"https://graph.test/v1.0/things?page=2"}`)
}

// TestAPanicIsAnErrorOfTheReading: wherever a bug shows, it makes one type incomplete;
// the items that it does not concern, the other types and the process go on. Only the
// log says where it was, and nothing says what the panic held.
func TestAPanicIsAnErrorOfTheReading(t *testing.T) {
	list := catalog.Child{Name: "d", Path: "d", Kind: catalog.Collection}
	detailed, deep, two := collection("/things"), withChild("/things"), withChild("/things")
	detailed.Detail = &catalog.Detail{}
	deep.Children[0].Children = []catalog.Child{list}
	two.Children = append(two.Children, list)
	each := collection("/things/{id}/c")
	each.Each = &catalog.Each{Path: "/things"}
	for name, c := range map[string]struct {
		typ   *catalog.Type
		at    string
		items []string // that are read all the same
	}{
		"the first page":                    {collection("/things"), "/things", nil},
		"the next page":                     {collection("/things"), "page=2", []string{"a", "b"}},
		"the only child":                    {withChild("/things"), "/things/a/c", []string{"b", "z"}},
		"one of two children":               {two, "/things/a/d", []string{"b", "z"}},
		"the detail":                        {detailed, "/things/b", []string{"a", "z"}},
		"below an element":                  {deep, "/e2/d", []string{"b", "z"}},
		"a parent":                          {each, "/things/b/c", []string{"a/e1", "a/e2"}},
		"every batch, and no request alone": {withChild("/things"), "$batch", []string{"a", "b", "z"}},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			broken := &trap{at: c.at, handler: &fakeGraph{one: routes(map[string]http.HandlerFunc{
				"/v1.0/things": twoPages, "/v1.0/things/*": ok(`{"value":[]}`), "/v1.0/well": ok(things(3)),
				"/v1.0/things/a": ok(`{"id":"a"}`), "/v1.0/things/b": ok(`{"id":"b"}`), "/v1.0/things/z": ok(`{"id":"z"}`),
				"/v1.0/things/a/c": ok(`{"value":[{"id":"e1"},{"id":"e2"}]}`),
			})}}
			source := offline(t, nil, func(config *Config) {
				config.HTTPClient = &http.Client{Transport: broken}
				config.Logger = slog.New(slog.NewTextHandler(&log, nil))
				config.RetryDelay = 1
			})
			got := read(t, source, c.typ)
			readError := (*port.ReadError)(nil)
			switch {
			case c.at == "$batch":
				if got.err != nil {
					t.Error(got.err)
				}
			case !errors.As(got.err, &readError) || readError.Reason != understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_RESPONSE_INVALID:
				t.Errorf("the reading ended with %v (%T)", got.err, got.err)
			}
			if fmt.Sprint(got.ids) != fmt.Sprint(c.items) {
				t.Errorf("%v were read, want %v", got.ids, c.items)
			}
			if text := log.String(); !strings.Contains(text, "recover_test.go") || !strings.Contains(text, "level=ERROR") {
				t.Errorf("the log does not say where it was: %s", text)
			}
			if text := log.String() + fmt.Sprint(got.err); strings.Contains(text, panicMarker) {
				t.Errorf("what the panic held is told: %s", text)
			}
			if well := read(t, source, collection("/well")); well.err != nil || len(well.ids) != 3 {
				t.Errorf("another type: %v, %v", well.ids, well.err)
			}
			if n := len(source.slots); n != 0 {
				t.Errorf("%d connections are still taken", n)
			}
		})
	}
}

// TestAPanicOfTheSink ends the sync: half of an item may be stored.
func TestAPanicOfTheSink(t *testing.T) {
	for name, typ := range map[string]*catalog.Type{"in the list": collection("/things"), "in an item": withChild("/things")} {
		t.Run(name, func(t *testing.T) {
			source := offline(t, &fakeGraph{one: routes(thingsAndChildren(50))})
			session := source.Open()
			defer session.Close()
			calls := 0
			err := session.Read(t.Context(), typ, &fakeIdentity{}, func(port.Item) error {
				calls++
				panic(panicMarker)
			})
			if readError := (*port.ReadError)(nil); err == nil || errors.As(err, &readError) || strings.Contains(err.Error(), panicMarker) {
				t.Errorf("the reading ended with %v (%T)", err, err)
			}
			if calls != 1 {
				t.Errorf("the sink was called %d times", calls)
			}
		})
	}
}

func TestPanicText(t *testing.T) {
	var empty []int
	for want, panics := range map[string]func(){
		"runtime error: index out of range [0] with length 0": func() { _ = empty[0] },
		"a string":              func() { panic(panicMarker) },
		"a *errors.errorString": func() { panic(errors.New(panicMarker)) },
	} {
		func() {
			defer func() {
				if got := panicText(recover()); got != want {
					t.Errorf("%q, want %q", got, want)
				}
			}()
			panics()
		}()
	}
}
