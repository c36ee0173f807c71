package catalog

import (
	"net/http"
	"strings"
)

// DefaultVolatile returns the properties that are dropped from items of every
// type. Most speak of the answer, not of the configuration; the times of the last
// change are the reason that the package comment gives. `@odata.type` stays: it
// says what an item is.
func DefaultVolatile() []string {
	return []string{
		"**/@odata.context",
		"**/@odata.count",
		"**/@odata.editLink",
		"**/@odata.etag",
		"**/@odata.id",
		"**/@odata.metadataEtag",
		"**/@odata.nextLink",
		"**/@odata.readLink",
		"**/@microsoft.graph.tips",
		"**/lastModifiedDateTime",
		"**/modifiedDateTime",
	}
}

// IsAnnotation says whether a property of that name annotates another one, as
// `members@odata.nextLink` does: such speak of the answer and are dropped from items
// of every type. `@odata.type` stays here too.
// https://docs.oasis-open.org/odata/odata-json-format/v4.01/odata-json-format-v4.01.html#sec_AnnotateaJSONObject
func IsAnnotation[T ~string | ~[]byte](name T) bool {
	at := strings.Index(string(name), "@odata.")
	return at > 0 && string(name[at:]) != "@odata.type"
}

// AllVolatile returns the volatile properties of a type with those of every
// type. The caller owns the slice.
func (t *Type) AllVolatile() []string {
	return append(DefaultVolatile(), t.Volatile...)
}

// DefaultNotAvailable returns the answers to the first request of any type that
// say that the tenant does not have the feature. The source knows one more: 404
// and 501 on a singleton in beta.
func DefaultNotAvailable() []Answer {
	return []Answer{
		// Intune, where it was never set up.
		{Status: http.StatusBadRequest, Message: "Request not applicable to target tenant"},
		// Microsoft Entra ID without P1, P2 or Governance.
		{Code: "AadPremiumLicenseRequired"},
		{Code: "Authentication_RequestFromNonPremiumTenantOrB2CTenant"},
		{Code: "RequestFromNonPremiumTenantOrB2CTenant"},
		{Message: "tenant doesn't have premium license"},
		// SharePoint, where the tenant has none.
		{Status: http.StatusBadRequest, Message: "Tenant does not have a SPO license"},
	}
}

// globalGraph is Microsoft Graph of the global cloud, which has every path.
const globalGraph = "https://graph.microsoft.com"

// NotAvailableIn returns the answers of [DefaultNotAvailable], and those that say so in
// the cloud of a Microsoft Graph only, by its address.
func NotAvailableIn(graph string) []Answer {
	return append(DefaultNotAvailable(), UnknownPathIn(graph)...)
}

// UnknownPathIn returns the answers that say that the cloud of a Microsoft Graph, by its
// address, does not have a path; none in the global cloud, where they say that the path
// is wrong, or not the one any more.
// https://learn.microsoft.com/graph/deployments
func UnknownPathIn(graph string) []Answer {
	if strings.EqualFold(strings.TrimRight(graph, "/"), globalGraph) {
		return nil
	}
	return []Answer{{Status: http.StatusBadRequest, Message: "Resource not found for the segment"}}
}
