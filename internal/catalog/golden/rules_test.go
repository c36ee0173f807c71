package golden

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"testing"

	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
)

// checkRules reports rules of a type's entry that match nothing in what was read:
// the path is misspelt, or the fixture is not the whole resource.
func checkRules(t *testing.T, configurationType *catalog.Type, items []port.Item) {
	t.Helper()
	documents := documentsOf(t, items)
	somewhere := func(kind, path string, segments []string, fits func(any) bool) {
		t.Helper()
		for _, document := range documents {
			if matches(document, segments, fits) {
				return
			}
		}
		t.Errorf("%s: the rule %q of %s matches nothing in the fixture", kind, path, configurationType.ID)
	}
	check := func(kind, path string, fits func(any) bool) {
		t.Helper()
		somewhere(kind, path, segmentsOf(t, path), fits)
	}
	for _, path := range configurationType.Volatile {
		check("volatile", path, anything)
	}
	for _, rule := range configurationType.Secrets {
		if len(rule.When) == 0 {
			check("secrets", rule.Property, anything)
		}
		segments := segmentsOf(t, rule.Property)
		last := len(segments) - 1
		for _, name := range rule.When {
			somewhere("secrets, when "+name, rule.Property, segments[:last], func(value any) bool {
				object, _ := value.(map[string]any)
				return (object["@odata.type"] == name || object[name] != nil) && object[segments[last]] != nil
			})
		}
	}
	for _, rule := range configurationType.Arrays {
		check("arrays", rule.Path, hasKey(t, rule))
	}
	for _, rule := range configurationType.Payloads {
		check("payloads", rule.Property, isBase64)
		for _, name := range rule.When {
			check("payloads, when", "**/@odata.type", func(value any) bool { return value == name })
		}
	}
}

func documentsOf(t *testing.T, items []port.Item) []any {
	t.Helper()
	documents := make([]any, 0, len(items))
	for _, item := range items {
		var document any
		decoder := json.NewDecoder(bytes.NewReader(item.JSON))
		decoder.UseNumber()
		if err := decoder.Decode(&document); err != nil {
			t.Fatal(err)
		}
		documents = append(documents, document)
	}
	return documents
}

func segmentsOf(t *testing.T, path string) []string {
	t.Helper()
	segments, err := catalog.ParsePropertyPath(path)
	if err != nil {
		t.Fatal(err)
	}
	return segments
}

// isBase64 says whether a value is a file as a payload has it.
func isBase64(value any) bool {
	text, _ := value.(string)
	content, err := base64.StdEncoding.DecodeString(text)
	return err == nil && len(content) > 0
}

func anything(any) bool { return true }

// hasKey returns whether a value is an array, not empty, whose elements have the
// key of a rule.
func hasKey(t *testing.T, rule catalog.ArrayRule) func(any) bool {
	t.Helper()
	var key []string
	if rule.Key != "" {
		key = segmentsOf(t, rule.Key)
	}
	return func(value any) bool {
		array, ok := value.([]any)
		if !ok || len(array) == 0 {
			return false
		}
		for _, element := range array {
			if key != nil && !matches(element, key, anything) {
				return false
			}
		}
		return true
	}
}

// matches says whether a path leads to a value that fits.
func matches(value any, segments []string, fits func(any) bool) bool {
	if len(segments) == 0 {
		return fits(value)
	}
	segment, rest := segments[0], segments[1:]
	if segment == catalog.AnyDepth && matches(value, rest, fits) {
		return true
	}
	below := func(next any) bool {
		if segment == catalog.AnyDepth {
			return matches(next, segments, fits)
		}
		return matches(next, rest, fits)
	}
	switch value := value.(type) {
	case map[string]any:
		if segment != catalog.AnyOne && segment != catalog.AnyDepth {
			next, ok := value[segment]
			return ok && below(next)
		}
		for _, next := range value {
			if below(next) {
				return true
			}
		}
	case []any:
		if segment != catalog.AnyOne && segment != catalog.AnyDepth {
			return false
		}
		for _, next := range value {
			if below(next) {
				return true
			}
		}
	}
	return false
}
