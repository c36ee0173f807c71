package graph

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

const claims = `{"access_token":{"nbf":{"essential":true,"value":"1604106651"}}}`

func challenge(encoding *base64.Encoding) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(
			`Bearer realm="", authorization_uri="https://login.test/common/oauth2/authorize", error="insufficient_claims", claims="%s"`,
			encoding.EncodeToString([]byte(claims))))
		fail(401, "InvalidAuthenticationToken", "CAE")(w, r)
	}
}

// onlyFrom answers with refuse until the token has the number n.
func onlyFrom(n int, refuse, then http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var got int
		fmt.Sscanf(r.Header.Get("Authorization"), "Bearer token-%d", &got)
		if got < n {
			refuse(w, r)
			return
		}
		then(w, r)
	}
}

func TestRefusedTokens(t *testing.T) {
	plain := fail(401, "InvalidAuthenticationToken", "expired")
	all := routes(thingsAndChildren(100))
	for name, test := range map[string]struct {
		graph    http.HandlerFunc
		wantAuth understudyv1.AuthFailureReason
		claims   string
		tokens   int
	}{
		"401, then a fresh token": {graph: onlyFrom(2, plain, all), tokens: 2},
		"a fresh token is refused too": {
			graph: plain, tokens: 2,
			wantAuth: understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_SIGN_IN_REVOKED,
		},
		"challenge": {graph: onlyFrom(2, challenge(base64.StdEncoding), all), claims: claims, tokens: 2},
		"challenge without padding": {
			graph: onlyFrom(2, challenge(base64.RawURLEncoding), all), claims: claims, tokens: 2,
		},
		"401, then a challenge": {
			graph: onlyFrom(2, plain, onlyFrom(3, challenge(base64.StdEncoding), all)), claims: claims, tokens: 3,
		},
		"challenge twice": {
			graph: challenge(base64.StdEncoding), claims: claims, tokens: 2,
			wantAuth: understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_SIGN_IN_REVOKED,
		},
	} {
		t.Run(name, func(t *testing.T) {
			source, _ := serve(t, &fakeGraph{one: test.graph})
			identity := &fakeIdentity{}
			got := readAs(t, source, withChild("/things"), identity)
			var authError port.AuthError
			if errors.As(got.err, &authError) != (test.wantAuth != 0) || authError != nil && authError.AuthFailure().GetReason() != test.wantAuth {
				t.Fatal(got.err)
			}
			if test.wantAuth == 0 && (got.err != nil || len(got.ids) != 100) {
				t.Fatal(got.err, len(got.ids))
			}
			if len(identity.requests) != test.tokens {
				t.Errorf("%d token requests: %+v", len(identity.requests), identity.requests)
			}
			last := identity.requests[len(identity.requests)-1]
			if last.Claims != test.claims || last.Refused != fmt.Sprintf("token-%d", test.tokens-1) {
				t.Errorf("%+v", last)
			}
		})
	}
}

// In the middle of many children, parts and whole batches that are refused make
// one request for a token.
func TestManyRefusedPartsAskForOneToken(t *testing.T) {
	for name, refuse := range map[string]http.HandlerFunc{
		"challenge": challenge(base64.StdEncoding), "plain": fail(401, "InvalidAuthenticationToken", "x"),
	} {
		for _, whole := range []bool{true, false} {
			t.Run(fmt.Sprint(name, " whole=", whole), func(t *testing.T) {
				old := func(r *http.Request) bool { return r.Header.Get("Authorization") == "Bearer token-1" }
				f := &fakeGraph{}
				f.one = func(w http.ResponseWriter, r *http.Request) {
					switch {
					case r.URL.Path == "/v1.0/things":
						io.WriteString(w, things(300))
					case old(r):
						refuse(w, r)
					default:
						io.WriteString(w, `{"value":[]}`)
					}
				}
				if whole {
					f.outer = func(w http.ResponseWriter, r *http.Request) bool {
						if old(r) {
							refuse(w, r)
						}
						return old(r)
					}
				}
				source, _ := serve(t, f)
				identity := &fakeIdentity{}
				got := readAs(t, source, withChild("/things"), identity)
				if got.err != nil || len(got.ids) != 300 || len(identity.requests) != 2 {
					t.Errorf("%v, %d items, %d token requests", got.err, len(got.ids), len(identity.requests))
				}
			})
		}
	}
}

func TestIdentityWithoutAccess(t *testing.T) {
	f := &fakeGraph{one: ok(things(1))}
	source, _ := serve(t, f)
	identity := &fakeIdentity{err: fmt.Errorf("token: %w", &fakeAuthError{understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_ACCOUNT_DISABLED})}
	got := readAs(t, source, collection("/things"), identity)
	var authError port.AuthError
	if !errors.As(got.err, &authError) || len(f.gets) != 0 {
		t.Error(got.err, f.gets)
	}
}

func TestClaimsChallenge(t *testing.T) {
	for name, test := range map[string]struct{ header, want string }{
		"none":          {``, ""},
		"another error": {`Bearer error="invalid_token", claims="e30="`, ""},
		"no claims":     {`Bearer error="insufficient_claims"`, ""},
		"not base64":    {`Bearer error="insufficient_claims", claims="%%%"`, ""},
		"empty":         {`Bearer error="insufficient_claims", claims=""`, ""},
		"open":          {`Bearer error="insufficient_claims", claims="e30=`, ""},
		"good":          {`Bearer claims="e30=", error="insufficient_claims"`, "{}"},
		"after another": {`Basic realm="x", Bearer error="insufficient_claims", claims="e30"`, "{}"},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := claimsChallenge(http.Header{"Www-Authenticate": {test.header}})
			if got != test.want || ok != (test.want != "") {
				t.Error(got, ok)
			}
		})
	}
	if !strings.Contains(claims, "nbf") {
		t.Error("the test's claims are not claims")
	}
}
