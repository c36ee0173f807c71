package catalog

import (
	"strings"
	"testing"
	"testing/fstest"
)

func TestDeltaMistakes(t *testing.T) {
	t.Parallel()
	const entry = `
- id: entra/things
  display_name: Things
  version: v1.0
  path: /things
  kind: collection
  user: [Thing.Read.All]
`
	for name, c := range map[string]struct{ more, want string }{
		"filter":      {"  filter: a eq 1\n  delta: {}\n", "cannot be used with filter"},
		"each":        {"  each: {ids: [a]}\n  delta: {}\n", "cannot be used with each"},
		"detail":      {"  detail: {}\n  delta: {}\n", "cannot be used with detail"},
		"identity":    {"  identity_property: name\n  delta: {}\n", "cannot be used with identity_property"},
		"no child":    {"  delta: {covers: [members]}\n", `no child "members"`},
		"other path":  {"  children: [{name: members, path: people, kind: collection}]\n  delta: {covers: [members]}\n", "must be the relation"},
		"conditional": {"  children: [{name: a, path: a, kind: collection, when: ['#microsoft.graph.x']}]\n  delta: {}\n", "cannot be used with the when"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := load(fstest.MapFS{"entra.yaml": {Data: []byte(entry + c.more)}})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}
