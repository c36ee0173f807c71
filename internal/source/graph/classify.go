package graph

import (
	"errors"
	"net/http"
	"strings"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
)

// matches says whether one of the answers of the catalog is the one given.
func matches(answers []catalog.Answer, status int, e graphError) bool {
	for _, a := range answers {
		if (a.Status == 0 || a.Status == status) &&
			(a.Code == "" || strings.EqualFold(a.Code, e.code)) &&
			(a.Message == "" || contains(e.message, a.Message)) &&
			(a.Status != 0 || a.Code != "" || a.Message != "") {
			return true
		}
	}
	return false
}

func contains(text, part string) bool {
	return strings.Contains(strings.ToLower(text), strings.ToLower(part))
}

// unavailable returns the error that says that the tenant does not have the type,
// or nil when the answer does not say so. It may only be asked of the type's own
// first request: in the middle of a list the same answer is a failure.
func (r *reading) unavailable(c *call, a *answer) *port.ReadError {
	e := parseError(a.body)
	missing := r.t.Kind == catalog.Singleton && r.t.Version == "beta" &&
		(a.status == http.StatusNotFound || a.status == http.StatusNotImplemented)
	if !missing && !matches(r.session.source.config.NotAvailable, a.status, e) && !matches(r.t.NotAvailable, a.status, e) {
		return nil
	}
	err := c.fail(understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_FEATURE_NOT_AVAILABLE,
		"the tenant does not have this feature, or no licence for it")
	err.HTTPStatus, err.RequestID = a.status, requestID(a.header)
	return err
}

// refused says why an answer that is not 2xx ends a request. The error is a
// [*port.ReadError] or, when the token was refused for good, an
// [port.AuthError].
func (c *call) refused(a *answer) error {
	e := parseError(a.body)
	reason, detail := understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_RESPONSE_INVALID,
		"Microsoft Graph refused the request"
	needsUser := appOnlyRefused(a.status, e)
	switch {
	case needsUser:
		reason = understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_PERMISSION_MISSING
		detail = "Microsoft Graph refuses application-only access here"
	case a.status == http.StatusUnauthorized && strings.EqualFold(e.code, "InvalidAuthenticationToken"):
		// Entra had just issued it.
		return c.credential.identity.Fail(understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_SIGN_IN_REVOKED)
	case a.status == http.StatusUnauthorized, a.status == http.StatusForbidden:
		reason = understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_PERMISSION_MISSING
		detail = "the identity lacks a permission or a role for this request"
	case isThrottled(a.status):
		reason = understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_THROTTLED
		detail = "the tenant asked to wait, at every attempt"
	case isServerError(a.status), a.status == http.StatusRequestTimeout:
		reason = understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_SOURCE_UNAVAILABLE
		detail = "Microsoft Graph answered with a server error, at every attempt"
	case a.status >= 300 && a.status < 400:
		detail = "Microsoft Graph answered with a redirect, which is not followed"
	case a.status == http.StatusNotFound:
		detail = "what was asked for does not exist (any more)"
	}
	return &port.ReadError{
		Reason:     reason,
		HTTPStatus: a.status,
		RequestID:  requestID(a.header),
		Operation:  c.operation,
		NeedsUser:  needsUser,
		Detail:     detail,
	}
}

// appOnlyRefused recognizes the answers of Graph to an application where only a
// user is let in. There is no code of its own for it; the words differ between
// workloads ("Requested API is not supported in application-only context",
// "… does not support app-only …", "… only valid with delegated authentication
// flow").
func appOnlyRefused(status int, e graphError) bool {
	switch status {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden,
		http.StatusMethodNotAllowed, http.StatusPreconditionFailed, http.StatusNotImplemented:
	default:
		return false
	}
	for _, words := range []string{"application-only", "app-only", "application only context", "delegated authentication flow"} {
		if contains(e.message, words) {
			return true
		}
	}
	return false
}

// malformed says why an answer cannot be used, in this service's own words.
func (c *call) malformed(a *answer, err error) *port.ReadError {
	detail := "the answer is cut or not JSON, or repeats a property"
	switch {
	case errors.Is(err, errRefusal):
		detail = "the answer is an error, though its status says success"
	case errors.Is(err, errShape):
		detail = "the answer is not the list or object that was asked for"
	}
	out := invalid(c.operation, detail)
	out.HTTPStatus, out.RequestID = a.status, requestID(a.header)
	return out
}
