package vault

import (
	"bytes"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"understudy.internal/internal/catalog"
)

// document is what becomes of an item.
type document struct {
	// content is the item as it is stored: canonical.
	content []byte
	// hidden says how many secrets a fingerprint stands for in it.
	hidden int
	// secrets is a JSON object with the hidden values by JSON Pointer (RFC 6901) into
	// content, canonical; nil when there are none, or nobody asked for them.
	secrets []byte
	// payloads are the files that its payloads are.
	payloads []payloadFile
}

// payloadFile is a file out of an item.
type payloadFile struct {
	// suffix goes with the item's name without its ending: `.scriptContent.ps1`.
	suffix  string
	content []byte
}

// wanted says what of a document is asked for.
type wanted struct {
	payloads, secrets bool
	// stored are the fingerprints in the document that is stored now. A secret whose
	// fingerprint by an earlier key is among them keeps it.
	stored map[string]struct{}
}

// payloadRule is a compiled [catalog.PayloadRule].
type payloadRule struct {
	segments  []string
	when      []string
	extension string
	fileName  string
}

// pointedAt is a secret and where it is.
type pointedAt struct {
	pointer []byte
	node    int
}

// reveal returns the hidden values of a decoded document.
func (e *encoder) reveal(root int) []byte {
	found := e.hiddenBelow(nil, nil, root)
	slices.SortFunc(found, func(a, b pointedAt) int { return bytes.Compare(a.pointer, b.pointer) })
	e.revealing = true
	defer func() { e.revealing = false }()
	out := []byte{'{'}
	for i, secret := range found {
		if i > 0 {
			out = append(out, ',')
		}
		out = appendString(newLine(out, 1), string(secret.pointer))
		out = e.append(append(out, ':', ' '), secret.node, 1)
	}
	return append(newLine(out, 0), '}', '\n')
}

// hiddenBelow appends the secrets of a value. What is within a secret is part of it.
func (e *encoder) hiddenBelow(found []pointedAt, pointer []byte, value int) []pointedAt {
	n := e.nodes[value]
	if n.plain > 0 {
		return append(found, pointedAt{bytes.Clone(pointer), value})
	}
	for i, child := range e.members[n.first : n.first+n.count] {
		below := append(pointer, '/')
		if n.kind == '[' {
			below = strconv.AppendInt(below, int64(i), 10)
		} else {
			below = append(below, pointerEscapes.Replace(string(child.name))...)
		}
		found = e.hiddenBelow(found, below, child.node)
	}
	return found
}

// pointerEscapes are those of RFC 6901.
var pointerEscapes = strings.NewReplacer("~", "~0", "/", "~1")

// payloads returns the files that the payloads of a document are. Where a value is
// no text in base64, or hidden, there is none.
func (e *encoder) payloads(root int) []payloadFile {
	var files []payloadFile
	for i := range e.rules.payloads {
		rule := &e.rules.payloads[i]
		e.payloadsBelow(&files, rule, root, 0, "")
	}
	slices.SortFunc(files, func(a, b payloadFile) int { return strings.Compare(a.suffix, b.suffix) })
	return files
}

func (e *encoder) payloadsBelow(files *[]payloadFile, rule *payloadRule, value, depth int, name string) {
	segment, n := rule.segments[depth], e.nodes[value]
	separator := "-"
	if depth == 0 {
		separator = "."
	}
	if segment == catalog.AnyOne {
		for i, child := range e.members[n.first : n.first+n.count] {
			if n.kind == '[' {
				e.payloadsBelow(files, rule, child.node, depth+1, name+separator+strconv.Itoa(i))
			}
		}
		return
	}
	next, ok := e.find(value, []string{segment})
	switch {
	case !ok:
	case depth+1 < len(rule.segments):
		e.payloadsBelow(files, rule, next, depth+1, name+separator+segment)
	case rule.appliesTo(e.stringAt(value, odataType)):
		if content := decodePayload(e.string(next)); len(content) > 0 {
			suffix := name + separator + segment + "." + rule.extensionFor(e.stringAt(value, rule.fileName))
			*files = append(*files, payloadFile{suffix, content})
		}
	}
}

func (r *payloadRule) appliesTo(odataType string) bool {
	return len(r.when) == 0 || slices.Contains(r.when, odataType)
}

// extensionFor returns how a file's name ends. What the tenant calls the file says
// that only in words that are known.
func (r *payloadRule) extensionFor(fileName string) string {
	for _, known := range catalog.PayloadExtensions {
		if before := len(fileName) - len(known) - 1; before > 0 && strings.EqualFold(fileName[before:], "."+known) {
			return known
		}
	}
	return r.extension
}

// decodePayload decodes base64, in either alphabet; nil if it is none.
func decodePayload(text string) []byte {
	for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
		if content, err := encoding.DecodeString(text); err == nil {
			return content
		}
	}
	return nil
}

// stringAt returns the text of a property of an object; empty if it has no such text.
func (e *encoder) stringAt(value int, name string) string {
	if next, ok := e.find(value, []string{name}); ok && name != "" {
		return e.string(next)
	}
	return ""
}

// string returns the text that a node is; empty if it is none, or hides one.
func (e *encoder) string(value int) string {
	n := e.nodes[value]
	if n.kind != '"' || n.plain > 0 {
		return ""
	}
	text, err := jsontext.AppendUnquote(nil, n.raw)
	if err != nil {
		return "" // it was read as a string before
	}
	return string(text)
}
