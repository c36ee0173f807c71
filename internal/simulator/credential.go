package simulator

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"strings"
	"time"
)

const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// validCredential checks a client secret or a client assertion.
func (s *Simulator) validCredential(r *http.Request) bool {
	if r.PostForm.Get("client_id") != s.config.ClientID {
		return false
	}
	if assertion := r.PostForm.Get("client_assertion"); assertion != "" {
		return r.PostForm.Get("client_assertion_type") == assertionType && s.validAssertion(assertion, r.Host)
	}
	return subtle.ConstantTimeCompare([]byte(r.PostForm.Get("client_secret")), []byte(s.config.ClientSecret)) == 1
}

// validAssertion checks a JWT that a registered certificate signed.
// https://learn.microsoft.com/entra/identity-platform/certificate-credentials
func (s *Simulator) validAssertion(assertion, host string) bool {
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
		Subject  string `json:"sub"`
		Expires  int64  `json:"exp"`
	}
	if !decode(parts[0], &head) || !decode(parts[1], &body) {
		return false
	}
	if body.Issuer != s.config.ClientID || body.Subject != s.config.ClientID ||
		!strings.HasPrefix(body.Audience, "https://"+host+"/"+s.config.DirectoryID+"/") ||
		!time.Now().Before(time.Unix(body.Expires, 0)) {
		return false
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		return false
	}
	return s.signed(head.Algorithm, parts[0]+"."+parts[1], signature)
}

// signed says whether a registered certificate signed a text.
func (s *Simulator) signed(algorithm, text string, signature []byte) bool {
	digest := sha256.Sum256([]byte(text))
	for _, certificate := range s.config.Certificates {
		key, ok := certificate.PublicKey.(*rsa.PublicKey)
		if !ok {
			continue
		}
		var err error
		switch algorithm {
		case "PS256":
			err = rsa.VerifyPSS(key, crypto.SHA256, digest[:], signature, nil)
		case "RS256":
			err = rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], signature)
		default:
			return false
		}
		if err == nil {
			return true
		}
	}
	return false
}
