package simulator

import (
	_ "embed" // for the table
	"strings"

	"understudy.internal/internal/facts"
)

// kind is what a path answers.
type kind uint8

const (
	// object is one object, or a path that only leads to others.
	object kind = iota
	// collection is a list.
	collection
	// item is one element of a collection.
	item
)

// access says which permissions a path needs, all of them. Nil: the identity
// cannot read it at all.
type access struct{ application, delegated []string }

// node is one path of Graph, in one version; an id is a wildcard.
type node struct {
	// name is the last segment, and pattern the whole path, `{id}` for ids.
	name, pattern string
	kind          kind
	literal       map[string]*node
	wild          *node
	documented    bool
	access        *access
	// below is the access of the first documented path below.
	below *access
	shape *shape
	// known are the ids of a collection that callers know beforehand; they stand
	// for the items.
	known []string
	// foreign says that items of another collection are found here too.
	foreign bool
	// unpaged says that the collection comes in one page.
	unpaged bool
	// optional says that an item may have no such object.
	optional bool
}

// addition is a path that Graph has and the facts do not, or know otherwise.
type addition struct {
	version, path string
	kind          kind
}

// additionTable has one path a line: version, path and kind, with tabs between them.
// Lines that begin with # are comments. The paths are from the reference of each
// resource; permissions are those of the path above.
//
//go:embed additions.tsv
var additionTable string

func additions() []addition {
	var list []addition
	for line := range strings.Lines(additionTable) {
		cells := strings.Split(strings.TrimSpace(line), "\t")
		if len(cells) != 3 || strings.HasPrefix(line, "#") {
			continue
		}
		k := object
		if cells[2] == "collection" {
			k = collection
		}
		list = append(list, addition{cells[0], cells[1], k})
	}
	return list
}

// What is special about some collections, by pattern in lower case.
var (
	foreignCollections = []string{"/agreements", "/applications", "/serviceprincipals", "/sites/{id}/termstore/sets"}
	unpagedCollections = []string{"/directoryroles", "/groups/{id}/grouplifecyclepolicies"}
	optionalObjects    = []string{
		"identitysynchronization", "federationconfiguration", "defaultiosenrollmentprofile", "defaultmacosenrollmentprofile",
		"microsofttunnelconfiguration", "planconfiguration", "taskconfiguration", "schema", "identitycertificate",
		"identitycertificateforclientauthentication", "rootcertificate", "rootcertificateforservervalidation",
		"rootcertificatesforservervalidation", "rootcertificateforclientvalidation",
		"secondaryidentitycertificateforclientauthentication", "secondaryrootcertificateforclientvalidation",
		"smimesigningcertificate", "smimeencryptioncertificate", "singlesignonextensionpkinitcertificate",
		"applicationsegments", "m365capabilities", "dataconnector", "year", "retentioneventtype",
	}
)

// newTree returns the paths of one version. Beta has those of v1.0 too.
func newTree(version string, endpoints []facts.Endpoint, directoryID string) *node {
	root := &node{}
	insert := func(e facts.Endpoint) {
		k := object
		if strings.HasPrefix(e.Kind, "collection") {
			k = collection
		}
		root.insert(e.Path, k, &access{application: e.Application, delegated: e.Delegated})
	}
	for _, source := range []string{"v1.0", version} {
		for _, e := range endpoints {
			if e.Version == source {
				insert(e)
			}
		}
		for _, a := range additions() {
			if a.version == source {
				root.insert(a.path, a.kind, nil)
			}
		}
	}
	// The terms of a term store are nested to any depth.
	if children := root.at("/sites/{id}/termstore/sets/{id}/children"); children != nil {
		if children.wild == nil {
			children.wild = &node{name: "{id}", pattern: children.pattern + "/{id}"}
		}
		children.wild.literal = map[string]*node{"children": children}
	}
	root.know("/organization", directoryID)
	root.know("/sites", "root")
	root.know("/onpremisespublishingprofiles", "applicationProxy", "authentication", "provisioning")
	root.addDeltas()
	root.finish(nil, map[*node]bool{})
	return root
}

// insert adds a path. Without access it is that of the path above.
func (n *node) insert(path string, k kind, a *access) {
	for segment := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		n = n.child(segment)
		if n.below == nil {
			n.below = a
		}
	}
	n.kind, n.documented = k, true
	if a != nil {
		n.access = a
	}
}

func (n *node) child(segment string) *node {
	if strings.HasPrefix(segment, "{") {
		if n.wild == nil {
			n.wild = &node{name: "{id}", pattern: n.pattern + "/{id}"}
		}
		return n.wild
	}
	key := segmentKey(segment)
	if n.literal == nil {
		n.literal = map[string]*node{}
	}
	if n.literal[key] == nil {
		n.literal[key] = &node{name: segment, pattern: n.pattern + "/" + segment}
	}
	return n.literal[key]
}

// segmentKey is a segment as the tree knows it: in lower case, and a function
// without its arguments.
func segmentKey(segment string) string {
	name, _, _ := strings.Cut(segment, "(")
	return strings.ToLower(name)
}

// at returns the node of a pattern in lower case, or nil.
func (n *node) at(pattern string) *node {
	for segment := range strings.SplitSeq(strings.Trim(pattern, "/"), "/") {
		next := n.wild
		if segment != "{id}" {
			next = n.literal[segment]
		}
		if n = next; n == nil {
			return nil
		}
	}
	return n
}

func (n *node) know(pattern string, ids ...string) {
	if found := n.at(pattern); found != nil {
		found.known = ids
	}
}

// finish fills in what follows from the neighbours of a node.
func (n *node) finish(above *access, done map[*node]bool) {
	if done[n] {
		return
	}
	done[n] = true
	if !n.documented {
		n.kind = object
		if n.wild != nil {
			n.kind = collection
		}
	}
	if n.access == nil && !n.documented && n.name != "{id}" {
		n.access = n.below
	}
	if n.access == nil {
		n.access = above
	}
	lower := strings.ToLower(n.pattern)
	n.foreign, n.unpaged = contains(foreignCollections, lower), contains(unpagedCollections, lower)
	n.optional = contains(optionalObjects, strings.ToLower(n.name))
	if n.shape == nil {
		n.shape = newShape(n)
	}
	if n.kind == collection {
		if n.wild == nil {
			n.wild = &node{name: "{id}", pattern: n.pattern + "/{id}"}
		}
		n.wild.kind, n.wild.documented, n.wild.shape, n.wild.known = item, true, n.shape, n.known
		if n.wild.access == nil {
			n.wild.access = n.access
		}
	}
	for _, child := range n.literal {
		child.finish(n.access, done)
	}
	if n.wild != nil {
		n.wild.finish(n.access, done)
	}
}

func contains(list []string, s string) bool {
	for _, e := range list {
		if e == s {
			return true
		}
	}
	return false
}
