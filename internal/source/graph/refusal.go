package graph

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// errRefusal says that an answer is an error, though its status says success.
var errRefusal = errors.New("the answer is an error with a status of success")

var (
	// errEmpty says that an object has nothing but annotations.
	errEmpty = fmt.Errorf("%w: there is nothing but annotations", errShape)
	// errNull says that there is no such object, as OData said it before it had 204.
	errNull = fmt.Errorf("%w: there is no object", errShape)
)

// errorWords are the properties, in lower case, of errors that are not wrapped: of
// Graph's, and of the services behind it and the proxies before it.
var errorWords = map[string]bool{
	"clientrequestid": true, "code": true, "correlationid": true, "date": true, "details": true, "exceptionmessage": true,
	"exceptiontype": true, "innererror": true, "innerexception": true, "message": true, "messagedetail": true,
	"requestid": true, "request-id": true, "stacktrace": true, "statuscode": true, "target": true, "timestamp": true,
}

// noObject says why an object that has no id is none, or returns nil: it is an error,
// whatever its status says, a list, or a shell with nothing in it. A backup must not
// change to one of those. https://learn.microsoft.com/graph/errors
func noObject(object []byte) error {
	var refused, coded, worded, content, annotated, shell, null bool
	r := newReader(object)
	_, err := r.object(func(quoted []byte) error {
		name := string(quoted)
		v, err := r.value()
		if err != nil {
			return err
		}
		word := strings.ToLower(name)
		switch {
		case isErrorName(name):
			refused = refused || saysError(v)
			shell = true
		case isAnnotation(name):
			annotated = true
			null = null || name == "@odata.null" && string(v) == "true"
		case word == "value":
			kind := jsontext.Value(v).Kind()
			content = content || kind != 'n' && kind != '['
			shell = true
		case errorWords[word]:
			coded = coded || word == "code" || word == "message"
			worded = true
		default:
			content = true
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case refused, !content && coded:
		return errRefusal
	case content, worded:
		return nil
	case null:
		return errNull
	case annotated && !shell:
		return errEmpty
	default:
		return errShape
	}
}

// isErrorName says whether a property is one that has an error, as Graph, OData before
// 4.0 and others write it.
func isErrorName(name string) bool {
	name = strings.TrimPrefix(strings.TrimPrefix(name, "@"), "odata.")
	return strings.EqualFold(name, "error") || strings.EqualFold(name, "errors")
}

// saysError says whether the value of such a property is an error. Null and a list of
// none are not.
func saysError(v jsontext.Value) bool {
	return v.Kind() != 'n' && len(bytes.Trim(v, "[] \t\r\n")) > 0
}

// isAnnotation says whether a name is not that of a property of the object.
func isAnnotation(name string) bool {
	return strings.Contains(name, "@") || strings.HasPrefix(name, "odata.")
}

// noRefusal reads the value of an error beside a list.
func (r reader) noRefusal() error {
	v, err := r.value()
	if err == nil && saysError(v) {
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
