package graph

import (
	"errors"

	"github.com/go-json-experiment/json/jsontext"
)

// errRefusal says that an answer is an error, though its status says success.
var errRefusal = errors.New("the answer is an error with a status of success")

// isRefusal says whether the value of `error` is what Graph says in place of an
// answer. https://learn.microsoft.com/graph/errors
func isRefusal(v jsontext.Value) bool {
	if v.Kind() != '{' {
		return false
	}
	found := false
	r := loose(v)
	_, err := r.object(func(name []byte) error {
		found = found || string(name) == "code"
		return r.SkipValue()
	})
	return err == nil && found
}

// noRefusal reads the value of `error` beside a list, where only null says nothing.
func (r reader) noRefusal() error {
	v, err := r.value()
	if err == nil && jsontext.Value(v).Kind() != 'n' {
		return errRefusal
	}
	return err
}

// graphError is what an error answer says. It is compared and never shown.
type graphError struct{ code, message string }

// parseError reads an error answer as far as it can be read.
// https://learn.microsoft.com/graph/errors
func parseError(data []byte) graphError {
	var e graphError
	r := loose(data)
	// What is not an error object says nothing: the status speaks for itself.
	_, _ = r.object(func(name []byte) error {
		if string(name) != "error" || r.PeekKind() != '{' {
			return r.SkipValue()
		}
		_, err := r.object(func(name []byte) (err error) {
			switch string(name) {
			case "code":
				e.code, err = r.text(false)
			case "message":
				e.message, err = r.text(false)
			default:
				err = r.SkipValue()
			}
			return err
		})
		return err
	})
	return e
}
