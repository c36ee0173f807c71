package simulator_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"understudy.internal/internal/simulator"
)

// begin asks for a device code and returns the poll and the user code.
func (x *tenant) begin() (poll url.Values, userCode string) {
	x.t.Helper()
	a := x.do(http.MethodPost, x.URL()+"/"+directory+"/oauth2/v2.0/devicecode", "", "client_id="+clientID)
	device, _ := a.json["device_code"].(string)
	userCode, _ = a.json["user_code"].(string)
	if page, _ := a.json["verification_uri"].(string); device == "" || userCode == "" || page != x.URL()+"/devicelogin" {
		x.t.Fatalf("no device code: %s", a.body)
	}
	return url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "device_code": {device}}, userCode
}

// visit enters a code on the page and returns what it says.
func (x *tenant) visit(code, choice string) answer {
	x.t.Helper()
	return x.do(http.MethodPost, x.URL()+"/devicelogin", "", url.Values{"code": {code}, "answer": {choice}}.Encode())
}

func TestDeviceCode(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, scenario string
		choice, page   string
		// code is what the poll gets after the visit; 0: a token.
		code  int
		oauth string
	}{
		{"completed", "all-well", "complete", "Done.", 0, ""},
		{"declined", "all-well", "decline", "Done.", 70017, "authorization_declined"},
		{"nobody comes", "sign-in-never-completed", "", "", 70016, "authorization_pending"},
		{"somebody comes all the same", "sign-in-never-completed", "complete", "nobody comes", 0, ""},
		{"blocked", "conditional-access-block", "complete", "AADSTS53003", 53003, "invalid_grant"},
		{"MFA", "mfa-required", "complete", "AADSTS50076", 50076, "interaction_required"},
		{"disabled", "account-disabled", "complete", "AADSTS50057", 50057, "invalid_grant"},
		{"another way", "wrong-password", "complete", "Done.", 0, ""},
	} {
		x := start(t, simulator.Config{})
		sc, err := simulator.ParseScenario(c.scenario)
		if err != nil {
			t.Fatal(err)
		}
		if err := x.SetScenarios(sc); err != nil {
			t.Fatal(err)
		}
		poll, code := x.begin()
		// Nobody is refused who has not been there.
		x.expectGrant(c.name, poll, 70016, "authorization_pending", "")
		if c.choice != "" {
			if a := x.visit(code, c.choice); a.status != http.StatusOK || !strings.Contains(string(a.body), c.page) {
				t.Errorf("%s: the page says %s", c.name, a.body)
			}
		}
		suberror := ""
		switch c.code {
		case 53003:
			suberror = "message_only"
		case 50076:
			suberror = "basic_action"
		}
		x.expectGrant(c.name, poll, c.code, c.oauth, suberror)
		if c.code == 0 {
			x.expectGrant(c.name+", again", poll, 70018, "bad_verification_code", "")
		}
	}
}

func TestDeviceCodeByAdmin(t *testing.T) {
	t.Parallel()
	x := start(t, simulator.Config{})
	first, firstCode := x.begin()
	second, _ := x.begin()
	if a := x.do(http.MethodPost, x.AdminURL()+"/devicelogin", "", `{"answer":"complete"}`); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	x.expectGrant("the newest", second, 0, "", "")
	x.expectGrant("the one before", first, 70016, "authorization_pending", "")
	if a := x.do(http.MethodPost, x.AdminURL()+"/devicelogin", "", `{"answer":"decline","code":"`+firstCode+`"}`); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	x.expectGrant("the one named", first, 70017, "authorization_declined", "")
	if a := x.visit("unknown", "complete"); a.status != http.StatusNotFound {
		t.Errorf("an unknown code: %d", a.status)
	}
}
