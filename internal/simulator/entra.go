package simulator

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

func (s *Simulator) openID(w http.ResponseWriter, r *http.Request) {
	if !s.knownTenant(w, r) {
		return
	}
	base := "https://" + r.Host + "/" + s.config.DirectoryID
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
	s.refuse(w, &authFault{status: http.StatusBadRequest, oauthError: "invalid_request", code: 90002})
	return false
}

func (s *Simulator) userRealm(w http.ResponseWriter, r *http.Request) {
	s.recordSignIn(r.Method, "/common/userrealm", user)
	reply(w, http.StatusOK, map[string]any{
		"account_type": "Managed", "domain_name": "contoso.example", "cloud_instance_name": "simulated",
		"cloud_audience_urn": "urn:simulated", "ver": "1.0",
	})
}

// token answers every grant.
func (s *Simulator) token(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		s.refuse(w, &authFault{status: http.StatusBadRequest, oauthError: "invalid_request", code: 900144})
		return
	}
	grant := r.PostForm.Get("grant_type")
	if grant == grantDeviceName {
		grant = grantDevice
	}
	kind := user
	if grant == grantClient {
		kind = application
	}
	s.recordSignIn(r.Method, r.URL.Path, kind)
	if !s.knownTenant(w, r) {
		return
	}
	if grant == grantDevice {
		s.redeemDevice(w, r)
		return
	}
	if f := s.authFault(kind, grant); f != nil {
		s.refuseOrHang(w, r, f)
		return
	}
	s.redeem(w, r, grant)
}

func (s *Simulator) redeem(w http.ResponseWriter, r *http.Request, grant string) {
	switch grant {
	case grantClient:
		if !s.validCredential(r) {
			s.refuse(w, &authFault{status: http.StatusUnauthorized, oauthError: "invalid_client", code: 7000215})
			return
		}
		s.issue(w, r, application)
	case grantPassword:
		if !strings.EqualFold(r.PostForm.Get("username"), s.config.Username) || r.PostForm.Get("password") != s.config.Password {
			s.refuse(w, invalidGrant(50126, ""))
			return
		}
		s.issue(w, r, user)
	case grantRefresh:
		s.refresh(w, r)
	default:
		s.refuse(w, &authFault{status: http.StatusBadRequest, oauthError: "unsupported_grant_type", code: 70003})
	}
}

// refresh redeems a refresh token, which is replaced.
func (s *Simulator) refresh(w http.ResponseWriter, r *http.Request) {
	token := r.PostForm.Get(grantRefresh)
	s.mu.Lock()
	epoch, ok := s.refreshTokens[token]
	delete(s.refreshTokens, token)
	revoked := epoch != s.epochs[user]
	s.mu.Unlock()
	switch {
	case !ok:
		s.refuse(w, invalidGrant(9002313, "bad_token"))
	case revoked:
		s.refuse(w, invalidGrant(50173, ""))
	default:
		s.issue(w, r, user)
	}
}

func (s *Simulator) refuseOrHang(w http.ResponseWriter, r *http.Request, f *authFault) {
	if !f.hang {
		s.refuse(w, f)
		return
	}
	select {
	case <-r.Context().Done():
	case <-s.closed:
	}
	panic(http.ErrAbortHandler) // no answer at all
}

// refuse answers like Entra.
// https://learn.microsoft.com/entra/identity-platform/reference-error-codes
func (s *Simulator) refuse(w http.ResponseWriter, f *authFault) {
	trace, correlation := uuid(), uuid()
	now := time.Now().UTC().Format("2006-01-02 15:04:05Z")
	body := map[string]any{
		"error": f.oauthError, "error_codes": []int{f.code}, "trace_id": trace, "correlation_id": correlation, "timestamp": now,
		"error_description": fmt.Sprintf("AADSTS%d: %sRAW the simulated tenant refuses. Trace ID: %s Correlation ID: %s Timestamp: %s",
			f.code, s.config.Marker, trace, correlation, now),
	}
	if f.suberror != "" {
		body["suberror"] = f.suberror
	}
	if f.oauthError == "interaction_required" {
		body["claims"] = `{"access_token":{"marker":{"value":"` + s.config.Marker + `CLAIMS"}}}`
	}
	reply(w, f.status, body)
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client may be gone
}
