package simulator

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"time"
)

// adminHandler is the admin port: what should go wrong, and what was asked. It has
// no TLS and no sign-in: it is on loopback only.
func (s *Simulator) adminHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /scenarios", func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, Scenarios()) })
	mux.HandleFunc("PUT /scenario", func(w http.ResponseWriter, r *http.Request) {
		var list []Scenario
		body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		if err == nil && strings.HasPrefix(strings.TrimSpace(string(body)), "{") {
			list = make([]Scenario, 1)
			err = json.Unmarshal(body, &list[0])
		} else if err == nil {
			err = json.Unmarshal(body, &list)
		}
		if err == nil {
			err = s.SetScenarios(list...)
		}
		if err != nil {
			reply(w, http.StatusBadRequest, map[string]string{"error": err.Error()})
			return
		}
		reply(w, http.StatusOK, list)
	})
	mux.HandleFunc("GET /requests", func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, s.Requests()) })
	mux.HandleFunc("POST /reset", func(w http.ResponseWriter, _ *http.Request) {
		s.Reset()
		reply(w, http.StatusOK, map[string]string{})
	})
	return mux
}

// validCredential checks a client secret or a client assertion.
func (s *Simulator) validCredential(r *http.Request) bool {
	if r.PostForm.Get("client_id") != s.config.ClientID {
		return false
	}
	if assertion := r.PostForm.Get("client_assertion"); assertion != "" {
		return s.validAssertion(assertion)
	}
	return r.PostForm.Get("client_secret") == s.config.ClientSecret
}

// validAssertion checks a JWT that a registered certificate signed.
// https://learn.microsoft.com/entra/identity-platform/certificate-credentials
func (s *Simulator) validAssertion(assertion string) bool {
	parts := strings.Split(assertion, ".")
	if len(parts) != 3 {
		return false
	}
	var head struct {
		Algorithm string `json:"alg"`
	}
	var body struct {
		Audience string `json:"aud"`
		Issuer   string `json:"iss"`
		Expires  int64  `json:"exp"`
	}
	if !decode(parts[0], &head) || !decode(parts[1], &body) || body.Issuer != s.config.ClientID ||
		!strings.HasPrefix(body.Audience, s.URL()) || time.Unix(body.Expires, 0).Before(time.Now()) {
		return false
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		return false
	}
	digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	for _, certificate := range s.config.Certificates {
		key, ok := certificate.PublicKey.(*rsa.PublicKey)
		if !ok {
			continue
		}
		switch head.Algorithm {
		case "PS256":
			if rsa.VerifyPSS(key, crypto.SHA256, digest[:], signature, nil) == nil {
				return true
			}
		case "RS256":
			if rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], signature) == nil {
				return true
			}
		}
	}
	return false
}

func decode(part string, into any) bool {
	content, err := base64.RawURLEncoding.DecodeString(part)
	return err == nil && json.Unmarshal(content, into) == nil
}
