package graph

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

// ownGraph knows two identities by the beginning of their tokens, and lets each
// read its own list only.
type ownGraph struct {
	fakeGraph
	mu    sync.Mutex
	mixed []string
}

func newOwnGraph(then http.HandlerFunc) *ownGraph {
	g := &ownGraph{}
	g.one = func(w http.ResponseWriter, r *http.Request) {
		owner, _, _ := strings.Cut(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), "-")
		if !strings.HasPrefix(r.URL.Path, "/v1.0/"+owner) {
			g.mu.Lock()
			g.mixed = append(g.mixed, owner+" "+r.URL.Path)
			g.mu.Unlock()
		}
		then(w, r)
	}
	return g
}

// named is an identity whose tokens begin with its name.
type named struct {
	fakeIdentity
	name string
}

func (n *named) Token(ctx context.Context, request port.TokenRequest) (port.Token, error) {
	token, err := n.fakeIdentity.Token(ctx, request)
	token.Value = n.name + "-" + token.Value
	return token, err
}

func reasonOf(err error) understudyv1.AuthFailureReason {
	var authError port.AuthError
	if !errors.As(err, &authError) {
		return 0
	}
	return authError.AuthFailure().GetReason()
}

// TestBatchesNeverMixIdentities: two identities read at the same time, and one of
// them has its token refused in the middle, as a part and as a whole. Every request
// is made by the identity whose type it is of, and the other one notices nothing.
func TestBatchesNeverMixIdentities(t *testing.T) {
	for name, refuse := range map[string]http.HandlerFunc{
		"plain": fail(401, "InvalidAuthenticationToken", "x"), "challenge": challenge(base64.StdEncoding),
	} {
		for _, whole := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " whole=", whole), func(t *testing.T) {
				old := func(r *http.Request) bool { return r.Header.Get("Authorization") == "Bearer user-token-1" }
				g := newOwnGraph(func(w http.ResponseWriter, r *http.Request) {
					switch {
					case strings.Count(r.URL.Path, "/") == 2:
						io.WriteString(w, things(300))
					case old(r):
						refuse(w, r)
					default:
						io.WriteString(w, `{"value":[]}`)
					}
				})
				if whole {
					g.outer = func(w http.ResponseWriter, r *http.Request) bool {
						if old(r) {
							refuse(w, r)
						}
						return old(r)
					}
				}
				source, _ := serve(t, g)
				session := source.Open()
				defer session.Close()
				user, sp := &named{name: "user"}, &named{name: "sp"}
				counts := map[string]int{}
				var mu sync.Mutex
				var group sync.WaitGroup
				for path, identity := range map[string]port.Identity{
					"/user1": user, "/user2": user, "/sp1": sp, "/sp2": sp,
				} {
					group.Go(func() {
						err := session.Read(t.Context(), withChild(path), identity, func(port.Item) error {
							mu.Lock()
							defer mu.Unlock()
							counts[path]++
							return nil
						})
						if err != nil {
							t.Errorf("%s: %v", path, err)
						}
					})
				}
				group.Wait()
				if len(g.mixed) > 0 {
					t.Errorf("asked as another identity: %v", g.mixed)
				}
				for path, n := range counts {
					if n != 300 {
						t.Errorf("%s: %d items", path, n)
					}
				}
				if len(sp.requests) != 1 || len(user.requests) != 2 {
					t.Errorf("%d token requests of the service principal, %d of the user", len(sp.requests), len(user.requests))
				}
			})
		}
	}
}

// TestLostIdentityLeavesTheOtherAlone: the user's tokens are refused for good.
func TestLostIdentityLeavesTheOtherAlone(t *testing.T) {
	g := newOwnGraph(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.Count(r.URL.Path, "/") == 2:
			io.WriteString(w, things(100))
		case strings.Contains(r.URL.Path, "/user"):
			fail(401, "InvalidAuthenticationToken", "x")(w, r)
		default:
			io.WriteString(w, `{"value":[]}`)
		}
	})
	source, _ := serve(t, g)
	session := source.Open()
	defer session.Close()
	user, sp := &named{name: "user"}, &named{name: "sp"}
	errs := make([]error, 2)
	var group sync.WaitGroup
	for i, read := range []struct {
		path     string
		identity port.Identity
	}{{"/user", user}, {"/sp", sp}} {
		group.Go(func() {
			errs[i] = session.Read(t.Context(), withChild(read.path), read.identity, func(port.Item) error { return nil })
		})
	}
	group.Wait()
	if reason := reasonOf(errs[0]); reason != understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_SIGN_IN_REVOKED {
		t.Errorf("the user: %v", errs[0])
	}
	if errs[1] != nil || len(g.mixed) > 0 {
		t.Errorf("the service principal: %v; mixed: %v", errs[1], g.mixed)
	}
}

// TestWholeBatchRefusedForGood: a token that the batch itself is refused for is a
// lost identity, and not a missing permission of every part.
func TestWholeBatchRefusedForGood(t *testing.T) {
	f := &fakeGraph{one: routes(thingsAndChildren(60))}
	f.outer = func(w http.ResponseWriter, r *http.Request) bool {
		fail(401, "InvalidAuthenticationToken", "x")(w, r)
		return true
	}
	source, _ := serve(t, f)
	got := read(t, source, withChild("/things"))
	if reason := reasonOf(got.err); reason != understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_SIGN_IN_REVOKED {
		t.Error(got.err)
	}
}

// TestChallengeAfterARefusal: some parts of one token are refused plainly, and
// others with a challenge. The token that answered the plain refusal does not
// answer the challenge: that is no second challenge.
func TestChallengeAfterARefusal(t *testing.T) {
	c := &credential{identity: &fakeIdentity{}, turn: make(chan struct{}, 1)}
	first, err := c.token(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	plain, err := c.token(t.Context(), first, "")
	if err != nil || plain == first {
		t.Fatal(plain, err)
	}
	claimed, err := c.token(t.Context(), first, claims)
	if err != nil || claimed == plain {
		t.Errorf("%s answers the challenge of %s: %v", claimed, first, err)
	}
	if again, err := c.token(t.Context(), first, claims); err != nil || again != claimed {
		t.Errorf("a second part with the same challenge gets %s: %v", again, err)
	}
}

// stalled is an identity whose tokens are short-lived, and whose second one does not
// come.
type stalled struct {
	named
	asked chan struct{}
}

func (s *stalled) Token(ctx context.Context, request port.TokenRequest) (port.Token, error) {
	token, err := s.named.Token(ctx, request)
	token.ExpiresOn = time.Now().Add(renewBefore)
	if s.issued > 1 {
		select {
		case <-s.asked:
		default:
			close(s.asked)
		}
		<-ctx.Done()
		return port.Token{}, context.Cause(ctx)
	}
	return token, err
}

// TestAnIdentityThatWaitsStallsNoOther: the user's token does not come while more of
// its items wait for one than may be in flight. The service principal reads a type of
// the same workload to its end.
func TestAnIdentityThatWaitsStallsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newOwnGraph(func(w http.ResponseWriter, r *http.Request) {
			if strings.Count(r.URL.Path, "/") == 2 {
				io.WriteString(w, things(100))
				return
			}
			io.WriteString(w, `{"value":[]}`)
		})
		session := offline(t, g, func(c *Config) { c.MaxConnections = 1 }).Open()
		defer session.Close()
		ctx, leave := context.WithCancel(t.Context())
		user, sp := &stalled{named{name: "user"}, make(chan struct{})}, &named{name: "sp"}
		ended := make(chan error, 1)
		go func() {
			ended <- session.Read(ctx, withChild("/user"), user, func(port.Item) error { return nil })
		}()
		<-user.asked
		synctest.Wait() // as many of its items are in flight as may be
		items := 0
		limited, stop := context.WithTimeout(t.Context(), time.Hour)
		defer stop()
		err := session.Read(limited, withChild("/sp"), sp, func(port.Item) error {
			items++
			return nil
		})
		if err != nil || items != 100 || len(g.mixed) > 0 {
			t.Errorf("the service principal read %d items: %v; mixed: %v", items, err, g.mixed)
		}
		leave()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the user: %v", err)
		}
	})
}

// TestTwoSessionsShareTheirGates: two syncs of a tenant together keep its limits,
// and neither ends with the other.
func TestTwoSessionsShareTheirGates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var begun []time.Time
		f := &fakeGraph{one: func(w http.ResponseWriter, _ *http.Request) {
			mu.Lock()
			begun = append(begun, time.Now())
			mu.Unlock()
			io.WriteString(w, things(1))
		}}
		source := offline(t, f, func(c *Config) { c.Limits = map[string]Limit{"test": {Requests: 1, Per: time.Second}} })
		first, second := source.Open(), source.Open()
		var group sync.WaitGroup
		for i := range 10 {
			session := []port.Session{first, second}[i%2]
			group.Go(func() {
				if err := session.Read(t.Context(), collection("/things"), &fakeIdentity{}, func(port.Item) error { return nil }); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		slices.SortFunc(begun, time.Time.Compare)
		for i := 1; i < len(begun); i++ {
			if gap := begun[i].Sub(begun[i-1]); gap < time.Second-10*time.Millisecond {
				t.Errorf("request %d began %s after the one before", i, gap)
			}
		}
		first.Close()
		if err := second.Read(t.Context(), collection("/things"), &fakeIdentity{}, func(port.Item) error { return nil }); err != nil {
			t.Error(err)
		}
		second.Close()
		if n := first.Stats().Requests + second.Stats().Requests; n != 11 {
			t.Errorf("%d requests", n)
		}
	})
}
