package engine

import (
	"strconv"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

// errorDomain is the domain of every ErrorInfo of this service.
const errorDomain = "understudy.internal"

// newStatus builds a status with an ErrorInfo first, then the other details.
func newStatus(
	c code.Code, reason understudyv1.ErrorReason, message string, metadata map[string]string, details ...proto.Message,
) *rpcstatus.Status {
	s := &rpcstatus.Status{Code: int32(c), Message: message}
	info := &errdetails.ErrorInfo{Reason: reason.String(), Domain: errorDomain, Metadata: metadata}
	for _, detail := range append([]proto.Message{info}, details...) {
		// Messages of this program always marshal: their strings are valid UTF-8.
		if packed, err := anypb.New(detail); err == nil {
			s.Details = append(s.Details, packed)
		}
	}
	return s
}

// authDetails returns the details that go with an authentication failure: the
// failure without the affected types, because the details of a status must stay
// small, and the link to the guidance.
func authDetails(failure *understudyv1.AuthFailure) []proto.Message {
	details := []proto.Message{withoutList(failure)}
	if uri := failure.GetHelpUri(); uri != "" {
		details = append(details, &errdetails.Help{
			Links: []*errdetails.Help_Link{{Description: "What this failure means and how to mend it", Url: uri}},
		})
	}
	if failure.GetRetryable() && failure.GetRetryDelay() != nil {
		details = append(details, &errdetails.RetryInfo{RetryDelay: failure.GetRetryDelay()})
	}
	return details
}

// authCode is the code of a status that an authentication failure causes. The
// codes UNAUTHENTICATED and PERMISSION_DENIED speak of the caller, and are not
// used for the credentials of a tenant.
func authCode(failure *understudyv1.AuthFailure) code.Code {
	if failure.GetRetryable() {
		return code.Code_UNAVAILABLE
	}
	return code.Code_FAILED_PRECONDITION
}

// authStatus is the error of a sync that failed because an identity did.
func authStatus(failure *understudyv1.AuthFailure) *rpcstatus.Status {
	return newStatus(authCode(failure), understudyv1.ErrorReason_ERROR_REASON_TENANT_AUTHENTICATION_FAILED,
		failure.GetMessage(), nil, authDetails(failure)...)
}

// failureCodes says which code the error of a configuration result has.
var failureCodes = map[understudyv1.ConfigurationFailureReason]code.Code{
	understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_PERMISSION_MISSING:    code.Code_FAILED_PRECONDITION,
	understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_THROTTLED:             code.Code_UNAVAILABLE,
	understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_SOURCE_UNAVAILABLE:    code.Code_UNAVAILABLE,
	understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_RESPONSE_INVALID:      code.Code_UNAVAILABLE,
	understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_COUNT_COLLAPSED:       code.Code_FAILED_PRECONDITION,
	understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_FEATURE_NOT_AVAILABLE: code.Code_FAILED_PRECONDITION,
	understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_INTERRUPTED:           code.Code_ABORTED,
}

// failureStatus is the error of a configuration result.
func failureStatus(
	reason understudyv1.ConfigurationFailureReason, detail string, refused *port.ReadError, failure *understudyv1.AuthFailure,
) *rpcstatus.Status {
	if reason == understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_UNSPECIFIED {
		return nil
	}
	metadata := map[string]string{"configurationFailureReason": reason.String()}
	if refused != nil {
		metadata["operation"] = refused.Operation
		if refused.HTTPStatus != 0 {
			metadata["httpStatus"] = strconv.Itoa(refused.HTTPStatus)
		}
		if refused.RequestID != "" {
			metadata["requestId"] = refused.RequestID
		}
	}
	errorReason := understudyv1.ErrorReason_ERROR_REASON_CONFIGURATION_NOT_BACKED_UP
	if failure != nil && reason != understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_PERMISSION_MISSING {
		return newStatus(authCode(failure), errorReason, failure.GetMessage(), metadata, authDetails(failure)...)
	}
	var details []proto.Message
	if failure != nil { // of this type alone
		failure = proto.CloneOf(failure)
		failure.AffectedCount = 1
		details = authDetails(failure)
	}
	return newStatus(failureCodes[reason], errorReason, failureMessage(reason, detail, failure), metadata, details...)
}
