// Package golden shows, for every configuration type, what a tenant's answers
// become in the backup. It has no code but tests and their data.
//
// testdata/<workload>/<type>.json is the fixture of a type: what Microsoft Graph
// answers, in the shape of Microsoft's documentation, with data of our own. It is
// one object:
//
//   - answers: the body of the answer by version and path, `/v1.0/groups/{id}/owners`
//     with the ids in it and without the query, for every request that reading the
//     type makes. null answers 404. The directory id is that of [DirectoryID].
//   - later: the same for answers that differ when the same configuration is asked
//     for again: times, counters, versions, tags, sets in another order. They are
//     written from what the service does, not from the catalog's rules, because they
//     are the check of the rules.
//   - constant: why nothing changes by itself, when later is empty.
//   - shape: where the form of the answers is from, when Microsoft documents none.
//   - at_most_one: array rules, each with the reason why the list never has a second
//     element that could change places with the first.
//
// testdata/<workload>/<type>.golden is the folder of the type in the vault, as a
// txtar archive, its secrets as fingerprints by a fixed key. `go test -update`
// writes it; what it writes is to be read before it is committed.
//
// The test reads every type from its fixture with the real source, commits it to a
// real vault, and compares. It asks again, with what is later, with the properties
// of every object in another order and with every list backwards: there must be
// nothing to commit. And it holds the catalog's entry against the fixture:
//
//   - a rule must match something in the fixture: no misspelt rule goes unseen;
//   - without a rule for what is volatile or a set, the second sync must find a
//     change: no rule without a case that needs it;
//   - a property that is named like a secret must not be stored in clear.
package golden

// DirectoryID is the directory that the fixtures speak of: `{tenantId}` in paths.
const DirectoryID = "22222222-2222-4222-8222-222222222222"
