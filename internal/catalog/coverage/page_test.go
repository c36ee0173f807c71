package coverage

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"understudy.internal/internal/catalog"
	"understudy.internal/internal/facts"
)

var update = flag.Bool("update", false, "write docs/coverage.md instead of comparing it")

const pagePath = "../../../docs/coverage.md"

func TestPageIsCurrent(t *testing.T) {
	t.Parallel()
	c, err := catalog.Load()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := Write(&b, c); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(pagePath, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	current, err := os.ReadFile(pagePath)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(current), b.String()); diff != "" {
		t.Errorf("docs/coverage.md is stale; run make generate (-page +catalog):\n%s", diff)
	}
}

// All that IntuneCD reads of configuration is read here too.
func TestIntuneCDIsCovered(t *testing.T) {
	t.Parallel()
	c, err := catalog.Load()
	if err != nil {
		t.Fatal(err)
	}
	texts, err := parseExplanations(explanationsText)
	if err != nil {
		t.Fatal(err)
	}
	peers, err := facts.PeerEndpoints()
	if err != nil {
		t.Fatal(err)
	}
	x := newExplainer(c, texts)
	left := map[string]bool{ // inventory and logs, in no default run of the peer
		"deviceManagement/managedDevices":                   true,
		"deviceManagement/windowsAutopilotDeviceIdentities": true,
		"deviceManagement/auditEvents":                      true,
	}
	for _, p := range peers {
		if p.Peer == "IntuneCD" && p.Graph() && len(x.peer(p).types) == 0 && (!left[p.Path] || p.InDefaultRun) {
			t.Errorf("%s %s is not read", p.Version, p.Path)
		}
	}
}

func TestWrongExplanations(t *testing.T) {
	t.Parallel()
	c, err := catalog.Load()
	if err != nil {
		t.Fatal(err)
	}
	rows := tables{
		peers: []facts.PeerEndpoint{
			{Peer: "IntuneCD", Version: "beta", Path: "deviceManagement/roleScopeTags"},
			{Peer: "IntuneCD", Version: "beta", Path: "things"},
			{Peer: "EntraExporter", Version: "arm", Path: "subscriptions"},
		},
		reference: []facts.ReferenceConfiguration{
			{Namespace: "MSGraph:Groups:Members:Ref"}, {Namespace: "MSGraph:Nothing"}, {Namespace: "Other:Thing"},
		},
	}
	const good = "apis: {arm: A.}\nnamespaces: {Other: O.}\npaths: [{path: things, why: T.}]\nreferences: [{namespace: 'MSGraph:Nothing', why: N.}]\n"
	text, err := page(c, good, "{}", rows)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{
		"| `beta deviceManagement/roleScopeTags` | `intune/scope-tags` |", "| `beta things` | no: T. |",
		"| `arm subscriptions` | no: A. |", "| `MSGraph:Groups:Members:Ref` | `entra/groups` |", "| Other | 1 | O. |",
	} {
		if !strings.Contains(text, part) {
			t.Errorf("the page lacks %s:\n%s", part, text)
		}
	}
	for name, c2 := range map[string]struct{ old, new, want string }{
		"peer not explained":      {"[{path: things, why: T.}]", "[]", "path /things is read by no type"},
		"reference not explained": {"[{namespace: 'MSGraph:Nothing', why: N.}]", "[]", "reference MSGraph:Nothing is read by no type"},
		"API not explained":       {"{arm: A.}", "{}", "api arm is not explained"},
		"namespace not explained": {"{Other: O.}", "{}", "namespace Other is not explained"},
		"needless":                {"why: T.}]", "why: T.}, {path: more, why: M.}]", "path /more explains nothing"},
		"already read":            {"why: T.}]", "why: T.}, {path: deviceManagement/roleScopeTags, why: M.}]", "explains nothing"},
		"unknown type":            {"why: T.}", "why: T., types: [intune/nothing]}", "does not exist"},
		"no why":                  {", why: T.", "", "has no why"},
		"unknown key":             {"why: T.", "because: T.", "because"},
	} {
		if _, err := page(c, strings.Replace(good, c2.old, c2.new, 1), "{}", rows); err == nil || !strings.Contains(err.Error(), c2.want) {
			t.Errorf("%s: %v, want %q", name, err, c2.want)
		}
	}
}

func TestWrongReasons(t *testing.T) {
	t.Parallel()
	c, err := catalog.Load()
	if err != nil {
		t.Fatal(err)
	}
	rows := tables{endpoints: []facts.Endpoint{
		{Version: "v1.0", Path: "/groups/{id}/owners", Class: facts.ClassConfig},
		{Version: "v1.0", Path: "/groups/{id}/Things/{id}/thingSummary", Class: facts.ClassConfig},
		{Version: "beta", Path: "/reports/all", Class: facts.ClassInventory},
	}}
	const good = "reasons: [{why: W., paths: ['/groups/**/*summary']}]\nlimits: [{types: [entra/groups], what: L.}]\n"
	text, err := page(c, "{}", good, rows)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{
		"documents 2 paths", "1 of them are read. Of the other 1 ", "| W. | 1 | `/groups/**/*summary` |", "| `entra/groups` | L. |",
	} {
		if !strings.Contains(text, part) {
			t.Errorf("the page lacks %s:\n%s", part, text)
		}
	}
	for name, c2 := range map[string]struct{ old, new, want string }{
		"no reason":        {"/groups/**/*summary", "/things/*", "is not read and has 0 reasons"},
		"two reasons":      {"reasons: [", "reasons: [{why: V., paths: ['/groups/{id}/**']}, ", "has 2 reasons"},
		"matches nothing":  {"'/groups/**/*summary'", "'/groups/**/*summary', /more", "/more matches nothing"},
		"too short":        {"/groups/**/*summary", "/groups/{id}/things", "matches nothing"},
		"is read":          {"/groups/**/*summary", "/groups/{id}/**", "which entra/groups reads"},
		"no configuration": {"'/groups/**/*summary'", "'/groups/**/*summary', /reports/all", "/reports/all matches nothing"},
		"no why":           {"why: W., ", "", "says nothing"},
		"no limit":         {", what: L.", "", "a limit says nothing"},
		"unknown type":     {"entra/groups", "entra/nothing", "does not exist"},
		"unknown key":      {"why: W.", "because: W.", "because"},
	} {
		if _, err := page(c, "{}", strings.Replace(good, c2.old, c2.new, 1), rows); err == nil || !strings.Contains(err.Error(), c2.want) {
			t.Errorf("%s: %v, want %q", name, err, c2.want)
		}
	}
}

// A type that reads some objects only does not cover a request for others.
func TestFilters(t *testing.T) {
	t.Parallel()
	r := readsOf([]*catalog.Type{
		{ID: "a/all", Path: "/all", Kind: catalog.Collection, Query: catalog.Query{Expand: "links($expand=target),other"}},
		{
			ID: "a/roles", Path: "/policies", Kind: catalog.Collection, Query: catalog.Query{Filter: "scopeId eq '/' and scopeType eq 'Role'"},
			Children: []catalog.Child{{Name: "rules", Path: "rules", Kind: catalog.Collection}},
		},
		{ID: "a/groups", Path: "/policies", Kind: catalog.Collection, Query: catalog.Query{Filter: "scopeId eq '{id}' and scopeType eq 'Group'"}, Each: &catalog.Each{Path: "/groups"}},
		{
			ID: "a/some", Path: "/schedules", Kind: catalog.Collection, Query: catalog.Query{Filter: "groupId eq '{id}'"},
			Each: &catalog.Each{Path: "/groups", Query: catalog.Query{Filter: "special eq true"}},
		},
	})
	for _, test := range []struct{ path, filter, want string }{
		{"all", "", "a/all"},
		{"all", "x eq 1", "a/all"},
		{"all/{id}/links/{id}/target", "", "a/all"},
		{"all/{id}/other", "", "a/all"},
		{"all/{id}/target", "", ""},
		{"policies", "scopeType eq 'Role' and roleId eq '{role}' and scopeId eq '/'", "a/roles"},
		{"policies", "scopeId eq '{groupId}' and scopeType eq 'Group'", "a/groups"},
		{"policies", "scopeId eq '/' or scopeType eq 'Role'", ""},
		{"policies", "", ""},
		{"policies/{id}/rules", "", ""},
		{"schedules", "groupId eq '{groupId}'", ""},
		{"schedules", "groupId eq '{groupId}' and special eq true", "a/some"},
	} {
		if got := strings.Join(r.covering(test.path, test.filter), " "); got != test.want {
			t.Errorf("%s with %q is covered by %q, want %q", test.path, test.filter, got, test.want)
		}
	}
	if got := r.find("policies"); len(got) != 2 {
		t.Errorf("the path is read by %v, want two types", got)
	}
}
