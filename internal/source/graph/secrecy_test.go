package graph

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// Tokens, claims, queries, ids and the provider's words are in no error and no
// log, whatever goes wrong.
func TestNothingLeaks(t *testing.T) {
	markers := []string{"token-", "MARKER", "access_token", "skiptoken", "eyJ"}
	var log lockedBuffer
	logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var server string
	for name, one := range map[string]http.HandlerFunc{
		"forbidden":   fail(403, "MARKER", "MARKER says no"),
		"bad request": fail(400, "MARKER", "MARKER"),
		"down":        fail(500, "MARKER", "MARKER"),
		"challenge": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("WWW-Authenticate", `Bearer error="insufficient_claims", claims="eyJhY2Nlc3NfdG9rZW4iOiJNQVJLRVIifQ=="`)
			fail(401, "MARKER", "x")(w, r)
		},
		"cut":       ok(`{"value":[{"id":"MARKER"`),
		"duplicate": ok(`{"value":[{"MARKER":1,"MARKER":2}]}`),
		"odd id": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("request-id", "MARKER token-1")
			fail(403, "x", "x")(w, r)
		},
		"foreign next": ok(`{"value":[],"@odata.nextLink":"https://MARKER.test/?$skiptoken=MARKER"}`),
		"closed":       func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"second page": func(w http.ResponseWriter, r *http.Request) {
			if !strings.Contains(r.URL.RawQuery, "skiptoken") {
				fmt.Fprintf(w, `{"value":[{"id":"MARKER-id"}],"@odata.nextLink":%q}`, server+"/v1.0/things?$skiptoken=MARKER")
				return
			}
			panic(http.ErrAbortHandler)
		},
		"child": routes(map[string]http.HandlerFunc{"/v1.0/things": ok(`{"value":[{"id":"MARKER-id"}]}`), "/v1.0/things/*": fail(403, "MARKER", "MARKER")}),
		"well":  func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, things(1)) },
	} {
		t.Run(name, func(t *testing.T) {
			source, s := serve(t, &fakeGraph{one: one}, func(c *Config) { c.Logger = logger })
			server = s.URL
			typ := withChild("/things")
			typ.Filter = "name eq 'MARKER'"
			got := read(t, source, typ)
			text := fmt.Sprintf("%v %+v %#v", got.err, got.err, got.err)
			for _, marker := range markers {
				if strings.Contains(text, marker) {
					t.Errorf("the error holds %s: %s", marker, text)
				}
			}
		})
	}
	out := log.String()
	if !strings.Contains(out, "graph request") || !strings.Contains(out, "GET /v1.0/things/{id}/c") {
		t.Error("the log says nothing")
	}
	for _, marker := range markers {
		if strings.Contains(out, marker) {
			t.Errorf("the log holds %s", marker)
		}
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
