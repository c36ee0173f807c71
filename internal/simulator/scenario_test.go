package simulator_test

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
	"understudy.internal/internal/simulator"
)

func TestSignInScenarios(t *testing.T) {
	t.Parallel()
	x := start(t, simulator.Config{})
	refresh := func() url.Values {
		token, _ := x.grant(byPassword).json["refresh_token"].(string)
		return url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}}
	}
	for _, c := range []struct {
		scenario string
		// What password, refresh token and client secret get: 0 is a token.
		password, refresh, secret int
		oauth, suberror           string
	}{
		{"all-well", 0, 0, 0, "", ""},
		{"sign-in-never-completed", 0, 700082, 0, "invalid_grant", ""},
		{"conditional-access-block", 53003, 53003, 0, "invalid_grant", "message_only"},
		{"conditional-access-block:identity=service-principal", 0, 0, 53003, "invalid_grant", "message_only"},
		{"mfa-required", 50076, 50076, 0, "interaction_required", "basic_action"},
		{"mfa-enrolment-required", 50079, 50079, 0, "interaction_required", "additional_action"},
		{"device-not-compliant", 53000, 53000, 0, "interaction_required", "message_only"},
		{"wrong-password", 50126, 0, 0, "invalid_grant", ""},
		{"account-disabled", 50057, 50057, 0, "invalid_grant", ""},
		{"refresh-token-expired", 0, 700082, 0, "invalid_grant", ""},
		{"secret-expired", 0, 0, 7000222, "invalid_client", ""},
	} {
		sc, err := simulator.ParseScenario(c.scenario)
		if err != nil {
			t.Fatal(err)
		}
		if err := x.SetScenarios(); err != nil {
			t.Fatal(err)
		}
		cached := refresh()
		if err := x.SetScenarios(sc); err != nil {
			t.Fatal(err)
		}
		for _, grant := range []struct {
			form url.Values
			want int
		}{{byPassword, c.password}, {cached, c.refresh}, {bySecret, c.secret}} {
			x.expectGrant(c.scenario, grant.form, grant.want, c.oauth, c.suberror)
		}
	}
}

// expectGrant demands a token, or a refusal as Entra words it, with a marker.
func (x *tenant) expectGrant(name string, form url.Values, code int, oauth, suberror string) {
	x.t.Helper()
	a := x.grant(form)
	kind := form.Get("grant_type")
	if code == 0 {
		if a.status != http.StatusOK {
			x.t.Errorf("%s, %s: %d %s, want a token", name, kind, a.status, a.body)
		}
		return
	}
	codes, _ := a.json["error_codes"].([]any)
	given, _ := a.json["suberror"].(string)
	if a.status < 400 || a.json["error"] != oauth || given != suberror || len(codes) != 1 || codes[0] != float64(code) {
		x.t.Errorf("%s, %s: %d %s, want AADSTS%d", name, kind, a.status, a.body, code)
	}
	if description, _ := a.json["error_description"].(string); !strings.Contains(description, "SIMRAW") {
		x.t.Errorf("%s, %s: the description has no marker", name, kind)
	}
}

func TestRevokedMidRun(t *testing.T) {
	t.Parallel()
	for identity, form := range map[string]url.Values{"user": byPassword, "service-principal": bySecret} {
		x := start(t, simulator.Config{})
		token := x.token(form)
		other := x.token(map[string]url.Values{"user": bySecret, "service-principal": byPassword}[identity])
		if err := x.SetScenarios(simulator.Scenario{Name: "revoked-mid-run", Identity: identity, After: 2}); err != nil {
			t.Fatal(err)
		}
		for i, want := range []int{200, 200, 401, 401} {
			a := x.get("/v1.0/groups", token)
			if a.status != want {
				t.Errorf("%s: request %d got %d, want %d", identity, i, a.status, want)
			}
			challenge := a.header.Get("WWW-Authenticate")
			if want == 401 && (!strings.Contains(challenge, "insufficient_claims") || !strings.Contains(challenge, "claims=")) {
				t.Errorf("%s: no claims challenge: %q", identity, challenge)
			}
		}
		if a := x.get("/v1.0/groups", other); a.status != http.StatusOK {
			t.Errorf("%s: the other identity got %d", identity, a.status)
		}
		code, oauth := 50173, "invalid_grant"
		if identity == "service-principal" {
			code, oauth = 7000112, "unauthorized_client"
		}
		x.expectGrant(identity, form, code, oauth, "")
		if err := x.SetScenarios(); err != nil {
			t.Fatal(err)
		}
		if a := x.get("/v1.0/groups", token); a.status != http.StatusUnauthorized {
			t.Errorf("%s: a revoked token got %d when all is well again", identity, a.status)
		}
		if a := x.get("/v1.0/groups", x.token(form)); a.status != http.StatusOK {
			t.Errorf("%s: a new token got %d", identity, a.status)
		}
	}
}

// TestTypeScenarios reads a type as the product does and holds what it says of it
// against the scenario.
func TestTypeScenarios(t *testing.T) {
	t.Parallel()
	const (
		missing     = understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_PERMISSION_MISSING
		invalid     = understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_RESPONSE_INVALID
		unavailable = understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_SOURCE_UNAVAILABLE
		absent      = understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_FEATURE_NOT_AVAILABLE
		throttled   = understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_THROTTLED
	)
	for _, c := range []struct {
		scenario string
		items    int
		reason   understudyv1.ConfigurationFailureReason
	}{
		{"all-well", 40, 0},
		{"type-fails:path=/v1.0/groups", 0, missing},
		{"type-fails:path=/v1.0/groups,status=404", 0, invalid},
		{"type-fails:path=/v1.0/groups,status=500", 0, unavailable},
		{"type-fails:path=/v1.0/groups,status=200", 0, invalid},
		{"type-fails:path=/v1.0/groups$,status=503,times=2", 40, 0},
		{"type-fails:path=/groups/*/owners", 0, missing},
		{"type-fails:path=/v1.0/groupSettings", 40, 0},
		{"permission-missing:permission=Group.Read.All,identity=user", 40, 0},
		{"not-available:path=/v1.0/groups", 0, absent},
		{"truncated-json:path=/v1.0/groups$", 0, invalid},
		{"truncated-json:path=/groups/*/owners", 0, invalid},
		{"list-collapsed:path=/v1.0/groups", 10, 0},
		{"next-link-loop:path=/v1.0/groups$", 80, invalid}, // what is volatile differs,
		{"foreign-next-link:path=/v1.0/groups$", 40, invalid},
		{"page-fails:path=/v1.0/groups", 10, unavailable},
		{"page-fails:path=/v1.0/groups,status=403", 10, missing},
		{"page-missing:path=/v1.0/groups", 10, 0},
		{"throttled:path=/v1.0/groups$,times=-1,retry_after=-1", 0, throttled},
		{"throttled:path=/v1.0/groups$,retry_after=1", 40, 0},
	} {
		t.Run(c.scenario, func(t *testing.T) {
			t.Parallel()
			x := start(t, simulator.Config{Counts: map[string]int{"/v1.0/groups": 40}})
			sc, err := simulator.ParseScenario(c.scenario)
			if err != nil {
				t.Fatal(err)
			}
			if err := x.SetScenarios(sc); err != nil {
				t.Fatal(err)
			}
			r := x.reader()
			items, err := r.read(t.Context(), typeOf(t, "entra/groups"), r.application)
			var readError *port.ReadError
			errors.As(err, &readError)
			if (err == nil) != (c.reason == 0) || (readError != nil && readError.Reason != c.reason) {
				t.Errorf("got %v, want %s", err, c.reason)
			}
			if len(items) != c.items {
				t.Errorf("%d items, want %d", len(items), c.items)
			}
		})
	}
}

// TestThrottledOnce says what a whole tenant does when it throttles: one address in
// ten, once.
func TestThrottledOnce(t *testing.T) {
	t.Parallel()
	x := start(t, simulator.Config{Items: 1})
	token := x.token(bySecret)
	if err := x.SetScenarios(simulator.Scenario{Name: "throttled", RetryAfter: -1}); err != nil {
		t.Fatal(err)
	}
	refused := 0
	for _, entry := range types(t) {
		if len(entry.ServicePrincipal) == 0 || entry.Each != nil {
			continue
		}
		path := "/" + entry.Version + strings.ReplaceAll(entry.Path, "{tenantId}", directory)
		a := x.get(path, token)
		if a.status == http.StatusOK {
			continue
		}
		refused++
		if a.status != http.StatusTooManyRequests || a.header.Get("Retry-After") != "" {
			t.Errorf("%s: %d, Retry-After %q", path, a.status, a.header.Get("Retry-After"))
		}
		if a = x.get(path, token); a.status != http.StatusOK {
			t.Errorf("%s: %d at the second time", path, a.status)
		}
	}
	if refused < 10 || refused > 60 {
		t.Errorf("%d addresses were throttled", refused)
	}
}

func TestPermissionMissing(t *testing.T) {
	t.Parallel()
	x := start(t, simulator.Config{DelegatedScopes: []string{"Policy.Read.All"}})
	application, user := x.token(bySecret), x.token(byPassword)
	expect := func(when, path, token string, status int) {
		t.Helper()
		a := x.get(path, token)
		if a.status != status {
			t.Errorf("%s: %s got %d, want %d", when, path, a.status, status)
		}
		if status == http.StatusForbidden && (x.code(a) != "Authorization_RequestDenied" || !strings.Contains(string(a.body), "SIMRAW")) {
			t.Errorf("%s: %s", when, a.body)
		}
	}
	policies, groups := "/v1.0/identity/conditionalAccess/policies", "/v1.0/groups"
	expect("configured", policies, application, 200)
	expect("configured", policies, user, 200)
	expect("configured", groups, application, 200)
	expect("configured", groups, user, 403)
	if err := x.SetScenarios(simulator.Scenario{Name: "permission-missing", Permission: "Policy.Read.All"}); err != nil {
		t.Fatal(err)
	}
	expect("of both", policies, application, 403)
	expect("of both", policies, user, 403)
	expect("of both", groups, application, 200)
	if err := x.SetScenarios(simulator.Scenario{Name: "permission-missing", Permission: "Policy.Read.All", Identity: "user"}); err != nil {
		t.Fatal(err)
	}
	expect("of the user", policies, application, 200)
	expect("of the user", policies, user, 403)
}

func TestParseScenario(t *testing.T) {
	t.Parallel()
	got, err := simulator.ParseScenario("type-fails:path=/v1.0/groups,status=500,identity=user,after=3,times=2")
	want := simulator.Scenario{Name: "type-fails", Path: "/v1.0/groups", Status: 500, Identity: "user", After: 3, Times: 2}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	for _, c := range []struct{ text, says string }{
		{"", "there is no such scenario"},
		{"nope", "there is no such scenario"},
		{"type-fails:status", "is not option=value"},
		{"type-fails:status=many", "is no number"},
		{"type-fails:colour=red", "there is no option"},
		{"type-fails:status=302", "between 400 and 599"},
		{"type-fails:identity=admin", "must be user or service-principal"},
		{"type-fails:after=-1", "after must not be negative"},
		{"secret-expired:identity=user", "cannot happen to the user"},
		{"conditional-access-block:status=500", "it has no status"},
		{"permission-missing", "permission is missing"},
		{"not-available", "path is missing"},
	} {
		_, err := simulator.ParseScenario(c.text)
		var scenarioError *simulator.ScenarioError
		if !errors.As(err, &scenarioError) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q: %v, want %q", c.text, err, c.says)
		}
	}
	names := []string{}
	for _, info := range simulator.Scenarios() {
		names = append(names, info.Name)
	}
	if slices.Sort(names); len(slices.Compact(names)) != len(simulator.Scenarios()) {
		t.Error("a name occurs twice")
	}
}
