package edge

import (
	"context"
	"errors"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

// syncStatus is the status of a stream that ends with the error of its sync. The
// engine wrote it, so it is passed on; its details are held within the limits.
func (m *mapper) syncStatus(ctx context.Context, ended *syncError) *status.Status {
	code := codes.Code(ended.status.GetCode())
	if code == codes.OK || code > codes.Unauthenticated {
		return m.internal(ctx, errors.New("a sync that failed has no error"))
	}
	details := make([]proto.Message, 0, len(ended.status.GetDetails()))
	reasoned := false
	for _, packed := range ended.status.GetDetails() {
		// What this version cannot read, it does not send: it could not hold it
		// within the limits.
		if detail, err := packed.UnmarshalNew(); err == nil {
			details = append(details, detail)
			info, ok := detail.(*errdetails.ErrorInfo)
			reasoned = reasoned || ok && info.GetReason() != ""
		}
	}
	if !reasoned {
		return m.internal(ctx, errors.New("the error of a sync has no reason"))
	}
	return newStatus(code, ended.status.GetMessage(), details...)
}

// authProblem explains why an identity of a tenant has no access. It never is
// UNAUTHENTICATED or PERMISSION_DENIED: those speak of the caller.
func (m *mapper) authProblem(err error) *problem {
	var authError port.AuthError
	if !errors.As(err, &authError) {
		return nil
	}
	failure := authError.AuthFailure()
	p := &problem{
		codes.FailedPrecondition, understudyv1.ErrorReason_ERROR_REASON_TENANT_AUTHENTICATION_FAILED,
		failure.GetMessage(), nil,
		[]proto.Message{failure},
	}
	if failure.GetRetryable() {
		p.code = codes.Unavailable
		if delay := failure.GetRetryDelay(); delay != nil {
			p.details = append(p.details, &errdetails.RetryInfo{RetryDelay: delay})
		}
	}
	if failure.GetHelpUri() == "" && m.helpBaseURL != "" {
		failure.HelpUri = strings.TrimSuffix(m.helpBaseURL, "/") + "/" + helpPage(failure.GetReason())
	}
	if uri := failure.GetHelpUri(); uri != "" {
		p.details = append(p.details, &errdetails.Help{Links: []*errdetails.Help_Link{
			{Description: "What this failure means and how to mend it", Url: uri},
		}})
	}
	return p
}

// helpPage is the name of the page about a reason: `conditional-access-blocked`.
func helpPage(reason understudyv1.AuthFailureReason) string {
	name := strings.TrimPrefix(reason.String(), "AUTH_FAILURE_REASON_")
	return strings.ReplaceAll(strings.ToLower(name), "_", "-")
}
