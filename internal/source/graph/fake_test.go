package graph

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeGraph answers GETs with a handler, alone or as parts of a batch.
type fakeGraph struct {
	// one answers one GET; the path has the version.
	one http.HandlerFunc
	// batch, when set, may answer a batch itself; it returns false to leave it to
	// the fake.
	batch func(w http.ResponseWriter, parts []fakePart) bool

	// outer, when set, may answer a batch before it is read; it returns false to
	// leave it to the fake.
	outer func(w http.ResponseWriter, r *http.Request) bool

	mu    sync.Mutex
	gets  []string // paths with query, parts of batches included
	alone []string // paths with query that were no part of a batch
	sizes []int    // of batches
	seen  []http.Header
}

type fakePart struct {
	ID      string            `json:"id"`
	Method  string            `json:"method"`
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers"`
}

func (f *fakeGraph) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	version, isBatch := strings.CutSuffix(r.URL.Path, "/$batch")
	if !isBatch {
		f.record(r, false)
		f.one(w, r)
		return
	}
	if f.outer != nil && f.outer(w, r) {
		return
	}
	var body struct{ Requests []fakePart }
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		http.Error(w, "bad batch", http.StatusBadRequest)
		return
	}
	f.mu.Lock()
	f.sizes = append(f.sizes, len(body.Requests))
	f.mu.Unlock()
	if f.batch != nil && f.batch(w, body.Requests) {
		return
	}
	f.answerBatch(w, r, version, body.Requests)
}

// answerBatch answers the parts in reverse order.
func (f *fakeGraph) answerBatch(w http.ResponseWriter, r *http.Request, version string, parts []fakePart) {
	answers := make([]string, 0, len(parts))
	for _, p := range parts {
		rec := httptest.NewRecorder()
		sub := httptest.NewRequestWithContext(r.Context(), p.Method, version+p.URL, nil)
		sub.Header.Set("Authorization", r.Header.Get("Authorization"))
		for name, value := range p.Headers {
			sub.Header.Set(name, value)
		}
		f.record(sub, true)
		f.one(rec, sub)
		answers = append(answers, partAnswer(p.ID, rec.Code, rec.Header(), rec.Body.Bytes()))
	}
	slices.Reverse(answers)
	io.WriteString(w, `{"responses":[`+strings.Join(answers, ",")+`]}`)
}

func partAnswer(id string, status int, header http.Header, body []byte) string {
	headers := map[string]string{}
	for name := range header {
		headers[name] = header.Get(name)
	}
	encoded, _ := json.Marshal(headers)
	if !json.Valid(body) {
		body, _ = json.Marshal(body) // base64, as Graph does
	}
	return fmt.Sprintf(`{"id":%q,"status":%d,"headers":%s,"body":%s}`, id, status, encoded, body)
}

func (f *fakeGraph) record(r *http.Request, part bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gets = append(f.gets, r.URL.RequestURI())
	f.seen = append(f.seen, r.Header.Clone())
	if !part {
		f.alone = append(f.alone, r.URL.RequestURI())
	}
}

func (f *fakeGraph) count(prefix string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, path := range f.gets {
		if strings.HasPrefix(path, prefix) {
			n++
		}
	}
	return n
}

// routes answers by path; `*` at the end of a route matches the rest of those that
// have no route of their own.
func routes(table map[string]http.HandlerFunc) http.HandlerFunc {
	keys := slices.SortedFunc(maps.Keys(table), func(a, b string) int { return len(b) - len(a) })
	return func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.EscapedPath()
		if exact, ok := table[path]; ok {
			exact(w, r)
			return
		}
		for _, key := range keys {
			prefix, open := strings.CutSuffix(key, "*")
			if open && strings.HasPrefix(path, prefix) {
				table[key](w, r)
				return
			}
		}
		fail(http.StatusNotFound, "ResourceNotFound", "nothing here")(w, r)
	}
}

func ok(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, body) }
}

func fail(status int, code, message string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("request-id", "11111111-aaaa-4bbb-8ccc-222222222222")
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"error":{"code":%q,"message":%q}}`, code, message)
	}
}

// inTurn answers with one handler after the other, and stays with the last.
func inTurn(handlers ...http.HandlerFunc) http.HandlerFunc {
	var mu sync.Mutex
	n := 0
	return func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		h := handlers[min(n, len(handlers)-1)]
		n++
		mu.Unlock()
		h(w, r)
	}
}

// serve starts the fake over TLS and returns a source for it that does not wait
// before retries.
func serve(t testing.TB, f http.Handler, change ...func(*Config)) (*Source, *httptest.Server) {
	t.Helper()
	server := httptest.NewTLSServer(f)
	t.Cleanup(server.Close)
	client := server.Client()
	client.Transport.(*http.Transport).MaxIdleConnsPerHost = 16
	config := Config{
		Endpoint:    server.URL,
		DirectoryID: "22222222-2222-4222-8222-222222222222",
		HTTPClient:  client,
		RetryDelay:  1,
	}
	for _, c := range change {
		c(&config)
	}
	source, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Client().CloseIdleConnections)
	return source, server
}

// inProcess is a transport without a network, for tests in fake time.
type inProcess struct{ handler http.Handler }

func (p inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	type result struct{ *http.Response }
	done := make(chan result, 1)
	go func() {
		rec := httptest.NewRecorder()
		p.handler.ServeHTTP(rec, r)
		done <- result{rec.Result()}
	}()
	select {
	case r := <-done:
		return r.Response, nil
	case <-r.Context().Done():
		<-done // the handlers of these tests end with the request
		return nil, r.Context().Err()
	}
}

// offline returns a source without a network, with the real delays.
func offline(t testing.TB, f http.Handler, change ...func(*Config)) *Source {
	t.Helper()
	config := Config{
		Endpoint:    "https://graph.test",
		DirectoryID: "22222222-2222-4222-8222-222222222222",
		HTTPClient:  &http.Client{Transport: inProcess{f}},
	}
	for _, c := range change {
		c(&config)
	}
	source, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	return source
}

// fakeIdentity issues token-1, token-2 …
type fakeIdentity struct {
	mu       sync.Mutex
	issued   int
	requests []port.TokenRequest
	err      error
}

func (i *fakeIdentity) SignIn(context.Context, port.SignInOptions) (understudyv1.AuthenticationMethod, error) {
	return 0, nil
}

func (i *fakeIdentity) Token(_ context.Context, request port.TokenRequest) (port.Token, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.requests = append(i.requests, request)
	if i.err != nil {
		return port.Token{}, i.err
	}
	i.issued++
	return port.Token{Value: "token-" + strconv.Itoa(i.issued), ExpiresOn: time.Now().Add(time.Hour)}, nil
}

func (i *fakeIdentity) Fail(reason understudyv1.AuthFailureReason, _ ...string) error {
	return &fakeAuthError{reason}
}

type fakeAuthError struct {
	reason understudyv1.AuthFailureReason
}

func (e *fakeAuthError) Error() string { return e.reason.String() }
func (e *fakeAuthError) AuthFailure() *understudyv1.AuthFailure {
	return &understudyv1.AuthFailure{Reason: e.reason}
}

// result is what one Read brought.
type result struct {
	ids   []string
	names []string
	json  map[string]string
	err   error
	stats port.SourceStats
}

// read reads a type in a session of its own.
func read(t testing.TB, s *Source, configurationType *catalog.Type) result {
	t.Helper()
	return readAs(t, s, configurationType, &fakeIdentity{})
}

func readAs(t testing.TB, s *Source, configurationType *catalog.Type, identity port.Identity) result {
	t.Helper()
	session := s.Open()
	defer session.Close()
	r := result{json: map[string]string{}}
	busy := make(chan struct{}, 1)
	r.err = session.Read(t.Context(), configurationType, identity, func(item port.Item) error {
		select {
		case busy <- struct{}{}:
			defer func() { <-busy }()
		default:
			t.Error("sink was called twice at a time")
		}
		r.ids = append(r.ids, item.ID)
		r.names = append(r.names, item.DisplayName)
		r.json[item.ID] = string(bytes.Clone(item.JSON))
		return nil
	})
	slices.Sort(r.ids)
	r.stats = session.Stats()
	return r
}

func collection(path string) *catalog.Type {
	return &catalog.Type{ID: "test/things", Version: "v1.0", Path: path, Kind: catalog.Collection}
}

// things is a list of n small items in one page.
func things(n int) string {
	var b strings.Builder
	b.WriteString(`{"value":[`)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"id":"i%d","displayName":"Thing %d"}`, i, i)
	}
	b.WriteString(`]}`)
	return b.String()
}
