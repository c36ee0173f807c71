package catalog

import understudyv1 "understudy.internal/gen/understudy/v1"

// Type is one configuration type: where it is read, by whom, with which
// permission, and how its answers become files. A Type is data; it is not
// changed after loading.
//
// Property paths (Volatile, Arrays, Secrets) are property names joined with
// slashes, from the root of an item: `settings/*/value`. `*` stands for every
// element of an array or every property of an object, `**` for any depth,
// including none: `**/version`.
type Type struct {
	// ID is `{workload}/{type}`, for example `entra/conditional-access-policies`.
	ID string `yaml:"id"`
	// DisplayName is what people see: `Entra ID > Conditional Access > Policies`.
	DisplayName string `yaml:"display_name"`
	// Version of the API: `v1.0` or `beta`.
	Version string `yaml:"version"`
	// Path after the version: `/identity/conditionalAccess/policies`. It may use
	// `{tenantId}` for the directory id.
	Path string `yaml:"path"`
	// Kind says whether Path answers a list (`value`) or one object.
	Kind Kind `yaml:"kind"`
	// Each reads the type once for every item of another list: Path or Filter then
	// has an `{id}`, as in `/sites/{id}/termStore/groups`.
	Each *Each `yaml:"each"`
	// Query is what to ask for.
	Query `yaml:",inline"`
	// TenantFilter is the part of Filter by which a tenant's configuration narrows
	// the type, see [Catalog.Narrow]; empty in the catalog itself.
	TenantFilter string `yaml:"-" json:"-"`
	// SinglePage says that the collection does not page: a nextLink is an error
	// and `$top` is not sent.
	SinglePage bool `yaml:"single_page"`
	// Detail reads each item of the list again on its own, for properties that
	// the list leaves out (script bodies).
	Detail *Detail `yaml:"detail"`
	// Children are requests for each item; their answers become properties.
	Children []Child `yaml:"children"`
	// Delta says that Graph has a delta function for the list.
	Delta *Delta `yaml:"delta"`
	// IdentityProperty names the stable id of an item; `id` when empty.
	IdentityProperty string `yaml:"identity_property"`
	// NameProperty names what people call the item; `displayName`, then `name`,
	// when empty.
	NameProperty string `yaml:"name_property"`
	// ServicePrincipal lists the least privileged application permissions. Empty:
	// the service principal cannot read the type.
	ServicePrincipal []string `yaml:"service_principal"`
	// User lists the least privileged delegated permissions. Empty: the user
	// cannot read the type.
	User []string `yaml:"user"`
	// Probe lists the application permissions of a type that Microsoft documents for
	// users only although application roles of these names exist: with them the
	// service principal may be able to read it, which a sync finds out. Empty: not
	// probed.
	Probe []string `yaml:"probe"`
	// Gate names the limit that requests of the type share within a tenant;
	// the workload when empty. Conditional Access has one of its own.
	Gate string `yaml:"gate"`
	// Volatile lists properties that change though nobody changed the
	// configuration; they are dropped.
	Volatile []string `yaml:"volatile"`
	// Arrays lists arrays whose order means nothing, with what to sort them by.
	Arrays []ArrayRule `yaml:"arrays"`
	// Secrets lists properties of which only a keyed fingerprint is stored.
	Secrets []SecretRule `yaml:"secrets"`
	// Payloads lists properties that hold a file in base64.
	Payloads []PayloadRule `yaml:"payloads"`
	// NotAvailable lists answers that say that the tenant does not have the
	// feature, beside those that hold for every type.
	NotAvailable []Answer `yaml:"not_available"`
	// Note says what a reader of the entry should know: why beta, which
	// documentation it follows.
	Note string `yaml:"note"`
}

// Kind says what a path answers.
type Kind string

// The kinds.
const (
	Collection Kind = "collection"
	Singleton  Kind = "singleton"
)

// Query is what a request asks for.
type Query struct {
	// Select, Expand and Filter are the OData options without their `$` names,
	// not yet escaped.
	Select string `yaml:"select"`
	Expand string `yaml:"expand"`
	Filter string `yaml:"filter"`
	// Top is the page size to ask for; none when 0.
	Top int `yaml:"top"`
	// Headers are sent with every page, for example `ConsistencyLevel: eventual`.
	Headers map[string]string `yaml:"headers"`
}

// Each is the list whose items a type is read for.
type Each struct {
	// Path of the list, in the type's version. Empty when IDs is set.
	Path  string `yaml:"path"`
	Query `yaml:",inline"`
	// IDs are fixed ids instead of a list, for example the publishing types of
	// `/onPremisesPublishingProfiles/{id}`.
	IDs []string `yaml:"ids"`
}

// Detail is the request that reads an item on its own.
type Detail struct {
	// Path is the type's path and `/{id}` when empty.
	Path  string `yaml:"path"`
	Query `yaml:",inline"`
}

// Child is a request for each item.
type Child struct {
	// Name is the property of the item that the answer becomes.
	Name string `yaml:"name"`
	// Path is below the item (`assignments`), or absolute when it begins with a
	// slash, with `{id}` for the item's id.
	Path string `yaml:"path"`
	// Kind says whether the answer is a list, whose `value` is used, or an object.
	Kind  Kind `yaml:"kind"`
	Query `yaml:",inline"`
	// SinglePage says that the collection does not page.
	SinglePage bool `yaml:"single_page"`
	// When restricts the request to items with one of these `@odata.type`s.
	When []string `yaml:"when"`
	// Absent lists answers that mean that the item has no such child: the
	// property is left out and the item is complete.
	Absent []Answer `yaml:"absent"`
	// Regional says that national clouds may not have the path: there the answers of
	// [UnknownPathIn] mean that no item has the child. In the global cloud they say that
	// the path is wrong, and are a failure.
	Regional bool `yaml:"regional"`
	// Children are requests for each element of the answer.
	Children []Child `yaml:"children"`
}

// Answer matches an error answer. All fields that are set must match.
type Answer struct {
	// Status is the HTTP status.
	Status int `yaml:"status"`
	// Code is Graph's `error.code`, compared without case.
	Code string `yaml:"code"`
	// Message is a part of Graph's `error.message`, compared without case.
	Message string `yaml:"message"`
}

// ArrayRule says how to order an array whose order means nothing.
type ArrayRule struct {
	// Path of the array.
	Path string `yaml:"path"`
	// Key is the property (path) of an element to sort by. Empty: elements are
	// sorted by their canonical bytes.
	Key string `yaml:"key"`
}

// Workload is the part of the id before the slash.
func (t *Type) Workload() string {
	for i := range len(t.ID) {
		if t.ID[i] == '/' {
			return t.ID[:i]
		}
	}
	return t.ID
}

// Reader returns the identity that reads the type: the service principal if it
// can, else the user. What a probe learned of a tenant is not known here.
func (t *Type) Reader() understudyv1.Identity {
	if len(t.ServicePrincipal) > 0 {
		return understudyv1.Identity_IDENTITY_SERVICE_PRINCIPAL
	}
	return understudyv1.Identity_IDENTITY_USER
}

// GateName returns the name of the limit that the type's requests share.
func (t *Type) GateName() string {
	if t.Gate != "" {
		return t.Gate
	}
	return t.Workload()
}
