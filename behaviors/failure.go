package behaviors

import (
	"errors"
	"fmt"
)

// Code is the result of a request in one word.
type Code string

const (
	OK          Code = "ok"
	Disabled    Code = "disabled"    // the owner has not enabled the verb
	BadRequest  Code = "bad_request" // an argument is invalid; the error names it
	Unsupported Code = "unsupported" // no such verb
	Refused     Code = "refused"     // the owner's configuration does not allow this one
	Busy        Code = "busy"        // too many at the same time, or in this minute
	Failed      Code = "failed"      // it was attempted
	NotFound    Code = "not_found"   // something it refers to does not exist
	Timeout     Code = "timeout"     // it exceeded its time limit
	Killed      Code = "killed"      // it was cancelled
	Interrupted Code = "interrupted" // the daemon ended while it ran
)

// Failure is an error with its code.
type Failure struct {
	Code Code
	Text string // one sentence, without secrets
}

func (f *Failure) Error() string { return string(f.Code) + ": " + f.Text }

// Fail returns a Failure.
func Fail(code Code, format string, args ...any) error {
	return &Failure{code, fmt.Sprintf(format, args...)}
}

// CodeOf returns the code of an error of this package or of a verb.
func CodeOf(err error) Code {
	var failure *Failure
	var argument *ArgumentError
	switch {
	case err == nil:
		return OK
	case errors.As(err, &failure):
		return failure.Code
	case errors.As(err, &argument):
		return BadRequest
	case errors.Is(err, ErrUnknown):
		return Unsupported
	}
	return Failed
}
