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

// secretName matches names of properties that hold a secret, whatever the type.
var secretName = regexp.MustCompile(`(?i)(password|passphrase|secret|secretText|privateKey|sharedKey|pkcs12Value|accessToken|refreshToken|apiToken|bearerToken)$`)

// secretsOfTypes are secrets whose names say nothing: the property by the type of the
// object.
var secretsOfTypes = map[string]string{
	// https://learn.microsoft.com/graph/api/resources/intune-shared-devicemanagementconfigurationsecretsettingvalue
	"#microsoft.graph.deviceManagementConfigurationSecretSettingValue": "value",
	// The XML of a network has its key.
	// https://learn.microsoft.com/graph/api/resources/intune-deviceconfig-windows81wifiimportconfiguration
	"#microsoft.graph.windows81WifiImportConfiguration": "payload",
	// https://learn.microsoft.com/graph/api/resources/intune-rapolicy-windows10xwificonfiguration
	"#microsoft.graph.windows10XWifiConfiguration": "customXml",
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
			isSecret := secretName.MatchString(name) || secretsOfTypes[ofType] == name
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
