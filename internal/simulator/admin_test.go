package simulator_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"understudy.internal/internal/simulator"
)

func TestAdmin(t *testing.T) {
	t.Parallel()
	x := start(t, simulator.Config{})
	token := x.token(bySecret)
	for _, c := range []struct {
		method, path, body string
		status             int
		says               string
	}{
		{"GET", "/scenarios", "", 200, `"conditional-access-block"`},
		{"GET", "/scenario", "", 200, `[]`},
		{"PUT", "/scenario", `{"name":"type-fails","path":"/v1.0/groups"}`, 200, `"path":"/v1.0/groups"`},
		{"GET", "/scenario", "", 200, `[{"name":"type-fails","path":"/v1.0/groups"}]`},
		{"PUT", "/scenario", `{"name":"nope"}`, 400, `there is no such scenario`},
		{"PUT", "/scenario", `{"name":"type-fails","colour":"red"}`, 400, `unknown field \"colour\"`},
		{"PUT", "/scenario", `[{"name":"all-well"},{"name":"type-fails","status":1}]`, 400, `between 400 and 599`},
		{"PUT", "/scenario", `{"name":`, 400, `not what is expected`},
		{"PUT", "/scenario", `[] []`, 400, `more than one value`},
		{"GET", "/scenario", "", 200, `"path":"/v1.0/groups"`}, // what was refused changed nothing
		{"PUT", "/scenario", `[]`, 200, `[]`},
		{"POST", "/items", `{"path":"/v1.0/groups","action":"count","count":7}`, 200, `"count":7`},
		{"POST", "/items", `{"path":"/v1.0/groups","action":"remove","item":1}`, 200, `"item":1`},
		{"POST", "/items", `{"path":"/v1.0/groups","action":"change"}`, 200, `"action":"change"`},
		{"POST", "/items", `{"path":"/v1.0/nothing","action":"change"}`, 400, `is no collection`},
		{"POST", "/items", `{"path":"/v1.0/groups","action":"paint"}`, 400, `must be change, rename, remove or count`},
		{"POST", "/items", `{"path":"/v1.0/groups","action":"count","count":-1}`, 400, `must not be negative`},
		{"POST", "/devicelogin", `{"answer":"complete"}`, 404, `no sign-in waits`},
		{"POST", "/devicelogin", `{"answer":"maybe"}`, 400, `must be complete or decline`},
		{"GET", "/requests", "", 200, `/oauth2/v2.0/token`},
		{"GET", "/stats", "", 200, `"tokens":{"service-principal":1}`},
		{"DELETE", "/scenario", "", 405, ""},
	} {
		a := x.do(c.method, x.AdminURL()+c.path, "", c.body)
		if a.status != c.status || !strings.Contains(string(a.body), c.says) {
			t.Errorf("%s %s %s: %d %s; want %d with %s", c.method, c.path, c.body, a.status, a.body, c.status, c.says)
		}
	}
	if got := x.page("/v1.0/groups", token); len(got) != 6 {
		t.Errorf("%d groups, want 7 without 1", len(got))
	}
	if a := x.do("POST", x.AdminURL()+"/reset", "", ""); a.status != http.StatusOK {
		t.Errorf("reset: %d", a.status)
	}
	if got := x.page("/v1.0/groups", token); len(got) != 4 {
		t.Errorf("%d groups after the reset, want 4", len(got))
	}
}

// TestAdminIsForLoopback keeps pages of other sites out, also those whose name was
// made to lead here.
func TestAdminIsForLoopback(t *testing.T) {
	t.Parallel()
	x := start(t, simulator.Config{})
	for _, c := range []struct {
		host, origin string
		status       int
	}{
		{"", "", 200},
		{"localhost:9444", "", 200},
		{"localhost", "http://localhost:3000", 200},
		{"[::1]:9444", "", 200},
		{"evil.example", "", 403},
		{"127.0.0.1.evil.example:9444", "", 403},
		{"", "https://evil.example", 403},
		{"", "null", 403},
	} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, x.AdminURL()+"/scenario", nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.host != "" {
			request.Host = c.host
		}
		if c.origin != "" {
			request.Header.Set("Origin", c.origin)
		}
		response, err := x.client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != c.status {
			t.Errorf("host %q, origin %q: %d, want %d", c.host, c.origin, response.StatusCode, c.status)
		}
	}
}

func TestRequestsAreBounded(t *testing.T) {
	t.Parallel()
	x := start(t, simulator.Config{Items: 1})
	token := x.token(bySecret)
	addresses := strings.Split(strings.Repeat("/groups,", 19)+"/domains", ",")
	for range 501 {
		if a := x.batch("v1.0", token, addresses...); a.status != http.StatusOK {
			t.Fatal(a.status)
		}
	}
	all := x.Requests()
	if len(all) != 10_000 || all[len(all)-1].Path != "/v1.0/groups" || all[0].Path != "/v1.0/domains" {
		t.Errorf("%d requests, from %v to %v", len(all), all[0], all[len(all)-1])
	}
	text, err := json.Marshal(all[0])
	if err != nil || string(text) != `{"method":"GET","path":"/v1.0/domains","status":200,"identity":"service-principal"}` {
		t.Errorf("%s %v", text, err)
	}
	if stats := x.Stats(); stats.Gets != 501*20 {
		t.Errorf("%d gets", stats.Gets)
	}
}
