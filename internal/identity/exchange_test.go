package identity

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func TestParseAnswer(t *testing.T) {
	const id = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
	for name, c := range map[string]struct {
		body string
		want answer
	}{
		"all of it": {
			`{"error":"invalid_grant","suberror":"message_only","error_codes":[53003,50076],"correlation_id":"` + id + `","trace_id":"` + id + `"}`,
			answer{oauth: "invalid_grant", suberror: "message_only", codes: []int{53003, 50076}, correlation: id, trace: id},
		},
		"one code, not in a list":     {`{"error_codes":53003}`, answer{codes: []int{53003}}},
		"codes as text":               {`{"error_codes":["53003","x",{},null,1.5,50076]}`, answer{codes: []int{53003, 50076}}},
		"numbers out of range":        {`{"error_codes":[-1,0,123456789,53003]}`, answer{codes: []int{53003}}},
		"the code in the description": {`{"error_description":"AADSTS7000222: expired"}`, answer{codes: []int{7000222}}},
		"a code in the middle":        {`{"error_description":"see AADSTS7000222"}`, answer{}},
		"a list wins":                 {`{"error_codes":[50076],"error_description":"AADSTS53003: x"}`, answer{codes: []int{50076}}},
		"capitals and spaces":         {`{"error":"Invalid Grant","suberror":"a b"}`, answer{}},
		"ids that are none":           {`{"correlation_id":"x","trace_id":"` + id + ` "}`, answer{}},
		"null":                        {`null`, answer{}},
		"a list":                      {`[]`, answer{}},
		"nothing":                     {``, answer{}},
	} {
		got := parseAnswer(400, http.Header{}, []byte(c.body), now)
		c.want.status = 400
		if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(answer{})); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"": 0, "0": 0, "-5": 0, "7": 7 * time.Second, "99999999999": 24 * time.Hour, "1.5": 0, "soon": 0,
		"Mon, 23 Nov 2026 12:01:00 GMT": time.Minute, "Mon, 23 Nov 2026 11:59:00 GMT": 0, "Mon, 23 Nov 2099 12:00:00 GMT": 24 * time.Hour,
		"9223372036854775808": 0,
	} {
		if got := retryAfter(value, now); got != want {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
}

// FuzzParseAnswer says that only words, ids and codes come through, whatever a
// service answers, and that every answer has a reason and a sentence.
func FuzzParseAnswer(f *testing.F) {
	f.Add(400, "5", `{"error":"invalid_grant","suberror":"message_only","error_codes":[53003],"error_description":"AADSTS53003: x"}`)
	f.Add(503, "Mon, 23 Nov 2026 12:01:00 GMT", `<html>`)
	f.Add(200, "", `{"access_token":"MARKER"}`)
	f.Add(401, "-1", `{"error":7,"error_codes":["53003",{}],"trace_id":[]}`)
	f.Add(-1, "\x00", "{\"error\":\"\\ud800\"}")
	f.Fuzz(func(t *testing.T, status int, after, body string) {
		a := parseAnswer(status, http.Header{"Retry-After": {after}}, []byte(body), now)
		for _, word := range []string{a.oauth, a.suberror} {
			if word != "" && !oauthWord.MatchString(word) {
				t.Errorf("the word %q", word)
			}
		}
		for _, id := range []string{a.correlation, a.trace} {
			if id != "" && !uuid.MatchString(id) {
				t.Errorf("the id %q", id)
			}
		}
		if len(a.codes) > maxCodes || a.retryAfter < 0 || a.retryAfter > maxRetryAfter {
			t.Errorf("%+v", a)
		}
		for _, code := range a.codes {
			if code <= 0 || code > maxCode {
				t.Errorf("the code %d", code)
			}
		}
		x := &exchange{asked: true, last: a}
		for _, w := range []who{theUser, theApp, account} {
			failure := classify(w, errUnreachable, x).failure
			if !w.canBe(failure.GetReason()) || failure.GetReason() == 0 || failure.GetRemedyActor() == 0 || strings.Contains(failure.GetMessage(), "%!") {
				t.Errorf("%v", failure)
			}
			if failure.GetRetryable() != (failure.GetRetryDelay() != nil) {
				t.Errorf("%v", failure)
			}
		}
	})
}
