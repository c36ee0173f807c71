package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCatalog(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{
			"a table",
			[]string{"--types", "print/settings,print/task-definitions"},
			"ID                      READ BY            PERMISSIONS                        SOURCE\n" +
				"print/settings          user               PrintSettings.Read.All             GET /v1.0/print/settings\n" +
				"print/task-definitions  service principal  PrintTaskDefinition.ReadWrite.All  GET /v1.0/print/taskDefinitions\n" +
				"\n2 configuration types; catalog version VERSION.\n",
		},
		{
			"one identity",
			[]string{"--types", "print/settings", "--types", "print/task-definitions", "--identity", "user"},
			"ID              READ BY  PERMISSIONS             SOURCE\n" +
				"print/settings  user     PrintSettings.Read.All  GET /v1.0/print/settings\n" +
				"\n1 configuration types; catalog version VERSION.\n",
		},
		{
			"JSON",
			[]string{"--types", "print/settings", "--json"},
			`[
  {
    "id": "print/settings",
    "displayName": "Universal Print > Settings",
    "workload": "print",
    "source": "GET /v1.0/print/settings",
    "kind": "singleton",
    "children": [],
    "readBy": "user",
    "servicePrincipal": [],
    "user": [
      "PrintSettings.Read.All"
    ],
    "probe": [
      "PrintSettings.Read.All"
    ]
  }
]
`,
		},
		{
			"permissions",
			[]string{"--types", "print/settings,print/task-definitions", "--permissions"},
			`The permissions of Microsoft Graph that 2 configuration types need.

Application permissions, for the service principal (1):

  PrintTaskDefinition.ReadWrite.All  can write; for print/task-definitions

Delegated permissions, for the user, who reads only what the service principal cannot (1):

  PrintSettings.Read.All

Application permissions to grant if you like: with them it is tried whether the service principal can do without the user (1):

  PrintSettings.Read.All

Understudy only reads. Where a permission can write, Microsoft documents none that can less;
to do without it, name the types that it is for in the exclude of the tenant's definition.
`,
		},
		{
			"without what is excluded",
			[]string{"--types", "print/*", "--exclude", "print/alert-settings,print/connectors", "--exclude", "print/services,print/task-definitions"},
			"ID              READ BY  PERMISSIONS             SOURCE\n" +
				"print/settings  user     PrintSettings.Read.All  GET /v1.0/print/settings\n" +
				"\n1 configuration types; catalog version VERSION.\n",
		},
		{
			"permissions of one identity",
			[]string{"--types", "print/settings,print/task-definitions", "--permissions", "--identity", "service-principal"},
			"PrintTaskDefinition.ReadWrite.All\n",
		},
		{
			"permissions as JSON",
			[]string{"--types", "print/settings", "--permissions", "--json"},
			"{\n  \"application\": [],\n  \"delegated\": [\n    \"PrintSettings.Read.All\"\n  ]\n}\n",
		},
	} {
		code, out, stderr := command(t, append([]string{"catalog"}, c.args...)...)
		if before, version, ok := strings.Cut(out, "catalog version "); ok {
			out = before + "catalog version VERSION" + version[strings.LastIndex(version, "."):]
		}
		if code != exitOK || stderr != "" {
			t.Errorf("%s: code %d, %q", c.name, code, stderr)
		}
		if diff := cmp.Diff(c.want, out); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

// What is printed for the two identities is together what is printed for both, and
// every type is in one of the lists.
func TestCatalogIdentitiesAreAPartition(t *testing.T) {
	t.Parallel()
	ids := func(identity string) (found []string) {
		_, out, _ := command(t, "catalog", "--json", "--identity", identity)
		var entries []struct{ ID string }
		if err := json.Unmarshal([]byte(out), &entries); err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			found = append(found, e.ID)
		}
		return found
	}
	user, application, all := ids("user"), ids("service-principal"), ids("all")
	if len(user) < 15 || len(application) < 80 {
		t.Errorf("%d types of the user, %d of the service principal", len(user), len(application))
	}
	both := slices.Concat(user, application)
	slices.Sort(both)
	if diff := cmp.Diff(all, both); diff != "" {
		t.Errorf("(-all +both):\n%s", diff)
	}
}

func TestCatalogOtherForms(t *testing.T) {
	t.Parallel()
	for flag, want := range map[string]string{
		"--powershell": "'PrintSettings.Read.All'", "--coverage": "# What is backed up",
	} {
		if code, out, stderr := command(t, "catalog", flag); code != exitOK || !strings.Contains(out, want) {
			t.Errorf("%s: code %d, %q, without %q", flag, code, stderr, want)
		}
	}
}

func TestCatalogUsage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args   []string
		stderr string
	}{
		{[]string{"--types", "prnt/*"}, "understudy: \"prnt/*\" names no configuration type; did you mean print/*? Try: understudy catalog\n"},
		{[]string{"--exclude", "prnt/*"}, "understudy: \"prnt/*\" names no configuration type; did you mean print/*? Try: understudy catalog\n"},
		{
			[]string{"--types", "print/settings", "--exclude", "print/*"},
			"understudy: \"print/settings\" is excluded by --exclude, and named by --types: nothing of it is left.\n",
		},
		{[]string{"--identity", "nobody"}, "understudy: --identity must be one of \"all\",\"service-principal\",\"user\" but got \"nobody\". Try: understudy --help\n"},
		{[]string{"--json", "--powershell"}, "understudy: --json and --powershell can't be used together. Try: understudy --help\n"},
	} {
		code, out, stderr := command(t, append([]string{"catalog"}, c.args...)...)
		if code != exitUsage || out != "" || stderr != c.stderr {
			t.Errorf("%v: code %d, out %.60q, error\n%swant\n%s", c.args, code, out, stderr, c.stderr)
		}
	}
}
