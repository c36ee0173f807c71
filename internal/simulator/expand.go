package simulator

import "strings"

// expansion is one property of `$expand`, with what is expanded within it.
type expansion struct {
	name   string
	nested []expansion
}

// parseExpand reads `a,b($expand=c,d;$select=e)`. Other options than `$expand` make
// no difference here.
// https://learn.microsoft.com/graph/query-parameters#expand-parameter
func parseExpand(text string) []expansion {
	var list []expansion
	for _, part := range splitTop(text, ',') {
		name, options, nested := strings.Cut(part, "(")
		e := expansion{name: strings.TrimSpace(name)}
		if e.name == "" {
			continue
		}
		if nested {
			for _, option := range splitTop(strings.TrimSuffix(options, ")"), ';') {
				if inner, ok := strings.CutPrefix(option, "$expand="); ok {
					e.nested = append(e.nested, parseExpand(inner)...)
				}
			}
		}
		list = append(list, e)
	}
	return list
}

// splitTop splits at separators that are not within parentheses.
func splitTop(text string, separator byte) []string {
	var parts []string
	depth, start := 0, 0
	for i := range len(text) {
		switch text[i] {
		case '(':
			depth++
		case ')':
			depth--
		case separator:
			if depth == 0 {
				parts = append(parts, text[start:i])
				start = i + 1
			}
		}
	}
	return append(parts, text[start:])
}

// expansion writes an expanded property: a list where its name is a plural.
func (w *writer) expansion(e *expansion, seed uint64, marker string) {
	selected := w.selected
	w.selected = nil // what is expanded need not be selected
	defer func() { w.selected = selected }()
	if !w.key(e.name) {
		return
	}
	if !strings.HasSuffix(e.name, "s") {
		w.related(e, seed, marker)
		return
	}
	w.out = append(w.out, '[')
	for i := range seed % 3 {
		if i > 0 {
			w.out = append(w.out, ',')
		}
		w.related(e, mix(seed+i), marker)
	}
	w.out = append(w.out, ']')
	w.begun = true
}

// related writes one expanded object.
func (w *writer) related(e *expansion, seed uint64, marker string) {
	w.out = append(w.out, '{')
	w.begun = false
	w.id("id", seed)
	w.text("displayName", "Related "+e.name)
	if strings.HasPrefix(e.name, "post") && w.key("authenticationConfiguration") { // an API connector
		w.out = append(w.out, `{"@odata.type":"#microsoft.graph.basicAuthentication","username":"api","password":`...)
		w.out = append(appendSecret(w.out, marker, "password", seed), '}')
	}
	for i := range e.nested {
		w.expansion(&e.nested[i], mix(seed+uint64(i)+7), marker)
	}
	w.out = append(w.out, '}')
	w.begun = true
}
