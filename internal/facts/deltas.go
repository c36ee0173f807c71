package facts

import (
	_ "embed" // for the table
	"strings"
)

//go:embed delta-functions.tsv
var deltaTable string

// DeltaFunction is a collection of tenant configuration that Microsoft documents a
// delta function of, for users and for applications.
type DeltaFunction struct {
	// Version is `v1.0` or `beta`, Path that of the collection.
	Version, Path string
	// Delegated and Application are the least privileged permissions.
	Delegated, Application string
	// Relations are the relations of an item whose changes the page says, or shows,
	// that a delta query reports. No other is: navigation properties are not tracked.
	// https://learn.microsoft.com/graph/delta-query-overview
	Relations []string
	// SourceURL says where the facts are from.
	SourceURL string
}

// DeltaFunctions returns the delta functions of tenant configuration. An error is
// a [*TableError].
func DeltaFunctions() ([]DeltaFunction, error) {
	rows, err := parse("delta-functions.tsv", deltaTable, "api_version", "path", "delegated_least",
		"application_least", "relations", "source_url")
	if err != nil {
		return nil, err
	}
	return each(rows, func(r row) (DeltaFunction, error) {
		f := DeltaFunction{
			Version: r.cells[0], Path: r.cells[1], Delegated: r.cells[2], Application: r.cells[3], SourceURL: r.cells[5],
		}
		if f.Delegated == "" || f.Application == "" {
			return DeltaFunction{}, r.fail("a permission is missing")
		}
		if r.cells[4] != "" {
			f.Relations = strings.Split(r.cells[4], ",")
		}
		return f, nil
	})
}
