package identity

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"understudy.internal/internal/port"
)

// gaps returns the times between the polls, the code's issue included.
func (e *entra) gaps() []time.Duration {
	var gaps []time.Duration
	last := e.requests(deviceCode)[len(e.requests(deviceCode))-1].at
	for _, r := range e.requests(poll) {
		gaps = append(gaps, r.at.Sub(last))
		last = r.at
	}
	return gaps
}

func TestThePromptIsShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		var seen []*prompt
		method, err := f.user(Delegated).SignIn(t.Context(), prompts(&seen))
		if err != nil || method != byDeviceCode || len(seen) != 1 {
			t.Fatalf("%v, %v, %d prompts", method, err, len(seen))
		}
		p := seen[0]
		if p.GetUserCode() != marker+"USERCODE" || p.GetVerificationUri() != f.base+"/devicelogin" {
			t.Errorf("the prompt is %v", p)
		}
		if want := f.requests(deviceCode)[0].at.Add(5 * time.Minute); !p.GetExpireTime().AsTime().Equal(want) {
			t.Errorf("it expires at %v, want sign_in_timeout %v", p.GetExpireTime().AsTime(), want)
		}
	})
}

func TestThePromptExpiresWithItsCode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.codeLifetime = 60
		f.answerAlways(poll, pending)
		var seen []*prompt
		begun := time.Now()
		method, err := f.user(Delegated).SignIn(t.Context(), prompts(&seen))
		failure := reasonIs(t, err, "SIGN_IN_TIMED_OUT")
		if method != byDeviceCode || failure.GetRemedyActor() != user || failure.GetRetryable() {
			t.Errorf("%v, %v", method, failure)
		}
		if took := time.Since(begun); took != time.Minute || !seen[0].GetExpireTime().AsTime().Equal(begun.Add(time.Minute)) {
			t.Errorf("it took %v; the prompt says %v", took, seen[0].GetExpireTime().AsTime())
		}
	})
}

func TestTheDeadlineOfTheSignIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.answerAlways(poll, pending)
		begun := time.Now()
		method, err := f.user(Delegated).SignIn(t.Context(), prompts(new([]*prompt)))
		failure := reasonIs(t, err, "SIGN_IN_TIMED_OUT")
		if took := time.Since(begun); took != 5*time.Minute {
			t.Errorf("it took %v, want 5m", took)
		}
		if method != byDeviceCode || failure.GetMethod() != byDeviceCode || failure.GetRemedyActor() != user || failure.GetRetryable() {
			t.Errorf("%v, %v", method, failure)
		}
	})
}

// TestThePace says that the interval of the code is kept, and grows by 5 s when the
// service says so. MSAL asks after 50 ms otherwise.
func TestThePace(t *testing.T) {
	slowDown := refused(400, "slow_down", "")
	for name, c := range map[string]struct {
		interval int
		answers  []reply
		want     []time.Duration
	}{
		"the interval":        {5, []reply{pending, pending}, []time.Duration{5 * time.Second, 5 * time.Second, 5 * time.Second}},
		"a long interval":     {20, []reply{pending, pending}, []time.Duration{20 * time.Second, 20 * time.Second, 20 * time.Second}},
		"none: 5 s":           {0, []reply{pending}, []time.Duration{5 * time.Second, 5 * time.Second}},
		"slow_down":           {5, []reply{pending, slowDown, pending, slowDown}, []time.Duration{5e9, 5e9, 10e9, 10e9, 15e9}},
		"429 with a date":     {5, []reply{{status: 429, retryAfter: "Sat, 01 Jan 2000 00:00:35 GMT"}}, []time.Duration{5e9, 30e9}},
		"503":                 {5, []reply{{status: 503}, {status: 500, body: marker}, pending}, []time.Duration{5e9, 5e9, 5e9, 5e9}},
		"a dropped one":       {5, []reply{{drop: true}, {drop: true}}, []time.Duration{5e9, 5e9, 5e9}},
		"one that hangs":      {5, []reply{{hang: true}}, []time.Duration{5e9, 35e9}},
		"temporarily":         {5, []reply{refused(400, "temporarily_unavailable", "")}, []time.Duration{5e9, 5e9}},
		"Retry-After is long": {5, []reply{{status: 503, retryAfter: "90"}}, []time.Duration{5e9, 90e9}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				f.interval = c.interval
				f.answer(poll, c.answers...)
				if _, err := f.user(Delegated).SignIn(t.Context(), prompts(new([]*prompt))); err != nil {
					t.Fatal(err)
				}
				got := f.gaps()
				if len(got) != len(c.want) {
					t.Fatalf("the polls are %v apart, want %v", got, c.want)
				}
				for i := range got {
					if got[i] < c.want[i] || got[i] > c.want[i]+time.Second {
						t.Errorf("the polls are %v apart, want %v", got, c.want)
					}
				}
			})
		})
	}
}

// TestAnswersOfAPoll are those that end it. MSAL has drained the body by then.
func TestAnswersOfAPoll(t *testing.T) {
	for want, answer := range map[string]reply{
		"SIGN_IN_DECLINED":           refused(400, "authorization_declined", ""),
		"SIGN_IN_TIMED_OUT":          refused(400, "expired_token", "", 70020),
		"SIGN_IN_REQUIRED":           refused(400, "bad_verification_code", "", 70018),
		"CONDITIONAL_ACCESS_BLOCKED": refused(400, "invalid_grant", "message_only", 53003),
		"MFA_ENROLLMENT_REQUIRED":    refused(400, "interaction_required", "additional_action", 50079),
		"SIGN_IN_FLOW_BLOCKED":       refused(400, "invalid_grant", "", 530036),
		"APPLICATION_MISCONFIGURED":  refused(401, "invalid_client", "", 7000218),
	} {
		t.Run(want, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				f.answer(poll, pending, pending, answer)
				method, err := f.user(Delegated).SignIn(t.Context(), prompts(new([]*prompt)))
				failure := reasonIs(t, err, want)
				if method != byDeviceCode || failure.GetMethod() != byDeviceCode || failure.GetOauthError() == "" {
					t.Errorf("%v, %v", method, failure)
				}
				if n := len(f.requests(poll)); n != 3 {
					t.Errorf("%d polls, want 3", n)
				}
			})
		})
	}
}

// TestTheDeviceCodeIsNotGiven has a tenant that blocks the flow at its beginning.
func TestTheDeviceCodeIsNotGiven(t *testing.T) {
	for want, answer := range map[string]reply{
		"APPLICATION_MISCONFIGURED": refused(400, "unauthorized_client", "", 700016),
		"THROTTLED":                 {status: 429},
		"PROVIDER_UNAVAILABLE":      {status: 200, body: map[string]any{"device_code": marker, "user_code": "", "verification_uri": "http://" + marker}},
	} {
		t.Run(want, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				f.answerAlways(deviceCode, answer)
				var seen []*prompt
				_, err := f.user(Delegated).SignIn(t.Context(), prompts(&seen))
				reasonIs(t, err, want)
				if len(seen) != 0 || len(f.requests(poll)) != 0 {
					t.Errorf("%d prompts, %d polls", len(seen), len(f.requests(poll)))
				}
			})
		})
	}
}

// TestCancel says that the end of the caller's context is no failure of the
// identity, wherever the sign-in is.
func TestCancel(t *testing.T) {
	for name, script := range map[string]func(*fixture){
		"while a person signs in": func(f *fixture) { f.answerAlways(poll, pending) },
		"while a poll hangs":      func(f *fixture) { f.answerAlways(poll, reply{hang: true}) },
		"while the code is made":  func(f *fixture) { f.answerAlways(deviceCode, reply{hang: true}) },
		"at discovery":            func(f *fixture) { f.answerAlways(openID, reply{hang: true}) },
		"between two attempts":    func(f *fixture) { f.answerAlways(openID, reply{status: 503, retryAfter: "29"}) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				script(f)
				ctx, cancel := context.WithCancelCause(t.Context())
				gone := errors.New("the sync was cancelled")
				time.AfterFunc(12*time.Second, func() { cancel(gone) })
				_, err := f.user(Delegated).SignIn(ctx, prompts(new([]*prompt)))
				var authError port.AuthError
				if !errors.Is(err, gone) || errors.As(err, &authError) {
					t.Errorf("%v (%T), want the cause and no AuthError", err, err)
				}
			})
		})
	}
}

// TestTheCallersDeadline is not the sign-in's: the caller knows what it means.
func TestTheCallersDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.answerAlways(applications, reply{hang: true})
		spent := errors.New("the sync has no more time")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, spent)
		defer cancel()
		_, err := f.servicePrincipal().SignIn(ctx, port.SignInOptions{})
		var authError port.AuthError
		if !errors.Is(err, spent) || errors.As(err, &authError) {
			t.Errorf("%v, want the cause and no AuthError", err)
		}
	})
}
