package golden

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// secretName matches names of properties that hold a secret, whatever the type. The
// URL of what a service calls is one: it may hold the key that is needed for the call.
// https://learn.microsoft.com/entra/identity-platform/custom-extension-tokenissuancestart-configuration
var secretName = regexp.MustCompile(`(?i)(password|passphrase|secret|secretText|privateKey|sharedKey|pkcs12Value|accessToken|refreshToken|apiToken|bearerToken|serverToken|customXml` +
	`|connectionString|(primary|secondary|access|api|account|license|recovery|subscription)Key|(activation|access)Code|sas(Uri|Url|Token)|bearer` +
	`|(target|callback|trigger|webhook|hook)(Url|Uri))$`)

// keyInURL matches a URL with a key or a signature in it, whatever the name of its
// property.
var keyInURL = regexp.MustCompile(`(?i)://[^ ]*[?&](code|sig|key|token|secret|user_code|subscription-key)=[^&]`)

// secretsOfTypes are secrets whose names say nothing: the property by the type of the
// object.
var secretsOfTypes = map[string]string{
	// https://learn.microsoft.com/graph/api/resources/logicapptriggerendpointconfiguration
	"#microsoft.graph.logicAppTriggerEndpointConfiguration": "url",
	// What Intune encrypts since it can, and may have kept in clear before.
	// https://learn.microsoft.com/graph/api/resources/intune-deviceconfig-omasetting
	"#microsoft.graph.omaSettingString":    "value",
	"#microsoft.graph.omaSettingStringXml": "value",
	"#microsoft.graph.omaSettingBase64":    "value",
	// https://learn.microsoft.com/graph/api/resources/intune-shared-devicemanagementconfigurationsecretsettingvalue
	"#microsoft.graph.deviceManagementConfigurationSecretSettingValue": "value",
	// The XML of a network has its key.
	// https://learn.microsoft.com/graph/api/resources/intune-deviceconfig-windows81wifiimportconfiguration
	"#microsoft.graph.windows81WifiImportConfiguration": "payload",
}

// inClear is how secrets in fixtures begin that can be told by their type only. No
// file of a tree may have it, in base64 neither.
const inClear = "In clear: "

// checkSecrets reports properties in a tree whose name or type says that they are
// secret and whose value is text in clear: the entry has no rule for them.
func checkSecrets(t *testing.T, tree []byte) {
	t.Helper()
	for _, path := range treeInClear(t, tree) {
		t.Errorf("%s is stored in clear: add it to the secrets of the entry", path)
	}
}

// treeInClear returns what is in clear in a tree.
func treeInClear(t *testing.T, tree []byte) []string {
	t.Helper()
	var found []string
	for _, file := range txtar.Parse(tree).Files {
		if strings.Contains(string(file.Data), inClear) {
			found = append(found, file.Name+": a secret of the fixture")
		}
		if !strings.HasSuffix(file.Name, ".json") {
			continue
		}
		var document any
		if err := json.Unmarshal(file.Data, &document); err != nil {
			t.Errorf("%s: %v", file.Name, err)
			continue
		}
		for _, path := range secretsInClear(document, "") {
			found = append(found, file.Name+": "+path)
		}
	}
	return found
}

func secretsInClear(value any, path string) []string {
	var found []string
	switch value := value.(type) {
	case map[string]any:
		ofType, _ := value["@odata.type"].(string)
		for _, name := range slices.Sorted(maps.Keys(value)) {
			text, isText := value[name].(string)
			isSecret := secretName.MatchString(name) || secretsOfTypes[ofType] == name || keyInURL.MatchString(text) ||
				name == "value" && value["valueState"] != nil // a secret setting, whatever its type is called
			if isText && text != "" && isSecret && !strings.HasPrefix(text, "hmac-sha256:") {
				found = append(found, path+"/"+name)
			}
			if content, err := base64.StdEncoding.DecodeString(text); err == nil && strings.Contains(string(content), inClear) {
				found = append(found, path+"/"+name)
			}
			found = append(found, secretsInClear(value[name], path+"/"+name)...)
		}
	case []any:
		for i, element := range value {
			found = append(found, secretsInClear(element, fmt.Sprintf("%s/%d", path, i))...)
		}
	}
	return found
}

// TestSecretsAreFound: what is in clear is found by its name, by the type of its object,
// by a sibling, by a key in a URL; what is hidden or no secret is not.
func TestSecretsAreFound(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		document string
		want     []string
	}{
		"password":               {`{"a":[{"adminPassword":"x"}]}`, []string{"/a/0/adminPassword"}},
		"key of an account":      {`{"storage":{"primaryKey":"x","connectionString":"y"}}`, []string{"/storage/connectionString", "/storage/primaryKey"}},
		"hidden":                 {`{"adminPassword":"hmac-sha256:00"}`, nil},
		"target of an extension": {`{"endpointConfiguration":{"targetUrl":"https://h.example"}}`, []string{"/endpointConfiguration/targetUrl"}},
		"trigger of a Logic App": {`{"@odata.type":"#microsoft.graph.logicAppTriggerEndpointConfiguration","url":"https://l.example"}`, []string{"/url"}},
		"key of a function":      {`{"link":"https://f.example/api?x=1&code=k"}`, []string{"/link"}},
		"signature":              {`{"link":"https://l.example/run?sig=s"}`, []string{"/link"}},
		"no key":                 {`{"link":"https://l.example/run?sp=%2Frun&codes=1"}`, nil},
		"OMA-URI setting":        {`{"@odata.type":"#microsoft.graph.omaSettingString","value":"x"}`, []string{"/value"}},
		"OMA-URI number":         {`{"@odata.type":"#microsoft.graph.omaSettingInteger","value":1}`, nil},
		"secret setting":         {`{"@odata.type":"#microsoft.graph.somethingNew","value":"x","valueState":"notEncrypted"}`, []string{"/value"}},
		"other setting":          {`{"@odata.type":"#microsoft.graph.somethingNew","value":"x"}`, nil},
	} {
		var document any
		if err := json.Unmarshal([]byte(test.document), &document); err != nil {
			t.Fatal(err)
		}
		if got := secretsInClear(document, ""); !slices.Equal(got, test.want) {
			t.Errorf("%s: found %v, want %v", name, got, test.want)
		}
	}
}
