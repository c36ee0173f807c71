package identity

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Everything that must not come out has the marker in it.
const (
	marker      = "MARKER"
	secret      = marker + "SECRET"
	password    = marker + "PASSWORD"
	directory   = "22222222-2222-4222-8222-222222222222"
	otherTenant = "99999999-9999-4999-8999-999999999999"
	clientID    = "33333333-3333-4333-8333-333333333333"
	userID      = "44444444-4444-4444-8444-444444444444"
	username    = "backup@contoso.example"
	tokenClaims = `{"access_token":{"nbf":{"essential":true,"value":"` + marker + `CLAIMS"}}}`
)

// The requests of a sign-in, as the fake names them.
const (
	openID       = "openid"
	realm        = "realm"
	deviceCode   = "devicecode"
	poll         = "device_code"
	refresh      = "refresh_token"
	passwords    = "password"
	applications = "client_credentials"
)

// reply is one answer of the fake.
type reply struct {
	status     int
	body       any
	retryAfter string
	hang, drop bool
	// then runs before the answer.
	then func()
}

// refusal is what Microsoft Entra ID answers, with a marker in every text.
func refused(status int, oauth, suberror string, codes ...int) reply {
	body := map[string]any{
		"error": oauth, "error_description": "AADSTS1: " + marker + "DESCRIPTION", "claims": tokenClaims,
		"correlation_id": "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa", "trace_id": "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb",
		"error_uri": "https://" + marker + ".example",
	}
	if suberror != "" {
		body["suberror"] = suberror
	}
	body["error_codes"] = codes
	return reply{status: status, body: body}
}

var pending = refused(400, "authorization_pending", "", 70016)

// request is one request that the fake saw.
type request struct {
	kind string
	form url.Values
	at   time.Time
	host string
}

// entra is a scripted sign-in service. It is an HTTP handler, and a transport that
// needs no network, so that tests can run in a bubble of testing/synctest.
type entra struct {
	base string

	mu     sync.Mutex
	script map[string][]reply
	always map[string]reply
	seen   []request
	issued int
	scope  string // that was asked for last
	// What tokens say.
	lifetime         int
	interval         int
	codeLifetime     int
	tenant, home     string
	name             string
	accessTokenClaim string
	noIDToken        bool
}

func newEntra() *entra {
	return &entra{
		base: "https://login.fake.example", script: map[string][]reply{}, always: map[string]reply{},
		lifetime: 3600, interval: 5, codeLifetime: 900, tenant: directory, home: directory, name: username,
	}
}

// answer scripts the next answers to a kind of request.
func (e *entra) answer(kind string, replies ...reply) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.script[kind] = append(e.script[kind], replies...)
}

// answerAlways scripts all answers to a kind of request, when no next one is.
func (e *entra) answerAlways(kind string, r reply) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.always[kind] = r
}

// says changes what tokens say.
func (e *entra) says(change func(*entra)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	change(e)
}

// requests returns what was asked of a kind.
func (e *entra) requests(kind string) []request {
	e.mu.Lock()
	defer e.mu.Unlock()
	var found []request
	for _, r := range e.seen {
		if r.kind == kind {
			found = append(found, r)
		}
	}
	return found
}

func (e *entra) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	kind := kindOf(r)
	e.mu.Lock()
	e.seen = append(e.seen, request{kind, r.PostForm, time.Now(), cmp.Or(r.Host, r.URL.Host)})
	e.scope, _, _ = strings.Cut(r.PostForm.Get("scope"), " ")
	next, scripted := e.always[kind]
	if queue := e.script[kind]; len(queue) > 0 {
		next, scripted, e.script[kind] = queue[0], true, queue[1:]
	}
	e.mu.Unlock()
	if next.then != nil {
		next.then()
	}
	switch {
	case next.hang: // it never answers: not even when the client goes, as a handler that returns does
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	case next.drop:
		panic(http.ErrAbortHandler)
	case scripted && next.status != 0:
		send(w, next)
	default:
		send(w, reply{status: http.StatusOK, body: e.good(kind)})
	}
}

func kindOf(r *http.Request) string {
	switch path := r.URL.Path; {
	case strings.HasSuffix(path, "/openid-configuration"):
		return openID
	case strings.Contains(strings.ToLower(path), "/userrealm/"):
		return realm
	case strings.HasSuffix(path, "/devicecode"):
		return deviceCode
	case strings.HasSuffix(path, "/token"):
		return strings.TrimPrefix(r.PostForm.Get("grant_type"), "urn:ietf:params:oauth:grant-type:")
	}
	return r.URL.Path
}

func send(w http.ResponseWriter, r reply) {
	if r.retryAfter != "" {
		w.Header().Set("Retry-After", r.retryAfter)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(r.status)
	if text, ok := r.body.(string); ok {
		_, _ = w.Write([]byte(text))
		return
	}
	_ = json.NewEncoder(w).Encode(r.body)
}

func (e *entra) good(kind string) any {
	e.mu.Lock()
	defer e.mu.Unlock()
	base := e.base + "/" + directory
	switch kind {
	case openID:
		return map[string]any{
			"issuer": base + "/v2.0", "authorization_endpoint": base + "/oauth2/v2.0/authorize",
			"token_endpoint": base + "/oauth2/v2.0/token",
		}
	case realm:
		return map[string]any{"account_type": "Managed", "domain_name": "contoso.example", "cloud_instance_name": "fake", "cloud_audience_urn": "urn:fake"}
	case deviceCode:
		return map[string]any{
			"device_code": marker + "DEVICE", "user_code": marker + "USERCODE", "verification_uri": e.base + "/devicelogin",
			"expires_in": e.codeLifetime, "interval": e.interval, "message": marker + "MESSAGE",
		}
	}
	e.issued++
	return e.tokens(kind)
}

// tokens is the answer with tokens. The caller holds mu.
func (e *entra) tokens(kind string) map[string]any {
	number := string(rune('0'+e.issued%10)) + strings.Repeat("x", e.issued/10)
	answer := map[string]any{"token_type": "Bearer", "expires_in": e.lifetime, "access_token": marker + "ACCESS" + number}
	if e.accessTokenClaim != "" {
		answer["access_token"] = jwt(map[string]any{"tid": e.accessTokenClaim, "n": marker + number})
	}
	if kind == applications {
		return answer
	}
	answer["refresh_token"] = marker + "REFRESH" + number
	answer["scope"] = e.scope
	info, _ := json.Marshal(map[string]string{"uid": userID, "utid": e.home})
	answer["client_info"] = base64.RawURLEncoding.EncodeToString(info)
	if !e.noIDToken {
		answer["id_token"] = jwt(map[string]any{
			"aud": clientID, "iss": e.base, "tid": e.tenant, "oid": userID, "sub": userID, "preferred_username": e.name, "m": marker,
		})
	}
	return answer
}

func jwt(claims map[string]any) string {
	body, _ := json.Marshal(claims)
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(`{"alg":"none"}`)) + "." + encode(body) + "." + encode([]byte("signature"))
}

// RoundTrip implements http.RoundTripper without a network.
func (e *entra) RoundTrip(r *http.Request) (response *http.Response, err error) {
	defer func() {
		if reason := recover(); reason != nil {
			if thrown, ok := reason.(error); !ok || !errors.Is(thrown, http.ErrAbortHandler) {
				panic(reason)
			}
			response, err = nil, cmp.Or(r.Context().Err(), errors.New("connection reset: "+marker+"TRANSPORT"))
		}
	}()
	recorder := httptest.NewRecorder()
	e.ServeHTTP(recorder, r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return recorder.Result(), nil
}

// lockedBuffer is a log that goroutines share.
type lockedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

// fixture is a fake and the configuration of the identities that use it. At the end
// of the test it looks for the marker in the log and in every file.
type fixture struct {
	*entra
	t      *testing.T
	log    *lockedBuffer
	config Config
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{entra: newEntra(), t: t, log: &lockedBuffer{}}
	f.config = Config{
		Tenant: "contoso", DirectoryID: directory, Cloud: Cloud{Name: "fake", Authority: f.base, Graph: "https://graph.fake.example"},
		HTTPClient: &http.Client{Transport: f.entra}, CacheDir: filepath.Join(t.TempDir(), "tokens"), Key: [32]byte{1, 2, 3},
		HelpBaseURL: "https://understudy.example/help/",
		Logger:      slog.New(slog.NewJSONHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug, AddSource: false})),
	}
	t.Cleanup(func() { f.noMarker() })
	return f
}

// noMarker says that nothing secret was logged or stored in the clear.
func (f *fixture) noMarker() {
	f.t.Helper()
	if strings.Contains(f.log.String(), marker) {
		f.t.Errorf("the log has the marker: %s", f.log)
	}
	for name, content := range f.files() {
		if bytes.Contains(content, []byte(marker)) || strings.Contains(name, marker) {
			f.t.Errorf("%s has the marker", name)
		}
	}
}

// files returns what is in the cache's folder.
func (f *fixture) files() map[string][]byte {
	f.t.Helper()
	files := map[string][]byte{}
	err := filepath.WalkDir(f.config.CacheDir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		files[path], err = os.ReadFile(path)
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		f.t.Error(err)
	}
	return files
}

func (f *fixture) servicePrincipal() *ServicePrincipal {
	f.t.Helper()
	s, err := NewServicePrincipal(f.config, ServicePrincipalConfig{
		ClientID: clientID, Secret: func() (string, error) { return secret, nil }, SignInTimeout: time.Minute,
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

func (f *fixture) user(method Method) *User {
	f.t.Helper()
	return f.userWith(UserConfig{
		ClientID: clientID, Username: username, Method: method, SignInTimeout: 5 * time.Minute,
		Password: func() (string, error) { return password, nil },
	})
}

func (f *fixture) userWith(own UserConfig) *User {
	f.t.Helper()
	u, err := NewUser(f.config, own)
	if err != nil {
		f.t.Fatal(err)
	}
	return u
}

type prompt = understudyv1.AuthenticationPrompt

// prompts allows prompts and counts them.
func prompts(seen *[]*prompt) port.SignInOptions {
	return port.SignInOptions{AllowPrompt: true, Prompt: func(p *prompt) { *seen = append(*seen, p) }}
}

// signedIn is a user with a cached sign-in.
func (f *fixture) signedIn() *User {
	f.t.Helper()
	u := f.user(Delegated)
	var seen []*prompt
	if method, err := u.SignIn(f.t.Context(), prompts(&seen)); err != nil || method != byDeviceCode || len(seen) != 1 {
		f.t.Fatalf("the first sign-in: %v, %v, %d prompts", method, err, len(seen))
	}
	return u
}

const (
	byDeviceCode = understudyv1.AuthenticationMethod_AUTHENTICATION_METHOD_DEVICE_CODE
	byCache      = understudyv1.AuthenticationMethod_AUTHENTICATION_METHOD_CACHED_SIGN_IN
	bySecret     = understudyv1.AuthenticationMethod_AUTHENTICATION_METHOD_CLIENT_SECRET
	byPasswords  = understudyv1.AuthenticationMethod_AUTHENTICATION_METHOD_USERNAME_PASSWORD
)

// failureOf returns the failure of an error, and says that no text has the marker.
func failureOf(t *testing.T, err error) *understudyv1.AuthFailure {
	t.Helper()
	var authError port.AuthError
	if !errors.As(err, &authError) {
		t.Fatalf("%v (%T) is no AuthError", err, err)
	}
	failure := authError.AuthFailure()
	if text := failure.String() + err.Error(); strings.Contains(text, marker) {
		t.Errorf("the failure has the marker: %s", text)
	}
	for wrapped := err; wrapped != nil; wrapped = errors.Unwrap(wrapped) {
		if strings.Contains(wrapped.Error(), marker) {
			t.Errorf("%T has the marker", wrapped)
		}
	}
	return failure
}

// reasonIs demands a reason, named without its prefix.
func reasonIs(t *testing.T, err error, want string) *understudyv1.AuthFailure {
	t.Helper()
	failure := failureOf(t, err)
	if got := strings.TrimPrefix(failure.GetReason().String(), "AUTH_FAILURE_REASON_"); got != want {
		t.Fatalf("the reason is %s, want %s (%v)", got, want, failure)
	}
	return failure
}
