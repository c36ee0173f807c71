package identity

import (
	"errors"
	"testing"
	"testing/synctest"

	"understudy.internal/internal/port"
)

// command is what an operator runs beside the replicas, without their key.
func command(f *fixture, store Store, own UserConfig) *User {
	f.t.Helper()
	config := f.config
	config.Store, config.Key = store, [32]byte{}
	u, err := NewUser(config, own)
	if err != nil {
		f.t.Fatal(err)
	}
	return u
}

func forgets(t *testing.T, u *User, want Forgotten) {
	t.Helper()
	if got, err := u.Forget(); err != nil || got != want {
		t.Errorf("forgot %+v, %v; want %+v", got, err, want)
	}
}

// TestARefusalIsForgotten: the same password is tried again, once, by replicas that
// run on. Of no use is it where the password is wrong still.
func TestARefusalIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, store := newFixture(t), &memory{}
		current := password
		users := accounts(f, store, &current, &current)
		operator := command(f, store, users[0].config)
		forgets(t, operator, Forgotten{})
		wrong := refused(400, "invalid_grant", "", 50126)
		f.answer(passwords, wrong, wrong)
		for sent := 1; sent <= 2; sent++ {
			for _, u := range users {
				_, err := u.SignIn(t.Context(), port.SignInOptions{})
				reasonIs(t, err, "INVALID_CREDENTIAL")
			}
			if n := len(f.requests(passwords)); n != sent {
				t.Fatalf("the password was sent %d times, not %d", n, sent)
			}
			forgets(t, operator, Forgotten{Refusal: true})
			forgets(t, operator, Forgotten{})
		}
		for i, u := range users {
			if _, err := u.SignIn(t.Context(), port.SignInOptions{}); err != nil {
				t.Errorf("replica %d: %v", i, err)
			}
		}
	})
}

// TestASignInIsForgotten by every replica, and what was put aside with it.
func TestASignInIsForgotten(t *testing.T) {
	for name, open := range map[string]func(f *fixture) Store{
		"shared": func(*fixture) Store { return &memory{} },
		"files":  func(f *fixture) Store { return files{f.config.CacheDir} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				store := open(f)
				users := replicas(f, store, delegated(), 2)
				operator := command(f, store, delegated())
				signsInAsked(t, "the first", users[0])
				signsInSilently(t, "the second", users[1])
				aside := users[0].cache.name + unreadable
				if err := store.Save(aside, []byte("an older one")); err != nil {
					t.Fatal(err)
				}
				forgets(t, operator, Forgotten{SignIn: true})
				for _, u := range users {
					_, err := u.SignIn(t.Context(), port.SignInOptions{})
					reasonIs(t, err, "SIGN_IN_REQUIRED")
				}
				if value, err := store.Load(aside); value != nil || err != nil {
					t.Errorf("what was put aside is still there: %v", err)
				}
				forgets(t, operator, Forgotten{})
				signsInAsked(t, "the second", users[1])
				signsInSilently(t, "the first", users[0])
			})
		})
	}
}

// TestAStoreThatIsAwayForgetsNothing, and says so.
func TestAStoreThatIsAwayForgetsNothing(t *testing.T) {
	f := newFixture(t)
	if got, err := command(f, &memory{away: true}, delegated()).Forget(); !errors.Is(err, errAway) || got != (Forgotten{}) {
		t.Errorf("forgot %+v, %v", got, err)
	}
}
