package catalog

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Wildcards of a property path.
const (
	// AnyOne stands for every element of an array or every property of an object.
	AnyOne = "*"
	// AnyDepth stands for any number of levels, including none.
	AnyDepth = "**"
)

// maxPropertyPath bounds a path; Graph nests no deeper than a few levels.
const maxPropertyPath = 16

// PropertyPathError says why a property path is not one.
type PropertyPathError struct {
	// Path is the text, Detail what is wrong with it.
	Path, Detail string
}

// Error implements error.
func (e *PropertyPathError) Error() string {
	return fmt.Sprintf("the property path %q %s", e.Path, e.Detail)
}

// ParsePropertyPath splits a property path, as in [Type.Volatile], into its
// segments: property names, [AnyOne] and [AnyDepth]. It fails with a
// [*PropertyPathError].
//
// A path has 1 to 16 segments. A name is not empty and holds no slash, asterisk,
// space or control character. [AnyDepth] is not the last segment and not beside
// another one: neither would say more than the path without it.
func ParsePropertyPath(text string) ([]string, error) {
	fail := func(detail string) ([]string, error) {
		return nil, &PropertyPathError{Path: text, Detail: detail}
	}
	if !utf8.ValidString(text) {
		return fail("is not UTF-8")
	}
	segments := strings.Split(text, "/")
	if len(segments) > maxPropertyPath {
		return fail("has more than 16 segments")
	}
	for i, segment := range segments {
		switch {
		case segment == "":
			return fail("has an empty segment: write names joined with single slashes, none at the ends")
		case segment == AnyOne:
		case segment == AnyDepth && i == len(segments)-1:
			return fail("ends with **: name the property")
		case segment == AnyDepth && segments[i+1] == AnyDepth:
			return fail("repeats **: one is enough")
		case segment == AnyDepth:
		case strings.Contains(segment, "*"):
			return fail("has an asterisk within a name: * and ** stand alone")
		case slices.ContainsFunc([]rune(segment), notInName):
			return fail("has a space or a control character in a name")
		}
	}
	return segments, nil
}

func notInName(r rune) bool { return !unicode.IsGraphic(r) || unicode.IsSpace(r) }
