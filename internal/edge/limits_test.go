package edge

import (
	"encoding/base64"
	"strings"
	"testing"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"pgregory.net/rapid"

	understudyv1 "understudy.internal/gen/understudy/v1"
)

// hugeFailure is an AuthFailure far beyond what a trailer may hold.
func hugeFailure() *understudyv1.AuthFailure {
	failure := &understudyv1.AuthFailure{
		Identity:          understudyv1.Identity_IDENTITY_USER,
		Reason:            understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_CONDITIONAL_ACCESS_BLOCKED,
		Message:           "User authentication failed - " + strings.Repeat("ü", 5000),
		HelpUri:           "https://help.example/" + strings.Repeat("x", 3000),
		ProviderErrorCode: "AADSTS53003",
		AffectedCount:     1000,
	}
	for range 1000 {
		failure.MissingPermissions = append(failure.MissingPermissions, strings.Repeat("Policy.Read.All", 10))
		failure.AffectedConfigurationTypes = append(failure.AffectedConfigurationTypes, "entra/"+strings.Repeat("x", 50))
	}
	return failure
}

// onWire is how much of the trailers a status takes.
func onWire(t interface{ Fatal(...any) }, s *status.Status) int {
	content, err := proto.Marshal(s.Proto())
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawStdEncoding.EncodedLen(len(content))
}

// The error of a sync comes through RunSync with what matters, under 4 KiB.
func TestAHugeStatusIsHeldWithinTheLimits(t *testing.T) {
	failure := hugeFailure()
	packed := &rpcstatus.Status{Code: int32(codes.FailedPrecondition), Message: failure.GetMessage()}
	help := &errdetails.Help{}
	for range 50 {
		help.Links = append(help.Links, &errdetails.Help_Link{Description: "page", Url: "https://help.example/" + strings.Repeat("y", 100)})
	}
	for _, d := range []proto.Message{
		help, failure,
		&errdetails.DebugInfo{Detail: strings.Repeat("z", 10000)},
		&errdetails.ErrorInfo{
			Reason: understudyv1.ErrorReason_ERROR_REASON_TENANT_AUTHENTICATION_FAILED.String(), Domain: errorDomain,
		},
		&errdetails.RetryInfo{RetryDelay: durationpb.New(7)},
	} {
		detail, err := anypb.New(d)
		if err != nil {
			t.Fatal(err)
		}
		packed.Details = append(packed.Details, detail)
	}
	packed.Details = append(packed.Details, &anypb.Any{TypeUrl: "type.googleapis.com/of.the.Future", Value: make([]byte, 5000)})
	f := serve(t)
	f.journal.append(finished(understudyv1.SyncState_SYNC_STATE_FAILED, func(s *understudyv1.Sync) { s.Error = packed }))
	err := calls()[0].do(t.Context(), f)
	got := status.Convert(err)
	if size := onWire(t, got); size >= 4096 {
		t.Errorf("the status takes %d bytes", size)
	}
	if got.Code() != codes.FailedPrecondition || !utf8.ValidString(got.Message()) || len(got.Message()) > maxMessage {
		t.Errorf("%v %q", got.Code(), got.Message())
	}
	if reason(err) != understudyv1.ErrorReason_ERROR_REASON_TENANT_AUTHENTICATION_FAILED.String() {
		t.Errorf("the reason is lost: %v", got)
	}
	if detail[*errdetails.RetryInfo](err).GetRetryDelay().AsDuration() != 7 {
		t.Errorf("the delay is lost: %v", got)
	}
	small := detail[*understudyv1.AuthFailure](err)
	switch {
	case small.GetReason() != failure.GetReason(), small.GetProviderErrorCode() != "AADSTS53003",
		small.GetAffectedCount() != 1000, !strings.HasPrefix(small.GetMessage(), "User authentication failed - "):
		t.Errorf("lost of the failure: %v", small)
	case len(small.GetAffectedConfigurationTypes()) != 0:
		t.Error("the affected types are in the status")
	case small.GetHelpUri() != "":
		t.Errorf("half an address: %q", small.GetHelpUri())
	case len(failure.GetAffectedConfigurationTypes()) != 1000:
		t.Error("the original was changed")
	}
	if first, ok := got.Details()[0].(*errdetails.ErrorInfo); !ok {
		t.Errorf("the first detail is %T", first)
	}
}

// The affected types are only in-band, however few they are.
func TestAffectedTypesAreNotInAStatus(t *testing.T) {
	s := newStatus(codes.FailedPrecondition, "x", &understudyv1.AuthFailure{
		AffectedConfigurationTypes: []string{"entra/a"}, AffectedCount: 1,
	})
	want := &understudyv1.AuthFailure{AffectedCount: 1}
	if d := diff(want, s.Details()[0].(proto.Message)); d != "" {
		t.Error(d)
	}
}

// Whatever the details are: the status stays within the limit, its code stays,
// and the ErrorInfo is there with its reason.
func TestStatusLimitsHold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		long := rapid.StringN(0, 4000, 6000)
		var details []proto.Message
		for range rapid.IntRange(0, 6).Draw(t, "details") {
			switch rapid.IntRange(0, 3).Draw(t, "kind") {
			case 0:
				bad := &errdetails.BadRequest{}
				for range rapid.IntRange(0, 200).Draw(t, "violations") {
					bad.FieldViolations = append(bad.FieldViolations, &errdetails.BadRequest_FieldViolation{
						Field: rapid.StringN(0, 50, 200).Draw(t, "field"), Description: rapid.StringN(0, 50, 200).Draw(t, "description"),
					})
				}
				details = append(details, bad)
			case 1:
				details = append(details, &understudyv1.AuthFailure{
					Message: long.Draw(t, "message"), HelpUri: long.Draw(t, "uri"), MissingPermissions: []string{long.Draw(t, "permission")},
				})
			case 2:
				details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(1)})
			default:
				details = append(details, &errdetails.DebugInfo{StackEntries: []string{long.Draw(t, "stack")}})
			}
		}
		metadata := map[string]string{}
		for range rapid.IntRange(0, 40).Draw(t, "metadata") {
			metadata[rapid.StringN(1, 20, 60).Draw(t, "key")] = long.Draw(t, "value")
		}
		info := &errdetails.ErrorInfo{Reason: understudyv1.ErrorReason_ERROR_REASON_CONFIGURATION_NOT_BACKED_UP.String(), Metadata: metadata}
		s := newStatus(codes.Aborted, long.Draw(t, "text"), append(details, info)...)
		if size := onWire(t, s); size >= 4096 {
			t.Fatalf("%d bytes", size)
		}
		if s.Code() != codes.Aborted || !utf8.ValidString(s.Message()) {
			t.Fatalf("%v", s)
		}
		if got, ok := s.Details()[0].(*errdetails.ErrorInfo); !ok || got.GetReason() != info.GetReason() {
			t.Fatalf("the reason is lost: %v", s.Details())
		}
	})
}
