package identity

import (
	"context"
	"net/url"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

// prompt asks a person, with a device code (RFC 8628), and waits until it has
// signed in, or the deadline, or the code's own end: both look the same to it.
func (u *User) prompt(
	ctx context.Context, deadline time.Time, show func(*understudyv1.AuthenticationPrompt),
) (port.Token, error) {
	return u.attempt(ctx, deadline, func(ctx context.Context, _ *exchange) (port.Token, error) {
		device, err := u.msal.AcquireTokenByDeviceCode(ctx, u.scopes())
		if err != nil {
			return port.Token{}, err
		}
		if address, err := url.Parse(device.Result.VerificationURL); err != nil || address.Scheme != "https" || device.Result.UserCode == "" {
			return port.Token{}, u.Fail(understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_PROVIDER_UNAVAILABLE)
		}
		expires := device.Result.ExpiresOn
		if deadline.Before(expires) {
			expires = deadline
		}
		show(&understudyv1.AuthenticationPrompt{
			VerificationUri: device.Result.VerificationURL, UserCode: device.Result.UserCode, ExpireTime: timestamppb.New(expires),
		})
		result, err := device.AuthenticationResult(ctx)
		if err != nil {
			return port.Token{}, err
		}
		return u.accept(result)
	})
}
