package identity

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/public"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/durable"
	"understudy.internal/internal/port"
)

// byPassword signs a service account in. A password that was refused is not sent
// again.
func (u *User) byPassword(ctx context.Context, claims string) (port.Token, error) {
	return u.attempt(ctx, time.Now().Add(u.config.SignInTimeout), func(ctx context.Context, x *exchange) (port.Token, error) {
		password, err := u.config.Password()
		if err != nil || password == "" {
			u.logger.Error("the password of the service account cannot be read", "error", err)
			return port.Token{}, u.Fail(understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_INVALID_CREDENTIAL)
		}
		if refused, ok := u.passwords.find(password); ok {
			u.logger.Warn("a password that was refused is not tried again", "file", u.passwords.name())
			return port.Token{}, u.who().failure(refused)
		}
		var options []public.AcquireByUsernamePasswordOption
		if claims != "" {
			options = append(options, public.WithClaims(claims))
		}
		result, err := u.msal.AcquireTokenByUsernamePassword(ctx, u.scopes(), u.config.Username, password, options...)
		if err == nil {
			return u.accept(result)
		}
		failure := classify(u.who(), err, x)
		if refusesPassword(failure.failure.GetReason()) {
			if err := u.passwords.remember(password, failure.failure.GetReason(), x.latest()); err != nil {
				u.logger.Error("a refused password is remembered until the next start only", "error", err)
			}
		}
		return port.Token{}, failure
	})
}

// refusesPassword says whether the password itself was refused: trying it again can
// lock the account. What a policy refused is not the password's fault, and a locked
// account may have the right one: its lock ends by itself.
func refusesPassword(reason understudyv1.AuthFailureReason) bool {
	switch reason {
	case understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_INVALID_CREDENTIAL,
		understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_CREDENTIAL_EXPIRED:
		return true
	}
	return false
}

// refusedPasswords remembers the password that was refused last, by a keyed
// fingerprint, and why: also after a restart. Removing the file makes it forget.
type refusedPasswords struct {
	path string
	key  [32]byte

	mu sync.Mutex
	// unsaved is what could not be written.
	unsaved *refusal
}

// refusal is what a file says.
type refusal struct {
	Fingerprint string `json:"fingerprint"`
	Reason      string `json:"reason"`
	Codes       []int  `json:"codes,omitempty"`
	OAuthError  string `json:"oauth_error,omitempty"`
}

func (r *refusedPasswords) fingerprint(password string) string {
	mac := hmac.New(sha256.New, r.key[:])
	mac.Write([]byte("refused password\x00" + password))
	return hex.EncodeToString(mac.Sum(nil))
}

// find returns why a password was refused.
func (r *refusedPasswords) find(password string) (verdict, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	known := r.load()
	if known == nil || !hmac.Equal([]byte(known.Fingerprint), []byte(r.fingerprint(password))) {
		return verdict{}, false
	}
	reason := understudyv1.AuthFailureReason(understudyv1.AuthFailureReason_value[known.Reason])
	if !refusesPassword(reason) {
		reason = understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_INVALID_CREDENTIAL
	}
	v := verdict{answer: answer{codes: known.Codes, oauth: known.OAuthError}}
	v.meaning, _ = byCode(who{}, v.answer)
	if v.reason != reason {
		v.meaning = meaning{reason: reason, actor: sentences[reason].actor}
	}
	return v, true
}

func (r *refusedPasswords) load() *refusal {
	if r.unsaved != nil {
		return r.unsaved
	}
	content, err := os.ReadFile(r.path)
	if err != nil {
		return nil
	}
	var known refusal
	if json.Unmarshal(content, &known) != nil {
		return nil
	}
	return &known
}

// remember keeps a refusal: until the next start when it cannot be written.
func (r *refusedPasswords) remember(password string, reason understudyv1.AuthFailureReason, a answer) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	known := &refusal{Fingerprint: r.fingerprint(password), Reason: reason.String(), Codes: a.codes, OAuthError: a.oauth}
	content, err := json.Marshal(known)
	if err == nil {
		err = durable.WriteFile(r.path, content)
	}
	r.unsaved = nil
	if err != nil {
		r.unsaved = known
	}
	return err
}

func (r *refusedPasswords) name() string { return filepath.Base(r.path) }
