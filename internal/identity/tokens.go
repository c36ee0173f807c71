package identity

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"strings"
	"sync"
	"time"

	"understudy.internal/internal/port"
)

const (
	// refreshAhead is how long before its end a token is replaced, at most.
	refreshAhead = 5 * time.Minute
	// refreshPause is waited after a failed replacement of a token that is still
	// valid.
	refreshPause = 30 * time.Second
)

// fetch gets a fresh token, for a claims challenge where there is one.
type fetch func(ctx context.Context, claims string) (port.Token, error)

// way is how a token is got. Callers who want it in the same way share its failure.
type way int

const (
	unattended way = iota
	attended
)

// want is what a caller wants of tokens.
type want struct {
	port.TokenRequest
	way   way
	fetch fetch
	// renew refuses the token that is held.
	renew bool
}

// tokens holds the access token of an identity, and lets concurrent callers share
// the request for the next: MSAL does neither. It runs no goroutine: the first
// caller fetches, and when its context ends the next one does.
type tokens struct {
	mu     sync.Mutex
	held   held
	flight *flight
	// notBefore is when a valid token may be replaced again after a failure.
	notBefore time.Time
}

// held is a token as it was got.
type held struct {
	port.Token
	got time.Time
	// challenged says that it answers a claims challenge.
	challenged bool
}

// flight is a fetch that is under way. Its result may be read when done is closed.
type flight struct {
	way        way
	challenged bool
	done       chan struct{}

	token port.Token
	err   error
	// abandoned says that the caller who fetched went away.
	abandoned bool
}

// get returns the token that is held, or a fresh one. A fetch that fails while the
// one that is held is still valid, and was not refused, does no harm.
func (t *tokens) get(ctx context.Context, w want) (port.Token, error) {
	for {
		t.mu.Lock()
		fits := t.fits(w)
		if fits && (t.flight != nil || !t.due()) {
			defer t.mu.Unlock()
			return t.held.Token, nil
		}
		f := t.flight
		if f == nil {
			f = &flight{way: w.way, challenged: w.Claims != "", done: make(chan struct{})}
			t.flight = f
			t.mu.Unlock()
			return t.fly(ctx, f, w)
		}
		t.mu.Unlock()
		select {
		case <-f.done:
		case <-ctx.Done():
			return port.Token{}, context.Cause(ctx)
		}
		if f.serves(w) {
			return f.token, f.err
		}
	}
}

// fits says whether the token that is held serves a caller. The caller holds mu.
func (t *tokens) fits(w want) bool {
	h := t.held
	switch {
	case w.renew, h.Value == "", h.Value == w.Refused, !time.Now().Before(h.ExpiresOn):
		return false
	case w.Claims != "":
		// The challenge came with an older token, and somebody has answered it.
		return w.Refused != "" && h.challenged
	}
	return true
}

// due says whether the token that is held should be replaced soon. The caller
// holds mu.
func (t *tokens) due() bool {
	ahead := min(refreshAhead, t.held.ExpiresOn.Sub(t.held.got)/4)
	return time.Until(t.held.ExpiresOn) < ahead && !time.Now().Before(t.notBefore)
}

func (t *tokens) fly(ctx context.Context, f *flight, w want) (port.Token, error) {
	f.abandoned = true
	defer func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.flight = nil
		close(f.done)
	}()
	f.token, f.err = w.fetch(ctx, w.Claims)
	f.abandoned = f.err != nil && ctx.Err() != nil

	t.mu.Lock()
	defer t.mu.Unlock()
	if f.err == nil {
		t.held, t.notBefore = held{Token: f.token, got: time.Now(), challenged: f.challenged}, time.Time{}
		return f.token, nil
	}
	if !f.abandoned && t.fits(w) {
		t.notBefore = time.Now().Add(refreshPause)
		return t.held.Token, nil
	}
	if w.renew {
		t.held = held{}
	}
	return port.Token{}, f.err
}

// serves says whether the result of a flight is an answer to a caller who waited
// for it.
func (f *flight) serves(w want) bool {
	switch {
	case f.abandoned:
		return false
	case f.err != nil:
		return f.way == w.way
	}
	return f.token.Value != w.Refused && (w.Claims == "" || f.challenged)
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
