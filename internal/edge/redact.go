package edge

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// maxLogged is how much of the text of an unknown error is logged, in bytes.
const maxLogged = 1024

// secretLike finds queries of addresses, JSON web tokens, and words that are
// longer than a UUID, as tokens and keys are.
var secretLike = regexp.MustCompile(`\?[^\s"']+|eyJ[\w\-./+=]+|[A-Za-z0-9+=_.~\-]{40,}`)

// redacted is the text of an error as it may be logged. Errors of this service
// carry no secrets; this guards against one that a library put into its text.
func redacted(text string) string {
	return cut(secretLike.ReplaceAllString(strings.ToValidUTF8(text, "\uFFFD"), "[redacted]"), maxLogged)
}

// typesOf names the types of an error and of what it wraps, outermost first.
func typesOf(err error) string {
	var names []string
	for ; err != nil && len(names) < 16; err = errors.Unwrap(err) {
		names = append(names, fmt.Sprintf("%T", err))
	}
	return strings.Join(names, " > ")
}
