package main

import (
	"cmp"
	"testing"
	"time"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/simulator"
)

// person is what somebody does who is asked to sign in.
type person string

const (
	nobody   person = ""
	signsIn  person = "complete"
	declines person = "decline"
)

// scenarioCase is one way in which a tenant can go wrong: what the second sync of
// a tenant says of it is golden, and what it may do to the backup is the law.
type scenarioCase struct {
	name   string
	tenant string // contoso: service account; fabrikam: delegated sign-in
	wrong  []simulator.Scenario
	person person
	spec   *understudyv1.SyncSpec
	// forget makes the service forget the cached sign-in before the second sync.
	forget bool
	// patience is how long a sign-in may take; a minute.
	patience time.Duration
	// lasts says that the third sync is like the second: somebody has to act.
	lasts bool
}

// groups is the path of the type that faults of Graph concern.
const (
	groups     = "/v1.0/groups"
	groupsList = groups + "$" // without what is below a group
)

func fault(name, path string, status int) []simulator.Scenario {
	return []simulator.Scenario{{Name: name, Path: path, Status: status}}
}

func scenarioCases() []scenarioCase {
	refuse := false
	silent := &understudyv1.SyncSpec{AllowPrompt: &refuse}
	require := &understudyv1.SyncSpec{AuthenticationPolicy: understudyv1.AuthenticationPolicy_AUTHENTICATION_POLICY_REQUIRE_USER}
	only := &understudyv1.SyncSpec{AuthenticationPolicy: understudyv1.AuthenticationPolicy_AUTHENTICATION_POLICY_SERVICE_PRINCIPAL_ONLY}
	dry := &understudyv1.SyncSpec{DryRun: true}
	named := func(name string) []simulator.Scenario { return []simulator.Scenario{{Name: name}} }
	return []scenarioCase{
		{name: "all-well", tenant: "contoso", wrong: named("all-well")},
		{name: "all-well-delegated", tenant: "fabrikam", wrong: named("all-well")},
		{name: "all-well-delegated-prompt", tenant: "fabrikam", wrong: named("all-well"), forget: true, person: signsIn},
		{name: "all-well-dry-run", tenant: "contoso", wrong: named("all-well"), spec: dry},
		{name: "sign-in-never-completed", tenant: "fabrikam", wrong: named("sign-in-never-completed"), patience: 12 * time.Second},
		{name: "sign-in-declined", tenant: "fabrikam", wrong: named("all-well"), forget: true, person: declines},
		{name: "sign-in-required", tenant: "fabrikam", wrong: named("all-well"), forget: true, spec: silent},
		{name: "conditional-access-block", tenant: "contoso", wrong: named("conditional-access-block")},
		{name: "conditional-access-block-cached", tenant: "fabrikam", wrong: named("conditional-access-block"), spec: silent},
		{name: "conditional-access-block-device-code", tenant: "fabrikam", wrong: named("conditional-access-block"), person: signsIn},
		{name: "conditional-access-block-require-user", tenant: "contoso", wrong: named("conditional-access-block"), spec: require},
		{name: "conditional-access-block-not-used", tenant: "contoso", wrong: named("conditional-access-block"), spec: only},
		{name: "mfa-required", tenant: "contoso", wrong: named("mfa-required")},
		{name: "mfa-enrolment-required", tenant: "contoso", wrong: named("mfa-enrolment-required")},
		{name: "device-not-compliant", tenant: "contoso", wrong: named("device-not-compliant")},
		{name: "wrong-password", tenant: "contoso", wrong: named("wrong-password"), lasts: true},
		{name: "account-disabled", tenant: "contoso", wrong: named("account-disabled")},
		{name: "refresh-token-expired", tenant: "fabrikam", wrong: named("refresh-token-expired"), spec: silent},
		{name: "refresh-token-expired-prompt", tenant: "fabrikam", wrong: named("refresh-token-expired"), person: signsIn},
		{name: "revoked-mid-run", tenant: "contoso", wrong: []simulator.Scenario{{Name: "revoked-mid-run", Identity: "user"}}},
		{
			name: "revoked-mid-run-service-principal", tenant: "contoso",
			wrong: []simulator.Scenario{{Name: "revoked-mid-run", Identity: "service-principal"}},
		},
		{name: "token-endpoint-hangs", tenant: "contoso", wrong: named("token-endpoint-hangs")},
		{name: "secret-expired", tenant: "contoso", wrong: named("secret-expired")},
		{name: "throttled", tenant: "contoso", wrong: []simulator.Scenario{{Name: "throttled", Path: groupsList, Times: 2, RetryAfter: 1}}},
		{name: "throttled-for-good", tenant: "contoso", wrong: []simulator.Scenario{{Name: "throttled", Path: groupsList, Times: 100, RetryAfter: 1}}},
		{
			name: "throttled-without-retry-after", tenant: "contoso",
			wrong: []simulator.Scenario{{Name: "throttled", Path: groupsList, RetryAfter: -1}},
		},
		{name: "type-fails-403", tenant: "contoso", wrong: fault("type-fails", groupsList, 403)},
		{name: "type-fails-404", tenant: "contoso", wrong: fault("type-fails", groupsList, 404)},
		{name: "type-fails-500", tenant: "contoso", wrong: fault("type-fails", groupsList, 500)},
		{
			name: "type-fails-200", tenant: "contoso", // an error with a status of success
			wrong: append(fault("type-fails", "/v1.0/print/settings", 200), fault("type-fails", "/beta/deviceManagement/deviceHealthScripts/*$", 200)...),
		},
		{name: "truncated-json", tenant: "contoso", wrong: fault("truncated-json", groupsList, 0)},
		{name: "list-collapsed", tenant: "contoso", wrong: fault("list-collapsed", groupsList, 0)},
		{name: "next-link-loop", tenant: "contoso", wrong: fault("next-link-loop", groupsList, 0)},
		{name: "foreign-next-link", tenant: "contoso", wrong: fault("foreign-next-link", groupsList, 0)},
		{name: "page-fails", tenant: "contoso", wrong: fault("page-fails", groupsList, 0)},
		{name: "page-missing", tenant: "contoso", wrong: fault("page-missing", groupsList, 0)},
		{name: "not-available", tenant: "contoso", wrong: fault("not-available", "/beta/deviceManagement/deviceConfigurations", 0)},
		{
			name: "not-available-confirmed", tenant: "contoso", wrong: fault("not-available", "/beta/deviceManagement/deviceConfigurations", 0),
			spec: &understudyv1.SyncSpec{AcceptCollapse: []string{"intune/device-configurations"}},
		},
		{
			name: "permission-missing", tenant: "contoso",
			wrong: []simulator.Scenario{{Name: "permission-missing", Identity: "service-principal", Permission: "DeviceManagementConfiguration.Read.All"}},
		},
	}
}

// TestScenarios plays every way in which a tenant can go wrong over the real
// assembly: simulator, MSAL, Graph, Git, journal and gRPC. A first sync is well; the
// tenant changes; the second sync meets the scenario; the third is well again.
func TestScenarios(t *testing.T) {
	t.Parallel()
	for _, c := range scenarioCases() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t, func(l *labConfig) { l.SignInTimeout = cmp.Or(c.patience, l.SignInTimeout) })
			h.mustSync(c.tenant, nil, signsIn)
			before := h.files(c.tenant)
			h.changeTenant()
			h.forgetCursors() // what goes wrong is the list: by delta it would not be read
			if c.forget {
				h.forgetSignIns()
			}
			h.wrong(c.wrong...)
			story := h.sync(c.tenant, c.spec, c.person)
			golden(t, "testdata/streams/"+c.name+".txt", story.text())
			h.kept(before, h.files(c.tenant), story)
			h.wrong()
			if c.lasts {
				again := h.sync(c.tenant, nil, nobody)
				if again.final.GetState() != story.final.GetState() {
					t.Errorf("the next sync ended %s, though nobody acted", again.final.GetState())
				}
			} else {
				h.mustSync(c.tenant, nil, signsIn)
				h.sameAsUndisturbed(c.tenant)
			}
			h.leaksNothing()
		})
	}
}
