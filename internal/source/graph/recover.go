package graph

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
)

// bugDetail is all that is said of a panic outside the log: its text could hold
// anything.
const bugDetail = "a bug in this service ended the reading; its log says where"

// errSinkBug is a panic of whoever takes the items. It is no error of the source's:
// what was stored may be half of it, and the sync has to end.
var errSinkBug = errors.New("storing an item: " + bugDetail)

// recovering runs a part of a reading and turns a panic into an error: a bug makes
// one type incomplete, and ends neither the sync nor the process. Every goroutine of
// a reading goes through here.
func (s *Source) recovering(part func() error) error {
	return s.recoveringAs(invalid("", bugDetail), part)
}

// recoveringAs is recovering with an error of the caller's choice.
func (s *Source) recoveringAs(bug error, part func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.logger.Error("a panic in the reading of Microsoft Graph", "panic", panicText(p), "stack", string(debug.Stack()))
			err = bug
		}
	}()
	return part()
}

// panicText is what a panic says: the text of the Go runtime, which holds no content,
// or else only the type of the value.
func panicText(p any) string {
	if runtimeError, ok := p.(runtime.Error); ok {
		return runtimeError.Error()
	}
	return fmt.Sprintf("a %T", p)
}
