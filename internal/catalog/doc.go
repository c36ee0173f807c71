// Package catalog holds the configuration types as data: where each is read, by
// whom, with which permission, and how its answers become files.
//
// The entries are the YAML files in `types/`, one per workload. Adding a type is
// one entry in one of them; a test proves every entry against Microsoft's
// permission facts (package facts).
package catalog
