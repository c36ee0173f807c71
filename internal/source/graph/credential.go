package graph

import (
	"context"
	"encoding/base64"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

// renewBefore is how long before its expiry a token is not used any more without
// asking the identity.
const renewBefore = 5 * time.Minute

// credential is the token of one identity that a session uses, so that a batch of
// refused requests makes one request for a new one.
type credential struct {
	identity port.Identity
	// turn lets one caller at a time ask the identity.
	turn chan struct{}

	mu      sync.Mutex
	current port.Token
	// claimed says that the current token answers a challenge.
	claimed bool
}

// token returns a token that is not the refused one. Claims answer a challenge
// that the refused token met: then it is one that was obtained for a challenge.
func (c *credential) token(ctx context.Context, refused, claims string) (string, error) {
	if value, ok := c.usable(refused, claims); ok {
		return value, nil
	}
	select {
	case c.turn <- struct{}{}:
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	defer func() { <-c.turn }()
	if value, ok := c.usable(refused, claims); ok {
		return value, nil
	}
	token, err := c.identity.Token(ctx, port.TokenRequest{Claims: claims, Refused: refused})
	if err != nil {
		return "", err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current, c.claimed = token, claims != ""
	return token.Value, nil
}

func (c *credential) usable(refused, claims string) (string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ok := c.current.Value != "" && c.current.Value != refused && (claims == "" || c.claimed) &&
		time.Until(c.current.ExpiresOn) > renewBefore
	return c.current.Value, ok
}

// tokenPolicy gives a request its token, and a fresh one when it was refused: once
// for a plain 401, and once for a claims challenge of continuous access
// evaluation. A second challenge means that the sign-in was revoked.
// https://learn.microsoft.com/entra/identity-platform/claims-challenge
type tokenPolicy struct{}

// Do implements policy.Policy.
func (tokenPolicy) Do(request *policy.Request) (*http.Response, error) {
	ctx := request.Raw().Context()
	c := callOf(ctx)
	refused, claims := "", ""
	for {
		token, err := c.credential.token(ctx, refused, claims)
		if err != nil {
			return nil, &finalError{err}
		}
		c.token = token
		response, err := request.Next()
		if err != nil || response.StatusCode != http.StatusUnauthorized {
			return response, err
		}
		challenge, challenged := claimsChallenge(response.Header)
		switch {
		case challenged && c.challenged:
			return nil, &finalError{c.credential.identity.Fail(understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_SIGN_IN_REVOKED)}
		case challenged:
			c.challenged = true
		case c.renewed:
			return response, nil
		default:
			c.renewed = true
		}
		runtime.Drain(response)
		refused, claims = token, challenge
	}
}

// claimsChallenge returns the decoded claims of a challenge, and whether there is
// one: `WWW-Authenticate: Bearer …, error="insufficient_claims",
// claims="<base64>"`. A challenge whose claims cannot be decoded is a plain 401.
func claimsChallenge(header http.Header) (string, bool) {
	for _, value := range header.Values("WWW-Authenticate") {
		if !strings.Contains(value, "insufficient_claims") {
			continue
		}
		_, rest, ok := strings.Cut(value, `claims="`)
		if !ok {
			continue
		}
		encoded, _, ok := strings.Cut(rest, `"`)
		if !ok {
			continue
		}
		encoded = strings.TrimRight(encoded, "=")
		encoded = strings.NewReplacer("-", "+", "_", "/").Replace(encoded)
		if claims, err := base64.RawStdEncoding.DecodeString(encoded); err == nil && len(claims) > 0 {
			return string(claims), true
		}
	}
	return "", false
}
