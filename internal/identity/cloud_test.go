package identity

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"understudy.internal/internal/port"
)

func TestCloudsByName(t *testing.T) {
	for name, want := range map[string][2]string{
		"global":      {"https://login.microsoftonline.com", "https://graph.microsoft.com"},
		"us-gov-high": {"https://login.microsoftonline.us", "https://graph.microsoft.us"},
		"us-gov-dod":  {"https://login.microsoftonline.us", "https://dod-graph.microsoft.us"},
		"china":       {"https://login.chinacloudapi.cn", "https://microsoftgraph.chinacloudapi.cn"},
	} {
		got, ok := CloudByName(name)
		if !ok || got.Authority != want[0] || got.Graph != want[1] || got.Name != name {
			t.Errorf("%s is %+v", name, got)
		}
		if err := got.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, ok := CloudByName("germany"); ok {
		t.Error("there is no cloud germany any more")
	}
}

// TestEveryCloud signs in with all identities of each cloud of Microsoft, and asks
// nobody but its authority: instance discovery would ask login.microsoftonline.com.
func TestEveryCloud(t *testing.T) {
	for _, name := range []string{"global", "us-gov-high", "us-gov-dod", "china"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				cloud, _ := CloudByName(name)
				f.config.Cloud, f.base = cloud, cloud.Authority
				if _, err := f.servicePrincipal().SignIn(t.Context(), port.SignInOptions{}); err != nil {
					t.Error(err)
				}
				if _, err := f.user(ServiceAccount).SignIn(t.Context(), port.SignInOptions{}); err != nil {
					t.Error(err)
				}
				if _, err := f.signedIn().SignIn(t.Context(), port.SignInOptions{}); err != nil {
					t.Error(err)
				}
				for _, r := range f.seen {
					if "https://"+r.host != cloud.Authority {
						t.Errorf("%s was asked for %s", r.host, r.kind)
					}
				}
				if scope := f.requests(applications)[0].form.Get("scope"); !strings.HasPrefix(scope, cloud.Graph+"/.default") {
					t.Errorf("the scope is %s", scope)
				}
			})
		})
	}
}

// TestEndpointsOfAnotherName are in the metadata of some clouds: Microsoft's other
// name of the same authority is asked, and nobody else.
func TestEndpointsOfAnotherName(t *testing.T) {
	endpoints := func(host string) reply {
		return reply{status: 200, body: map[string]any{
			"issuer": "https://login.partner.microsoftonline.cn/" + directory + "/v2.0", "authorization_endpoint": host + "/a", "token_endpoint": host + "/oauth2/v2.0/token",
		}}
	}
	for host, want := range map[string]string{
		"https://login.partner.microsoftonline.cn": "", "https://login.chinacloudapi.cn:443": "",
		"https://" + marker + ".example": "APPLICATION_MISCONFIGURED", "http://login.chinacloudapi.cn": "APPLICATION_MISCONFIGURED",
	} {
		t.Run(want, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				f.config.Cloud, _ = CloudByName("china")
				f.base = f.config.Cloud.Authority
				f.answerAlways(openID, endpoints(host))
				_, errSecret := f.servicePrincipal().SignIn(t.Context(), port.SignInOptions{})
				_, errPassword := f.user(ServiceAccount).SignIn(t.Context(), port.SignInOptions{})
				_, errCode := f.user(Delegated).SignIn(t.Context(), prompts(new([]*prompt)))
				for _, err := range []error{errSecret, errPassword, errCode} {
					if want == "" {
						if err != nil {
							t.Errorf("%s: %v", host, err)
						}
						continue
					}
					reasonIs(t, err, want)
				}
				if asked := len(f.requests(applications)) + len(f.requests(passwords)) + len(f.requests(deviceCode)); want != "" && asked != 0 {
					t.Errorf("%s was asked %d times", host, asked)
				}
			})
		})
	}
}

func TestCheck(t *testing.T) {
	for address, ok := range map[string]bool{
		"https://login.example.com": true, "https://127.0.0.1:9443": true, "https://[::1]:9443": true,
		"": false, "login.example.com": false, "http://login.example.com": false, "https://": false, "https://login.example.com/": false,
		"https://login.example.com/tenant": false, "https://login.example.com?a=b": false, "https://user:pass@login.example.com": false,
		"https://login.example.com#f": false, "ftp://login.example.com": false, "https://%zz": false,
	} {
		if err := (Cloud{Authority: address, Graph: "https://graph.example.com"}).Check(); (err == nil) != ok {
			t.Errorf("authority %q: %v", address, err)
		}
		if err := (Cloud{Authority: "https://login.example.com", Graph: address}).Check(); (err == nil) != ok {
			t.Errorf("graph %q: %v", address, err)
		}
	}
	err := Cloud{Authority: "https://Tokens.example.com", Graph: "https://graph.example.com"}.Check()
	if err == nil || !strings.Contains(err.Error(), "token") {
		t.Errorf("MSAL cannot use it: %v", err)
	}
	if err := (Cloud{Authority: "https://login.example.com", Graph: "https://tokens.example.com"}).Check(); err != nil {
		t.Error(err)
	}
}

func TestCAFiles(t *testing.T) {
	if _, err := NewHTTPClient(Cloud{CAFile: filepath.Join(t.TempDir(), "none.pem")}); err == nil {
		t.Error("a file that is not there is accepted")
	}
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := NewHTTPClient(Cloud{CAFile: path}); err == nil || !strings.Contains(err.Error(), "PEM") {
		t.Errorf("a file without a certificate: %v", err)
	}
}
