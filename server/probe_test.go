package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/simulator"
)

const (
	terms              = "entra/terms-of-use"
	termsPath          = "/v1.0/identityGovernance/termsOfUse/agreements"
	byUser             = understudyv1.Identity_IDENTITY_USER
	byServicePrincipal = understudyv1.Identity_IDENTITY_SERVICE_PRINCIPAL
)

// letIn lets the service principal read the terms of use.
var letIn = simulator.Scenario{Name: "application-let-in", Path: "/agreements"}

// termsOf returns the result of the terms of use.
func termsOf(t *testing.T, s *story) *understudyv1.ConfigurationResult {
	t.Helper()
	for _, event := range s.durable {
		if r := event.GetConfigurationCompleted().GetResult(); r.GetConfigurationType() == terms {
			return r
		}
	}
	t.Fatalf("the terms of use have no result:\n%s", s.text())
	return nil
}

// expectTerms demands who read the terms of use.
func (h *harness) expectTerms(s *story, identity understudyv1.Identity, learned bool) {
	h.Helper()
	if r := termsOf(h.T, s); r.GetIdentity() != identity || r.GetIdentityLearned() != learned {
		h.Errorf("the terms of use were read by %s, learned: %t; want %s, %t", r.GetIdentity(), r.GetIdentityLearned(), identity, learned)
	}
}

// learnedFile is where what was learned of a tenant is.
func (h *harness) learnedFile(tenant string) string {
	return filepath.Join(h.lab.Folder, "data", "repositories", tenant+".learned.json")
}

// lesson returns what is remembered of the terms of use; empty: nothing.
func (h *harness) lesson(tenant string) string {
	h.Helper()
	text, err := os.ReadFile(h.learnedFile(tenant))
	if os.IsNotExist(err) {
		return ""
	}
	if err != nil {
		h.Fatal(err)
	}
	var known struct {
		Lessons map[string]struct {
			Answer, User     string
			ServicePrincipal string `json:"service_principal"`
		}
	}
	if err := json.Unmarshal(text, &known); err != nil {
		h.Fatal(err)
	}
	if of := known.Lessons[terms]; of.Answer != "" && (of.User == "" || of.ServicePrincipal == "" || of.User == of.ServicePrincipal) {
		h.Errorf("the lesson does not say whose answers were compared: %s", text)
	}
	return known.Lessons[terms].Answer
}

// termsRequests counts the requests of the service principal for the terms of use.
func (h *harness) termsRequests() int {
	n := 0
	for _, r := range h.lab.simulator.Requests() {
		if r.Identity == "service-principal" && strings.HasPrefix(r.Path, termsPath) {
			n++
		}
	}
	return n
}

// TestProbeLearns: over the real assembly, what the application may read like the
// user is read by it from the next sync on, also without the user; the files stay as
// they are, the coverage says who reads; and when it may not any more the user does,
// in the same sync.
func TestProbeLearns(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.wrong(letIn)
	h.expectTerms(h.mustSync("contoso", nil, nobody), byUser, false)
	if got := h.lesson("contoso"); got != "EQUAL" {
		t.Errorf("remembered: %q, want EQUAL", got)
	}
	before := h.files("contoso")

	h.wrong(letIn, simulator.Scenario{Name: "conditional-access-block"})
	second := h.sync("contoso", nil, nobody)
	h.expectTerms(second, byServicePrincipal, true)
	if got := termsOf(t, second).GetOutcome(); got != understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_UNCHANGED {
		t.Errorf("who read it looks like a change: %s", got)
	}
	after := h.files("contoso")
	if after["coverage.json"] == before["coverage.json"] {
		t.Error("the coverage does not say that another identity reads")
	}
	delete(before, "coverage.json")
	for path, id := range before {
		if after[path] != id {
			t.Errorf("%s changed with the identity", path)
		}
	}

	h.wrong() // only users are let in again
	h.expectTerms(h.mustSync("contoso", nil, nobody), byUser, false)
	if got := h.lesson("contoso"); got != "REFUSED" {
		t.Errorf("remembered: %q, want REFUSED", got)
	}
	h.expectTerms(h.mustSync("contoso", nil, nobody), byUser, false)
	h.leaksNothing()
}

// TestProbeAnswers: whatever the application is answered, the first sync is well and
// its backup the user's; only an equal answer makes the application the reader.
func TestProbeAnswers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		wrong []simulator.Scenario
		want  string
	}{
		{"equal", []simulator.Scenario{letIn}, "EQUAL"},
		{"shorter", []simulator.Scenario{letIn, {Name: "list-collapsed", Identity: "service-principal", Path: termsPath + "$"}}, "DIFFERENT"},
		{"application-only access refused", nil, "REFUSED"},
		{"permission missing", []simulator.Scenario{letIn, {Name: "permission-missing", Identity: "service-principal", Permission: "Agreement.Read.All"}}, "REFUSED"},
		{"cut", []simulator.Scenario{letIn, {Name: "truncated-json", Identity: "service-principal", Path: termsPath + "$"}}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			h.changeTenant()
			h.wrong(c.wrong...)
			h.expectTerms(h.mustSync("contoso", nil, nobody), byUser, false)
			if got := h.lesson("contoso"); got != c.want {
				t.Errorf("remembered: %q, want %q", got, c.want)
			}
			if h.termsRequests() == 0 {
				t.Error("the application was not asked")
			}
			h.sameAsUndisturbed("contoso")
			h.wrong(letIn)
			asked := h.termsRequests()
			reader, learned := byUser, false
			if c.want == "EQUAL" {
				reader, learned = byServicePrincipal, true
			}
			h.expectTerms(h.mustSync("contoso", nil, nobody), reader, learned)
			if again := h.termsRequests() > asked; again != (c.want == "EQUAL" || c.want == "") {
				t.Errorf("remembered is %q, and the application was asked again: %t", c.want, again)
			}
			h.sameAsUndisturbed("contoso")
			h.leaksNothing()
		})
	}
}
