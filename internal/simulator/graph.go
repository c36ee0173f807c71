package simulator

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"understudy.internal/internal/facts"
)

// answer is one answer of Graph, on its own or in a batch.
type answer struct {
	status  int
	headers map[string]string
	body    []byte
}

func (s *Simulator) wait(r *http.Request) {
	if s.config.Latency > 0 {
		select {
		case <-time.After(s.config.Latency):
		case <-r.Context().Done():
		}
	}
}

func (s *Simulator) graph(w http.ResponseWriter, r *http.Request) {
	s.wait(r)
	a := s.answer(r.URL, r.Header.Get("Authorization"))
	for name, value := range a.headers {
		w.Header().Set(name, value)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("request-id", uuid())
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body)
}

// batch answers up to 20 requests together.
// https://learn.microsoft.com/graph/json-batching
func (s *Simulator) batch(w http.ResponseWriter, r *http.Request) {
	s.wait(r)
	token := r.Header.Get("Authorization")
	if _, ok := s.readToken(token); !ok {
		a := s.unauthorized()
		w.Header().Set("WWW-Authenticate", a.headers["WWW-Authenticate"])
		w.WriteHeader(a.status)
		_, _ = w.Write(a.body)
		return
	}
	var request struct {
		Requests []struct {
			ID     string `json:"id"`
			Method string `json:"method"`
			URL    string `json:"url"`
		} `json:"requests"`
	}
	if err := json.NewDecoder(io.LimitReader(r.Body, 4<<20)).Decode(&request); err != nil || len(request.Requests) > 20 {
		reply(w, http.StatusBadRequest, graphError("BadRequest", "A batch has at most 20 requests."))
		return
	}
	version := strings.Split(r.URL.Path, "/")[1]
	type part struct {
		ID      string            `json:"id"`
		Status  int               `json:"status"`
		Headers map[string]string `json:"headers,omitempty"`
		Body    json.RawMessage   `json:"body,omitempty"`
	}
	parts := make([]part, len(request.Requests))
	for i, sub := range request.Requests {
		target, err := url.Parse("/" + version + "/" + strings.TrimPrefix(sub.URL, "/"))
		if err != nil || sub.Method != http.MethodGet {
			parts[i] = part{ID: sub.ID, Status: http.StatusBadRequest}
			continue
		}
		a := s.answer(target, token)
		body := json.RawMessage(a.body)
		if !json.Valid(body) {
			body, _ = json.Marshal(base64.StdEncoding.EncodeToString(a.body))
		}
		// The last comes first: an answer may be in any order.
		parts[len(parts)-1-i] = part{ID: sub.ID, Status: a.status, Headers: a.headers, Body: body}
	}
	reply(w, http.StatusOK, map[string]any{"responses": parts})
}

func graphError(code, message string) map[string]any {
	return map[string]any{"error": map[string]any{
		"code": code, "message": message, "innerError": map[string]string{"request-id": uuid(), "date": time.Now().UTC().Format(time.RFC3339)},
	}}
}

func failed(status int, code, message string) answer {
	body, _ := json.Marshal(graphError(code, message))
	return answer{status: status, body: body}
}

func (s *Simulator) unauthorized() answer {
	a := failed(http.StatusUnauthorized, "InvalidAuthenticationToken", s.config.Marker+"RAW the access token is not valid")
	a.headers = map[string]string{"WWW-Authenticate": `Bearer realm="", error="invalid_token"`}
	return a
}

// challenge is the answer of continuous access evaluation.
// https://learn.microsoft.com/entra/identity-platform/claims-challenge
func (s *Simulator) challenge() answer {
	claims := base64.StdEncoding.EncodeToString([]byte(`{"access_token":{"nbf":{"essential":true,"value":"` +
		strconv.FormatInt(time.Now().Unix(), 10) + `"},"marker":{"value":"` + s.config.Marker + `CLAIMS"}}}`))
	a := failed(http.StatusUnauthorized, "InvalidAuthenticationToken", s.config.Marker+"RAW continuous access evaluation")
	a.headers = map[string]string{
		"WWW-Authenticate": `Bearer realm="", authorization_uri="` + s.URL() + `/common/oauth2/authorize", error="insufficient_claims", claims="` + claims + `"`,
	}
	return a
}

// answer answers one GET.
func (s *Simulator) answer(target *url.URL, authorization string) answer {
	version, path, _ := strings.Cut(strings.TrimPrefix(target.Path, "/"), "/")
	path = strings.TrimSuffix("/"+path, "/")
	token, ok := s.readToken(authorization)
	if !ok || time.Now().After(token.Expires) {
		return s.unauthorized()
	}
	query := target.Query()
	f := s.graphFault(token.Kind, "/"+version+path, query.Get("$skiptoken") != "")
	s.mu.Lock()
	revoked := token.Epoch != s.epochs[token.Kind]
	s.mu.Unlock()
	a := answer{}
	switch {
	case revoked:
		a = s.challenge()
	case f.status != 0:
		a = failed(f.status, f.code, s.config.Marker+"RAW the simulated fault")
		if f.status == http.StatusTooManyRequests && f.retryAfter >= 0 {
			a.headers = map[string]string{"Retry-After": strconv.Itoa(max(f.retryAfter, 1))}
		}
	default:
		a = s.resource(version, path, query, token.Kind, f)
		if f.truncate && a.status == http.StatusOK {
			a.body = a.body[:len(a.body)/2]
		}
	}
	identity := "service-principal"
	if token.Kind == "user" {
		identity = "user"
	}
	s.noteAnswer(http.MethodGet, "/"+version+path, a.status, identity)
	return a
}

// resource answers what is at a path.
func (s *Simulator) resource(version, path string, query url.Values, kind string, f fault) answer {
	path = strings.ReplaceAll(path, s.config.DirectoryID, "tenant")
	endpoint, isCollection, item, ok := s.find(version, path)
	if !ok {
		return failed(http.StatusBadRequest, "BadRequest", "Resource not found for the segment.")
	}
	permissions := endpoint.Application
	if kind == "user" {
		permissions = endpoint.Delegated
	}
	if permissions == nil {
		return failed(http.StatusForbidden, "Authorization_RequestDenied",
			"The request is not supported in application-only context.")
	}
	if item >= 0 || !isCollection {
		return s.one(version, path, item)
	}
	return s.list(version, path, query, f)
}

// find returns the endpoint that a path belongs to; whether the path is a list;
// and, for an item of a list, its number.
func (s *Simulator) find(version, path string) (facts.Endpoint, bool, int, bool) {
	if e, ok := s.index.Lookup(version, path); ok && s.parents(version, path) {
		return e, strings.HasPrefix(e.Kind, "collection"), -1, true
	}
	parent, last := split(path)
	if parent == "" {
		return facts.Endpoint{}, false, 0, false
	}
	e, list, item, ok := s.find(version, parent)
	switch {
	case !ok:
		return e, false, 0, false
	case list && item < 0:
		i, exists := s.number(version, parent, last)
		return e, false, i, exists
	default: // below an item or a singleton
		return e, !singular(last), -1, true
	}
}

// parents says whether the items that a path names exist.
func (s *Simulator) parents(version, path string) bool {
	segments := strings.Split(strings.Trim(path, "/"), "/")
	for i := 1; i < len(segments); i++ {
		above := "/" + strings.Join(segments[:i], "/")
		if !looksLikeID(segments[i]) {
			continue
		}
		if _, exists := s.number(version, above, segments[i]); !exists {
			return false
		}
	}
	return true
}

func split(path string) (parent, last string) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return "", path
	}
	return path[:i], path[i+1:]
}

// singular says whether a name below an item is one object and not a list.
func singular(name string) bool {
	lower := strings.ToLower(name)
	for _, known := range []string{"definition", "presentation", "branding", "settingdefinition", "template"} {
		if lower == known {
			return true
		}
	}
	return !strings.HasSuffix(lower, "s") && lower != "scheduledactionsforrule"
}

const pageSize = 100

// list answers a page of a collection.
func (s *Simulator) list(version, path string, query url.Values, f fault) answer {
	size := pageSize
	if top, err := strconv.Atoi(query.Get("$top")); err == nil && top > 0 {
		size = min(top, 999)
	}
	skip := 0
	if token := query.Get("$skiptoken"); token != "" {
		var err error
		if skip, err = strconv.Atoi(token); err != nil || skip < 0 {
			return failed(http.StatusBadRequest, "BadRequest", "The skip token is not valid.")
		}
	}
	count := s.count(version, path)
	if f.cut {
		count /= 4
	}
	var body bytes.Buffer
	fmt.Fprintf(&body, `{"@odata.context":"%s/%s/$metadata#%s","value":[`, s.URL(), version, strings.Trim(path, "/"))
	end := min(skip+size, count)
	first := true
	for i := skip; i < end; i++ {
		item, ok := s.item(version, path, i, true)
		if !ok {
			continue
		}
		if !first {
			body.WriteByte(',')
		}
		first = false
		body.Write(project(item, query.Get("$select")))
	}
	body.WriteByte(']')
	next := ""
	if end < count || f.nextLink != "" {
		query.Set("$skiptoken", strconv.Itoa(end))
		next = s.URL() + "/" + version + path + "?" + query.Encode()
	}
	switch f.nextLink {
	case "loop":
		query.Set("$skiptoken", strconv.Itoa(skip))
		next = s.URL() + "/" + version + path + "?" + query.Encode()
	case "foreign":
		next = "https://graph.example.invalid/" + version + path
	}
	if next != "" {
		link, _ := json.Marshal(next)
		fmt.Fprintf(&body, `,"@odata.nextLink":%s`, link)
	}
	body.WriteByte('}')
	return answer{status: http.StatusOK, body: body.Bytes()}
}

// one answers an item or a singleton.
func (s *Simulator) one(version, path string, item int) answer {
	if item < 0 {
		body, _ := s.item(version, path, 0, false)
		return answer{status: http.StatusOK, body: body}
	}
	parent, _ := split(path)
	body, ok := s.item(version, parent, item, false)
	if !ok {
		return failed(http.StatusNotFound, "Request_ResourceNotFound", "The item does not exist.")
	}
	return answer{status: http.StatusOK, body: body}
}

// project keeps the properties of `$select`.
func project(item []byte, selected string) []byte {
	if selected == "" {
		return item
	}
	var all, some map[string]json.RawMessage
	if json.Unmarshal(item, &all) != nil {
		return item
	}
	some = map[string]json.RawMessage{}
	for name := range strings.SplitSeq(selected, ",") {
		for key, value := range all {
			if strings.EqualFold(key, strings.TrimSpace(name)) || key == "id" || strings.HasPrefix(key, "@odata.") {
				some[key] = value
			}
		}
	}
	out, _ := json.Marshal(some)
	return out
}
