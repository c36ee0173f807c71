package identity

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"

	understudyv1 "understudy.internal/gen/understudy/v1"
)

//go:embed codes.tsv
var codesTable string

// code is what is known of an AADSTS code.
type code struct {
	reason    understudyv1.AuthFailureReason
	actor     understudyv1.RemedyActor
	retryable bool
}

// codes parses the table once.
var codes = sync.OnceValue(func() map[int]code {
	table := map[int]code{}
	for line := range strings.Lines(codesTable) {
		fields := strings.Split(strings.TrimSpace(line), "\t")
		if strings.HasPrefix(line, "#") || len(fields) != 4 {
			continue
		}
		n, err := strconv.Atoi(fields[0])
		if err != nil {
			continue // a test proves that there is none
		}
		table[n] = code{
			reason:    understudyv1.AuthFailureReason(understudyv1.AuthFailureReason_value["AUTH_FAILURE_REASON_"+fields[1]]),
			actor:     actorOf(fields[2]),
			retryable: fields[3] == "yes",
		}
	}
	return table
})

// actorOf says who mends what: owners of applications are the operators of this
// service.
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
func classify(ctx context.Context, w who, err error, x *exchange) *Failure {
	var known *Failure
	if errors.As(err, &known) {
		return known
	}
	v := verdict{
		reason: understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_PROVIDER_UNAVAILABLE, actor: nobody, retryable: true, exchange: x,
	}
	if errors.Is(context.Cause(ctx), errSignInDeadline) {
		// Nobody signed in, or the service did not answer: it looks the same.
		v.reason, v.actor, v.retryable = understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_SIGN_IN_TIMED_OUT, user, false
		return w.failure(v)
	}
	x.mu.Lock()
	status, oauth, suberror, numbers := x.status, x.oauth, x.suberror, x.codes
	x.mu.Unlock()

	// Transport and HTTP status.
	set := func(reason understudyv1.AuthFailureReason, actor understudyv1.RemedyActor, retryable bool) {
		v.reason, v.actor, v.retryable = reason, actor, retryable
	}
	switch {
	case x.transport || status == 0 || status >= 500 || status == http.StatusRequestTimeout:
	case status == http.StatusTooManyRequests:
		set(understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_THROTTLED, nobody, true)
	case status >= 400:
		set(understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_APPLICATION_MISCONFIGURED, operator, false)
	}
	v.retryDelay = x.delay()

	// The OAuth error (RFC 6749, section 5.2; RFC 8628, section 3.5).
	if found, ok := oauthErrors[oauth]; ok {
		set(found.reason, found.actor, found.retryable)
		if w.identity == understudyv1.Identity_IDENTITY_SERVICE_PRINCIPAL && (oauth == "invalid_grant" || oauth == "interaction_required") {
			set(understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_APPLICATION_MISCONFIGURED, operator, false)
		}
	}
	// The suberror.
	// https://learn.microsoft.com/entra/msal/dotnet/advanced/exceptions/
	if found, ok := suberrors[suberror]; ok && w.identity == understudyv1.Identity_IDENTITY_USER {
		set(found.reason, found.actor, found.retryable)
	}
	// The code: the last that is listed is the most special.
	for _, n := range numbers {
		if found, ok := codes()[n]; ok {
			set(found.reason, found.actor, found.retryable)
			break
		}
	}
	return w.failure(v)
}

var oauthErrors = map[string]code{
	"interaction_required":    {understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_SIGN_IN_REQUIRED, user, false},
	"invalid_grant":           {understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_SIGN_IN_REQUIRED, user, false},
	"login_required":          {understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_SIGN_IN_REQUIRED, user, false},
	"bad_verification_code":   {understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_SIGN_IN_REQUIRED, user, false},
	"expired_token":           {understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_SIGN_IN_TIMED_OUT, user, false},
	"authorization_pending":   {understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_SIGN_IN_TIMED_OUT, user, false},
	"authorization_declined":  {understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_SIGN_IN_DECLINED, user, false},
	"access_denied":           {understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_SIGN_IN_DECLINED, user, false},
	"invalid_client":          {understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_APPLICATION_MISCONFIGURED, operator, false},
	"unauthorized_client":     {understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_APPLICATION_MISCONFIGURED, operator, false},
	"invalid_resource":        {understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_APPLICATION_MISCONFIGURED, operator, false},
	"invalid_request":         {understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_APPLICATION_MISCONFIGURED, operator, false},
	"unsupported_grant_type":  {understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_APPLICATION_MISCONFIGURED, operator, false},
	"consent_required":        {understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_CONSENT_REQUIRED, admin, false},
	"temporarily_unavailable": {understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_PROVIDER_UNAVAILABLE, nobody, true},
	"server_error":            {understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_PROVIDER_UNAVAILABLE, nobody, true},
}

var suberrors = map[string]code{
	"consent_required":      {understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_CONSENT_REQUIRED, admin, false},
	"user_password_expired": {understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_CREDENTIAL_EXPIRED, user, false},
	"token_expired":         {understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_SIGN_IN_EXPIRED, user, false},
	"bad_token":             {understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_SIGN_IN_EXPIRED, user, false},
	"message_only":          {understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_CONDITIONAL_ACCESS_BLOCKED, admin, false},
}

// wrongAccount is the failure of a token of another tenant or user.
func wrongAccount(w who) *Failure {
	return w.failure(verdict{reason: understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_ACCOUNT_NOT_FOUND, actor: operator})
}

var errSignInDeadline = fmt.Errorf("the sign-in was not completed in time: %w", context.DeadlineExceeded)
