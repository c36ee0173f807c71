package simulator

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

// failed is an answer of Graph that says no.
// https://learn.microsoft.com/graph/errors
func failed(status int, code, message string) answer {
	body, err := json.Marshal(map[string]any{"error": map[string]any{
		"code": code, "message": message,
		"innerError": map[string]string{"request-id": uuid(), "date": time.Now().UTC().Format(time.RFC3339)},
	}})
	if err != nil { // of strings: never
		return answer{status: http.StatusInternalServerError}
	}
	return answer{status: status, body: body}
}

func (s *Simulator) unauthorized() answer {
	a := failed(http.StatusUnauthorized, "InvalidAuthenticationToken", s.config.Marker+"RAW the access token is not valid")
	a.headers = [][2]string{{"WWW-Authenticate", `Bearer realm="", error="invalid_token"`}}
	return a
}

// challenge is the answer of continuous access evaluation.
// https://learn.microsoft.com/entra/identity-platform/claims-challenge
func (s *Simulator) challenge(host string) answer {
	claims := base64.StdEncoding.EncodeToString([]byte(`{"access_token":{"nbf":{"essential":true,"value":"` +
		strconv.FormatInt(time.Now().Unix(), 10) + `"},"marker":{"value":"` + s.config.Marker + `CLAIMS"}}}`))
	a := failed(http.StatusUnauthorized, "InvalidAuthenticationToken", s.config.Marker+"RAW continuous access evaluation")
	a.headers = [][2]string{{
		"WWW-Authenticate", `Bearer realm="", authorization_uri="https://` + host +
			`/common/oauth2/authorize", error="insufficient_claims", claims="` + claims + `"`,
	}}
	return a
}

// fault is what happens to one answer of Graph.
type fault struct {
	// status and code refuse the request.
	status        int
	code, message string
	// retryAfter is the header of a throttled answer, in seconds; none when 0.
	retryAfter int
	truncate   bool
	nextLink   string // `loop` or `foreign`
	cut        bool   // fewer items than there are
	pages      bool   // small pages, so that there is a second one
	missing    bool   // the list ends after its first page
	deep       bool   // lists below an item may be cut or end, too
	// deltaExpired says that delta links are stale.
	deltaExpired bool
}

func (f fault) refusal(marker string) answer {
	message := f.message
	if message == "" {
		message = "the simulated fault"
	}
	a := failed(f.status, f.code, marker+"RAW "+message)
	if f.retryAfter > 0 {
		a.headers = [][2]string{{"Retry-After", strconv.Itoa(f.retryAfter)}}
	}
	return a
}

// codeOf is the code that Graph's workloads use with a status.
func codeOf(status int) string {
	switch status {
	case http.StatusBadRequest:
		return "BadRequest"
	case http.StatusForbidden:
		return "Authorization_RequestDenied"
	case http.StatusNotFound:
		return "ResourceNotFound"
	case http.StatusTooManyRequests:
		return "TooManyRequests"
	case http.StatusNotImplemented:
		return "NotImplemented"
	case http.StatusServiceUnavailable:
		return "ServiceUnavailable"
	}
	if status >= http.StatusInternalServerError {
		return "InternalServerError"
	}
	return "UnknownError"
}
