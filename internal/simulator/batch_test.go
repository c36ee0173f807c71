package simulator_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"understudy.internal/internal/simulator"
)

// batch sends GETs as one batch.
func (x *tenant) batch(version, token string, addresses ...string) answer {
	x.t.Helper()
	parts := make([]string, len(addresses))
	for i, address := range addresses {
		parts[i] = fmt.Sprintf(`{"id":"%d","method":"GET","url":%q}`, i, address)
	}
	return x.do(http.MethodPost, x.URL()+"/"+version+"/$batch", token, `{"requests":[`+strings.Join(parts, ",")+`]}`)
}

type part struct {
	ID      string            `json:"id"`
	Status  int               `json:"status"`
	Headers map[string]string `json:"headers"`
	Body    json.RawMessage   `json:"body"`
}

func (x *tenant) parts(a answer) map[string]part {
	x.t.Helper()
	var body struct {
		Responses []part `json:"responses"`
	}
	if err := json.Unmarshal(a.body, &body); err != nil || a.status != http.StatusOK {
		x.t.Fatalf("%d %v: %.300s", a.status, err, a.body)
	}
	out := map[string]part{}
	for _, p := range body.Responses {
		out[p.ID] = p
	}
	return out
}

func TestBatch(t *testing.T) {
	t.Parallel()
	x := start(t, simulator.Config{})
	token := x.token(bySecret)
	parts := x.parts(x.batch("v1.0", token, "/groups", "/nothing", "/identityGovernance/termsOfUse/agreements", "/groups/none", "/policies/authorizationPolicy"))
	for id, want := range map[string]int{"0": 200, "1": 400, "2": 403, "3": 404, "4": 200} {
		if parts[id].Status != want {
			t.Errorf("part %s: %d %s, want %d", id, parts[id].Status, parts[id].Body, want)
		}
	}
	many := strings.Split(strings.Repeat("/groups,", 20)+"/groups", ",")
	if a := x.batch("v1.0", token, many...); a.status != http.StatusBadRequest {
		t.Errorf("21 parts: %d", a.status)
	}
	if a := x.batch("v1.0", token); a.status != http.StatusBadRequest {
		t.Errorf("no parts: %d", a.status)
	}
	if a := x.batch("v1.0", "wrong", "/groups"); a.status != http.StatusUnauthorized {
		t.Errorf("a wrong token: %d", a.status)
	}
	twice := `{"requests":[{"id":"1","method":"GET","url":"/groups"},{"id":"1","method":"GET","url":"/groups"}]}`
	if a := x.do(http.MethodPost, x.URL()+"/v1.0/$batch", token, twice); a.status != http.StatusBadRequest {
		t.Errorf("an id twice: %d", a.status)
	}
	write := `{"requests":[{"id":"1","method":"DELETE","url":"/groups"}]}`
	if p := x.parts(x.do(http.MethodPost, x.URL()+"/v1.0/$batch", token, write)); p["1"].Status != http.StatusBadRequest {
		t.Errorf("a DELETE: %d", p["1"].Status)
	}
	stats := x.Stats()
	if stats.Batches != 2 || stats.Gets != 5 || stats.Paths["service-principal /v1.0/groups"] != 1 || stats.Statuses[403] != 1 {
		t.Errorf("%+v", stats)
	}
}

func TestFaultsInBatches(t *testing.T) {
	t.Parallel()
	x := start(t, simulator.Config{})
	token := x.token(bySecret)
	err := x.SetScenarios(
		simulator.Scenario{Name: "throttled", Path: "/v1.0/groups$", RetryAfter: 3},
		simulator.Scenario{Name: "type-fails", Path: "/v1.0/applications$", Status: 500},
	)
	if err != nil {
		t.Fatal(err)
	}
	parts := x.parts(x.batch("v1.0", token, "/groups", "/applications", "/domains"))
	if p := parts["0"]; p.Status != http.StatusTooManyRequests || p.Headers["Retry-After"] != "3" {
		t.Errorf("throttled: %+v", p)
	}
	if parts["1"].Status != 500 || parts["2"].Status != 200 {
		t.Errorf("the others got %d and %d", parts["1"].Status, parts["2"].Status)
	}
	if err := x.SetScenarios(simulator.Scenario{Name: "truncated-json", Path: "/v1.0/groups$"}); err != nil {
		t.Fatal(err)
	}
	for name, a := range map[string]answer{"alone": x.get("/v1.0/groups", token), "in a batch": x.batch("v1.0", token, "/groups", "/domains")} {
		if a.status != http.StatusOK || json.Valid(a.body) || len(a.body) < 100 {
			t.Errorf("%s: %d, valid %t, %d bytes", name, a.status, json.Valid(a.body), len(a.body))
		}
	}
}

// TestLatency says that a batch waits once for all its parts.
func TestLatency(t *testing.T) {
	t.Parallel()
	const latency = 150 * time.Millisecond
	x := start(t, simulator.Config{Latency: latency})
	token := x.token(bySecret)
	begin := time.Now()
	x.parts(x.batch("v1.0", token, strings.Split(strings.Repeat("/groups,", 19)+"/groups", ",")...))
	if took := time.Since(begin); took < latency || took > 10*latency {
		t.Errorf("20 parts took %s, want one latency of %s", took, latency)
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	x := start(t, simulator.Config{Limits: true, Items: 1})
	token := x.token(bySecret)
	refused := 0
	for range 3 {
		a := x.get("/v1.0/identity/conditionalAccess/policies", token)
		if a.status == http.StatusTooManyRequests {
			refused++
			if a.header.Get("Retry-After") != "" {
				t.Error("Conditional Access says how long to wait")
			}
		}
	}
	if refused == 0 {
		t.Error("three requests at once were not too many for Conditional Access")
	}
	addresses := slices.Repeat([]string{"/deviceManagement/deviceCategories"}, 20)
	var last map[string]part
	for range 51 {
		last = x.parts(x.batch("beta", token, addresses...))
	}
	if p := last["0"]; p.Status != http.StatusTooManyRequests || p.Headers["Retry-After"] == "" {
		t.Errorf("request 1,020 of Intune within 20 s: %d %v", p.Status, p.Headers)
	}
}

// The directory counts resource units, and says how many are used.
func TestResourceUnits(t *testing.T) {
	t.Parallel()
	x := start(t, simulator.Config{Limits: true, Items: 1})
	token := x.token(bySecret)
	for path, units := range map[string]string{
		"/v1.0/groups": "1", "/v1.0/applications": "2", "/v1.0/applications?$select=id": "1", "/v1.0/applications?%24expand=owners": "3",
		"/v1.0/applications?$top=5": "1", "/v1.0/subscribedSkus": "3",
	} {
		if a := x.get(path, token); a.status != http.StatusOK || a.header.Get("x-ms-resource-unit") != units {
			t.Errorf("%s: %d, and cost %q units, not %s", path, a.status, a.header.Get("x-ms-resource-unit"), units)
		}
	}
	addresses := slices.Repeat([]string{"/subscribedSkus"}, 20)
	warned := false
	for range 200 {
		p := x.parts(x.batch("v1.0", token, addresses...))["0"]
		if p.Status == http.StatusTooManyRequests {
			if p.Headers["Retry-After"] == "" {
				t.Error("the directory does not say how long to wait")
			}
			if !warned {
				t.Error("there was no warning before the limit was reached")
			}
			return
		}
		warned = warned || p.Headers["x-ms-throttle-limit-percentage"] != ""
	}
	t.Error("12,000 resource units at once were not too many")
}
