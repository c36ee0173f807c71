package identity

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/public"

	understudyv1 "understudy.internal/gen/understudy/v1"
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
			u.logger.Warn("a password that was refused is not tried again", "name", u.passwords.name)
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
// fingerprint, and why: also after a restart, and for every process that shares the
// store. Removing the value makes it forget.
type refusedPasswords struct {
	store  Store
	name   string
	box    box
	logger *slog.Logger

	mu sync.Mutex
	// own is what this process saw refused last. Another process may have seen another
	// password refused since, while a new one reaches them one by one: neither is tried
	// again.
	own *refusal
	// unsaved says that the store could not take it.
	unsaved bool
}

// refusal is what is stored, encrypted.
type refusal struct {
	Fingerprint string `json:"fingerprint"`
	Reason      string `json:"reason"`
	Codes       []int  `json:"codes,omitempty"`
	OAuthError  string `json:"oauth_error,omitempty"`
}

func (r *refusedPasswords) fingerprint(password string) string {
	mac := hmac.New(sha256.New, r.box.key[:])
	mac.Write([]byte("refused password\x00" + password))
	return hex.EncodeToString(mac.Sum(nil))
}

// find returns why a password was refused; the verdict says that it was not tried now.
func (r *refusedPasswords) find(password string) (verdict, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fingerprint := r.fingerprint(password)
	for _, known := range r.load() {
		if known != nil && hmac.Equal([]byte(known.Fingerprint), []byte(fingerprint)) {
			return known.verdict(), true
		}
	}
	return verdict{}, false
}

// verdict says why the password was refused.
func (known *refusal) verdict() verdict {
	reason := understudyv1.AuthFailureReason(understudyv1.AuthFailureReason_value[known.Reason])
	if !refusesPassword(reason) {
		reason = understudyv1.AuthFailureReason_AUTH_FAILURE_REASON_INVALID_CREDENTIAL
	}
	v := verdict{answer: answer{codes: known.Codes, oauth: known.OAuthError}, untried: true}
	v.meaning, _ = byCode(who{}, v.answer)
	if v.reason != reason {
		v.meaning = meaning{reason: reason, actor: sentences[reason].actor}
	}
	return v
}

// load returns what is known of refusals: by the store, and by this process. Each may
// be nil. The caller holds mu.
func (r *refusedPasswords) load() [2]*refusal {
	value, err := r.store.Load(r.name)
	switch {
	case err != nil:
		r.logger.Error("which password was refused cannot be read; what this process saw is used", "name", r.name, "error", err)
		return [2]*refusal{nil, r.own}
	case r.unsaved:
		if err := r.save(); err != nil {
			r.logger.Warn("a refused password is still remembered until the next start only", "error", err)
		}
	case value == nil:
		r.own = nil // removed, so that the password is tried again
	}
	return [2]*refusal{r.read(value), r.own}
}

// read returns what a value says; nil where it is none of ours.
func (r *refusedPasswords) read(value []byte) *refusal {
	if value == nil {
		return nil
	}
	content := value
	// Before values were encrypted they were JSON with the keyed fingerprint.
	if !bytes.HasPrefix(value, []byte("{")) {
		var err error
		if content, err = r.box.open(value); err != nil {
			return nil
		}
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
	r.own = &refusal{Fingerprint: r.fingerprint(password), Reason: reason.String(), Codes: a.codes, OAuthError: a.oauth}
	return r.save()
}

// save saves what this process saw refused, or notes that it could not. The caller
// holds mu.
func (r *refusedPasswords) save() error {
	content, err := json.Marshal(r.own)
	if err == nil {
		content, err = r.box.seal(content)
	}
	if err == nil {
		err = r.store.Save(r.name, content)
	}
	r.unsaved = err != nil
	return err
}
