package edge

import (
	"fmt"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/status"
)

// invalidError says which fields of a request are wrong, and what to write
// instead.
type invalidError struct {
	violations []*errdetails.BadRequest_FieldViolation
}

// Error implements error.
func (e *invalidError) Error() string {
	parts := make([]string, 0, len(e.violations))
	for _, v := range e.violations {
		if v.GetField() == "" {
			parts = append(parts, v.GetDescription())
		} else {
			parts = append(parts, v.GetField()+": "+v.GetDescription())
		}
	}
	return strings.Join(parts, "; ")
}

// invalidField returns an [*invalidError] about one field.
func invalidField(field, description string) *invalidError {
	return &invalidError{violations: []*errdetails.BadRequest_FieldViolation{{Field: field, Description: description}}}
}

// unknownTypeError says that a field names a configuration type that does not
// exist.
type unknownTypeError struct{ field, id string }

// Error implements error.
func (e *unknownTypeError) Error() string { return e.field + ": " + e.id + " does not exist" }

// drainingError says that the server is about to stop.
type drainingError struct{}

// Error implements error.
func (*drainingError) Error() string { return "the server is draining" }

// receiveError is the status with which gRPC refused a request.
type receiveError struct{ status *status.Status }

// Error implements error.
func (e *receiveError) Error() string { return e.status.Message() }

// lostError says that the connection to the client was lost.
type lostError struct{}

// Error implements error.
func (*lostError) Error() string { return "the connection to the client was lost" }

// slowReaderError says that a client reads a stream too slowly.
type slowReaderError struct{ last int64 }

// Error implements error.
func (e *slowReaderError) Error() string {
	return fmt.Sprintf("the client reads too slowly; resume after %d", e.last)
}

// slowCallError says that the server's own bound for a call was reached.
type slowCallError struct{ bound time.Duration }

// Error implements error.
func (e *slowCallError) Error() string { return fmt.Sprintf("no answer within %s", e.bound) }

// gapError says that the journal gave an event out of order. It is a bug; the
// stream ends before the client can see it.
type gapError struct{ last, next int64 }

// Error implements error.
func (e *gapError) Error() string { return fmt.Sprintf("event %d came after event %d", e.next, e.last) }

// panicError is a panic that was recovered.
type panicError struct {
	value any
	stack []byte
}

// Error implements error. What the panic said is for the log only.
func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }

// syncError ends RunSync with the error of its sync.
type syncError struct{ status *rpcstatus.Status }

// Error implements error.
func (e *syncError) Error() string { return e.status.GetMessage() }
