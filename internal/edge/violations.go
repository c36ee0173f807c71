package edge

import (
	"strings"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
)

// describe says what to write instead of a value that breaks a rule. The library
// quotes the regular expression of a pattern; people get the form in words.
func describe(v *validate.Violation) string {
	message := v.GetMessage()
	if v.GetRuleId() != "string.pattern" {
		return message
	}
	switch elements := v.GetField().GetElements(); elements[len(elements)-1].GetFieldName() {
	case "parent", "name":
		const tenant = "where {tenant} has at most 63 lower-case letters, digits and hyphens, and begins and ends " +
			"with a letter or digit"
		switch {
		case strings.Contains(message, "/syncs/"):
			return "must have the form tenants/{tenant}/syncs/{sync}, " + tenant +
				", and {sync} is as the server assigned it; ListSyncs returns the names"
		case strings.Contains(message, "(-|"):
			return "must have the form tenants/{tenant}, " + tenant + ", or be tenants/- for all tenants"
		default:
			return "must have the form tenants/{tenant}, " + tenant
		}
	case "configuration_types":
		return "must be the id of a configuration type such as entra/conditional-access-policies, " +
			"all types of a workload such as entra/*, or *; ListConfigurationTypes returns the ids"
	case "accept_collapse":
		return "must be the id of a configuration type such as entra/conditional-access-policies, without wildcards; " +
			"ListConfigurationTypes returns the ids"
	default:
		return message
	}
}

// reasonOf turns the id of a rule, `string.min_len`, into the form that
// BadRequest wants, `STRING_MIN_LEN`.
func reasonOf(rule string) string {
	return strings.ToUpper(strings.ReplaceAll(rule, ".", "_"))
}
