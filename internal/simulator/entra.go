package simulator

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"time"
)

// What Entra knows of a device code.
type deviceGrant struct {
	userCode, deviceCode string
	expires              time.Time
	completed, declined  bool
}

// claims are what an access token of the simulator says.
type claims struct {
	Kind    string    `json:"kind"` // `user` or `application`
	Tenant  string    `json:"tid"`
	Expires time.Time `json:"exp"`
	// Epoch is how often the identity was revoked when the token was issued.
	Epoch int    `json:"epoch"`
	Nonce string `json:"nonce"`
}

func (s *Simulator) openID(w http.ResponseWriter, r *http.Request) {
	if !s.knownTenant(w, r) {
		return
	}
	base := s.URL() + "/" + s.config.DirectoryID
	reply(w, http.StatusOK, map[string]any{
		"issuer":                        base + "/v2.0",
		"authorization_endpoint":        base + "/oauth2/v2.0/authorize",
		"token_endpoint":                base + "/oauth2/v2.0/token",
		"device_authorization_endpoint": base + "/oauth2/v2.0/devicecode",
		"jwks_uri":                      base + "/discovery/v2.0/keys",
	})
}

func (s *Simulator) knownTenant(w http.ResponseWriter, r *http.Request) bool {
	if strings.EqualFold(r.PathValue("tenant"), s.config.DirectoryID) {
		return true
	}
	s.refuse(w, http.StatusBadRequest, "invalid_request", "", 90002)
	return false
}

func (s *Simulator) userRealm(w http.ResponseWriter, r *http.Request) {
	s.note(r, "user")
	reply(w, http.StatusOK, map[string]any{
		"account_type": "Managed", "domain_name": "contoso.example", "cloud_instance_name": "simulated", "cloud_audience_urn": "urn:simulated",
		"ver": "1.0",
	})
}

// token answers every grant.
func (s *Simulator) token(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		s.refuse(w, http.StatusBadRequest, "invalid_request", "", 900144)
		return
	}
	grant := r.PostForm.Get("grant_type")
	kind := "user"
	if grant == "client_credentials" {
		kind = "application"
	}
	s.note(r, kind)
	if !s.knownTenant(w, r) {
		return
	}
	if f, ok := s.authFault(kind, grant); ok {
		if f.hang {
			s.hang(r)
			return
		}
		s.refuse(w, f.status, f.oauthError, f.suberror, f.code)
		return
	}
	switch grant {
	case "client_credentials":
		if !s.validCredential(r) {
			s.refuse(w, http.StatusUnauthorized, "invalid_client", "", 7000215)
			return
		}
		s.issue(w, kind)
	case "password":
		if r.PostForm.Get("username") != s.config.Username || r.PostForm.Get("password") != s.config.Password {
			s.refuse(w, http.StatusBadRequest, "invalid_grant", "", 50126)
			return
		}
		s.issue(w, kind)
	case "refresh_token":
		s.refresh(w, r.PostForm.Get("refresh_token"))
	case "urn:ietf:params:oauth:grant-type:device_code", "device_code":
		s.redeemDevice(w, r.PostForm.Get("device_code"))
	default:
		s.refuse(w, http.StatusBadRequest, "unsupported_grant_type", "", 70003)
	}
}

func (s *Simulator) refresh(w http.ResponseWriter, token string) {
	s.mu.Lock()
	epoch, ok := s.refreshTokens[token]
	delete(s.refreshTokens, token) // rotated
	revoked := epoch != s.epochs["user"]
	s.mu.Unlock()
	switch {
	case !ok:
		s.refuse(w, http.StatusBadRequest, "invalid_grant", "bad_token", 9002313)
	case revoked:
		s.refuse(w, http.StatusBadRequest, "invalid_grant", "", 50173)
	default:
		s.issue(w, "user")
	}
}

func (s *Simulator) redeemDevice(w http.ResponseWriter, code string) {
	s.mu.Lock()
	grant := s.devices[code]
	var g deviceGrant
	if grant != nil {
		g = *grant
	}
	s.mu.Unlock()
	switch {
	case grant == nil:
		s.refuse(w, http.StatusBadRequest, "bad_verification_code", "", 70018)
	case time.Now().After(g.expires):
		s.refuse(w, http.StatusBadRequest, "expired_token", "", 70020)
	case g.declined:
		s.refuse(w, http.StatusBadRequest, "authorization_declined", "", 70017)
	case !g.completed:
		s.refuse(w, http.StatusBadRequest, "authorization_pending", "", 70016)
	default:
		s.mu.Lock()
		delete(s.devices, code)
		s.mu.Unlock()
		s.issue(w, "user")
	}
}

// issue answers with tokens.
func (s *Simulator) issue(w http.ResponseWriter, kind string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	answer := map[string]any{
		"token_type": "Bearer", "expires_in": 3600, "ext_expires_in": 3600, "access_token": s.accessToken(kind, time.Hour),
	}
	if kind == "user" {
		refresh := s.config.Marker + "REFRESH" + random(24)
		s.refreshTokens[refresh] = s.epochs[kind]
		answer["refresh_token"] = refresh
		answer["scope"] = s.URL() + "/.default openid profile offline_access"
		oid := "44444444-4444-4444-8444-444444444444"
		answer["id_token"] = jwt(map[string]any{
			"aud": s.config.ClientID, "iss": s.URL() + "/" + s.config.DirectoryID + "/v2.0", "tid": s.config.DirectoryID, "oid": oid,
			"sub": oid, "preferred_username": s.config.Username, "name": "Backup", "ver": "2.0",
			"iat": time.Now().Unix(), "nbf": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(), "marker": s.config.Marker,
		})
		info, _ := json.Marshal(map[string]string{"uid": oid, "utid": s.config.DirectoryID})
		answer["client_info"] = base64.RawURLEncoding.EncodeToString(info)
	}
	reply(w, http.StatusOK, answer)
}

// accessToken makes a token that only the simulator can read. The caller holds mu.
func (s *Simulator) accessToken(kind string, valid time.Duration) string {
	content, _ := json.Marshal(claims{
		Kind: kind, Tenant: s.config.DirectoryID, Expires: time.Now().Add(valid), Epoch: s.epochs[kind], Nonce: random(8),
	})
	text := base64.RawURLEncoding.EncodeToString(content)
	return s.config.Marker + "TOKEN~" + text + "~" + s.sign(text)
}

func (s *Simulator) sign(text string) string {
	mac := hmac.New(sha256.New, s.key)
	mac.Write([]byte(text))
	return hex.EncodeToString(mac.Sum(nil)[:16])
}

// readToken returns what an access token says.
func (s *Simulator) readToken(header string) (claims, bool) {
	var c claims
	token, ok := strings.CutPrefix(header, "Bearer "+s.config.Marker+"TOKEN~")
	text, signature, found := strings.Cut(token, "~")
	if !ok || !found || !hmac.Equal([]byte(signature), []byte(s.sign(text))) {
		return c, false
	}
	content, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || json.Unmarshal(content, &c) != nil {
		return c, false
	}
	return c, true
}

func (s *Simulator) deviceCode(w http.ResponseWriter, r *http.Request) {
	s.note(r, "user")
	if !s.knownTenant(w, r) {
		return
	}
	if f, ok := s.authFault("user", "devicecode"); ok && f.hang {
		s.hang(r)
		return
	}
	g := &deviceGrant{
		userCode: s.config.Marker + strings.ToUpper(random(5)), deviceCode: s.config.Marker + "DEVICE" + random(24),
		expires: time.Now().Add(15 * time.Minute),
	}
	s.mu.Lock()
	s.devices[g.deviceCode] = g
	interval := s.deviceInterval
	s.mu.Unlock()
	reply(w, http.StatusOK, map[string]any{
		"user_code": g.userCode, "device_code": g.deviceCode, "verification_uri": s.URL() + "/devicelogin",
		"expires_in": 900, "interval": interval, "message": s.config.Marker + "RAW open the page and enter the code",
	})
}

var devicePage = template.Must(template.New("device").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Sign in</title>
<body><h1>Sign in to the simulated tenant</h1>
{{with .Message}}<p role="status">{{.}}</p>{{end}}
<form method="post" action="/devicelogin">
<label>Code <input name="code" autocomplete="off" required></label>
<button name="answer" value="complete">Sign in</button>
<button name="answer" value="decline">Decline</button>
</form></body></html>
`))

func (s *Simulator) devicePage(w http.ResponseWriter, _ *http.Request) {
	s.showPage(w, http.StatusOK, "")
}

func (s *Simulator) showPage(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_ = devicePage.Execute(w, map[string]string{"Message": message})
}

func (s *Simulator) deviceAnswer(w http.ResponseWriter, r *http.Request) {
	if err := s.AnswerDeviceCode(r.PostFormValue("code"), r.PostFormValue("answer") != "decline"); err != nil {
		s.showPage(w, http.StatusNotFound, "This code is not known, or has expired.")
		return
	}
	s.showPage(w, http.StatusOK, "Done. You may close this page.")
}

// AnswerDeviceCode completes or declines the sign-in of a user code, as the person
// on the page does.
func (s *Simulator) AnswerDeviceCode(userCode string, complete bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.devices {
		if g.userCode == userCode && time.Now().Before(g.expires) {
			g.completed, g.declined = complete, !complete
			return nil
		}
	}
	return fmt.Errorf("no sign-in waits for this code")
}

// refuse answers like Entra.
func (s *Simulator) refuse(w http.ResponseWriter, status int, oauthError, suberror string, code int) {
	trace, correlation := uuid(), uuid()
	body := map[string]any{
		"error": oauthError, "error_codes": []int{code}, "trace_id": trace, "correlation_id": correlation,
		"timestamp": time.Now().UTC().Format("2006-01-02 15:04:05Z"),
		"error_description": fmt.Sprintf("AADSTS%d: %sRAW the simulated tenant refuses. Trace ID: %s Correlation ID: %s Timestamp: %s",
			code, s.config.Marker, trace, correlation, time.Now().UTC().Format("2006-01-02 15:04:05Z")),
	}
	if suberror != "" {
		body["suberror"] = suberror
	}
	if oauthError == "interaction_required" {
		body["claims"] = `{"access_token":{"marker":{"value":"` + s.config.Marker + `CLAIMS"}}}`
	}
	reply(w, status, body)
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

func jwt(content map[string]any) string {
	head, _ := json.Marshal(map[string]string{"alg": "none", "typ": "JWT"})
	body, _ := json.Marshal(content)
	encode := base64.RawURLEncoding.EncodeToString
	return encode(head) + "." + encode(body) + "." + encode([]byte("simulated"))
}

func random(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return hex.EncodeToString(b)
}

func uuid() string {
	h := random(16)
	return h[:8] + "-" + h[8:12] + "-4" + h[13:16] + "-8" + h[17:20] + "-" + h[20:]
}
