package tenant

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	understudyv1 "understudy.internal/gen/understudy/v1"
)

// ordinary is a definition without mistakes.
func ordinary() Definition {
	return Definition{
		ID: "contoso", DirectoryID: "22222222-2222-4222-8222-222222222222", Cloud: "global", ConfigurationTypes: []string{"*"},
		ServicePrincipal: ServicePrincipal{ClientID: "33333333-3333-4333-8333-333333333333", ClientSecret: &Secret{env: "X"}},
		User: &User{
			Method: ServiceAccount, Username: "backup@contoso.example", Password: &Secret{env: "X"}, SignInTimeout: time.Nanosecond,
		},
		AuthenticationPolicy: understudyv1.AuthenticationPolicy_AUTHENTICATION_POLICY_REQUIRE_USER,
		Repository:           Repository{Branch: "main"},
	}
}

// keysOf returns the keys that are wrong in a definition after a change.
func keysOf(change func(*Definition)) []string {
	d := ordinary()
	change(&d)
	var keys []string
	for _, p := range d.Check() {
		keys = append(keys, p.Key)
	}
	return keys
}

func TestCheck(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Definition)
		want   []string
	}{
		{"ordinary", func(*Definition) {}, nil},
		{"longest id", func(d *Definition) { d.ID = strings.Repeat("a", 63) }, nil},
		{"too long an id", func(d *Definition) { d.ID = strings.Repeat("a", 64) }, []string{"id"}},
		{"id with a line break", func(d *Definition) { d.ID = "a\n" }, []string{"id"}},
		{"id that climbs", func(d *Definition) { d.ID = "../a" }, []string{"id"}},
		{"urn", func(d *Definition) { d.DirectoryID = "urn:uuid:" + d.DirectoryID }, []string{"directory_id"}},
		{"no hyphens", func(d *Definition) { d.DirectoryID = strings.ReplaceAll(d.DirectoryID, "-", "") }, []string{"directory_id"}},
		{"upper case", func(d *Definition) { d.DirectoryID = "ABCDEF12-2222-4222-8222-222222222222" }, nil},
		{"consumers", func(d *Definition) { d.DirectoryID = "consumers" }, []string{"directory_id"}},
		{"certificate", func(d *Definition) {
			d.ServicePrincipal.ClientSecret, d.ServicePrincipal.Certificate = nil, &Secret{file: "x"}
		}, nil},
		{"delegated without a name", func(d *Definition) { d.User = &User{Method: Delegated, SignInTimeout: time.Hour} }, nil},
		{"name without a host", func(d *Definition) { d.User.Username = "backup@" }, []string{"user.username"}},
		{"name with a space", func(d *Definition) { d.User.Username = "a b@c" }, []string{"user.username"}},
		{"no user, which is required", func(d *Definition) { d.User = nil }, []string{"authentication_policy"}},
		{"https", func(d *Definition) {
			d.Repository = Repository{Branch: "main", Remote: "https://git.example:8443/a", Token: &Secret{env: "X"}}
		}, nil},
		{"ssh", func(d *Definition) {
			d.Repository = Repository{Branch: "main", Remote: "ssh://git@git.example:2222/a.git", SSHKey: &Secret{file: "k"}}
		}, nil},
		{"short form of ssh", func(d *Definition) {
			d.Repository = Repository{Branch: "main", Remote: "git@git.example:a/b.git", SSHKey: &Secret{file: "k"}}
		}, nil},
		{"an authority for ssh", func(d *Definition) {
			d.Repository = Repository{Branch: "main", Remote: "git@git.example:a", CAFile: "ca.pem"}
		}, []string{"repository.ca_file"}},
		{"known hosts for https", func(d *Definition) {
			d.Repository = Repository{Branch: "main", Remote: "https://git.example/a", KnownHostsFile: "known_hosts"}
		}, []string{"repository.known_hosts_file"}},
		{"a password in ssh", func(d *Definition) {
			d.Repository = Repository{Branch: "main", Remote: "ssh://git:hunter2@git.example/a", SSHKey: &Secret{file: "k"}}
		}, []string{"repository.remote"}},
	} {
		if diff := cmp.Diff(test.want, keysOf(test.change)); diff != "" {
			t.Errorf("%s: -want +got:\n%s", test.name, diff)
		}
	}
}

func TestRemotes(t *testing.T) {
	for _, bad := range []string{
		"file:///srv/a.git", "/srv/a.git", "../a", "a", "git://git.example/a", "http://git.example/a", "https://git.example", "https:///a",
		"ssh://git.example/", "C:\\a", "https://git.example/a#x", "ext::sh -c x", "-oProxyCommand=x:a", "git@-oProxyCommand:a", "::", "https://[/a",
	} {
		if _, problem := parseRemote(bad); problem == "" {
			t.Errorf("%s is accepted", bad)
		}
	}
}

// Two addresses of one place are told to be one.
func TestPlace(t *testing.T) {
	for _, same := range [][2]string{
		{"https://git.example/a/b.git", "https://GIT.example:443/a/b/"},
		{"ssh://git@git.example/a/b.git", "git@git.example:a/b"},
		{"ssh://git@git.example:22/a", "ssh://git.example/a"},
		{"https://git.example/a", "ssh://git@git.example/a"},
	} {
		a, b := Repository{Branch: "main", Remote: same[0]}, Repository{Branch: "main", Remote: same[1]}
		if a.place() == "" || a.place() != b.place() {
			t.Errorf("%s and %s differ: %q, %q", same[0], same[1], a.place(), b.place())
		}
	}
	a, b := Repository{Branch: "main", Remote: "https://git.example/a"}, Repository{Branch: "main", Remote: "https://git.example:8443/a"}
	if a.place() == b.place() {
		t.Error("another port is the same place")
	}
	if none := (&Repository{Branch: "main"}); none.place() != "" {
		t.Error("no remote is a place")
	}
}

func TestBranches(t *testing.T) {
	for _, good := range []string{"main", "backup/contoso", "a.b", "ü", "a-b", "a@b"} {
		if !isBranch(good) {
			t.Errorf("%s is refused", good)
		}
	}
	for _, bad := range []string{
		"", "@", "HEAD", "-a", "a.", "a..b", "/a", "a/", "a//b", ".a", "a/.b", "a.lock", "a.lock/b", "a b", "a~b", "a^b", "a:b", "a?b", "a*b", "a[b",
		"a\\b", "a@{b", "a\x7f", "a\nb", strings.Repeat("a", 201),
	} {
		if isBranch(bad) {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestComplete(t *testing.T) {
	d := ordinary()
	d.ServicePrincipal.ClientID = "ABCDEF12-3333-4333-8333-333333333333"
	d.Complete()
	const client = "abcdef12-3333-4333-8333-333333333333"
	if d.DisplayName != "contoso" || d.User.ClientID != client || d.ServicePrincipal.ClientID != client {
		t.Errorf("completed: %+v, user %+v", d, d.User)
	}
	if d.AuthenticationPolicy != understudyv1.AuthenticationPolicy_AUTHENTICATION_POLICY_REQUIRE_USER {
		t.Errorf("policy %s", d.AuthenticationPolicy)
	}
	d.User.ClientID, d.DisplayName = "44444444-4444-4444-8444-444444444444", "Contoso"
	d.Complete()
	if d.DisplayName != "Contoso" || d.User.ClientID != "44444444-4444-4444-8444-444444444444" {
		t.Errorf("completed: %+v, user %+v", d, d.User)
	}
	d.User = nil
	d.Complete()
	if d.AuthenticationPolicy != understudyv1.AuthenticationPolicy_AUTHENTICATION_POLICY_SERVICE_PRINCIPAL_ONLY {
		t.Errorf("policy without a user %s", d.AuthenticationPolicy)
	}
}

// Nothing that may be a secret in the wrong place is repeated.
func TestProblemsRepeatNoSecret(t *testing.T) {
	d := ordinary()
	d.ServicePrincipal.ClientID, d.User.ClientID, d.User.Username = planted, planted, planted
	d.Repository.Remote = "https://" + planted + "@git.example/a?" + planted
	problems := d.Check()
	if len(problems) != 4 {
		t.Errorf("problems %+v", problems)
	}
	for _, p := range problems {
		if strings.Contains(p.Detail, planted) {
			t.Errorf("%+v", p)
		}
	}
}
