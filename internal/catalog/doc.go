// Package catalog holds the configuration types as data: where each is read, by
// whom, with which permission, and how its answers become files.
//
// In come the YAML files in `types/`, one per workload and embedded; out go
// [Type] values, which nobody changes, and the printed forms of `understudy
// catalog`. Adding a type is one entry in one file (see
// docs/adding-a-configuration-type.md); a test proves every entry against
// Microsoft's permission data (package facts).
//
// # The rules of the entries
//
// Version. v1.0, unless it lacks the type or leaves out objects or properties
// that a backup needs: then beta, with a note that says so.
//
// Permissions. The least privileged ones that Microsoft documents for the path
// and all its children, no more. A child that would lift a type from reading to
// a write permission is not a child: it is a type of its own, so that whoever
// does not grant the permission loses only that part.
//
// Children. Collections of directory objects (members, owners) are requests of
// their own, with `$select` of id and name: `$expand` gives at most 20 of them
// and no nextLink. Where a link can be read from both ends it is read from the
// one that needs less: which applications a token policy applies to is read from
// the policy, what a principal is assigned from the resource. Results, reports
// and summaries are no children.
//
// What is dropped. Git says when something changed, so that a property may only
// be kept if it changes with the configuration and not without it. Dropped are
// counters, heartbeats, synchronization times and states, the times of the last
// change, and the `version` of Intune objects: the last two change when the
// service migrates or touches an object, and a commit without content is what
// makes people stop reading commits. Kept are createdDateTime, createdBy and
// lastModifiedBy, which change only by what somebody does, expiry dates, and
// versions that an administrator sets (terms and conditions).
//
// What is sorted. Arrays that are sets: the answers of all child lists by id, and
// the arrays that the entry names. An array that no rule names keeps its order.
//
// What is secret. Tokens, codes, passwords, private keys and references to
// encrypted values: of these the vault keeps a keyed fingerprint. Public
// certificates are not secret.
//
// What is a payload. Properties with a file in base64 that people write and read:
// scripts, profiles, policies. Images and what only programs read are none.
package catalog
