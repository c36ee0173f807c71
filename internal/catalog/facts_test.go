package catalog_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"understudy.internal/internal/catalog"
	"understudy.internal/internal/facts"
)

func load(t *testing.T) *catalog.Catalog {
	t.Helper()
	c, err := catalog.Load()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func endpoints(t *testing.T) []facts.Endpoint {
	t.Helper()
	all, err := facts.Endpoints()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// request is one request that an entry makes, as a path of Graph.
type request struct {
	path string
	kind catalog.Kind
}

// requests lists what an entry asks for: itself first, then the list that it is
// read for, the detail read and the children of every depth.
func requests(t *catalog.Type) []request {
	all := []request{{t.Path, t.Kind}}
	if t.Each != nil && t.Each.Path != "" {
		all = append(all, request{t.Each.Path, catalog.Collection})
	}
	if t.Detail != nil && t.Detail.Path != "" {
		all = append(all, request{t.Detail.Path, catalog.Singleton})
	}
	var walk func(base string, kind catalog.Kind, children []catalog.Child)
	walk = func(base string, kind catalog.Kind, children []catalog.Child) {
		if kind == catalog.Collection {
			base += "/{id}"
		}
		for _, child := range children {
			path := child.Path
			if !strings.HasPrefix(path, "/") {
				path = base + "/" + path
			}
			all = append(all, request{path, child.Kind})
			walk(path, child.Kind, child.Children)
		}
	}
	walk(t.Path, t.Kind, t.Children)
	return all
}

// lookup finds a path in the version of an entry, or in v1.0, whose permissions
// hold for beta too.
func lookup(index *facts.Index, version, path string) (facts.Endpoint, bool) {
	if e, ok := index.Lookup(version, path); ok || version == "v1.0" {
		return e, ok
	}
	return index.Lookup("v1.0", path)
}

// otherwise are permissions that Microsoft documents for a part of what a path answers,
// where the facts have one line for the path: by the entry, with the page that says so.
var otherwise = map[string]struct{ fact, documented, page string }{
	"entra/group-role-management-policies": {
		"RoleManagement", "RoleManagementPolicy.Read.AzureADGroup",
		"https://learn.microsoft.com/graph/api/policyroot-list-rolemanagementpolicyassignments#for-pim-for-groups",
	},
}

// documented returns the permissions of a request of an entry.
func documented(id string, permissions []string) []string {
	exception, ok := otherwise[id]
	all := slices.Clone(permissions)
	for i, name := range all {
		if ok && strings.HasPrefix(name, exception.fact) {
			all[i] = exception.documented
		}
	}
	return all
}

func TestEntriesAgreeWithFacts(t *testing.T) {
	t.Parallel()
	all := endpoints(t)
	index, used := facts.NewIndex(all), 0
	for _, entry := range load(t).Types() {
		application, delegated := newUnion(), newUnion()
		known := 0
		for i, r := range requests(entry) {
			fact, ok := lookup(index, entry.Version, r.path)
			if !ok {
				if i == 0 && !hasPathsBelow(all, r.path) {
					t.Errorf("%s: the facts have no %s %s", entry.ID, entry.Version, r.path)
				}
				continue
			}
			known++
			if fact.Kind != string(r.kind) && !strings.HasSuffix(fact.Kind, "?") {
				t.Errorf("%s: %s is a %s, the facts say %s", entry.ID, r.path, r.kind, fact.Kind)
			}
			if i == 0 && fact.Class != facts.ClassConfig {
				t.Errorf("%s: %s is not configuration but %s", entry.ID, r.path, fact.Class)
			}
			if i == 0 && entry.Version == "beta" && !strings.Contains(entry.Note, "Beta") && fact.Source != "permissions.json only" {
				t.Errorf("%s: is read in beta; the note must say why (begin with Beta)", entry.ID)
			}
			application.add(documented(entry.ID, fact.Application))
			delegated.add(documented(entry.ID, fact.Delegated))
		}
		if known == 0 {
			t.Errorf("%s: no path of it is known", entry.ID)
		}
		if diff := cmp.Diff(application.sorted(), entry.ServicePrincipal); diff != "" {
			t.Errorf("%s: service_principal (-facts +entry):\n%s", entry.ID, diff)
		}
		if diff := cmp.Diff(delegated.sorted(), entry.User); diff != "" {
			t.Errorf("%s: user (-facts +entry):\n%s", entry.ID, diff)
		}
		if exception, ok := otherwise[entry.ID]; ok && slices.Contains(entry.User, exception.documented) {
			used++
		}
	}
	if used != len(otherwise) {
		t.Errorf("%d of %d exceptions to the facts are used", used, len(otherwise))
	}
}

// TestProbesAgreeWithFacts: an entry is probed if, and only if, every request of it
// that Microsoft documents for users only has an application role of the same name,
// and no permission can write: one that can is not granted for a trial.
func TestProbesAgreeWithFacts(t *testing.T) {
	t.Parallel()
	index := facts.NewIndex(endpoints(t))
	probed := 0
	for _, entry := range load(t).Types() {
		var want []string
		if len(entry.ServicePrincipal) == 0 {
			want = probeOf(index, entry)
		}
		if diff := cmp.Diff(want, entry.Probe); diff != "" {
			t.Errorf("%s: probe (-facts +entry):\n%s", entry.ID, diff)
		}
		if len(entry.Probe) > 0 {
			probed++
		}
	}
	if probed < 15 {
		t.Errorf("%d entries are probed, want at least 15", probed)
	}
}

// probeOf returns the permissions with which the service principal may be able to
// read an entry, by the facts.
func probeOf(index *facts.Index, entry *catalog.Type) []string {
	needed := newUnion()
	for _, r := range requests(entry) {
		fact, ok := lookup(index, entry.Version, r.path)
		switch {
		case !ok:
		case fact.Mode != facts.ModeDelegatedOnly:
			needed.add(fact.Application)
		case fact.SameNameAppRole == "yes":
			needed.add(fact.Delegated)
		default:
			return nil
		}
	}
	permissions := needed.sorted()
	if slices.ContainsFunc(permissions, func(name string) bool { return strings.Contains(name, "Write") }) {
		return nil
	}
	return permissions
}

// union collects permissions; a request that the identity cannot make empties it
// for good.
type union struct {
	names   map[string]bool
	refused bool
}

func newUnion() *union { return &union{names: make(map[string]bool)} }

func (u *union) add(permissions []string) {
	u.refused = u.refused || len(permissions) == 0
	for _, permission := range permissions {
		u.names[permission] = true
	}
}

func (u *union) sorted() []string {
	if u.refused {
		return nil
	}
	return slices.Sorted(maps.Keys(u.names))
}

// hasPathsBelow says whether the facts have paths below the items of a list that
// they do not have itself.
func hasPathsBelow(all []facts.Endpoint, path string) bool {
	prefix := facts.Normalize(path) + "/{id}/"
	return slices.ContainsFunc(all, func(e facts.Endpoint) bool {
		return strings.HasPrefix(facts.Normalize(e.Path), prefix)
	})
}

func TestCounts(t *testing.T) {
	t.Parallel()
	total, userOnly, applicationOnly := 0, 0, 0
	for _, entry := range load(t).Types() {
		total++
		switch {
		case len(entry.ServicePrincipal) == 0:
			userOnly++
		case len(entry.User) == 0:
			applicationOnly++
		}
	}
	t.Logf("%d types, %d user-only, %d application-only", total, userOnly, applicationOnly)
	if total < 150 || userOnly < 15 || applicationOnly < 1 {
		t.Errorf("%d types, %d of them user-only, want at least 150 and 15", total, userOnly)
	}
}

// TestUserOnlyPathsAreCovered holds every top-level path that Microsoft
// documents for users only against the catalog.
func TestUserOnlyPathsAreCovered(t *testing.T) {
	t.Parallel()
	read := make(map[string]bool)
	for _, entry := range load(t).Types() {
		for _, r := range requests(entry) {
			read[facts.Normalize(strings.Replace(r.path, "/sites/root/", "/sites/{id}/", 1))] = true
		}
	}
	left := map[string]string{
		"/identity/conditionalaccess/vpnconnectivitycertificates/{id}/downloadbase64certificate": "the certificate again, in another encoding",
		"/identity/conditionalaccess/vpnconnectivitycertificates/{id}/downloadcertificate":       "the certificate again, in another encoding",
		"/directory/onpremisessynchronization/{id}/accounts":                                     "beta only, below a list that v1.0 has",
		"/sites/{id}/termstore/sets/{id}/terms/{id}/children":                                    "read as children of children",
		"/sites/{id}/termstore/sets/{id}/terms/{id}/relations":                                   "two requests for every term; those of the sets are read",
	}
	for _, e := range endpoints(t) {
		path := facts.Normalize(e.Path)
		if e.Class != facts.ClassConfig || e.Mode != facts.ModeDelegatedOnly {
			continue
		}
		_, excepted := left[path]
		if read[path] == excepted {
			t.Errorf("%s %s is user-only: read %t, excepted %t", e.Version, e.Path, read[path], excepted)
		}
		delete(left, path)
	}
	for path := range left {
		t.Errorf("%s is excepted and not in the facts", path)
	}
}
