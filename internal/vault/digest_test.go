package vault

import (
	"errors"
	"testing"

	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
)

// TestDigest: what the backup does not tell apart has one digest, and nothing else.
func TestDigest(t *testing.T) {
	t.Parallel()
	v, err := Open(Config{Directory: t.TempDir(), FingerprintKey: []byte("a key of sixteen bytes")})
	if err != nil {
		t.Fatal(err)
	}
	configurationType := &catalog.Type{
		ID: "print/settings", Volatile: []string{"modified"}, Arrays: []catalog.ArrayRule{{Path: "set"}}, Secrets: []catalog.SecretRule{{Property: "key"}},
	}
	digest := func(id, name, json string) port.Digest {
		t.Helper()
		d, err := v.Digest(configurationType, port.Item{ID: id, DisplayName: name, JSON: []byte(json)})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	base := digest("1", "one", `{"a":1,"set":["x","y"],"modified":"now","key":"k"}`)
	for _, tt := range []struct {
		name, id, display, json string
		same                    bool
	}{
		{"spelling, order and volatile properties", "1", "one", `{ "key":"k", "modified":"then", "set":["y","x"], "\u0061":1 }`, true},
		{"another value", "1", "one", `{"a":2,"set":["x","y"],"key":"k"}`, false},
		{"a property less", "1", "one", `{"set":["x","y"],"key":"k"}`, false},
		{"another secret", "1", "one", `{"a":1,"set":["x","y"],"key":"l"}`, false},
		{"another id", "2", "one", `{"a":1,"set":["x","y"],"key":"k"}`, false},
		{"another name", "1", "two", `{"a":1,"set":["x","y"],"key":"k"}`, false},
		{"id and name that run together", "1o", "ne", `{"a":1,"set":["x","y"],"key":"k"}`, false},
	} {
		if got := digest(tt.id, tt.display, tt.json) == base; got != tt.same {
			t.Errorf("%s: same digest is %t, want %t", tt.name, got, tt.same)
		}
	}
	_, err = v.Digest(configurationType, port.Item{ID: "1", JSON: []byte(`{"a":1,"a":2}`)})
	if itemError := (*port.ItemError)(nil); !errors.As(err, &itemError) {
		t.Errorf("a duplicate name: %v, want an ItemError", err)
	}
}
