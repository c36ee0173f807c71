package identity

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"understudy.internal/internal/port"
)

// together calls a function from many goroutines at the same time and returns what
// they got.
func together(n int, call func(i int) (port.Token, error)) ([]port.Token, []error) {
	got, failed := make([]port.Token, n), make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { got[i], failed[i] = call(i) })
	}
	all.Wait()
	return got, failed
}

// gate holds an answer back until it is opened.
func gate() (reply, func()) {
	opened := make(chan struct{})
	return reply{then: func() { <-opened }}, func() { close(opened) }
}

func TestConcurrentCallersShareOneRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		held, open := gate()
		f.answer(applications, held)
		s := f.servicePrincipal()
		go func() { synctest.Wait(); open() }()
		tokens, errs := together(20, func(int) (port.Token, error) { return s.Token(t.Context(), port.TokenRequest{}) })
		for i := range tokens {
			if errs[i] != nil || tokens[i] != tokens[0] || tokens[i].Value == "" {
				t.Errorf("caller %d: %v", i, errs[i])
			}
		}
		if n := len(f.requests(applications)); n != 1 {
			t.Errorf("20 callers made %d requests", n)
		}
	})
}

func TestConcurrentCallersShareAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		opened := make(chan struct{})
		refusal := refused(401, "invalid_client", "", 7000222)
		refusal.then = func() { <-opened }
		f.answerAlways(applications, refusal)
		s := f.servicePrincipal()
		go func() { synctest.Wait(); close(opened) }()
		_, errs := together(20, func(int) (port.Token, error) { return s.Token(t.Context(), port.TokenRequest{}) })
		for _, err := range errs {
			reasonIs(t, err, "CREDENTIAL_EXPIRED")
		}
		if n := len(f.requests(applications)); n != 1 {
			t.Errorf("20 callers made %d requests", n)
		}
	})
}

// TestACallerWhoGoesAwayFailsNobodyElse cancels the one whose request is shared.
func TestACallerWhoGoesAwayFailsNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.answer(applications, reply{hang: true})
		s := f.servicePrincipal()
		gone := errors.New("the caller is gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		var first error
		var all sync.WaitGroup
		all.Go(func() { _, first = s.Token(ctx, port.TokenRequest{}) })
		synctest.Wait()
		all.Go(func() {
			if _, err := s.Token(t.Context(), port.TokenRequest{}); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		cancel(gone)
		all.Wait()
		var authError port.AuthError
		if !errors.Is(first, gone) || errors.As(first, &authError) {
			t.Errorf("the caller got %v, want the cause of its context and no AuthError", first)
		}
	})
}

func TestAWaitingCallerCanGoAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		held, open := gate()
		f.answer(applications, held)
		s := f.servicePrincipal()
		var all sync.WaitGroup
		all.Go(func() { _, _ = s.Token(t.Context(), port.TokenRequest{}) })
		synctest.Wait()
		gone := errors.New("gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(gone)
		if _, err := s.Token(ctx, port.TokenRequest{}); !errors.Is(err, gone) {
			t.Error(err)
		}
		open()
		all.Wait()
	})
}

func TestATokenIsKeptUntilShortlyBeforeItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		s := f.servicePrincipal()
		token := func() port.Token {
			t.Helper()
			got, err := s.Token(t.Context(), port.TokenRequest{})
			if err != nil {
				t.Fatal(err)
			}
			return got
		}
		first := token()
		<-time.After(54 * time.Minute)
		if token() != first {
			t.Error("a token was replaced 6 minutes before its end")
		}
		<-time.After(2 * time.Minute)
		if token() == first {
			t.Error("a token was not replaced 4 minutes before its end")
		}
	})
}

// TestAFailingRefreshUsesTheValidToken also says that the service is left in peace
// after it.
func TestAFailingRefreshUsesTheValidToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		s := f.servicePrincipal()
		first, err := s.Token(t.Context(), port.TokenRequest{})
		if err != nil {
			t.Fatal(err)
		}
		f.answerAlways(applications, refused(400, "unauthorized_client", "", 700016))
		<-time.After(57 * time.Minute)
		before := len(f.requests(applications))
		for range 10 {
			if token, err := s.Token(t.Context(), port.TokenRequest{}); err != nil || token != first {
				t.Fatalf("%v, %v", token, err)
			}
		}
		if n := len(f.requests(applications)) - before; n != 1 {
			t.Errorf("%d requests after a failure, want 1", n)
		}
		<-time.After(4 * time.Minute)
		_, err = s.Token(t.Context(), port.TokenRequest{})
		reasonIs(t, err, "APPLICATION_MISCONFIGURED")
	})
}

func TestARefusedTokenIsNotReturnedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		s := f.servicePrincipal()
		first, _ := s.Token(t.Context(), port.TokenRequest{})
		tokens, errs := together(20, func(int) (port.Token, error) {
			return s.Token(t.Context(), port.TokenRequest{Refused: first.Value})
		})
		for i := range tokens {
			if errs[i] != nil || tokens[i] == first || tokens[i] != tokens[0] {
				t.Errorf("caller %d: %v", i, errs[i])
			}
		}
		if n := len(f.requests(applications)); n != 2 {
			t.Errorf("%d requests, want 2", n)
		}
		f.says(func(e *entra) { e.issued-- }) // the same token once more
		_, err := s.Token(t.Context(), port.TokenRequest{Refused: tokens[0].Value})
		reasonIs(t, err, "SIGN_IN_REVOKED")
	})
}

// TestClaims answers a challenge of continuous access evaluation: once for all who
// met it with the same token, and again when the new token meets one.
func TestClaims(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		s := f.servicePrincipal()
		first, _ := s.Token(t.Context(), port.TokenRequest{})
		tokens, errs := together(20, func(int) (port.Token, error) {
			return s.Token(t.Context(), port.TokenRequest{Refused: first.Value, Claims: tokenClaims})
		})
		for i := range tokens {
			if errs[i] != nil || tokens[i] == first || tokens[i] != tokens[0] {
				t.Errorf("caller %d: %v", i, errs[i])
			}
		}
		sent := f.requests(applications)
		if len(sent) != 2 {
			t.Fatalf("%d requests, want 2", len(sent))
		}
		if want := `{"access_token":{"xms_cc":{"values":["CP1"]}}}`; sent[0].form.Get("claims") != want {
			t.Errorf("without a challenge the claims are %s, want %s", sent[0].form.Get("claims"), want)
		}
		if want := `{"access_token":{"nbf":{"essential":true,"value":"MARKERCLAIMS"},"xms_cc":{"values":["CP1"]}}}`; sent[1].form.Get("claims") != want {
			t.Errorf("the claims are %s, want %s", sent[1].form.Get("claims"), want)
		}
		if next, err := s.Token(t.Context(), port.TokenRequest{Refused: tokens[0].Value, Claims: tokenClaims}); err != nil || next == tokens[0] {
			t.Errorf("the second challenge: %v", err)
		}
		if next, err := s.Token(t.Context(), port.TokenRequest{Claims: tokenClaims}); err != nil || len(f.requests(applications)) != 4 || next.Value == "" {
			t.Errorf("claims without a refused token: %v", err)
		}
	})
}

// TestAPlainRequestDoesNotAnswerAChallenge has a token that was got without the
// claims while somebody waits for one with them.
func TestAPlainRequestDoesNotAnswerAChallenge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		s := f.servicePrincipal()
		first, _ := s.Token(t.Context(), port.TokenRequest{})
		held, open := gate()
		f.answer(applications, held)
		var all sync.WaitGroup
		all.Go(func() { _, _ = s.Token(t.Context(), port.TokenRequest{Refused: first.Value}) })
		synctest.Wait()
		all.Go(func() { _, _ = s.Token(t.Context(), port.TokenRequest{Refused: first.Value, Claims: tokenClaims}) })
		synctest.Wait()
		open()
		all.Wait()
		if n := len(f.requests(applications)); n != 3 {
			t.Errorf("%d requests, want 3", n)
		}
	})
}

func TestClaimsThatAreNoObjectStillGetAFreshToken(t *testing.T) {
	f := newFixture(t)
	s := f.servicePrincipal()
	first, _ := s.Token(t.Context(), port.TokenRequest{})
	for _, claims := range []string{marker, "null", "[]", "{"} {
		next, err := s.Token(t.Context(), port.TokenRequest{Refused: first.Value, Claims: claims})
		if err != nil || next == first {
			t.Errorf("%q: %v", claims, err)
		}
		first = next
	}
}

func TestForeign(t *testing.T) {
	cases := map[string]struct {
		token string
		want  bool
	}{
		"ours":                   {jwt(map[string]any{"tid": "22222222-2222-4222-8222-222222222222"}), false},
		"another's":              {jwt(map[string]any{"tid": otherTenant}), true},
		"no tid":                 {jwt(map[string]any{"oid": userID}), false},
		"opaque":                 {"opaque", false},
		"not base64":             {"a.*.c", false},
		"no JSON":                {"a.bm8.c", false},
		"encrypted (five parts)": {"a.b.c.d.e", false},
	}
	for name, c := range cases {
		if foreign(c.token, directory) != c.want {
			t.Errorf("%s: want %v", name, c.want)
		}
	}
}

// TestOverTLS uses the network for once: the rest is the same code.
func TestOverTLS(t *testing.T) {
	f := newTLSFixture(t)
	tokens, errs := together(20, func(int) (port.Token, error) { return f.servicePrincipal().Token(t.Context(), port.TokenRequest{}) })
	for i := range tokens {
		if errs[i] != nil || tokens[i].Value == "" {
			t.Errorf("caller %d: %v", i, errs[i])
		}
	}
	f.answer(refresh, reply{status: http.StatusServiceUnavailable}, reply{drop: true})
	u := f.signedIn()
	if method, err := u.SignIn(t.Context(), port.SignInOptions{}); err != nil || method != byCache {
		t.Errorf("%v, %v", method, err)
	}
}
