package catalog

import (
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// siblingForm is the form of the name of a property.
var siblingForm = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9]*$`)

// SecretRule says that of a property only a keyed fingerprint is stored. In a catalog
// file it is the path of the property alone, or `{property: …, when: […]}`.
type SecretRule struct {
	// Property is the path of the property.
	Property string `yaml:"property"`
	// When restricts the rule to properties of objects with one of these
	// `@odata.type`s, or that also have one of these properties, wherever they are
	// nested: where others have something that is no secret in a property of the same
	// name.
	When []string `yaml:"when"`
}

// UnmarshalYAML implements [yaml.Unmarshaler].
func (r *SecretRule) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind == yaml.ScalarNode {
		return node.Load(&r.Property)
	}
	type plain SecretRule // has no such method
	return node.Load((*plain)(r), yaml.WithKnownFields(), yaml.WithUniqueKeys())
}

func (p *problems) secrets(rules []SecretRule, volatile []string) {
	paths := make([]string, 0, len(rules))
	for _, rule := range rules {
		p.when(len(rule.When) > 0 && slices.ContainsFunc(volatile, func(path string) bool { return strings.HasSuffix(path, "@odata.type") }),
			"secrets: %s: @odata.type is dropped, by which the secret is known", rule.Property)
		paths = append(paths, rule.Property)
		for _, name := range rule.When {
			p.when(!odataTypeForm.MatchString(name) && !siblingForm.MatchString(name),
				"secrets: %s: when %q must be #microsoft.graph.…, or the name of a property", rule.Property, name)
		}
	}
	p.propertyPaths("secrets", paths)
}
