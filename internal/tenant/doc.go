// Package tenant says what a tenant is to this service: which directory, which two
// identities with which secrets, and which repository.
//
// In: definitions that a configuration file was decoded into. Out: what is wrong
// with them, each with the key and what to write instead, and secrets that are read
// when they are used. It knows neither the file (package main does, with lines and
// columns) nor what becomes of a definition.
//
// The struct tags are the reference of the file: `yaml` is the key, `default` what
// holds when it is absent, `required` an example of what must be there, `path` that
// a relative path begins at the folder of the file.
package tenant
