package catalog_test

import (
	"slices"
	"strings"
	"testing"

	"understudy.internal/internal/catalog"
	"understudy.internal/internal/facts"
)

func TestOrderAndUniqueness(t *testing.T) {
	t.Parallel()
	c := load(t)
	previous := ""
	for _, entry := range c.Types() {
		if entry.ID <= previous {
			t.Errorf("%s comes after %s", entry.ID, previous)
		}
		previous = entry.ID
		if got, ok := c.Get(entry.ID); !ok || got != entry {
			t.Errorf("Get(%q) = %v, %t", entry.ID, got, ok)
		}
	}
	if _, ok := c.Get("entra/nothing"); ok {
		t.Error("Get finds a type that is not there")
	}
	displayNames := make(map[string]string)
	for _, entry := range c.Types() {
		if other, ok := displayNames[entry.DisplayName]; ok {
			t.Errorf("%s and %s are both called %q", entry.ID, other, entry.DisplayName)
		}
		displayNames[entry.DisplayName] = entry.ID
	}
	if again := load(t).Version(); again != c.Version() || len(again) != 12 {
		t.Errorf("the version is %q, then %q", c.Version(), again)
	}
}

// walk visits the children of all depths with the path of their property.
func walk(children []catalog.Child, prefix string, visit func(property string, child catalog.Child)) {
	for _, child := range children {
		property := prefix + child.Name
		visit(property, child)
		if child.Kind == catalog.Collection {
			property += "/*"
		}
		walk(child.Children, property+"/", visit)
	}
}

// Graph does not promise an order of lists: without a rule, a diff would show one.
func TestChildListsAreSorted(t *testing.T) {
	t.Parallel()
	for _, entry := range load(t).Types() {
		walk(entry.Children, "", func(property string, child catalog.Child) {
			sorted := slices.ContainsFunc(entry.Arrays, func(rule catalog.ArrayRule) bool { return rule.Path == property })
			if child.Kind == catalog.Collection && !sorted {
				t.Errorf("%s: the list %s has no array rule", entry.ID, property)
			}
		})
	}
}

// https://learn.microsoft.com/graph/query-parameters#expand: at most 20 directory
// objects and no nextLink.
func TestDirectoryObjectsAreNotExpanded(t *testing.T) {
	t.Parallel()
	check := func(id, expand string) {
		for part := range strings.FieldsFuncSeq(strings.ToLower(expand), func(r rune) bool { return strings.ContainsRune(",()=$", r) }) {
			if slices.Contains([]string{"members", "owners", "memberof", "transitivemembers", "registeredowners", "appliesto", "sponsors", "principal", "principals"}, part) {
				t.Errorf("%s: $expand=%s gives at most 20 of %s", id, expand, part)
			}
		}
	}
	for _, entry := range load(t).Types() {
		check(entry.ID, entry.Expand)
		if entry.Detail != nil {
			check(entry.ID, entry.Detail.Expand)
		}
		walk(entry.Children, "", func(_ string, child catalog.Child) { check(entry.ID, child.Expand) })
	}
}

// A child that needs to write must not cost the whole type.
func TestChildrenDoNotRaiseATypeToWriting(t *testing.T) {
	t.Parallel()
	index := facts.NewIndex(endpoints(t))
	writes := func(permissions []string) bool {
		return slices.ContainsFunc(permissions, func(p string) bool { return strings.Contains(p, "ReadWrite") })
	}
	for _, entry := range load(t).Types() {
		own, ok := lookup(index, entry.Version, entry.Path)
		if !ok {
			continue
		}
		if writes(entry.ServicePrincipal) && !writes(own.Application) || writes(entry.User) && !writes(own.Delegated) {
			t.Errorf("%s: a child needs a write permission that the type does not: make it a type of its own", entry.ID)
		}
	}
}

// An item that was listed because of what one of its children has, has the child: to take
// it for absent would drop what is there.
func TestWhatAFilterAsksForIsThere(t *testing.T) {
	t.Parallel()
	found := 0
	for _, entry := range load(t).Types() {
		for _, child := range entry.Children {
			if !strings.HasPrefix(entry.Filter, child.Name+"/") {
				continue
			}
			found++
			if len(child.Absent) > 0 {
				t.Errorf("%s: %s is absent of no item, the filter says", entry.ID, child.Name)
			}
		}
	}
	if found == 0 {
		t.Error("no type is filtered by what a child has: the test tests nothing")
	}
}

// In the global cloud an unknown path is a mistake. Where a national cloud does not have
// it, regional says so.
func TestUnknownPathsAreAbsentInNationalCloudsOnly(t *testing.T) {
	t.Parallel()
	unknown := catalog.UnknownPathIn("https://graph.microsoft.us")
	for _, entry := range load(t).Types() {
		check := func(where string, answers []catalog.Answer) {
			for _, a := range answers {
				if slices.Contains(unknown, a) {
					t.Errorf("%s: %s: %q also holds in the global cloud", entry.ID, where, a.Message)
				}
			}
		}
		check("not_available", entry.NotAvailable)
		walk(entry.Children, "", func(path string, child catalog.Child) { check(path, child.Absent) })
	}
}

func TestGates(t *testing.T) {
	t.Parallel()
	for _, entry := range load(t).Types() {
		conditional := strings.HasPrefix(entry.Path, "/identity/conditionalAccess/")
		if conditional != (entry.GateName() == "conditional-access") {
			t.Errorf("%s: the gate of %s is %s", entry.ID, entry.Path, entry.GateName())
		}
		for _, prefix := range []string{"/groups", "/applications", "/servicePrincipals", "/directory/", "/domains", "/organization", "/directoryRoles"} {
			want := "directory"
			if entry.Path == "/groups/{id}/team" {
				want = "teams" // whose limit is a fifth of it
			}
			if strings.HasPrefix(entry.Path, prefix) && entry.GateName() != want {
				t.Errorf("%s: the gate of %s is %s", entry.ID, entry.Path, entry.GateName())
			}
		}
		if strings.HasPrefix(entry.ID, "intune/") && entry.GateName() != "intune" {
			t.Errorf("%s: the gate is %s", entry.ID, entry.GateName())
		}
	}
}

// Properties that must never be in a backup as they come.
func TestKnownSecretsAreMarked(t *testing.T) {
	t.Parallel()
	c := load(t)
	for id, secrets := range map[string][]string{
		"entra/applications":                              {"passwordCredentials/*/hint", "keyCredentials/*/key"},
		"entra/service-principals":                        {"passwordCredentials/*/hint"},
		"entra/identity-providers":                        {"clientSecret"},
		"entra/trust-framework-key-sets":                  {"keys/*/k", "keys/*/d", "keys_v2/*/k", "keys_v2/*/d"},
		"entra/fraud-protection-providers":                {"privateKey", "serverToken"},
		"entra/web-application-firewall-providers":        {"apiToken", "accessToken", "clientSecret", "clientToken"},
		"entra/access-package-assignment-policies":        {"customExtensionStageSettings/*/customExtension/endpointConfiguration/url", "customExtensionStageSettings/*/customExtension/endpointConfiguration/targetUrl"},
		"entra/access-package-catalogs":                   {"customWorkflowExtensions/*/endpointConfiguration/url", "customWorkflowExtensions/*/endpointConfiguration/targetUrl"},
		"entra/api-connectors":                            {"authenticationConfiguration/password", "targetUrl"},
		"entra/authentication-event-listeners":            {"handler/customExtension/endpointConfiguration/url", "handler/customExtension/endpointConfiguration/targetUrl"},
		"entra/authentication-events-flows":               {"*/customExtension/endpointConfiguration/url", "*/customExtension/endpointConfiguration/targetUrl"},
		"entra/b2c-user-flow-api-connectors":              {"*/authenticationConfiguration/password", "*/targetUrl"},
		"entra/b2x-user-flow-api-connectors":              {"*/authenticationConfiguration/password", "*/targetUrl"},
		"entra/custom-authentication-extensions":          {"endpointConfiguration/url", "endpointConfiguration/targetUrl"},
		"entra/lifecycle-workflow-custom-extensions":      {"endpointConfiguration/url", "endpointConfiguration/targetUrl"},
		"intune/device-configurations":                    {"omaSettings/*/secretReferenceValueId", "**/preSharedKey", "customXml"},
		"intune/resource-access-profiles":                 {"customXml"},
		"intune/apple-push-certificate":                   {"certificate"},
		"intune/vpp-tokens":                               {"token"},
		"intune/apple-enrollment-programs":                {"enrollmentProfiles/*/adminAccountPassword"},
		"intune/android-device-owner-enrollment-profiles": {"tokenValue", "qrCodeContent", "wifiPassword"},
		"intune/esim-activation-code-pools":               {"activationCodes/*/matchingIdentifier"},
		"intune/sideloading-keys":                         {"value"},
		"teams/workforce-integrations":                    {"encryption/secret", "url"},
		"global-secure-access/branches":                   {"deviceLinks/*/tunnelConfiguration/preSharedKey", "deviceLinks/*/tunnelConfiguration/zoneRedundancyPreSharedKey"},
		"windows-365/network-connections":                 {"adDomainPassword"},
	} {
		entry, ok := c.Get(id)
		if !ok {
			t.Errorf("%s is missing", id)
			continue
		}
		for _, secret := range secrets {
			if !slices.ContainsFunc(entry.Secrets, func(rule catalog.SecretRule) bool { return rule.Property == secret && len(rule.When) == 0 }) {
				t.Errorf("%s: %s is not marked as secret", id, secret)
			}
		}
	}
}

// Secrets by the type of the object that they are in. Every type of the Settings
// Catalog's has settings with passwords.
func TestSecretsOfSomeTypesAreMarked(t *testing.T) {
	t.Parallel()
	const setting = "#microsoft.graph.deviceManagementConfigurationSecretSettingValue"
	c := load(t)
	marked := func(entry *catalog.Type, property, when string) bool {
		return slices.ContainsFunc(entry.Secrets, func(rule catalog.SecretRule) bool {
			return rule.Property == property && slices.Contains(rule.When, when)
		})
	}
	for _, entry := range c.Types() {
		hasSettings := strings.Contains(entry.Select, "settingInstance") ||
			slices.ContainsFunc(entry.Arrays, func(rule catalog.ArrayRule) bool { return strings.HasPrefix(rule.Key, "settingInstance/") })
		if hasSettings && !marked(entry, "**/value", setting) {
			t.Errorf("%s: the secret settings are not marked", entry.ID)
		}
	}
	for _, rule := range []struct{ id, property, when string }{
		{"intune/configuration-policies", "**/value", setting},
		{"intune/device-configurations", "payload", "#microsoft.graph.windows81WifiImportConfiguration"},
		{"intune/device-configurations", "omaSettings/*/value", "#microsoft.graph.omaSettingString"},
		{"intune/device-configurations", "omaSettings/*/value", "#microsoft.graph.omaSettingStringXml"},
		{"intune/device-configurations", "omaSettings/*/value", "#microsoft.graph.omaSettingBase64"},
	} {
		if entry, ok := c.Get(rule.id); !ok || !marked(entry, rule.property, rule.when) {
			t.Errorf("%s: %s of %s is not marked as secret", rule.id, rule.property, rule.when)
		}
	}
}

// What list answers leave out needs a read of every item: script bodies, payloads.
func TestDetailReads(t *testing.T) {
	t.Parallel()
	c := load(t)
	for _, id := range []string{
		"intune/device-management-scripts", "intune/device-health-scripts", "intune/device-shell-scripts",
		"intune/custom-attribute-scripts", "intune/compliance-scripts", "intune/device-configurations",
		"intune/mobile-apps", "intune/role-assignments", "intune/policy-sets",
	} {
		if entry, ok := c.Get(id); !ok || entry.Detail == nil {
			t.Errorf("%s has no detail read", id)
		}
	}
}
