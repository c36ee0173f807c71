package graph

import (
	"bytes"
	"net/http"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// FuzzAnswers gives every parser what a server could send. What they accept is a
// part of it, byte by byte, and can be stored.
func FuzzAnswers(f *testing.F) {
	for _, seed := range []string{
		things(2), `{"value":[{"id":"a","@odata.type":"#x","children":1,"displayName":"n"}],"@odata.nextLink":"https://graph.test/v1.0/x"}`,
		`{"responses":[{"id":"0","status":200,"headers":{"Retry-After":"3"},"body":{"value":[]}},{"id":"1","status":"200"}]}`,
		`{"error":{"code":"X","message":"\u00e9"}}`, `{"value":[{"id":1}]} `, `{"value":null}`, `[]`, `{"a":1,"a":2}`, "{\"a\":\"\xff\"}",
		`{"\u0069d":"x","id":"y"}`, `{"value":[{"id":"a"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		k := &keys{id: "id", names: []string{"displayName", "name"}, children: []string{"children"}}
		check := func(e entry) {
			t.Helper()
			if !bytes.Contains(data, e.raw) || !jsontext.Value(e.raw).IsValid() {
				t.Fatalf("an item that was not sent: %q", e.raw)
			}
			full, err := withMembers(e, []member{{name: "children", raw: []byte("[]")}})
			if err != nil || !jsontext.Value(full).IsValid() {
				t.Fatalf("%q with a child is %q, %v", e.raw, full, err)
			}
		}
		original := bytes.Clone(data)
		if p, err := parsePage(data, k); err == nil {
			for _, e := range p.entries {
				check(e)
			}
		}
		if e, err := parseObject(data, k); err == nil {
			check(e)
		}
		if answers, err := parseBatch(data, 2); err == nil {
			for _, a := range answers {
				if a != nil && !bytes.Contains(data, a.body) {
					t.Fatalf("an answer that was not sent: %q", a.body)
				}
			}
		}
		parseError(data)
		if !bytes.Equal(data, original) {
			t.Fatal("the answer was changed")
		}
	})
}

// FuzzHeaders: what a server can say in headers.
func FuzzHeaders(f *testing.F) {
	for _, seed := range []string{"3", "-1", "99999999999999999999", "Fri, 31 Dec 1999 23:59:59 GMT", `Bearer error="insufficient_claims", claims="e30="`, "0.9", "NaN"} {
		f.Add(seed)
	}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, value string) {
		header := http.Header{
			"Retry-After": {value}, "Www-Authenticate": {value}, "X-Ms-Throttle-Limit-Percentage": {value}, "Request-Id": {value},
		}
		if wait, ok := retryAfter(header, now); wait < 0 || ok != (wait > 0) {
			t.Errorf("Retry-After %q is %s, %v", value, wait, ok)
		}
		if claims, ok := claimsChallenge(header); ok != (claims != "") {
			t.Errorf("claims of %q: %q, %v", value, claims, ok)
		}
		if id := requestID(header); len(id) > 64 {
			t.Errorf("request id %q", id)
		}
		newGate(Limit{Requests: 1, Per: time.Second}, time.Second).observe(now, 200, header)
	})
}
