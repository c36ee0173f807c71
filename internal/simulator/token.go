package simulator

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// claims are what an access token of the simulator says.
type claims struct {
	Kind    string    `json:"kind"`
	Tenant  string    `json:"tid"`
	Expires time.Time `json:"exp"`
	// Epoch is how often the identity was revoked when the token was issued.
	Epoch int    `json:"epoch"`
	Nonce string `json:"nonce"`
}

// userObjectID is the id of the user in the directory.
const userObjectID = "44444444-4444-4444-8444-444444444444"

// issue answers with tokens.
func (s *Simulator) issue(w http.ResponseWriter, r *http.Request, kind string) {
	lifetime := s.config.TokenLifetime
	s.mu.Lock()
	epoch := s.epochs[kind]
	s.mu.Unlock()
	seconds := int(lifetime / time.Second)
	answer := map[string]any{
		"token_type": "Bearer", "expires_in": seconds, "ext_expires_in": seconds, "access_token": s.accessToken(kind, epoch, lifetime),
	}
	if kind == user {
		refresh := s.config.Marker + "REFRESH" + random(24)
		s.mu.Lock()
		s.refreshTokens[refresh] = epoch
		s.mu.Unlock()
		answer["refresh_token"] = refresh
		answer["scope"] = "https://" + r.Host + "/.default openid profile offline_access"
		now := time.Now()
		answer["id_token"] = jwt(map[string]any{
			"aud": s.config.ClientID, "iss": "https://" + r.Host + "/" + s.config.DirectoryID + "/v2.0",
			"tid": s.config.DirectoryID, "oid": userObjectID, "sub": userObjectID,
			"preferred_username": s.config.Username, "name": "Backup", "ver": "2.0",
			"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix(), "marker": s.config.Marker,
		})
		answer["client_info"] = encode(map[string]any{"uid": userObjectID, "utid": s.config.DirectoryID})
	}
	reply(w, http.StatusOK, answer)
}

// accessToken makes a token that only the simulator can read.
func (s *Simulator) accessToken(kind string, epoch int, valid time.Duration) string {
	text := encode(claims{
		Kind: kind, Tenant: s.config.DirectoryID, Expires: time.Now().Add(valid), Epoch: epoch, Nonce: random(8),
	})
	return s.config.Marker + "TOKEN~" + text + "~" + s.sign(text)
}

func (s *Simulator) sign(text string) string {
	mac := hmac.New(sha256.New, s.key)
	mac.Write([]byte(text))
	return hex.EncodeToString(mac.Sum(nil)[:16])
}

// readToken returns what an access token says, or nil when it is not valid.
func (s *Simulator) readToken(header string) *claims {
	token, ok := strings.CutPrefix(header, "Bearer "+s.config.Marker+"TOKEN~")
	text, signature, found := strings.Cut(token, "~")
	if !ok || !found || !hmac.Equal([]byte(signature), []byte(s.sign(text))) {
		return nil
	}
	c := &claims{}
	if !decode(text, c) || time.Now().After(c.Expires) {
		return nil
	}
	return c
}

func encode(content any) string {
	text, err := json.Marshal(content)
	if err != nil { // of claims: never
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

func decode(part string, into any) bool {
	content, err := base64.RawURLEncoding.DecodeString(part)
	return err == nil && json.Unmarshal(content, into) == nil
}

// jwt makes an ID token. Clients do not check its signature: they had it from the
// token endpoint itself (OpenID Connect Core 1.0, section 3.1.3.7).
func jwt(content map[string]any) string {
	return encode(map[string]any{"alg": "none", "typ": "JWT"}) + "." + encode(content) + "." +
		base64.RawURLEncoding.EncodeToString([]byte("simulated"))
}

func random(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return hex.EncodeToString(b)
}

func uuid() string {
	h := random(16)
	return h[:8] + "-" + h[8:12] + "-4" + h[13:16] + "-8" + h[17:20] + "-" + h[20:]
}
