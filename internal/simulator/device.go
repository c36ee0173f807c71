package simulator

import (
	"errors"
	"html/template"
	"net/http"
	"strings"
	"time"
)

// deviceGrant is what Entra knows of a device code (RFC 8628).
type deviceGrant struct {
	userCode, deviceCode string
	expires              time.Time
	completed, declined  bool
}

const (
	deviceLifetime = 15 * time.Minute
	// deviceInterval is how long a client has to wait between two polls; Entra's is
	// 5 s, which would make every demo wait.
	deviceInterval = time.Second
	// maxDevices bounds the sign-ins that wait.
	maxDevices = 1000
)

func (s *Simulator) deviceCode(w http.ResponseWriter, r *http.Request) {
	s.recordSignIn(r.Method, r.URL.Path, user)
	if !s.knownTenant(w, r) {
		return
	}
	if f := s.authFault(user, beforeSignIn); f != nil {
		s.refuseOrHang(w, r, f)
		return
	}
	g := &deviceGrant{
		userCode: s.config.Marker + strings.ToUpper(random(5)), deviceCode: s.config.Marker + "DEVICE" + random(24),
		expires: time.Now().Add(deviceLifetime),
	}
	s.mu.Lock()
	s.devices = append(s.devices, g)
	if len(s.devices) > maxDevices {
		s.devices = s.devices[1:]
	}
	s.mu.Unlock()
	reply(w, http.StatusOK, map[string]any{
		"user_code": g.userCode, "device_code": g.deviceCode, "verification_uri": "https://" + r.Host + "/devicelogin",
		"expires_in": int(deviceLifetime / time.Second), "interval": int(deviceInterval / time.Second),
		"message": s.config.Marker + "RAW open the page and enter the code",
	})
}

// redeemDevice answers the poll for a device code. What refuses the person is said
// when the person was there.
func (s *Simulator) redeemDevice(w http.ResponseWriter, r *http.Request) {
	g, ok := s.device(func(g *deviceGrant) bool { return g.deviceCode == r.PostForm.Get(grantDeviceName) })
	pending := func(oauthError string, code int) {
		s.refuse(w, &authFault{status: http.StatusBadRequest, oauthError: oauthError, code: code})
	}
	switch {
	case !ok:
		pending("bad_verification_code", 70018)
		return
	case time.Now().After(g.expires):
		pending("expired_token", 70020)
		return
	case g.declined:
		pending("authorization_declined", 70017)
		return
	case !g.completed:
		if f := s.authFault(user, beforeSignIn); f != nil {
			s.refuseOrHang(w, r, f)
			return
		}
		pending("authorization_pending", 70016)
		return
	}
	if f := s.authFault(user, grantDevice); f != nil {
		s.refuseOrHang(w, r, f)
		return
	}
	s.forget(g.deviceCode)
	s.issue(w, r, user)
}

// device returns the newest device grant that a caller looks for.
func (s *Simulator) device(wanted func(*deviceGrant) bool) (deviceGrant, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.devices) - 1; i >= 0; i-- {
		if wanted(s.devices[i]) {
			return *s.devices[i], true
		}
	}
	return deviceGrant{}, false
}

func (s *Simulator) forget(deviceCode string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, g := range s.devices {
		if g.deviceCode == deviceCode {
			s.devices = append(s.devices[:i:i], s.devices[i+1:]...)
			return
		}
	}
}

// errNoDevice says that no sign-in waits for a code.
var errNoDevice = errors.New("no sign-in waits for this code")

// AnswerDeviceCode completes or declines the sign-in of a user code, as the person
// on the page does.
func (s *Simulator) AnswerDeviceCode(userCode string, complete bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.devices {
		if strings.EqualFold(g.userCode, userCode) && time.Now().Before(g.expires) {
			g.completed, g.declined = complete, !complete
			return nil
		}
	}
	return errNoDevice
}

// AnswerNewestDeviceCode answers the newest sign-in that nobody answered yet.
func (s *Simulator) AnswerNewestDeviceCode(complete bool) error {
	g, ok := s.device(func(g *deviceGrant) bool { return !g.completed && !g.declined && time.Now().Before(g.expires) })
	if !ok {
		return errNoDevice
	}
	return s.AnswerDeviceCode(g.userCode, complete)
}

var pageTemplate = template.Must(template.New("device").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Sign in</title>
<body><h1>Sign in to the simulated tenant</h1>
{{with .Note}}<p>{{.}}</p>{{end}}
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
	note := ""
	for _, sc := range s.Active() {
		if sc.Name == neverCompleted {
			note = "In this scenario nobody comes to this page. It works all the same."
		}
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_ = pageTemplate.Execute(w, map[string]string{"Message": message, "Note": note}) // the client may be gone
}

func (s *Simulator) deviceAnswer(w http.ResponseWriter, r *http.Request) {
	complete := r.PostFormValue("answer") != "decline"
	if err := s.AnswerDeviceCode(r.PostFormValue("code"), complete); err != nil {
		s.showPage(w, http.StatusNotFound, "This code is not known, or has expired.")
		return
	}
	message := "Done. You may close this page."
	if f := s.blocked(); complete && f != nil {
		message = f.words()
	}
	s.showPage(w, http.StatusOK, message)
}

// blocked returns what refuses a person who signs in on the page, without counting.
func (s *Simulator) blocked() *authFault {
	list := s.active.Load()
	if list == nil {
		return nil
	}
	for _, a := range *list {
		if a.auth != nil && !a.auth.hang && len(a.auth.grants) == 0 && kindOf(a.Identity, a.kind) == user {
			return a.auth
		}
	}
	return nil
}
