package catalog

import (
	"regexp"
	"slices"
	"strings"
)

// PayloadRule says that a property holds a file in base64: a script, a profile. The
// file is written beside the item too, byte for byte, so that people can read it and
// its changes. A value that is not base64, or of which only a fingerprint is stored,
// has no file.
type PayloadRule struct {
	// Property is the path of the property: names, and `*` for every element of an
	// array.
	Property string `yaml:"property"`
	// When restricts the rule to properties of objects with one of these
	// `@odata.type`s: where others have text in a property of the same name.
	When []string `yaml:"when"`
	// Extension is how the name of the file ends, one of [PayloadExtensions].
	Extension string `yaml:"extension"`
	// FileName is the property beside it that holds the name of the file in the
	// tenant. How that ends is used in place of Extension if it is one of
	// [PayloadExtensions]; the rest of it is not used at all.
	FileName string `yaml:"file_name"`
}

// PayloadExtensions are how names of plain files may end, sorted. `json` is not
// among them: in a backup it is the ending of items; JSON in a payload is `jsonc`.
var PayloadExtensions = []string{
	"adml", "admx", "bat", "bin", "cer", "cmd", "css", "ini", "jsonc", "mobileconfig", "pdf", "plist", "ps1", "psd1", "psm1", "py", "reg", "sh", "txt", "vbs", "xml", "zsh",
}

// maxPayloadName bounds the path of a payload, which is part of a file's name.
const maxPayloadName = 60

// payloadForm is that of a segment. Others could not be told apart in a file name.
var payloadForm = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9]*|\*)$`)

func (p *problems) payloads(rules []PayloadRule) {
	for i, rule := range rules {
		segments := strings.Split(rule.Property, "/")
		p.when(slices.ContainsFunc(segments, func(s string) bool { return !payloadForm.MatchString(s) }) || segments[len(segments)-1] == AnyOne,
			"payloads: the property %q must be names of letters and digits, and * for elements, joined with slashes; a name last", rule.Property)
		p.when(len(rule.Property) > maxPayloadName, "payloads: the property %q is longer than %d characters", rule.Property, maxPayloadName)
		p.when(slices.ContainsFunc(rules[:i], func(other PayloadRule) bool { return sameFile(rule, other) }),
			"payloads: %q would have the file of another rule: give each a when of its own", rule.Property)
		p.when(!slices.Contains(PayloadExtensions, rule.Extension), "payloads: %s: the extension %q must be one of %s",
			rule.Property, rule.Extension, strings.Join(PayloadExtensions, ", "))
		p.when(rule.FileName != "" && !nameForm.MatchString(rule.FileName), "payloads: %s: file_name %q is no property name", rule.Property, rule.FileName)
		for _, name := range rule.When {
			p.when(!odataTypeForm.MatchString(name), "payloads: %s: when %q must be #microsoft.graph.…", rule.Property, name)
		}
	}
}

// sameFile says whether two rules could give files of one name, also where case does
// not count.
func sameFile(a, b PayloadRule) bool {
	if !strings.EqualFold(strings.ReplaceAll(a.Property, "/", "-"), strings.ReplaceAll(b.Property, "/", "-")) {
		return false
	}
	return len(a.When) == 0 || len(b.When) == 0 ||
		slices.ContainsFunc(a.When, func(name string) bool { return slices.Contains(b.When, name) })
}
