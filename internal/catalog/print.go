package catalog

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	understudyv1 "understudy.internal/gen/understudy/v1"
)

// WriteTable writes types as a table for people: one line a type.
func WriteTable(w io.Writer, types []*Type) error {
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	if _, err := fmt.Fprintln(table, "ID\tREAD BY\tPERMISSIONS\tSOURCE"); err != nil {
		return err
	}
	for _, t := range types {
		reader, permissions := "service principal", t.ServicePrincipal
		if t.Reader() == understudyv1.Identity_IDENTITY_USER {
			reader, permissions = "user", t.User
		}
		if _, err := fmt.Fprintf(table, "%s\t%s\t%s\tGET /%s%s\n",
			t.ID, reader, strings.Join(permissions, " "), t.Version, t.Path); err != nil {
			return err
		}
	}
	return table.Flush()
}

// entryJSON is a type as WriteJSON writes it.
type entryJSON struct {
	ID               string   `json:"id"`
	DisplayName      string   `json:"displayName"`
	Workload         string   `json:"workload"`
	Source           string   `json:"source"`
	Kind             Kind     `json:"kind"`
	Children         []string `json:"children"`
	ReadBy           string   `json:"readBy"`
	ServicePrincipal []string `json:"servicePrincipal"`
	User             []string `json:"user"`
	Probe            []string `json:"probe,omitempty"`
	Note             string   `json:"note,omitempty"`
}

// WriteJSON writes types as a JSON array, one object a type, with the permissions
// of both identities; an empty list says that the identity cannot read the type.
func WriteJSON(w io.Writer, types []*Type) error {
	out := make([]entryJSON, 0, len(types))
	for _, t := range types {
		readBy := "servicePrincipal"
		if t.Reader() == understudyv1.Identity_IDENTITY_USER {
			readBy = "user"
		}
		children := make([]string, 0, len(t.Children))
		for _, child := range t.Children {
			if !slices.Contains(children, child.Name) {
				children = append(children, child.Name)
			}
		}
		out = append(out, entryJSON{
			ID: t.ID, DisplayName: t.DisplayName, Workload: t.Workload(),
			Source: "GET /" + t.Version + t.Path, Kind: t.Kind, Children: children, ReadBy: readBy,
			ServicePrincipal: append([]string{}, t.ServicePrincipal...),
			User:             append([]string{}, t.User...), Probe: t.Probe, Note: t.Note,
		})
	}
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(out)
}

// Permissions returns what to grant for types, each list sorted and without
// repetition: application permissions for the types that the service principal
// reads, delegated ones for those that only the user can read. Nothing is granted
// twice: what the service principal reads needs no delegated permission.
func Permissions(types []*Type) (application, delegated []string) {
	applications, delegations := make(map[string]bool), make(map[string]bool)
	for _, t := range types {
		into, permissions := applications, t.ServicePrincipal
		if t.Reader() == understudyv1.Identity_IDENTITY_USER {
			into, permissions = delegations, t.User
		}
		for _, permission := range permissions {
			into[permission] = true
		}
	}
	return slices.Sorted(maps.Keys(applications)), slices.Sorted(maps.Keys(delegations))
}

// ProbePermissions returns the application permissions with which the service
// principal may be able to read types that are documented for users only, sorted and
// without repetition; without those that it needs anyway.
func ProbePermissions(types []*Type) []string {
	needed, _ := Permissions(types)
	probed := make(map[string]bool)
	for _, t := range types {
		for _, permission := range t.Probe {
			if !slices.Contains(needed, permission) {
				probed[permission] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(probed))
}

// scriptHead and scriptTail frame the lists of WritePermissions. The application
// id is that of Microsoft Graph in every cloud.
const (
	scriptHead = `# The permissions of Microsoft Graph that %d configuration types need.
#
# This is a PowerShell script that asks for them in the registration of the
# application, in place of those that it asked for before; nothing is granted
# until an administrator consents. The same
# names can be chosen by hand: Entra admin center > App registrations > API
# permissions > Microsoft Graph.
#
#   Install-Module Microsoft.Graph.Applications
#   Connect-MgGraph -Scopes Application.ReadWrite.All
#   ./permissions.ps1 -ObjectId <object id of the app registration>
param([Parameter(Mandatory)] [string] $ObjectId)

`
	scriptTail = `
$graph = Get-MgServicePrincipal -Filter "appId eq '00000003-0000-0000-c000-000000000000'"
$access = @(
  foreach ($name in $application) {
    $role = $graph.AppRoles | Where-Object Value -EQ $name
    if (-not $role) { throw "Microsoft Graph has no application permission $name here" }
    @{ Id = $role.Id; Type = 'Role' }
  }
  foreach ($name in $delegated) {
    $scope = $graph.Oauth2PermissionScopes | Where-Object Value -EQ $name
    if (-not $scope) { throw "Microsoft Graph has no delegated permission $name here" }
    @{ Id = $scope.Id; Type = 'Scope' }
  }
)
Update-MgApplication -ApplicationId $ObjectId -RequiredResourceAccess @{
  ResourceAppId = $graph.AppId; ResourceAccess = $access
}
`
)

// WritePermissions writes what to grant for types, as [Permissions] has it, as a
// PowerShell script that asks for it in an app registration.
func WritePermissions(w io.Writer, types []*Type) error {
	application, delegated := Permissions(types)
	var b strings.Builder
	fmt.Fprintf(&b, scriptHead, len(types))
	list := func(comment, variable string, names []string) {
		fmt.Fprintf(&b, "# %s\n$%s = @(\n", comment, variable)
		for _, name := range names {
			fmt.Fprintf(&b, "  '%s'\n", name)
		}
		b.WriteString(")\n")
	}
	list("Application permissions: the service principal.", "application", application)
	list("Delegated permissions: the user, for what only a user can read.", "delegated", delegated)
	b.WriteString(scriptTail)
	_, err := io.WriteString(w, b.String())
	return err
}
