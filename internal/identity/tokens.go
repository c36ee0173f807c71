package identity

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"

	"understudy.internal/internal/port"
)

// refreshAhead is how long before its end a token is replaced.
const refreshAhead = 5 * time.Minute

// tokens holds the access token of an identity, and lets one request at a time
// fetch the next: MSAL does neither.
type tokens struct {
	// turn has a token when nobody fetches.
	turn    chan struct{}
	current port.Token
}

func newTokens() *tokens {
	t := &tokens{turn: make(chan struct{}, 1)}
	t.turn <- struct{}{}
	return t
}

// get returns the current token, or the one that fetch gets. A fetch that fails
// while the current one is still valid, and was not refused, does no harm.
func (t *tokens) get(
	ctx context.Context, request port.TokenRequest, fetch func(context.Context, string) (port.Token, error),
) (port.Token, error) {
	select {
	case <-t.turn:
		defer func() { t.turn <- struct{}{} }()
	case <-ctx.Done():
		return port.Token{}, context.Cause(ctx)
	}
	usable := t.current.Value != "" && t.current.Value != request.Refused && time.Now().Before(t.current.ExpiresOn)
	// A claims challenge that came with an older token is answered by the newer one.
	challenged := request.Claims != "" && (request.Refused == "" || request.Refused == t.current.Value)
	if usable && !challenged && time.Until(t.current.ExpiresOn) > refreshAhead {
		return t.current, nil
	}
	next, err := fetch(ctx, request.Claims)
	if err != nil {
		if usable && !challenged && ctx.Err() == nil {
			return t.current, nil
		}
		return port.Token{}, err
	}
	t.current = next
	return next, nil
}

// foreign says whether an access token says of itself that it is of another
// tenant. Access tokens are opaque: one that cannot be read is not foreign.
// https://learn.microsoft.com/entra/identity-platform/access-tokens
func foreign(token, directoryID string) bool {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return false
	}
	content, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return false
	}
	var claims struct {
		Tenant string `json:"tid"`
	}
	if json.Unmarshal(content, &claims) != nil || claims.Tenant == "" {
		return false
	}
	return !strings.EqualFold(claims.Tenant, directoryID)
}
