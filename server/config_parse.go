package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// parse returns the only document of a file, or nil after a problem.
func (d *decoder) parse(content []byte) *yaml.Node {
	content = bytes.TrimPrefix(content, []byte("\xef\xbb\xbf"))
	if !d.isText(content) {
		return nil
	}
	if json.Valid(content) {
		content = surrogatePairs(content)
	}
	loader, err := yaml.NewLoader(bytes.NewReader(content))
	if err != nil {
		d.syntax(err)
		return nil
	}
	var document, another yaml.Node
	switch err := loader.Load(&document); {
	case errors.Is(err, io.EOF):
		d.at(place{1, 1}, "", "the file is empty. Write what docs/configuration.md describes, `tenants` at least.")
		return nil
	case err != nil:
		d.syntax(err)
		return nil
	}
	if err := loader.Load(&another); err == nil {
		d.at(place{another.Line, another.Column}, "", "a second document begins here. Write one, without `---` and `...` in it.")
		return nil
	} else if !errors.Is(err, io.EOF) {
		d.syntax(err)
		return nil
	}
	return document.Content[0]
}

var jsonEscape = regexp.MustCompile(`\\(?:u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})|.)`)

// surrogatePairs writes characters beyond 16 bits in the way of YAML: JSON writes
// them as two halves, which YAML does not know.
func surrogatePairs(content []byte) []byte {
	return jsonEscape.ReplaceAllFunc(content, func(escape []byte) []byte {
		if len(escape) == 2 {
			return escape
		}
		high, highErr := strconv.ParseUint(string(escape[2:6]), 16, 16)
		low, lowErr := strconv.ParseUint(string(escape[8:12]), 16, 16)
		if highErr != nil || lowErr != nil {
			return escape
		}
		return fmt.Appendf(nil, `\U%08X`, utf16.DecodeRune(rune(high), rune(low)))
	})
}

// isText looks for what the YAML library refuses without saying where.
func (d *decoder) isText(content []byte) bool {
	here := place{1, 1}
	for len(content) > 0 {
		r, size := utf8.DecodeRune(content)
		switch {
		case r == utf8.RuneError && size == 1:
			d.at(here, "", "this byte is not UTF-8. Save the file as UTF-8.")
			return false
		case r < ' ' && r != '\n' && r != '\r' && r != '\t', r == 0x7f, r == 0xfeff:
			d.at(here, "", "this is a control character. Remove it.")
			return false
		}
		here.column++
		if r == '\n' {
			here = place{here.line + 1, 1}
		}
		content = content[size:]
	}
	return true
}

// syntaxAdvice says what to write, by a part of what the YAML library was doing or
// says. The library's own text is not repeated: it quotes the file, in which a
// secret may stand in the wrong place.
var syntaxAdvice = []struct{ part, advice string }{
	{"scanning an alias", "a value cannot begin with `*`. Put it in quotes: `\"*\"`."},
	{"unknown anchor", "a value cannot begin with `*`. Put it in quotes: `\"*\"`."},
	{"scanning an anchor", "a value cannot begin with `&`. Put it in quotes."},
	{"scanning a tag", "a value cannot begin with `!`. Put it in quotes."},
	{"undefined tag", "a value cannot begin with `!`. Put it in quotes."},
	{"cannot start any token", "nothing can begin with this character. Put the value in quotes; indent with spaces, not with tabs."},
	{"mapping values are not allowed", "a colon cannot stand here. Put the value before it in quotes, or correct the indentation."},
	{"escape code", "this escape sequence is no character. Write the character itself."},
	{"unknown escape", "this is no escape sequence. Write `\\\\` for a backslash, or use single quotes."},
	{"scanning a quoted scalar", "a quote that opens is not closed. Write the closing quote."},
	{"parsing a flow sequence", "a list in brackets is not closed or lacks a comma. Write `,` or `]`."},
	{"parsing a flow mapping", "a section in braces is not closed or lacks a comma. Write `,` or `}`."},
	{"parsing a block", "the indentation does not fit. Begin every key of a section in the same column."},
	{"scanning a simple key", "a colon is missing. Write `key: value`."},
	{"depth", "this is nested too deeply. Write what docs/configuration.md describes."},
}

// syntax adds the problem that an error of the YAML library stands for.
func (d *decoder) syntax(err error) {
	var failed *yaml.LoadError
	if !errors.As(err, &failed) {
		d.at(place{1, 1}, "", "this is not YAML. Write what docs/configuration.md describes.")
		return
	}
	advice := "this is not YAML. Check the quotes, brackets and indentation here and in the line before."
	for _, known := range syntaxAdvice {
		if strings.Contains(failed.ContextMsg, known.part) || strings.Contains(failed.Message, known.part) {
			advice = known.advice
			break
		}
	}
	here := place{failed.Mark.Line, failed.Mark.Column}
	opened := strings.HasPrefix(failed.ContextMsg, "while scanning a") || strings.HasPrefix(failed.ContextMsg, "while parsing a flow")
	if opened && failed.ContextMark.Line > 0 {
		here = place{failed.ContextMark.Line, failed.ContextMark.Column} // where the value begins
	}
	d.at(place{max(here.line, 1), max(here.column, 1)}, "", "%s", advice)
}
