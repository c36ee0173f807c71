package catalog

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	understudyv1 "understudy.internal/gen/understudy/v1"
)

func printed() []*Type {
	return []*Type{
		{
			ID: "entra/groups", DisplayName: "Entra ID > Groups", Version: "v1.0", Path: "/groups", Kind: Collection,
			Children:         []Child{{Name: "owners"}, {Name: "cert", When: []string{"a"}}, {Name: "cert", When: []string{"b"}}},
			ServicePrincipal: []string{"Directory.Read.All", "Group.Read.All"}, User: []string{"Directory.Read.All"},
		},
		{
			ID: "print/settings", DisplayName: "Print > Settings", Version: "beta", Path: "/print/settings", Kind: Singleton,
			User: []string{"PrintSettings.Read.All"}, Probe: []string{"Group.Read.All", "PrintSettings.Read.All"}, Note: "Beta: <why>.",
		},
	}
}

func TestProto(t *testing.T) {
	t.Parallel()
	types := printed()
	want := []*understudyv1.ConfigurationType{
		{
			Id: "entra/groups", DisplayName: "Entra ID > Groups", Workload: "entra", Source: "GET /v1.0/groups",
			AccessRequirements: []*understudyv1.AccessRequirement{
				{Identity: understudyv1.Identity_IDENTITY_SERVICE_PRINCIPAL, Permissions: []string{"Directory.Read.All", "Group.Read.All"}},
				{Identity: understudyv1.Identity_IDENTITY_USER, Permissions: []string{"Directory.Read.All"}},
			},
		},
		{
			Id: "print/settings", DisplayName: "Print > Settings", Workload: "print", Source: "GET /beta/print/settings",
			AccessRequirements: []*understudyv1.AccessRequirement{
				{Identity: understudyv1.Identity_IDENTITY_USER, Permissions: []string{"PrintSettings.Read.All"}},
			},
			ProbePermissions: []string{"Group.Read.All", "PrintSettings.Read.All"},
		},
	}
	got := []*understudyv1.ConfigurationType{types[0].Proto(), types[1].Proto()}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("Proto (-want +got):\n%s", diff)
	}
	got[0].AccessRequirements[0].Permissions[0] = "changed"
	if types[0].ServicePrincipal[0] != "Directory.Read.All" {
		t.Error("the message shares the permissions of the type")
	}
}

func TestWriteTable(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	if err := WriteTable(&b, printed()); err != nil {
		t.Fatal(err)
	}
	want := "" +
		"ID              READ BY            PERMISSIONS                        SOURCE\n" +
		"entra/groups    service principal  Directory.Read.All Group.Read.All  GET /v1.0/groups\n" +
		"print/settings  user               PrintSettings.Read.All             GET /beta/print/settings\n"
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
}

func TestWriteJSON(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	if err := WriteJSON(&b, printed()); err != nil {
		t.Fatal(err)
	}
	var got []map[string]any
	if err := json.Unmarshal([]byte(b.String()), &got); err != nil {
		t.Fatal(err)
	}
	want := []map[string]any{
		{
			"id": "entra/groups", "displayName": "Entra ID > Groups", "workload": "entra", "source": "GET /v1.0/groups",
			"kind": "collection", "children": []any{"owners", "cert"}, "readBy": "servicePrincipal",
			"servicePrincipal": []any{"Directory.Read.All", "Group.Read.All"}, "user": []any{"Directory.Read.All"},
		},
		{
			"id": "print/settings", "displayName": "Print > Settings", "workload": "print", "source": "GET /beta/print/settings",
			"kind": "singleton", "children": []any{}, "readBy": "user",
			"servicePrincipal": []any{}, "user": []any{"PrintSettings.Read.All"},
			"probe": []any{"Group.Read.All", "PrintSettings.Read.All"}, "note": "Beta: <why>.",
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("JSON (-want +got):\n%s", diff)
	}
	if strings.Contains(b.String(), `\u003c`) {
		t.Error("the JSON is escaped for HTML")
	}
}

func TestWritePermissions(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	if err := WritePermissions(&b, printed()); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{
		"that 2 configuration types need",
		"$application = @(\n  'Directory.Read.All'\n  'Group.Read.All'\n)\n",
		"$delegated = @(\n  'PrintSettings.Read.All'\n)\n",
		"Update-MgApplication -ApplicationId $ObjectId",
	} {
		if !strings.Contains(b.String(), part) {
			t.Errorf("the script lacks %q:\n%s", part, b.String())
		}
	}
	if diff := cmp.Diff([]string{"PrintSettings.Read.All"}, ProbePermissions(printed())); diff != "" {
		t.Errorf("to grant for probes (-want +got):\n%s", diff)
	}
	application, delegated := Permissions(nil)
	if len(application)+len(delegated) != 0 {
		t.Errorf("no types need %v and %v", application, delegated)
	}
}

var errDisk = errors.New("no space")

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errDisk }

func TestWritersReportErrors(t *testing.T) {
	t.Parallel()
	for name, write := range map[string]func(io.Writer, []*Type) error{
		"table": WriteTable, "JSON": WriteJSON, "permissions": WritePermissions,
	} {
		if err := write(full{}, printed()); !errors.Is(err, errDisk) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAllVolatile(t *testing.T) {
	t.Parallel()
	entry := &Type{Volatile: []string{"version"}}
	all := entry.AllVolatile()
	if len(all) != len(DefaultVolatile())+1 || all[len(all)-1] != "version" {
		t.Errorf("AllVolatile = %q", all)
	}
	p := &problems{}
	p.propertyPaths("default", DefaultVolatile())
	p.answers("default", DefaultNotAvailable())
	if len(p.list) > 0 {
		t.Error(p.list)
	}
}
