package identity

import (
	"context"
	_ "embed" // for the table
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	understudyv1 "understudy.internal/gen/understudy/v1"
)

//go:embed codes.tsv
var codesTable string

// meaning is what is known of an error.
type meaning struct {
	reason    understudyv1.AuthFailureReason
	actor     understudyv1.RemedyActor
	retryable bool
}

// codes parses the table once.
var codes = sync.OnceValue(func() map[int]meaning {
	table := map[int]meaning{}
	for line := range strings.Lines(codesTable) {
		fields := strings.Split(strings.TrimSpace(line), "\t")
		if strings.HasPrefix(line, "#") || len(fields) != 4 {
			continue
		}
		n, err := strconv.Atoi(fields[0])
		if err != nil {
			continue // a test proves that there is none
		}
		table[n] = meaning{
			reason:    understudyv1.AuthFailureReason(understudyv1.AuthFailureReason_value["AUTH_FAILURE_REASON_"+fields[1]]),
			actor:     actorOf(fields[2]),
			retryable: fields[3] == "yes",
		}
	}
	return table
})

// actorOf says who mends what: owners of applications are the operators of this
// service, and whoever runs an identity provider is an administrator.
func actorOf(fixer string) understudyv1.RemedyActor {
	switch {
	case fixer == "wait" || fixer == "Microsoft":
		return nobody
	case fixer == "operator" || fixer == "app owner":
		return operator
	case strings.HasPrefix(fixer, "user"):
		return user
	}
	return admin
}

// classify says why a sign-in failed, in layers: each refines what the one before
// found. A code that nobody listed keeps the reason of the layer before it.
func classify(w who, err error, x *exchange) *Failure {
	var known *Failure
	if errors.As(err, &known) {
		return known
	}
	if m, ok := local(w, err, x); ok {
		return w.failure(verdict{meaning: m, answer: x.latest().withoutWaiting()})
	}
	a := x.latest()
	m := byStatus(a.status)
	for _, layer := range []func(who, answer) (meaning, bool){byOAuthError, bySuberror, byCode} {
		if refined, ok := layer(w, a); ok && w.canBe(refined.reason) {
			m = refined
		}
	}
	return w.failure(verdict{meaning: m, answer: a})
}

// local classifies what has no answer of the sign-in service.
func local(w who, err error, x *exchange) (meaning, bool) {
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, errNoAnswer):
		// Nobody signed in, or the service did not answer: it looks the same.
		return w.standard(timedOutReason).meaning, true
	case errors.Is(err, errFederated):
		return meaning{understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_SIGN_IN_FLOW_BLOCKED, operator, false}, true
	case errors.Is(err, errForeignHost), !x.wasAsked():
		return misconfigured, true
	}
	return meaning{}, false
}

const timedOutReason = understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_SIGN_IN_TIMED_OUT

var (
	misconfigured  = meaning{understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_APPLICATION_MISCONFIGURED, operator, false}
	notInTenant    = meaning{understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_APPLICATION_MISCONFIGURED, admin, false}
	unavailable    = meaning{understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_PROVIDER_UNAVAILABLE, nobody, true}
	throttled      = meaning{understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_THROTTLED, nobody, true}
	signInRequired = meaning{understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_SIGN_IN_REQUIRED, user, false}
	signInTimedOut = meaning{timedOutReason, user, false}
	signInDeclined = meaning{understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_SIGN_IN_DECLINED, user, false}
	signInExpired  = meaning{understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_SIGN_IN_EXPIRED, user, false}
	consent        = meaning{understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_CONSENT_REQUIRED, admin, false}
	policyBlocks   = meaning{understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_CONDITIONAL_ACCESS_BLOCKED, admin, false}
)

// byStatus is the first layer: whether there was an answer, and its HTTP status.
func byStatus(status int) meaning {
	switch {
	case status == http.StatusTooManyRequests:
		return throttled
	case status == http.StatusRequestTimeout:
		return unavailable
	case status >= 400 && status < 500:
		return misconfigured
	}
	return unavailable
}

// oauthErrors are those of RFC 6749 (section 5.2), RFC 8628 (section 3.5), OpenID
// Connect and Microsoft.
// https://learn.microsoft.com/entra/identity-platform/reference-error-codes#handling-error-codes-in-your-application
var oauthErrors = map[string]meaning{
	"interaction_required":    signInRequired,
	"invalid_grant":           signInRequired,
	"login_required":          signInRequired,
	"bad_verification_code":   signInRequired,
	"expired_token":           signInTimedOut,
	"authorization_pending":   signInTimedOut,
	"slow_down":               signInTimedOut,
	"authorization_declined":  signInDeclined,
	"access_denied":           signInDeclined,
	"invalid_client":          misconfigured,
	"unauthorized_client":     notInTenant,
	"invalid_resource":        notInTenant,
	"invalid_request":         misconfigured,
	"invalid_scope":           misconfigured,
	"unsupported_grant_type":  misconfigured,
	"invalid_instance":        {understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_TENANT_NOT_FOUND, operator, false},
	"invalid_tenant":          {understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_TENANT_NOT_FOUND, operator, false},
	"consent_required":        consent,
	"temporarily_unavailable": unavailable,
	"server_error":            unavailable,
}

func byOAuthError(_ who, a answer) (meaning, bool) {
	m, ok := oauthErrors[a.oauth]
	if ok && a.status == http.StatusTooManyRequests {
		return throttled, true // a word like `temporarily_unavailable` says less
	}
	return m, ok
}

// suberrors are those that say more than the OAuth error. `basic_action` and
// `additional_action` only say that a person can help.
// https://learn.microsoft.com/entra/msal/dotnet/advanced/exceptions/msal-error-handling
var suberrors = map[string]meaning{
	"message_only":                 policyBlocks,
	"protection_policy_required":   policyBlocks,
	"consent_required":             consent,
	"bad_token":                    signInExpired,
	"token_expired":                signInExpired,
	"user_password_expired":        {understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_CREDENTIAL_EXPIRED, user, false},
	"device_authentication_failed": {understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_DEVICE_NOT_COMPLIANT, admin, false},
}

func bySuberror(_ who, a answer) (meaning, bool) {
	m, ok := suberrors[a.suberror]
	return m, ok
}

// byCode is the last layer: the first code that is listed.
func byCode(_ who, a answer) (meaning, bool) {
	for _, n := range a.codes {
		if m, ok := codes()[n]; ok {
			return m, true
		}
	}
	return meaning{}, false
}

// personal are reasons that only a person can have. When an answer gives one for a
// service principal, the layer before it knows better.
var personal = []understudyv1.AuthFailureReason{
	timedOutReason,
	understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_SIGN_IN_DECLINED,
	understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_SIGN_IN_REQUIRED,
	understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_SIGN_IN_EXPIRED,
	understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_MFA_REQUIRED,
	understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_MFA_ENROLLMENT_REQUIRED,
}

func (w who) canBe(reason understudyv1.AuthFailureReason) bool {
	return w.identity == understudyv1.Identity_IDENTITY_USER || !slices.Contains(personal, reason)
}

// wrongAccount is the failure of a token of another tenant or user.
func wrongAccount(w who) *Failure {
	return w.failure(w.standard(understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_ACCOUNT_NOT_FOUND))
}
