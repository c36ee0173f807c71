package identity

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/facts"
	"understudy.internal/internal/port"
)

// reasonOfClass says what the classes of the table of codes are to clients.
var reasonOfClass = map[string]string{
	"app.assertion_expired":           "CREDENTIAL_EXPIRED",
	"app.assertion_invalid":           "INVALID_CREDENTIAL",
	"app.cert_invalid":                "INVALID_CREDENTIAL",
	"app.disabled":                    "APPLICATION_MISCONFIGURED",
	"app.federation_mismatch":         "APPLICATION_MISCONFIGURED",
	"app.misconfigured":               "APPLICATION_MISCONFIGURED",
	"app.not_found":                   "APPLICATION_MISCONFIGURED",
	"app.secret_expired":              "CREDENTIAL_EXPIRED",
	"app.secret_invalid":              "INVALID_CREDENTIAL",
	"device_code.declined":            "SIGN_IN_DECLINED",
	"device_code.expired":             "SIGN_IN_TIMED_OUT",
	"device_code.invalid":             "SIGN_IN_REQUIRED",
	"device_code.pending":             "SIGN_IN_TIMED_OUT",
	"request.invalid":                 "APPLICATION_MISCONFIGURED",
	"service.throttled":               "THROTTLED",
	"service.transient":               "PROVIDER_UNAVAILABLE",
	"tenant.not_found":                "TENANT_NOT_FOUND",
	"tenant.restricted":               "TENANT_NOT_FOUND",
	"tenant.wrong_cloud":              "TENANT_NOT_FOUND",
	"user.account_disabled":           "ACCOUNT_DISABLED",
	"user.account_locked":             "ACCOUNT_LOCKED",
	"user.account_not_found":          "ACCOUNT_NOT_FOUND",
	"user.auth_flow_blocked":          "SIGN_IN_FLOW_BLOCKED",
	"user.bad_credentials":            "INVALID_CREDENTIAL",
	"user.conditional_access_blocked": "CONDITIONAL_ACCESS_BLOCKED",
	"user.consent_required":           "CONSENT_REQUIRED",
	"user.declined":                   "SIGN_IN_DECLINED",
	"user.device_policy":              "DEVICE_NOT_COMPLIANT",
	"user.federation_error":           "PROVIDER_UNAVAILABLE",
	"user.interaction_required":       "SIGN_IN_REQUIRED",
	"user.mfa_enrollment_required":    "MFA_ENROLLMENT_REQUIRED",
	"user.mfa_failed":                 "MFA_REQUIRED",
	"user.mfa_required":               "MFA_REQUIRED",
	"user.onprem_auth_unavailable":    "PROVIDER_UNAVAILABLE",
	"user.password_expired":           "CREDENTIAL_EXPIRED",
	"user.risk_blocked":               "RISK_DETECTED",
	"user.session_expired":            "SIGN_IN_EXPIRED",
	"user.session_revoked":            "SIGN_IN_REVOKED",
}

// replyOf is the answer that a row of the table is about. Without a code it has an
// OAuth error that is known to mean something else.
func replyOf(t *testing.T, row facts.SignInCode) reply {
	t.Helper()
	if number, ok := row.Number(); ok {
		return refused(http.StatusBadRequest, "invalid_grant", "", number)
	}
	if oauth, ok := strings.CutPrefix(row.Code, "oauth:"); ok {
		return refused(http.StatusBadRequest, oauth, "")
	}
	var status int
	if _, err := fmt.Sscanf(row.Code, "HTTP %d", &status); err != nil {
		t.Fatalf("row %q is about nothing that is known", row.Code)
	}
	return reply{status: status, body: marker + " no JSON"}
}

func rows(t *testing.T) []facts.SignInCode {
	t.Helper()
	table, err := facts.SignInCodes()
	if err != nil || len(table) < 100 {
		t.Fatalf("%d rows, %v", len(table), err)
	}
	return table
}

// checkRow compares a failure with its row.
func checkRow(t *testing.T, row facts.SignInCode, err error) {
	t.Helper()
	failure := reasonIs(t, err, reasonOfClass[row.ReasonClass])
	if number, ok := row.Number(); ok {
		if failure.GetProviderErrorCode() != fmt.Sprintf("AADSTS%d", number) || failure.GetOauthError() != "invalid_grant" ||
			failure.GetCorrelationId() == "" || failure.GetTraceId() == "" {
			t.Errorf("AADSTS%d: %v", number, failure)
		}
	}
	if failure.GetRetryable() != row.Retryable || (failure.GetRetryDelay() != nil) != row.Retryable {
		t.Errorf("%s: retryable %v after %v, want %v", row.Code, failure.GetRetryable(), failure.GetRetryDelay(), row.Retryable)
	}
	if failure.GetRemedyActor() == understudyv1.RemedyActor_REMEDY_ACTOR_UNSPECIFIED || failure.GetFailureTime() == nil {
		t.Errorf("%s: %v", row.Code, failure)
	}
}

func TestEveryCodeAtTheCachedSignIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		u := f.signedIn()
		for _, row := range rows(t) {
			f.answerAlways(refresh, replyOf(t, row))
			method, err := u.SignIn(t.Context(), port.SignInOptions{})
			checkRow(t, row, err)
			if failure := failureOf(t, err); method != byCache || failure.GetMethod() != byCache || failure.GetRemedyActor() != actorOfRow(row) {
				t.Errorf("%s: %v, %v", row.Code, method, failure)
			}
		}
	})
}

// actorOfRow says who mends a row where a person signs in.
func actorOfRow(row facts.SignInCode) understudyv1.RemedyActor {
	switch row.WhoFixes {
	case "wait", "Microsoft":
		return nobody
	case "user", "user or tenant admin":
		return user
	case "operator", "app owner":
		return operator
	}
	return admin
}

func TestEveryCodeAtThePollOfADeviceCode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		u := f.signedIn()
		f.answerAlways(refresh, refused(400, "invalid_grant", "", 700082))
		for _, row := range rows(t) {
			if passing(parseAnswer(replyOf(t, row).status, nil, nil, time.Now())) || row.Code == "oauth:temporarily_unavailable" {
				continue // the person still signs in
			}
			f.answer(poll, pending, replyOf(t, row))
			var seen []*prompt
			method, err := u.SignIn(t.Context(), prompts(&seen))
			checkRow(t, row, err)
			if method != byDeviceCode || failureOf(t, err).GetMethod() != byDeviceCode || len(seen) != 1 {
				t.Errorf("%s: %v, %d prompts", row.Code, method, len(seen))
			}
		}
	})
}

func TestEveryCodeOfAServiceAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		current := ""
		u := f.userWith(UserConfig{
			ClientID: clientID, Username: username, Method: ServiceAccount, SignInTimeout: time.Minute,
			Password: func() (string, error) { return current, nil },
		})
		for _, row := range rows(t) {
			current = password + row.Code // a refused one is not tried again
			f.answerAlways(passwords, replyOf(t, row))
			before := len(f.requests(passwords))
			_, err := u.SignIn(t.Context(), port.SignInOptions{})
			checkRow(t, row, err)
			if failure := failureOf(t, err); failure.GetMethod() != byPasswords || failure.GetRemedyActor() == user {
				t.Errorf("%s: no person signs in: %v", row.Code, failure)
			}
			if sent := len(f.requests(passwords)) - before; sent != 1 {
				t.Errorf("%s: the password was sent %d times", row.Code, sent)
			}
		}
	})
}

// TestEveryCodeOfAServicePrincipal gives each code to an application: what only a
// person can mend is not said of it.
func TestEveryCodeOfAServicePrincipal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		s := f.servicePrincipal()
		for _, row := range rows(t) {
			answer := replyOf(t, row)
			want := reasonOfClass[row.ReasonClass]
			if _, ok := row.Number(); ok {
				answer.body.(map[string]any)["error"] = "invalid_client"
			}
			if !s.who().canBe(understudyv1.AuthFailureReason(understudyv1.AuthFailureReason_value["AUTH_FAILURE_REASON_"+want])) {
				want = "APPLICATION_MISCONFIGURED"
			}
			f.answerAlways(applications, answer)
			_, err := s.SignIn(t.Context(), port.SignInOptions{})
			failure := reasonIs(t, err, want)
			if failure.GetRemedyActor() == user || strings.Contains(failure.GetMessage(), "password") ||
				!strings.HasSuffix(failure.GetMessage(), "The Sync could not start; the previous backup is unchanged.") {
				t.Errorf("%s: %v", row.Code, failure)
			}
		}
	})
}

// TestLayers gives answers whose code nobody listed: the layer before it decides.
func TestLayers(t *testing.T) {
	const unknown = 12345678
	cases := map[string]struct {
		answer                 reply
		user, servicePrincipal string
	}{
		"interaction_required":          {refused(400, "interaction_required", "", unknown), "SIGN_IN_REQUIRED", "APPLICATION_MISCONFIGURED"},
		"invalid_grant":                 {refused(400, "invalid_grant", "", unknown), "SIGN_IN_REQUIRED", "APPLICATION_MISCONFIGURED"},
		"invalid_client":                {refused(401, "invalid_client", "", unknown), "APPLICATION_MISCONFIGURED", "APPLICATION_MISCONFIGURED"},
		"unauthorized_client":           {refused(400, "unauthorized_client", "", unknown), "APPLICATION_MISCONFIGURED", "APPLICATION_MISCONFIGURED"},
		"consent_required":              {refused(400, "consent_required", "", unknown), "CONSENT_REQUIRED", "CONSENT_REQUIRED"},
		"temporarily_unavailable":       {refused(400, "temporarily_unavailable", "", unknown), "PROVIDER_UNAVAILABLE", "PROVIDER_UNAVAILABLE"},
		"unknown error":                 {refused(400, "something_new", "", unknown), "APPLICATION_MISCONFIGURED", "APPLICATION_MISCONFIGURED"},
		"suberror refines":              {refused(400, "invalid_grant", "message_only", unknown), "CONDITIONAL_ACCESS_BLOCKED", "CONDITIONAL_ACCESS_BLOCKED"},
		"suberror bad_token":            {refused(400, "invalid_grant", "bad_token", unknown), "SIGN_IN_EXPIRED", "APPLICATION_MISCONFIGURED"},
		"suberror without a meaning":    {refused(400, "invalid_grant", "basic_action", unknown), "SIGN_IN_REQUIRED", "APPLICATION_MISCONFIGURED"},
		"code refines suberror":         {refused(400, "invalid_grant", "message_only", 53004), "RISK_DETECTED", "RISK_DETECTED"},
		"the first listed code":         {refused(400, "invalid_grant", "", unknown, 50057, 50126), "ACCOUNT_DISABLED", "ACCOUNT_DISABLED"},
		"a device policy":               {refused(400, "interaction_required", "message_only", 53000), "DEVICE_NOT_COMPLIANT", "DEVICE_NOT_COMPLIANT"},
		"no JSON, 403":                  {reply{status: 403, body: marker}, "APPLICATION_MISCONFIGURED", "APPLICATION_MISCONFIGURED"},
		"no JSON, 500":                  {reply{status: 500, body: marker}, "PROVIDER_UNAVAILABLE", "PROVIDER_UNAVAILABLE"},
		"an error with 503":             {refused(503, "server_error", "", 90033), "PROVIDER_UNAVAILABLE", "PROVIDER_UNAVAILABLE"},
		"an error with 429":             {refused(429, "temporarily_unavailable", ""), "THROTTLED", "THROTTLED"},
		"a redirect":                    {reply{status: 302, body: marker}, "PROVIDER_UNAVAILABLE", "PROVIDER_UNAVAILABLE"},
		"200 that is no JSON":           {reply{status: 200, body: "<html>" + marker}, "PROVIDER_UNAVAILABLE", "PROVIDER_UNAVAILABLE"},
		"200 without expires_in":        {reply{status: 200, body: map[string]any{"access_token": marker}}, "PROVIDER_UNAVAILABLE", "PROVIDER_UNAVAILABLE"},
		"the connection drops":          {reply{drop: true}, "PROVIDER_UNAVAILABLE", "PROVIDER_UNAVAILABLE"},
		"members of the wrong form":     {reply{status: 400, body: `{"error":"invalid_grant","suberror":7,"error_codes":["53003"],"trace_id":{}}`}, "CONDITIONAL_ACCESS_BLOCKED", "CONDITIONAL_ACCESS_BLOCKED"},
		"a code in the words only":      {reply{status: 400, body: `{"error":"invalid_grant","error_description":"AADSTS50057: ` + marker + `"}`}, "ACCOUNT_DISABLED", "ACCOUNT_DISABLED"},
		"words where there are none":    {reply{status: 400, body: `{"error":"` + marker + ` text","suberror":"` + marker + `"}`}, "APPLICATION_MISCONFIGURED", "APPLICATION_MISCONFIGURED"},
		"a correlation id that is none": {reply{status: 400, body: `{"error":"invalid_client","correlation_id":"` + marker + `"}`}, "APPLICATION_MISCONFIGURED", "APPLICATION_MISCONFIGURED"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				u, s := f.signedIn(), f.servicePrincipal()
				f.answerAlways(refresh, c.answer)
				f.answerAlways(applications, c.answer)
				_, err := u.SignIn(t.Context(), port.SignInOptions{})
				failure := reasonIs(t, err, c.user)
				if strings.Contains(fmt.Sprint(c.answer.body), fmt.Sprint(unknown)) && !strings.HasPrefix(failure.GetProviderErrorCode(), "AADSTS") {
					t.Errorf("the code's number is lost: %v", failure)
				}
				_, err = s.SignIn(t.Context(), port.SignInOptions{})
				reasonIs(t, err, c.servicePrincipal)
			})
		})
	}
}

// TestTableOfCodes says that the table in the product is that of the facts.
func TestTableOfCodes(t *testing.T) {
	listed := 0
	for _, row := range rows(t) {
		if _, ok := reasonOfClass[row.ReasonClass]; !ok {
			t.Errorf("class %s has no reason", row.ReasonClass)
		}
		number, ok := row.Number()
		if !ok {
			continue
		}
		listed++
		m, ok := codes()[number]
		if !ok || m.reason == understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_UNSPECIFIED ||
			m.retryable != row.Retryable || m.actor != actorOfRow(row) {
			t.Errorf("AADSTS%d is %+v, want %+v", number, m, row)
		}
	}
	lines := 0
	for line := range strings.Lines(codesTable) {
		if !strings.HasPrefix(line, "#") {
			lines++
		}
	}
	if lines != listed || len(codes()) != listed {
		t.Errorf("%d lines and %d codes, %d facts", lines, len(codes()), listed)
	}
}

// TestDiscoveryFails says what happens before the token endpoint is asked.
func TestDiscoveryFails(t *testing.T) {
	for want, answer := range map[string]reply{
		"TENANT_NOT_FOUND":          refused(400, "invalid_tenant", "", 90002),
		"PROVIDER_UNAVAILABLE":      {status: 502, body: marker},
		"APPLICATION_MISCONFIGURED": {status: 404, body: marker},
		"SIGN_IN_TIMED_OUT":         {hang: true},
	} {
		t.Run(want, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				f.answerAlways(openID, answer)
				_, err := f.servicePrincipal().SignIn(t.Context(), port.SignInOptions{})
				reasonIs(t, err, want)
				_, err = f.user(ServiceAccount).SignIn(t.Context(), port.SignInOptions{})
				reasonIs(t, err, want)
			})
		})
	}
}
