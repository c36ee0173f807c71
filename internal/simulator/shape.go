package simulator

import (
	"encoding/base64"
	"strconv"
	"strings"
)

// shape is what the documents of a path have in common.
type shape struct {
	// title and noun are for people: `Named locations`, `namedLocations`.
	title, noun              string
	idProperty, nameProperty string
	// scopeTags says that documents have Intune's scope tags.
	scopeTags bool
	// own are the properties that fields writes and a filter may ask for.
	own     []string
	secrets []string
	fields  func(w *writer, c *content)
}

// content is what the special properties of a document follow from.
type content struct {
	seed             uint64
	number           int
	view             *view
	marker, clientID string
	// groups names the tenant's groups, items is how many it begins with.
	groups uint64
	items  int
}

// group appends the id of a group of the tenant, which is another one for other seeds.
func (c *content) group(out []byte, seed uint64) []byte {
	return appendUUID(out, c.groups, int(mix(seed)%uint64(max(c.items, 1))))
}

func (s *shape) has(name string) bool { return contains(s.own, name) }

func newShape(n *node) *shape {
	name := strings.ToLower(n.name)
	s := &shape{title: title(n.name), noun: n.name, idProperty: "id", nameProperty: "displayName"}
	below, intune := strings.CutPrefix(n.pattern, "/deviceManagement")
	if !intune {
		_, intune = strings.CutPrefix(n.pattern, "/deviceAppManagement")
	}
	intune = intune && !strings.HasPrefix(below, "/virtualEndpoint") && !strings.HasPrefix(below, "/monitoring")
	s.scopeTags = intune && scopeTagged[name]
	if property, ok := idProperties[name]; ok {
		s.idProperty = property
	}
	for _, suffix := range []string{name, lastTwo(n.pattern)} {
		if property, ok := nameProperties[suffix]; ok {
			s.nameProperty = property
		}
	}
	s.secrets = secretProperties[name]
	s.own = ownProperties[name]
	if name != "assignments" || intune {
		s.fields = specialFields[name]
	}
	if contains(settingsCatalog, strings.ToLower(n.pattern)) {
		s.fields = settingFields
	}
	return s
}

// scopeTagged are the objects of Intune that have scope tags, in lower case.
// https://learn.microsoft.com/graph/api/resources/intune-graph-overview
var scopeTagged = map[string]bool{
	"androiddeviceownerenrollmentprofiles": true, "androidmanagedappprotections": true,
	"cloudcertificationauthority": true, "compliancepolicies": true, "configurationpolicies": true,
	"defaultmanagedappprotections": true, "deponboardingsettings": true, "devicecategories": true,
	"devicecompliancepolicies": true, "devicecompliancescripts": true, "deviceconfigurations": true,
	"devicecustomattributeshellscripts": true, "deviceenrollmentconfigurations": true, "devicehealthscripts": true,
	"devicemanagement": true, "devicemanagementscripts": true, "deviceshellscripts": true,
	"grouppolicyconfigurations": true, "hardwareconfigurations": true, "intents": true, "intunebrandingprofiles": true,
	"iosmanagedappprotections": true, "managedebooks": true, "mdmwindowsinformationprotectionpolicies": true,
	"microsofttunnelconfigurations": true, "microsofttunnelsites": true, "mobileappconfigurations": true,
	"mobileapps": true, "ndesconnectors": true, "notificationmessagetemplates": true, "resourceaccessprofiles": true,
	"roleassignments": true, "roledefinitions": true, "targetedmanagedappconfigurations": true,
	"termsandconditions": true, "vpptokens": true, "wdacsupplementalpolicies": true,
	"windowsautopilotdeploymentprofiles": true, "windowsdriverupdateprofiles": true,
	"windowsfeatureupdateprofiles": true, "windowsinformationprotectionpolicies": true,
	"windowsmanagedappprotections": true, "windowsqualityupdateprofiles": true, "zebrafotadeployments": true,
}

// lastTwo is the last two segments of a path, in lower case.
func lastTwo(pattern string) string {
	segments := strings.Split(strings.ToLower(pattern), "/")
	return strings.Join(segments[max(len(segments)-2, 0):], "/")
}

// title makes `namedLocations` into `Named locations`.
func title(name string) string {
	var b strings.Builder
	for i, r := range strings.TrimPrefix(name, "microsoft.graph.") {
		switch {
		case i == 0:
			b.WriteString(strings.ToUpper(string(r)))
		case r >= 'A' && r <= 'Z':
			b.WriteByte(' ')
			b.WriteString(strings.ToLower(string(r)))
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// The tables are by the last segment of the path, or the last two, in lower case.

// idProperties name the ids of what has no `id`.
var idProperties = map[string]string{
	"m365capabilities": "name", "partners": "tenantId", "tenants": "tenantId", "profilecardproperties": "directoryPropertyName", "profilesources": "sourceId",
}

// nameProperties name the names of what has no `displayName`.
var nameProperties = map[string]string{
	"connectorgroups": "name", "applicationproxy/connectors": "machineName", "{id}/agents": "machineName", "customsecurityattributedefinitions": "name",
	"deponboardingsettings": "tokenName", "certificateconnectordetails": "connectorName",
	"chromeosonboardingsettings": "ownerUserPrincipalName", "enterprisecodesigningcertificates": "subject",
	"compliancepolicies": "name", "configurationpolicies": "name", "exchangeconnectors": "serverName",
	"grouppolicyuploadeddefinitionfiles": "fileName", "sensitivetypes": "name", "sensitivitylabels": "name",
	"partners": "tenantId", "profilecardproperties": "directoryPropertyName", "rolemanagementpolicyassignments": "roleDefinitionId",
	"columns": "name", "contenttypes": "name", "externalpartnersettings": "partnerId", "grouplifecyclepolicies": "managedGroupTypes",
}

// secretProperties are secrets that Graph shows.
var secretProperties = map[string][]string{
	"androiddeviceownerenrollmentprofiles": {"tokenValue", "qrCodeContent", "wifiPassword"},
	"androidforworkenrollmentprofiles":     {"tokenValue", "qrCodeContent"},
	"vpptokens":                            {"token"},
	"sideloadingkeys":                      {"value"},
	"zebrafotaconnector":                   {"enrollmentToken"},
	"applepushnotificationcertificate":     {"certificate"},
	"symanteccodesigningcertificate":       {"content", "password"},
	"enterprisecodesigningcertificates":    {"content"},
	"identityproviders":                    {"clientSecret"},
	"userflowidentityproviders":            {"clientSecret"},
	"onpremisesconnections":                {"adDomainPassword"},
	"fraudprotectionproviders":             {"privateKey"},
	"webapplicationfirewallproviders":      {"apiToken", "clientSecret"},
}

var ownProperties = map[string][]string{
	"groups": {"isAssignableToRole"}, "serviceprincipals": {"appId"},
}

// specialFields write what makes well-known documents what they are.
var specialFields = map[string]func(w *writer, c *content){
	"assignments":                       assignmentFields,
	"devicemanagementscripts":           scriptFields,
	"deviceshellscripts":                scriptFields,
	"devicecustomattributeshellscripts": scriptFields,
	"devicehealthscripts":               remediationFields,
	"devicecompliancescripts":           remediationFields,
	"deviceconfigurations":              deviceConfigurationFields,
	"policies":                          policyFields,
	"groups":                            groupFields,
	"applications":                      applicationFields,
	"serviceprincipals":                 applicationFields,
	"apiconnectors":                     apiConnectorFields,
	"roleassignments":                   roleAssignmentFields,
	"roleassignmentschedules":           roleAssignmentFields,
	"roleeligibilityschedules":          roleAssignmentFields,
	"mobileapps":                        mobileAppFields,
	"keysets":                           keySetFields,
	"workforceintegrations":             workforceFields,
	"organization":                      organizationFields,
}

func assignmentFields(w *writer, c *content) {
	if w.key("target") {
		w.out = append(w.out, `{"@odata.type":"#microsoft.graph.groupAssignmentTarget","groupId":"`...)
		w.out = append(c.group(w.out, c.seed), `"}`...)
	}
}

// script is the base64 of a small script; a list leaves it out.
func (c *content) script(w *writer, name string) {
	if c.view.inList || !w.key(name) {
		return
	}
	text := "# simulated script " + strconv.FormatUint(c.seed, 16) + "\nexit 0\n"
	w.out = append(base64.StdEncoding.AppendEncode(append(w.out, '"'), []byte(text)), '"')
}

func scriptFields(w *writer, c *content) {
	w.text("fileName", "script.ps1")
	w.text("runAsAccount", "system")
	c.script(w, "scriptContent")
}

func remediationFields(w *writer, c *content) {
	w.text("publisher", "Contoso")
	w.integer("version", c.view.turn)
	c.script(w, "detectionScriptContent")
	c.script(w, "remediationScriptContent")
}

// deviceConfigurationTypes come in turn, so that every kind of child is there.
var deviceConfigurationTypes = []string{
	"windows10CustomConfiguration", "iosVpnConfiguration", "windows81WifiImportConfiguration", "windows10GeneralConfiguration", "iosScepCertificateProfile",
	"windowsWifiEnterpriseEAPConfiguration", "windowsDomainJoinConfiguration", "androidEnterpriseWiFiConfiguration",
	"macOSEnterpriseWiFiConfiguration", "macOSScepCertificateProfile", "iosEasEmailProfileConfiguration",
}

func deviceConfigurationFields(w *writer, c *content) {
	name := deviceConfigurationTypes[c.number%len(deviceConfigurationTypes)]
	w.text("@odata.type", "#microsoft.graph."+name)
	w.integer("version", c.view.turn)
	switch name {
	case "windows10CustomConfiguration":
		if w.key("omaSettings") {
			w.out = append(w.out, `[{"@odata.type":"#microsoft.graph.omaSettingString","displayName":"Setting",`...)
			w.out = append(w.out, `"omaUri":"./Device/Vendor/Simulated","value":"****","isEncrypted":true,"secretReferenceValueId":`...)
			w.out = append(appendSecret(w.out, c.marker, "reference", c.seed), `}]`...)
		}
	case "windows81WifiImportConfiguration":
		if !c.view.inList && w.key("payload") {
			w.out = append(w.out, '"')
			profile := "<WLANProfile><keyMaterial>" + " " + c.marker + "SECRET" + strconv.FormatUint(c.seed, 16) + "</keyMaterial></WLANProfile>"
			w.out = append(base64.StdEncoding.AppendEncode(w.out, []byte(profile)), '"')
		}
	case "windowsWifiEnterpriseEAPConfiguration":
		if w.key("preSharedKey") {
			w.out = appendSecret(w.out, c.marker, "preSharedKey", c.seed)
		}
	}
}

// settingsCatalog are the policies whose settings are instances of definitions. A
// secret one has its value in clear, or a token of the service, and is anywhere below.
var settingsCatalog = []string{
	"/devicemanagement/configurationpolicies/{id}/settings", "/devicemanagement/compliancepolicies/{id}/settings",
	"/deviceappmanagement/targetedmanagedappconfigurations/{id}/settings", "/devicemanagement/reusablepolicysettings",
}

func settingFields(w *writer, c *content) {
	if !w.key("settingInstance") {
		return
	}
	secret := func(n uint64) {
		w.out = append(w.out, `{"@odata.type":"#microsoft.graph.deviceManagementConfigurationSecretSettingValue","value":`...)
		w.out = append(appendSecret(w.out, c.marker, "setting", c.seed+n), `,"valueState":"`...)
		w.out = append(append(w.out, [...]string{"notEncrypted", "encryptedValueToken"}[n%2]...), `"}`...)
	}
	const simple = `{"@odata.type":"#microsoft.graph.deviceManagementConfigurationSimpleSettingInstance","settingDefinitionId":"simulated_`
	w.out = append(w.out, `{"@odata.type":"#microsoft.graph.deviceManagementConfigurationChoiceSettingInstance","settingDefinitionId":"simulated_`...)
	w.out = append(strconv.AppendInt(w.out, int64(c.number), 10), `","choiceSettingValue":{"value":"simulated_1","children":[`...)
	w.out = append(w.out, simple+`a","simpleSettingValue":`...)
	secret(0)
	w.out = append(w.out, `},{"@odata.type":"#microsoft.graph.deviceManagementConfigurationGroupSettingCollectionInstance","settingDefinitionId":"simulated_b",`...)
	w.out = append(w.out, `"groupSettingCollectionValue":[{"children":[`+simple+`c","simpleSettingValue":`...)
	secret(1)
	w.out = append(w.out, `},`+simple+`d","simpleSettingCollectionValue":[`...)
	secret(2)
	w.out = append(w.out, `]}]}]}]}}`...)
}

func policyFields(w *writer, c *content) {
	w.text("state", [...]string{"enabled", "disabled", "enabledForReportingButNotEnforced"}[c.seed%3])
	if w.key("conditions") {
		w.out = append(w.out, `{"users":{"includeUsers":["All"],"excludeUsers":[],"excludeGroups":["`...)
		w.out = append(c.group(w.out, c.seed), `"]},"clientAppTypes":["all"]}`...)
	}
	w.raw("grantControls", `{"operator":"OR","builtInControls":["mfa"]}`)
}

func groupFields(w *writer, c *content) {
	w.boolean("securityEnabled", true)
	w.boolean("mailEnabled", false)
	w.text("mailNickname", "group-"+strconv.FormatUint(c.seed, 16))
	w.raw("groupTypes", "[]")
	w.boolean("isAssignableToRole", assignableToRole(c.number))
}

// assignableToRole says which groups may hold roles.
func assignableToRole(number int) bool { return number%4 == 0 }

// someOfMany are the groups that have a team, and the applications that are published.
func someOfMany(number int) bool { return number%8 == 0 }

// The service principals of Windows remote desktop, which a catalog may look for.
var remoteDesktopApplications = [...]string{"a4a365df-50f1-4397-bc59-1a1564b8bb9c", "270efc09-cd0d-444b-a71f-39af4910ec45"}

func applicationFields(w *writer, c *content) {
	if c.number < len(remoteDesktopApplications) {
		w.text("appId", remoteDesktopApplications[c.number])
	} else {
		w.id("appId", c.seed+1)
	}
	w.text("signInAudience", "AzureADMyOrg")
	// Sets: the order says nothing.
	w.raw("tags", [...]string{`["alpha","beta"]`, `["beta","alpha"]`}[c.view.turn%2])
	if w.key("passwordCredentials") {
		w.out = append(appendUUID(append(w.out, `[{"keyId":"`...), mix(c.seed+2), 1), `","displayName":"secret","hint":`...)
		w.out = append(appendSecret(w.out, c.marker, "hint", c.seed), `}]`...)
	}
}

func apiConnectorFields(w *writer, c *content) {
	if w.key("authenticationConfiguration") {
		w.out = append(w.out, `{"@odata.type":"#microsoft.graph.basicAuthentication","username":"api","password":`...)
		w.out = append(appendSecret(w.out, c.marker, "password", c.seed), '}')
	}
}

func roleAssignmentFields(w *writer, c *content) {
	w.id("roleDefinitionId", c.seed+3)
	if w.key("principalId") {
		w.out = append(c.group(append(w.out, '"'), c.seed+4), '"')
	}
	w.text("directoryScopeId", "/")
}

func mobileAppFields(w *writer, c *content) {
	w.text("@odata.type", "#microsoft.graph."+[...]string{"win32LobApp", "iosStoreApp", "webApp"}[c.number%3])
	w.text("publisher", "Contoso")
	w.raw("uploadState", strconv.FormatUint(c.view.turn%3, 10))
	if !c.view.inList {
		w.raw("largeIcon", `{"type":"image/png","value":"iVBORw0KGgo="}`)
	}
}

func keySetFields(w *writer, c *content) {
	if w.key("keys") {
		w.out = append(w.out, `[{"kty":"oct","use":"sig","k":`...)
		w.out = append(appendSecret(w.out, c.marker, "k", c.seed), `}]`...)
	}
}

func workforceFields(w *writer, c *content) {
	if w.key("encryption") {
		w.out = append(w.out, `{"protocol":"sharedSecret","secret":`...)
		w.out = append(appendSecret(w.out, c.marker, "secret", c.seed), '}')
	}
}

func organizationFields(w *writer, c *content) {
	w.text("tenantType", "AAD")
	if w.key("onPremisesLastSyncDateTime") {
		w.out = append(w.out, c.view.now...)
	}
	w.raw("verifiedDomains", `[{"name":"contoso.example","isDefault":true,"isInitial":true}]`)
}
