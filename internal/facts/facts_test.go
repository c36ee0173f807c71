package facts

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTablesHaveTheirRows(t *testing.T) {
	t.Parallel()
	endpoints, err := Endpoints()
	if err != nil {
		t.Fatal(err)
	}
	config, userOnly := 0, 0
	for _, e := range endpoints {
		if e.Class != ClassConfig {
			continue
		}
		config++
		if e.Mode == ModeDelegatedOnly {
			userOnly++
		}
	}
	codes, err := SignInCodes()
	if err != nil {
		t.Fatal(err)
	}
	reference, err := ReferenceConfigurations()
	if err != nil {
		t.Fatal(err)
	}
	peers, err := PeerEndpoints()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int{
		"endpoints": len(endpoints), "config": config, "user only": userOnly,
		"codes": len(codes), "reference": len(reference), "peers": len(peers),
	}
	want := map[string]int{
		"endpoints": 972, "config": 808, "user only": 45,
		"codes": 190, "reference": 215, "peers": 179,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

func TestPermissions(t *testing.T) {
	t.Parallel()
	for cell, want := range map[string][]string{
		"-":               nil,
		"Policy.Read.All": {"Policy.Read.All"},
		"Application.ReadWrite.All (+Policy.Read.All)": {"Application.ReadWrite.All", "Policy.Read.All"},
		"OrgSettings-Todo.Read.All":                    {"OrgSettings-Todo.Read.All"},
	} {
		if diff := cmp.Diff(want, permissions(cell)); diff != "" {
			t.Errorf("permissions(%q) (-want +got):\n%s", cell, diff)
		}
	}
}

func TestLookup(t *testing.T) {
	t.Parallel()
	endpoints, err := Endpoints()
	if err != nil {
		t.Fatal(err)
	}
	index := NewIndex(endpoints)
	for _, c := range []struct{ version, path, want string }{
		{"v1.0", "/applications", "/applications"},
		{"v1.0", "Applications/", "/applications"},
		{"beta", "/applications", ""},
		{"v1.0", "/applications/{applicationId}/owners", "/applications/{id}/owners"},
		{"v1.0", "/applications/7c5b/owners", "/applications/{id}/owners"},
		{"v1.0", "/applications/microsoft.graph.agentIdentityBlueprint", "/applications/microsoft.graph.agentIdentityBlueprint"},
		{"v1.0", "/applications//owners", ""},
		{"v1.0", "/applications/7c5b/nothing", ""},
		{"v1.0", "", ""},
	} {
		e, ok := index.Lookup(c.version, c.path)
		if e.Path != c.want || ok != (c.want != "") {
			t.Errorf("Lookup(%q, %q) = %q, %t, want %q", c.version, c.path, e.Path, ok, c.want)
		}
	}
}

func TestMalformedTables(t *testing.T) {
	t.Parallel()
	build := func(text string) error {
		rows, err := parse("x.tsv", text, "api_version", "get_path", "delegated_least",
			"application_least", "mode", "kind", "class", "id_depth", "source", "note", "role")
		if err != nil {
			return err
		}
		_, err = each(rows, endpoint)
		return err
	}
	const header = "api_version\tget_path\tdelegated_least\tapplication_least\tmode\tkind\tclass\tid_depth\tsource\tnote\trole\n"
	const good = "v1.0\t/a/{id}\tA.Read\t-\tdelegated-only\tsingleton\tconfig\t1\t\t\t\n"
	if err := build(header + good); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		text string
		line int
	}{
		"columns":   {"a\tb\n", 1},
		"cells":     {header + good + "v1.0\t/a\n", 3},
		"depth":     {header + "v1.0\t/a\tA.Read\t-\tdelegated-only\tsingleton\tconfig\t1\t\t\t\n", 2},
		"number":    {header + "v1.0\t/a\tA.Read\t-\tdelegated-only\tsingleton\tconfig\tx\t\t\t\n", 2},
		"version":   {header + "v2\t/a\tA.Read\t-\tdelegated-only\tsingleton\tconfig\t0\t\t\t\n", 2},
		"slash":     {header + "v1.0\ta\tA.Read\t-\tdelegated-only\tsingleton\tconfig\t0\t\t\t\n", 2},
		"kind":      {header + "v1.0\t/a\tA.Read\t-\tdelegated-only\tlist\tconfig\t0\t\t\t\n", 2},
		"wrongMode": {header + "v1.0\t/a\tA.Read\t-\tboth\tlist\tconfig\t0\t\t\t\n", 2},
	} {
		err := build(c.text)
		var malformed *TableError
		if !errors.As(err, &malformed) || malformed.Line != c.line {
			t.Errorf("%s: %v, want a TableError of line %d", name, err, c.line)
		}
	}
}
