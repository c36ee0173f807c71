package facts

import (
	_ "embed" // for the table
	"slices"
	"strconv"
	"strings"
)

//go:embed graph-endpoints.tsv
var endpointTable string

// The modes of an endpoint: which identities Microsoft documents for it.
const (
	ModeBoth          = "both"
	ModeDelegatedOnly = "delegated-only"
	ModeAppOnly       = "app-only"
)

// The classes of an endpoint: what it holds. Only ClassConfig is tenant
// configuration.
const (
	ClassConfig    = "config"
	ClassCatalog   = "catalog"
	ClassInventory = "inventory"
	ClassLegacy    = "legacy"
	ClassPartner   = "msp"
)

// Endpoint is one GET path of Microsoft Graph.
type Endpoint struct {
	// Version is `v1.0` or `beta`; Path follows it, with `{id}` for every id.
	Version, Path string
	// Delegated and Application are the least privileged permissions of a user
	// and of an application, all of which are needed. Nil: the identity cannot
	// read the path.
	Delegated, Application []string
	// Mode is one of the modes above.
	Mode string
	// Kind is `collection` or `singleton`; with a `?` behind it where no metadata
	// has the path and the kind was guessed from its name.
	Kind string
	// Class is one of the classes above.
	Class string
	// IDDepth is the number of `{id}` in the path.
	IDDepth int
	// Source says which metadata has the path.
	Source string
	// Note says where the official least privileged permission is not the one
	// given here.
	Note string
	// SameNameAppRole is `yes` where an application role has the name of the
	// delegated permission of a delegated-only path, `no` where none has, else
	// empty.
	SameNameAppRole string
}

// Endpoints returns the endpoints of Microsoft Graph, sorted as in the table.
// An error is a [*TableError].
func Endpoints() ([]Endpoint, error) {
	rows, err := parse("graph-endpoints.tsv", endpointTable,
		"api_version", "get_path", "delegated_least", "application_least", "mode", "kind",
		"class", "id_depth", "resolved_in_metadata", "note", "same_name_app_role")
	if err != nil {
		return nil, err
	}
	return each(rows, endpoint)
}

func endpoint(r row) (Endpoint, error) {
	e := Endpoint{
		Version: r.cells[0], Path: r.cells[1], Delegated: permissions(r.cells[2]),
		Application: permissions(r.cells[3]), Mode: r.cells[4], Kind: r.cells[5],
		Class: r.cells[6], Source: r.cells[8], Note: r.cells[9], SameNameAppRole: r.cells[10],
	}
	depth, err := strconv.Atoi(r.cells[7])
	switch {
	case err != nil:
		return e, r.fail("id_depth %q is no number", r.cells[7])
	case depth != strings.Count(e.Path, "{id}"):
		return e, r.fail("id_depth %d does not agree with %s", depth, e.Path)
	case e.Version != "v1.0" && e.Version != "beta":
		return e, r.fail("unknown version %q", e.Version)
	case !strings.HasPrefix(e.Path, "/"):
		return e, r.fail("the path %q does not begin with a slash", e.Path)
	case !slices.Contains([]string{"collection", "collection?", "singleton", "singleton?"}, e.Kind):
		return e, r.fail("unknown kind %q", e.Kind)
	case e.Mode != mode(e):
		return e, r.fail("the mode %q does not agree with the permissions", e.Mode)
	}
	e.IDDepth = depth
	return e, nil
}

// mode derives the mode from the permissions.
func mode(e Endpoint) string {
	switch {
	case e.Delegated != nil && e.Application != nil:
		return ModeBoth
	case e.Delegated != nil:
		return ModeDelegatedOnly
	default:
		return ModeAppOnly
	}
}

// permissions reads a cell: `-` is none; `A (+B)` is A and B.
func permissions(cell string) []string {
	if cell == "-" {
		return nil
	}
	return strings.FieldsFunc(cell, func(r rune) bool { return strings.ContainsRune(" ,(+)", r) })
}
