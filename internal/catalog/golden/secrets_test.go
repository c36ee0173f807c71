package golden

import (
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

// checkSecrets reports properties in a tree whose name says that they are secret
// and whose value is text in clear: the entry has no rule for them.
func checkSecrets(t *testing.T, tree []byte) {
	t.Helper()
	for _, file := range txtar.Parse(tree).Files {
		if !strings.HasSuffix(file.Name, ".json") {
			continue
		}
		var document any
		if err := json.Unmarshal(file.Data, &document); err != nil {
			t.Errorf("%s: %v", file.Name, err)
			continue
		}
		for _, path := range secretsInClear(document, "") {
			t.Errorf("%s: %s is stored in clear: add it to the secrets of the entry", file.Name, path)
		}
	}
}

func secretsInClear(value any, path string) []string {
	var found []string
	switch value := value.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(value)) {
			text, isText := value[name].(string)
			if isText && text != "" && secretName.MatchString(name) && !strings.HasPrefix(text, "hmac-sha256:") {
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
