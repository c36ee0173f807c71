// Package coverage compares the catalog with what others read: the endpoints of
// EntraExporter and IntuneCD, the configurations of the reference product, and
// the configuration paths that Microsoft documents.
//
// In come the catalog and the facts; out goes the page docs/coverage.md. What the
// catalog reads is found by path. What it does not read, or reads in another
// place, is explained in coverage.yaml; a row without an explanation, and an
// explanation without a row, is an error. The package is apart from the catalog so
// that the facts are no part of the service.
package coverage

//go:generate go test -run ^TestPageIsCurrent$ -update .
