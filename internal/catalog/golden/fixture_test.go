package golden

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"understudy.internal/internal/catalog"
)

// answers are bodies by version and path.
type answers map[string]json.RawMessage

// fixture is a file of testdata; see the package comment.
type fixture struct {
	// Shape says where the form of the answers is from when Microsoft documents none.
	Shape    string  `json:"shape"`
	Answers  answers `json:"answers"`
	Later    answers `json:"later"`
	Constant string  `json:"constant"`
	// AtMostOne says of array rules why no answer can have two elements to sort.
	AtMostOne map[string]string `json:"at_most_one"`
}

func fixtureFile(t *catalog.Type) string {
	return filepath.Join("testdata", filepath.FromSlash(t.ID)+".json")
}

func goldenFile(t *catalog.Type) string {
	return filepath.Join("testdata", filepath.FromSlash(t.ID)+".golden")
}

// loadFixture reads a fixture. Unknown keys, duplicate names and later answers to
// other requests are mistakes.
func loadFixture(file string) (*fixture, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if !jsontext.Value(text).IsValid() { // duplicate names, which encoding/json takes
		return nil, fmt.Errorf("%s is not JSON, or has a name twice in one object", file)
	}
	f := &fixture{}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(f); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	for path, body := range f.Later {
		if before, ok := f.Answers[path]; !ok {
			return nil, fmt.Errorf("%s: later answers %s, which answers does not have", file, path)
		} else if equalJSON(before, body) {
			return nil, fmt.Errorf("%s: the later answer to %s is no other one", file, path)
		}
	}
	if (len(f.Later) == 0) == (f.Constant == "") {
		return nil, fmt.Errorf("%s: say what is later, or in constant why nothing is", file)
	}
	return f, nil
}

// equalJSON says whether two values are equal, the order of properties apart.
func equalJSON(a, b json.RawMessage) bool {
	canonical := func(raw json.RawMessage) string {
		value := jsontext.Value(bytes.Clone(raw))
		if err := value.Format(jsontext.ReorderRawObjects(true)); err != nil {
			return string(raw)
		}
		return string(value)
	}
	return canonical(a) == canonical(b)
}

// first returns what the tenant answers to the first sync.
func (f *fixture) first() answers { return f.Answers }

// second returns what the tenant answers to the second sync: what is later, the
// properties in another order, the lists backwards.
func (f *fixture) second(t *testing.T) answers {
	t.Helper()
	out := maps.Clone(f.Answers)
	maps.Copy(out, f.Later)
	for path, body := range out {
		turned, err := turn(jsontext.Value(body), isList(body))
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		out[path] = json.RawMessage(turned)
	}
	return out
}

// isList says whether a body is that of a list: nothing but `value` and what OData
// says of it.
func isList(body json.RawMessage) bool {
	var members map[string]json.RawMessage
	if json.Unmarshal(body, &members) != nil || !bytes.HasPrefix(members["value"], []byte("[")) {
		return false
	}
	for name := range members {
		if name != "value" && !strings.HasPrefix(name, "@odata.") && !strings.HasPrefix(name, "@microsoft.graph.") {
			return false
		}
	}
	return true
}

// turn returns a value with the properties of every object backwards; of a list
// the entries too.
func turn(value jsontext.Value, list bool) (jsontext.Value, error) {
	parts, separator := []jsontext.Value(nil), []byte(",")
	decoder := jsontext.NewDecoder(bytes.NewReader(value))
	switch kind := decoder.PeekKind(); kind {
	case '{', '[':
		if _, err := decoder.ReadToken(); err != nil {
			return nil, err
		}
		for decoder.PeekKind() != '}' && decoder.PeekKind() != ']' {
			part, err := turnPart(decoder, kind == '{', list)
			if err != nil {
				return nil, err
			}
			parts = append(parts, part)
		}
		if kind == '{' {
			slices.Reverse(parts)
			return slices.Concat([]byte("{"), bytes.Join(asBytes(parts), separator), []byte("}")), nil
		}
		return slices.Concat([]byte("["), bytes.Join(asBytes(parts), separator), []byte("]")), nil
	default:
		return value, nil
	}
}

// turnPart reads the next member or element and turns its value.
func turnPart(decoder *jsontext.Decoder, member, list bool) (jsontext.Value, error) {
	var name jsontext.Value
	if member {
		read, err := decoder.ReadValue()
		if err != nil {
			return nil, err
		}
		name = append(bytes.Clone(read), ':')
	}
	value, err := decoder.ReadValue()
	if err != nil {
		return nil, err
	}
	if list && string(name) == `"value":` {
		if value, err = backwards(value); err != nil {
			return nil, err
		}
	}
	turned, err := turn(value, false)
	return append(name, turned...), err
}

// backwards returns an array with its elements in the other order.
func backwards(value jsontext.Value) (jsontext.Value, error) {
	var elements []json.RawMessage
	if err := json.Unmarshal(value, &elements); err != nil {
		return nil, err
	}
	slices.Reverse(elements)
	return json.Marshal(elements)
}

func asBytes(values []jsontext.Value) [][]byte {
	out := make([][]byte, 0, len(values))
	for _, v := range values {
		out = append(out, v)
	}
	return out
}

// tenants answers requests of many readings: which one asks is said by its token.
type tenants struct {
	mu       sync.Mutex
	readings map[string]*tenant
}

// tenant answers the requests of one reading.
type tenant struct {
	answers answers
	mu      sync.Mutex
	asked   map[string]bool
	unknown []string
}

func (s *tenants) open(token string, a answers) *tenant {
	reading := &tenant{answers: a, asked: map[string]bool{}}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.readings == nil {
		s.readings = map[string]*tenant{}
	}
	s.readings[token] = reading
	return reading
}

// ServeHTTP implements http.Handler.
func (s *tenants) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	reading := s.readings[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]
	s.mu.Unlock()
	if reading == nil {
		http.Error(w, "unknown token", http.StatusUnauthorized)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	version, batch := strings.CutSuffix(r.URL.Path, "/$batch")
	if !batch {
		status, body := reading.answer(r.URL.Path)
		w.WriteHeader(status)
		_, _ = w.Write(body)
		return
	}
	reading.answerBatch(w, r, version)
}

// part is one request or answer of a batch.
type part struct {
	ID      string            `json:"id"`
	URL     string            `json:"url,omitempty"`
	Status  int               `json:"status,omitempty"`
	Headers map[string]string `json:"headers,omitempty"`
	Body    json.RawMessage   `json:"body,omitempty"`
}

func (t *tenant) answerBatch(w http.ResponseWriter, r *http.Request, version string) {
	var parts struct {
		Requests []part `json:"requests"`
	}
	if err := json.NewDecoder(r.Body).Decode(&parts); err != nil {
		http.Error(w, "bad batch", http.StatusBadRequest)
		return
	}
	out := make([]part, 0, len(parts.Requests))
	for _, p := range parts.Requests {
		one := httptest.NewRequestWithContext(r.Context(), http.MethodGet, version+p.URL, nil)
		status, body := t.answer(one.URL.Path)
		out = append(out, part{ID: p.ID, Status: status, Body: body, Headers: map[string]string{"Content-Type": "application/json"}})
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"responses": out})
}

// answer answers a GET of a path.
func (t *tenant) answer(path string) (int, json.RawMessage) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.asked[path] = true
	body, ok := t.answers[path]
	if !ok {
		t.unknown = append(t.unknown, path)
	}
	if !ok || string(body) == "null" {
		return http.StatusNotFound, json.RawMessage(`{"error":{"code":"ResourceNotFound","message":"Resource not found."}}`)
	}
	return http.StatusOK, body
}

// check reports requests without an answer and answers without a request.
func (t *tenant) check(tb testing.TB, file string) {
	tb.Helper()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, path := range t.unknown {
		tb.Errorf("%s: no answer to GET %s, which was asked for (null answers 404)", file, path)
	}
	for _, path := range slices.Sorted(maps.Keys(t.answers)) {
		if !t.asked[path] {
			tb.Errorf("%s: the answer to GET %s was not asked for", file, path)
		}
	}
}

// fixtureIDs returns the ids of all files in testdata that end so.
func fixtureIDs(t *testing.T, ending string) []string {
	t.Helper()
	var ids []string
	err := fs.WalkDir(os.DirFS("testdata"), ".", func(path string, _ fs.DirEntry, err error) error {
		if id, ok := strings.CutSuffix(path, ending); ok {
			ids = append(ids, id)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(ids, cmp.Compare)
	return ids
}
