// Package coverage compares the catalog with what others read: the endpoints of
// EntraExporter and IntuneCD, the configurations of the reference product, and
// the configuration paths that Microsoft documents.
//
// In come the catalog and the facts; out goes the page docs/coverage.md. What the
// catalog reads is found by path, with the filters of a peer's request and of the
// types: a type that reads some objects does not cover a request for others. What
// the peers read and the catalog does not, or reads in another place, is explained in
// coverage.yaml; why a configuration path of Microsoft's is not read is said in
// unread.yaml, for many paths by one pattern. A row without an explanation, and an
// explanation without a row, is an error. The package is apart from the catalog so
// that the facts are no part of the service.
package coverage

//go:generate go test -run ^TestPageIsCurrent$ -update .
