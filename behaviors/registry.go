// Package behaviors contains the verbs that a platform may request: their names, parameters, and
// actions. Each is written once; every link offers those in its table of words, in its own
// vocabulary (see Word).
//
// A link decodes messages into Arguments; this package validates the untrusted values, in one place
// for all links. Verbs that can do harm are executed by the Executor, which decides whether they
// may run, records that, and stores their answers until they are delivered. Decoding and answering
// messages (agent/link) does not belong here, nor do the parts that do the work (audio,
// agent/base/state, the subpackages): verbs use them through small interfaces.
package behaviors

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
)

// Power classifies a verb by its effect on the machine and on people's privacy.
type Power string

const (
	// Safe verbs change nothing that outlives a restart except settings.
	Safe Power = "safe"
	// Privileged verbs can change the machine: run a command, open a tunnel.
	Privileged Power = "privileged"
	// Recording verbs store what people say.
	Recording Power = "recording"
)

// A Verb is one operation that a platform may request.
type Verb struct {
	Name   string
	About  string // one sentence, for users and for platforms that list tools
	Power  Power
	Params []Param
	// Rule, if set, returns the entry of the owner's configuration that allows a request, for the
	// audit: `allow "uptime"`, or none.
	Rule func(Args) string
	// Limits of a verb that is not Safe. The zero value allows nothing.
	Limits Limits
	// Do executes the verb. The result, which must encode to a JSON object, becomes the link's
	// answer; it may be nil.
	//
	// A Safe verb is called by one goroutine per link, in order of arrival, and must return
	// quickly. Any other verb is called by the Executor, in its own goroutine, and may run until
	// ctx ends. Its error becomes part of the answer, in addition to the result, and must not
	// contain secrets.
	Do func(ctx context.Context, call Call) (any, error)
	// Resume, if set, is called instead of Do for a request that the end of the daemon has
	// interrupted: it must not repeat the action, and returns its result. It may be interrupted
	// itself. The Args of its call are empty. Without Resume, such a request is answered
	// Interrupted.
	Resume func(ctx context.Context, call Call) (any, error)
}

// A Call is one request for a verb, its arguments checked.
type Call struct {
	Link   string // the link that it came by, for the log
	Source string // its source on the link, as in Request
	Word   string // the link's name of the verb, as in Request
	ID     string // the platform's ID of the request; often none
	Seq    uint64 // of the request in the ledger; 0 of Safe verbs
	// Signer is the signer of the request, or "".
	Signer string
	// Order is the original signed message, or nil.
	Order []byte
	// Local reports that the request was made on the device itself and needs no signature.
	Local bool
	Args  Args
	Progress
}

// Progress reports the progress of playback that a verb has started and Do does not wait for. Any
// of its functions may be nil; Began and Ended must not block.
type Progress struct {
	// Room is called immediately before the sound starts, to end the sound that it replaces. Its
	// error becomes the request's. It returns quickly.
	Room func() error
	// Began is called when the first sample has been played, and never if there is none.
	Began func()
	// Ended is called once, after Do has returned nil, with the reason if the sound was not played
	// completely. The reason is ErrCut if nothing failed.
	Ended func(error)
}

// ErrCut is wrapped by the reason that Progress.Ended gets if a sound with higher priority was
// played instead, or silence was requested.
var ErrCut = errors.New("it was interrupted")

// ErrUnknown is wrapped by the error for a verb that is not registered.
var ErrUnknown = errors.New("no such behaviour")

// Registry is the set of verbs that this device offers. It is filled before the links start, and
// read-only afterwards.
type Registry struct {
	// Signed, if set, reports whether the owner requires a signature for any of these names: a
	// verb, its word, or its power.
	Signed func(names ...string) bool
	// Refused, if set, records in the audit that a request was refused because it is not signed.
	Refused func(q Request, why error)

	verbs []Verb
}

// Add offers a verb. It panics if the name is already registered.
func (r *Registry) Add(verbs ...Verb) {
	for _, v := range verbs {
		if _, ok := r.Find(v.Name); ok {
			panic("behaviors: " + v.Name + " is registered twice")
		}
		r.verbs = append(r.verbs, v)
	}
}

// Verbs lists the verbs, in order of registration.
func (r *Registry) Verbs() []Verb { return r.verbs }

// Find returns the verb with this name.
func (r *Registry) Find(name string) (Verb, bool) {
	for _, v := range r.verbs {
		if v.Name == name {
			return v, true
		}
	}
	return Verb{}, false
}

// Do checks the arguments and executes a Safe verb; others are executed by Executor.Submit. call
// describes the caller; Do fills in its Args. If a required signature is missing, the error wraps
// ErrUnsigned. Invalid arguments are returned as *ArgumentError. A panic in the verb is returned as
// its error, so that one behaviour cannot end the daemon.
func (r *Registry) Do(ctx context.Context, call Call, name string, args Arguments) (any, error) {
	verb, ok := r.Find(name)
	if !ok {
		return nil, fmt.Errorf("%w: %q", ErrUnknown, name)
	}
	if verb.Power != Safe {
		return nil, fmt.Errorf("%s: a %s behaviour requires Submit", name, verb.Power)
	}
	if !call.Local {
		q := Request{Link: call.Link, Source: call.Source, Verb: name, Word: call.Word, Args: args, ID: call.ID, Signer: call.Signer}
		if err := r.Permit(q); err != nil {
			return nil, err
		}
	}
	var err error
	if call.Args, err = verb.check(args); err != nil {
		return nil, err
	}
	result, err := perform(ctx, verb, call)
	return result, args.called(err)
}

// A panicError contains the value of a verb's panic.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("bug: %v\n%s", e.value, e.stack) }

func perform(ctx context.Context, verb Verb, call Call) (result any, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &panicError{p, debug.Stack()}
		}
	}()
	return verb.Do(ctx, call)
}
