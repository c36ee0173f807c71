package simulator

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Scenario is what goes wrong in the tenant.
type Scenario struct {
	// Name is one of Scenarios.
	Name string `json:"name"`
	// Identity is whom it concerns: `user` or `service-principal`; as the scenario
	// says when empty.
	Identity string `json:"identity,omitempty"`
	// Path restricts a fault of Graph to paths that contain it, with version:
	// `/v1.0/groups`.
	Path string `json:"path,omitempty"`
	// Status is the HTTP status of a fault that has one.
	Status int `json:"status,omitempty"`
	// After is how many requests of the identity are answered before the fault.
	After int `json:"after,omitempty"`
	// RetryAfter is what throttled answers say; none when negative.
	RetryAfter int `json:"retry_after,omitempty"`
}

// ScenarioInfo describes a scenario.
type ScenarioInfo struct{ Name, Description string }

// authFault is how a token endpoint refuses.
type authFault struct {
	status               int
	oauthError, suberror string
	code                 int
	hang                 bool
	// grants are the grants that it concerns; all when empty.
	grants []string
}

type scenarioDefinition struct {
	description string
	kind        string // whose sign-in: `user` or `application`
	auth        *authFault
	graph       func(f *fault, sc Scenario)
}

// fault is what happens to one answer of Graph.
type fault struct {
	status     int
	code       string
	message    string
	retryAfter int
	truncate   bool
	nextLink   string // `loop` or `foreign`
	secondPage bool   // only from the second page on
	cut        bool   // fewer items than there are
	revoke     bool
}

func refusal(code int) *authFault {
	return &authFault{status: http.StatusBadRequest, oauthError: "invalid_grant", code: code}
}

func interaction(code int, suberror string) *authFault {
	return &authFault{status: http.StatusBadRequest, oauthError: "interaction_required", suberror: suberror, code: code}
}

var scenarios = []struct {
	name string
	scenarioDefinition
}{
	{"all-well", scenarioDefinition{description: "Nothing goes wrong."}},
	{"sign-in-never-completed", scenarioDefinition{description: "Nobody completes the sign-in; no cached one is left.", kind: "user",
		auth: &authFault{status: 400, oauthError: "invalid_grant", code: 700082, grants: []string{"refresh_token"}}}},
	{"conditional-access-block", scenarioDefinition{description: "A Conditional Access policy blocks the user (AADSTS53003).", kind: "user",
		auth: &authFault{status: 400, oauthError: "invalid_grant", suberror: "message_only", code: 53003}}},
	{"mfa-required", scenarioDefinition{description: "MFA is required of the user (AADSTS50076).", kind: "user", auth: interaction(50076, "basic_action")}},
	{"mfa-enrolment-required", scenarioDefinition{description: "The user must enrol for MFA (AADSTS50079).", kind: "user", auth: interaction(50079, "additional_action")}},
	{"device-not-compliant", scenarioDefinition{description: "The device does not comply (AADSTS53000).", kind: "user", auth: interaction(53000, "message_only")}},
	{"wrong-password", scenarioDefinition{description: "The password is wrong (AADSTS50126).", kind: "user", auth: refusal(50126)}},
	{"account-disabled", scenarioDefinition{description: "The account is disabled (AADSTS50057).", kind: "user", auth: refusal(50057)}},
	{"refresh-token-expired", scenarioDefinition{description: "The cached sign-in expired (AADSTS700082).", kind: "user",
		auth: &authFault{status: 400, oauthError: "invalid_grant", code: 700082, grants: []string{"refresh_token"}}}},
	{"revoked-mid-run", scenarioDefinition{description: "The identity is revoked after some requests: a claims challenge, then no more tokens.",
		graph: func(f *fault, _ Scenario) { f.revoke = true }}},
	{"token-endpoint-hangs", scenarioDefinition{description: "The token endpoint does not answer the user.", kind: "user", auth: &authFault{hang: true}}},
	{"secret-expired", scenarioDefinition{description: "The service principal's secret expired (AADSTS7000222).", kind: "application",
		auth: &authFault{status: 401, oauthError: "invalid_client", code: 7000222}}},
	{"throttled", scenarioDefinition{description: "Graph answers 429 to every third request.",
		graph: func(f *fault, sc Scenario) {
			f.status, f.code, f.retryAfter = 429, "TooManyRequests", sc.RetryAfter
		}}},
	{"type-fails", scenarioDefinition{description: "Graph refuses a path with a status (403, 404, 500 …).",
		graph: func(f *fault, sc Scenario) {
			f.status, f.code = sc.Status, map[int]string{403: "Authorization_RequestDenied", 404: "ResourceNotFound", 500: "InternalServerError"}[sc.Status]
		}}},
	{"truncated-json", scenarioDefinition{description: "Answers of a path are cut off.", graph: func(f *fault, _ Scenario) { f.truncate = true }}},
	{"list-collapsed", scenarioDefinition{description: "Lists of a path are suddenly short.", graph: func(f *fault, _ Scenario) { f.cut = true }}},
	{"next-link-loop", scenarioDefinition{description: "The next page of a path is the page itself.", graph: func(f *fault, _ Scenario) { f.nextLink = "loop" }}},
	{"foreign-next-link", scenarioDefinition{description: "The next page of a path is on another host.", graph: func(f *fault, _ Scenario) { f.nextLink = "foreign" }}},
	{"page-fails", scenarioDefinition{description: "The second page of a path fails.", graph: func(f *fault, sc Scenario) {
		f.secondPage, f.status, f.code = true, 500, "InternalServerError"
		if sc.Status != 0 {
			f.status = sc.Status
		}
	}}},
}

// Scenarios returns what can go wrong, in the order of the documentation.
func Scenarios() []ScenarioInfo {
	infos := make([]ScenarioInfo, len(scenarios))
	for i, s := range scenarios {
		infos[i] = ScenarioInfo{s.name, s.description}
	}
	return infos
}

func definition(name string) (scenarioDefinition, bool) {
	for _, s := range scenarios {
		if s.name == name {
			return s.scenarioDefinition, true
		}
	}
	return scenarioDefinition{}, false
}

// state is what changes at run time.
type state struct {
	scenarios      []Scenario
	epochs         map[string]int
	refreshTokens  map[string]int
	devices        map[string]*deviceGrant
	deviceInterval int
	counts         map[string]int
	removed        map[string]bool
	changed        map[string]int
	requests       []Request
	seen           map[string]int
	closed         chan struct{}
}

// Request is one request that the simulator saw. A part of a batch is one too.
type Request struct {
	Method   string `json:"method"`
	Path     string `json:"path"`
	Status   int    `json:"status"`
	Identity string `json:"identity"`
}

// maxRequests bounds the log of requests.
const maxRequests = 10_000

// Reset makes the tenant as it was at the start: all well, nothing signed in.
func (s *Simulator) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	closed := s.closed
	if closed == nil {
		closed = make(chan struct{})
	}
	s.state = state{
		epochs: map[string]int{}, refreshTokens: map[string]int{}, devices: map[string]*deviceGrant{}, deviceInterval: 1,
		counts: map[string]int{}, removed: map[string]bool{}, changed: map[string]int{}, seen: map[string]int{}, closed: closed,
	}
	for path, n := range s.config.Counts {
		s.counts[strings.ToLower(path)] = n
	}
}

// SetScenarios says what goes wrong from now on, in place of what did. Cached
// sign-ins stay.
func (s *Simulator) SetScenarios(list ...Scenario) error {
	for _, sc := range list {
		if _, ok := definition(sc.Name); !ok {
			return fmt.Errorf("no scenario is called %q", sc.Name)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.scenarios = list
	s.seen = map[string]int{}
	return nil
}

// SetCount says how many items a collection has: `/v1.0/groups`.
func (s *Simulator) SetCount(path string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[strings.ToLower(path)] = n
}

// ChangeItem changes the content of an item of a collection, by its number.
func (s *Simulator) ChangeItem(path string, i int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed[fmt.Sprintf("%s#%d", strings.ToLower(path), i)]++
}

// RemoveItem removes an item of a collection, by its number.
func (s *Simulator) RemoveItem(path string, i int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.removed[fmt.Sprintf("%s#%d", strings.ToLower(path), i)] = true
}

// Requests returns what was asked, oldest first.
func (s *Simulator) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.requests...)
}

func (s *Simulator) note(r *http.Request, identity string) {
	s.noteAnswer(r.Method, r.URL.Path, 0, identity)
}

func (s *Simulator) noteAnswer(method, path string, status int, identity string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.requests) < maxRequests {
		s.requests = append(s.requests, Request{Method: method, Path: path, Status: status, Identity: identity})
	}
}

// authFault returns what is wrong with a sign-in.
func (s *Simulator) authFault(kind, grant string) (authFault, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sc := range s.scenarios {
		d, _ := definition(sc.Name)
		if sc.Name == "revoked-mid-run" && s.epochs[kind] > 0 && kindOf(sc.Identity, "user") == kind {
			return authFault{status: 400, oauthError: "invalid_grant", code: 50173}, true
		}
		if d.auth == nil || kindOf(sc.Identity, d.kind) != kind {
			continue
		}
		if len(d.auth.grants) > 0 && !contains(d.auth.grants, grant) {
			continue
		}
		return *d.auth, true
	}
	return authFault{}, false
}

func kindOf(identity, standard string) string {
	switch identity {
	case "service-principal":
		return "application"
	case "user":
		return "user"
	}
	return standard
}

func contains(list []string, s string) bool {
	for _, e := range list {
		if e == s {
			return true
		}
	}
	return false
}

// graphFault returns what is wrong with an answer of Graph.
func (s *Simulator) graphFault(kind, path string, secondPage bool) fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen[kind]++
	var f fault
	for _, sc := range s.scenarios {
		d, _ := definition(sc.Name)
		if d.graph == nil || (sc.Identity != "" && kindOf(sc.Identity, "") != kind) ||
			(sc.Path != "" && !strings.Contains(strings.ToLower(path), strings.ToLower(sc.Path))) {
			continue
		}
		if sc.Name == "revoked-mid-run" {
			if kind != kindOf(sc.Identity, "user") || s.seen[kind] <= sc.After {
				continue
			}
			if s.epochs[kind] == 0 {
				s.epochs[kind] = 1
			}
			continue // the epoch does it
		}
		if sc.Name == "throttled" && s.seen[kind]%3 != 0 {
			continue
		}
		next := fault{}
		d.graph(&next, sc)
		if next.secondPage && !secondPage {
			continue
		}
		f = next
	}
	return f
}

// hang answers nothing until the client goes away or the simulator is closed.
func (s *Simulator) hang(r *http.Request) {
	select {
	case <-r.Context().Done():
	case <-s.closed:
	case <-time.After(10 * time.Minute):
	}
}
