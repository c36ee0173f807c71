package facts

import (
	_ "embed" // for the tables
	"strconv"
)

//go:embed aadsts.tsv
var signInCodeTable string

//go:embed reference-configurations.tsv
var referenceTable string

//go:embed peer-endpoints.tsv
var peerTable string

// SignInCode is one AADSTS code of Microsoft Entra ID.
type SignInCode struct {
	// Code is the number behind `AADSTS`; for failures without one it is what the
	// answer shows instead, for example `HTTP 429`.
	Code string
	// OfficialName is Microsoft's name, or says that there is none.
	OfficialName string
	// Meaning is what the code says, in one sentence.
	Meaning string
	// ReasonClass is the class of the failure: `user.mfa_required`.
	ReasonClass string
	// Retryable says whether the same request can succeed later.
	Retryable bool
	// RetryHint says how to try again, or is empty.
	RetryHint string
	// WhoFixes says who can mend it.
	WhoFixes string
	// SourceURL says where the facts are from.
	SourceURL string
}

// Number returns the number behind `AADSTS`, or false where there is none.
func (c SignInCode) Number() (int, bool) {
	number, err := strconv.Atoi(c.Code)
	return number, err == nil
}

// SignInCodes returns the AADSTS codes. An error is a [*TableError].
func SignInCodes() ([]SignInCode, error) {
	rows, err := parse("aadsts.tsv", signInCodeTable, "code", "official_name", "meaning",
		"reason_class", "retryable", "retry_hint", "who_fixes", "source_url")
	if err != nil {
		return nil, err
	}
	return each(rows, func(r row) (SignInCode, error) {
		if r.cells[4] != "yes" && r.cells[4] != "no" {
			return SignInCode{}, r.fail("retryable is %q, want yes or no", r.cells[4])
		}
		return SignInCode{
			Code: r.cells[0], OfficialName: r.cells[1], Meaning: r.cells[2], ReasonClass: r.cells[3],
			Retryable: r.cells[4] == "yes", RetryHint: r.cells[5], WhoFixes: r.cells[6],
			SourceURL: r.cells[7],
		}, nil
	})
}

// ReferenceConfiguration is one configuration that the reference product backs
// up.
type ReferenceConfiguration struct {
	// Workload and Configuration are the product's names.
	Workload, Configuration string
	// User says that the product reads it with the user, else with the service
	// principal.
	User bool
	// Namespace says which API it is read from, for example
	// `MSGraph:Policies:AuthorizationPolicy`.
	Namespace string
	// Create, Update and Delete say whether it can be restored: `yes`, `no`,
	// `partial`.
	Create, Update, Delete string
}

// ReferenceConfigurations returns the configurations of the reference product.
// An error is a [*TableError].
func ReferenceConfigurations() ([]ReferenceConfiguration, error) {
	rows, err := parse("reference-configurations.tsv", referenceTable, "workload",
		"configuration", "auth", "namespace", "create", "update", "delete")
	if err != nil {
		return nil, err
	}
	return each(rows, func(r row) (ReferenceConfiguration, error) {
		if r.cells[2] != "sp" && r.cells[2] != "user" {
			return ReferenceConfiguration{}, r.fail("auth is %q, want sp or user", r.cells[2])
		}
		return ReferenceConfiguration{
			Workload: r.cells[0], Configuration: r.cells[1], User: r.cells[2] == "user",
			Namespace: r.cells[3], Create: r.cells[4], Update: r.cells[5], Delete: r.cells[6],
		}, nil
	})
}

// PeerEndpoint is one request that a peer makes.
type PeerEndpoint struct {
	// Peer is `EntraExporter` or `IntuneCD`.
	Peer string
	// Workload and Name are what the peer calls it.
	Workload, Name string
	// Version is `v1.0` or `beta` for Microsoft Graph, `arm` for Azure Resource
	// Manager, `portal` for the APIs of the Entra portal.
	Version string
	// Path is as the peer spells it, without a slash before it.
	Path string
	// Query is the peer's query, and ChildRequests what it asks for per item, in
	// words.
	Query, ChildRequests string
	// Delegated and Application are the permissions that the peer asks for, in
	// words.
	Delegated, Application string
	// InDefaultRun says whether the peer reads it without being told to.
	InDefaultRun bool
}

// Graph says whether the request goes to Microsoft Graph.
func (p PeerEndpoint) Graph() bool { return p.Version == "v1.0" || p.Version == "beta" }

// PeerEndpoints returns the requests of the peers. An error is a [*TableError].
func PeerEndpoints() ([]PeerEndpoint, error) {
	rows, err := parse("peer-endpoints.tsv", peerTable, "peer", "workload", "name",
		"api_version", "path", "query_or_expand", "child_requests", "delegated_permission",
		"application_permission", "in_default_run")
	if err != nil {
		return nil, err
	}
	return each(rows, func(r row) (PeerEndpoint, error) {
		return PeerEndpoint{
			Peer: r.cells[0], Workload: r.cells[1], Name: r.cells[2], Version: r.cells[3],
			Path: r.cells[4], Query: r.cells[5], ChildRequests: r.cells[6],
			Delegated: r.cells[7], Application: r.cells[8], InDefaultRun: r.cells[9] == "yes",
		}, nil
	})
}
