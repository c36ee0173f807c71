package simulator

import (
	"fmt"
	"net/http"
)

// authFault is how the token endpoint refuses.
type authFault struct {
	status               int
	oauthError, suberror string
	code                 int
	hang                 bool
	// grants are the grants that it concerns; all when empty.
	grants []string
}

// scenarioDefinition is what a scenario does.
type scenarioDefinition struct {
	name, description string
	// kind is whose sign-in it is, if the scenario does not say.
	kind string
	// options are the options that it has.
	options []string
	auth    *authFault
	// graph says what happens to an answer of Graph.
	graph func(f *fault, sc *Scenario)
	// times is how often each address is refused; 0: always.
	times int
	// share is which part of the addresses it concerns when no path is given: one
	// in so many; 0: all.
	share uint64
}

// Names that other code asks for.
const (
	neverCompleted    = "sign-in-never-completed"
	revokedMidRun     = "revoked-mid-run"
	permissionMissing = "permission-missing"
	notAvailableName  = "not-available"
	applicationLetIn  = "application-let-in"
)

const (
	grantPassword   = "password"
	grantRefresh    = "refresh_token"
	grantClient     = "client_credentials"
	grantDevice     = "urn:ietf:params:oauth:grant-type:device_code"
	grantDeviceName = "device_code"
	// beforeSignIn stands for the requests of a device code that a person has not
	// completed.
	beforeSignIn = "before the sign-in"
)

func invalidGrant(code int, suberror string) *authFault {
	return &authFault{status: http.StatusBadRequest, oauthError: "invalid_grant", suberror: suberror, code: code}
}

func interaction(code int, suberror string) *authFault {
	return &authFault{status: http.StatusBadRequest, oauthError: "interaction_required", suberror: suberror, code: code}
}

// words are what the sign-in page says to a person who is refused.
func (f *authFault) words() string {
	return fmt.Sprintf("You cannot sign in: the tenant refuses (AADSTS%d). You may close this page.", f.code)
}

// only restricts a fault to some grants.
func (f *authFault) only(grants ...string) *authFault {
	f.grants = grants
	return f
}

// definitions are all scenarios, in the order of the documentation.
var definitions = append(signInScenarios(), graphScenarios()...)

func signInScenarios() []scenarioDefinition {
	identity := []string{"identity", "after"}
	after := []string{"after"}
	return []scenarioDefinition{
		{name: "all-well", description: "Nothing goes wrong."},
		{
			name: neverCompleted, description: "Nobody completes the sign-in, and no cached one is left.",
			kind: user, options: after, auth: invalidGrant(700082, "").only(grantRefresh),
		},
		{
			name: "conditional-access-block", description: "A Conditional Access policy blocks the user (AADSTS53003).",
			kind: user, options: identity, auth: invalidGrant(53003, "message_only"),
		},
		{
			name: "mfa-required", description: "MFA is required of the user (AADSTS50076).",
			kind: user, options: after, auth: interaction(50076, "basic_action"),
		},
		{
			name: "mfa-enrolment-required", description: "The user must enrol for MFA (AADSTS50079).",
			kind: user, options: after, auth: interaction(50079, "additional_action"),
		},
		{
			name: "device-not-compliant", description: "The device does not comply with a policy (AADSTS53000).",
			kind: user, options: after, auth: interaction(53000, "message_only"),
		},
		{
			name: "wrong-password", description: "The password of the user is wrong (AADSTS50126).",
			kind: user, options: after, auth: invalidGrant(50126, "").only(grantPassword),
		},
		{
			name: "account-disabled", description: "The account of the user is disabled (AADSTS50057).",
			kind: user, options: after, auth: invalidGrant(50057, ""),
		},
		{
			name: "refresh-token-expired", description: "The cached sign-in of the user expired (AADSTS700082).",
			kind: user, options: after, auth: invalidGrant(700082, "").only(grantRefresh),
		},
		{
			name: "token-endpoint-hangs", description: "The token endpoint does not answer the user.",
			kind: user, options: identity, auth: &authFault{hang: true},
		},
		{
			name: "secret-expired", description: "The secret of the service principal expired (AADSTS7000222).",
			kind: application, options: after,
			auth: &authFault{status: http.StatusUnauthorized, oauthError: "invalid_client", code: 7000222},
		},
		{
			name:        revokedMidRun,
			description: "The identity is revoked after some requests: Graph sends a claims challenge, Entra gives no more tokens.",
			kind:        user, options: identity,
		},
	}
}

func graphScenarios() []scenarioDefinition {
	where := []string{"identity", "path", "after", "times"}
	status := append([]string{"status"}, where...)
	refuse := func(standard int) func(*fault, *Scenario) {
		return func(f *fault, sc *Scenario) {
			f.status = standard
			if sc.Status != 0 {
				f.status = sc.Status
			}
			f.code = codeOf(f.status)
		}
	}
	return []scenarioDefinition{
		{
			name:        "throttled",
			description: "Graph answers 429, once, to one address in ten, or to all of a path; with Retry-After unless it is negative.",
			options:     append([]string{"retry_after"}, where...), times: 1, share: 10,
			graph: func(f *fault, sc *Scenario) {
				f.status, f.code = http.StatusTooManyRequests, codeOf(http.StatusTooManyRequests)
				if f.retryAfter = sc.RetryAfter; sc.RetryAfter == 0 {
					f.retryAfter = 1
				}
			},
		},
		{name: "type-fails", description: "Graph refuses with a status; 403.", options: status, graph: refuse(http.StatusForbidden)},
		{name: permissionMissing, description: "A permission was not granted.", options: []string{"identity", "permission"}},
		{
			name:        applicationLetIn,
			description: "The service principal may read what is documented for users only, by the application roles with the names of the delegated permissions.",
			kind:        application, options: []string{"path"},
		},
		{
			name: notAvailableName, description: "The tenant does not have what is at a path, as Graph says it there, or with a status.",
			options: []string{"identity", "path", "status"},
		},
		{name: "truncated-json", description: "Answers are cut off, in a batch with all that follows.", options: where, graph: func(f *fault, _ *Scenario) { f.truncate = true }},
		{name: "list-collapsed", description: "Lists are suddenly short; those below an item only where the path ends with $.", options: where, graph: func(f *fault, _ *Scenario) { f.cut = true }},
		{name: "next-link-loop", description: "The next page of a list is the page itself.", options: where, graph: func(f *fault, _ *Scenario) { f.nextLink = "loop" }},
		{name: "foreign-next-link", description: "The next page of a list is on another host.", options: where, graph: func(f *fault, _ *Scenario) { f.nextLink = "foreign" }},
		{name: "page-fails", description: "The second page of a list is refused with a status; 500.", options: status, graph: refuse(http.StatusInternalServerError)},
		{name: "delta-expired", description: "Delta links are stale: Graph answers 410 and asks for a full synchronization.", options: where, graph: func(f *fault, _ *Scenario) { f.deltaExpired = true }},
		{name: "page-missing", description: "Lists end after the first page, as if there were no more; as list-collapsed.", options: where, graph: func(f *fault, _ *Scenario) { f.missing = true }},
	}
}

// Scenarios returns what can go wrong, in the order of the documentation.
func Scenarios() []ScenarioInfo {
	infos := make([]ScenarioInfo, len(definitions))
	for i := range definitions {
		d := &definitions[i]
		infos[i] = ScenarioInfo{d.name, d.description, d.tenants(), d.options}
	}
	return infos
}

// tenants says which tenants meet a scenario: a user of another method of sign-in never
// makes the requests that it refuses.
func (d *scenarioDefinition) tenants() string {
	switch {
	case d.name == neverCompleted, d.auth != nil && contains(d.auth.grants, grantRefresh):
		return "tenants whose user is delegated"
	case d.auth != nil && contains(d.auth.grants, grantPassword):
		return "tenants whose user is a service account"
	case d.kind == user:
		return "tenants with a user"
	}
	return "every tenant"
}

func scenarioNames() []string {
	names := make([]string, len(definitions))
	for i := range definitions {
		names[i] = definitions[i].name
	}
	return names
}

func definition(name string) (*scenarioDefinition, bool) {
	for i := range definitions {
		if definitions[i].name == name {
			return &definitions[i], true
		}
	}
	return nil, false
}
