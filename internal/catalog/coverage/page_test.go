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
	text, err := page(c, good, rows)
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
		if _, err := page(c, strings.Replace(good, c2.old, c2.new, 1), rows); err == nil || !strings.Contains(err.Error(), c2.want) {
			t.Errorf("%s: %v, want %q", name, err, c2.want)
		}
	}
}
