// Package behaviors holds the verbs that a platform may ask of the device: what
// they are called, what arguments they take, what they do. Each is written
// once; every link offers those that its table of words names, in its own words (see
// Word).
//
// A link decodes what it receives into Arguments; here is the edge where hostile
// values are checked, in one place for all links. Verbs that can do harm go through the Executor, which decides
// whether they may run, writes that down, and keeps their answers until they
// are delivered. What must not live here: how a message
// is decoded, named and answered on a wire (agent/link), and the parts that do the work (audio, agent/base/state,
// the packages below this one): verbs reach those through small interfaces.
package behaviors

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
)

// Power says what a verb can do to the box or to the people around it.
type Power string

const (
	// Safe verbs change nothing that outlives a restart except settings.
	Safe Power = "safe"
	// Privileged verbs can change the box: run a command, open a way in.
	Privileged Power = "privileged"
	// Recording verbs keep what people say.
	Recording Power = "recording"
)

// A Verb is one thing that a platform may ask.
type Verb struct {
	Name   string
	About  string // one sentence, for people and for platforms that list tools
	Power  Power
	Params []Param
	// Rule, where set, is what in the owner's configuration allows a request, for the
	// audit: `allow "uptime"`. It is none where nothing does.
	Rule func(Args) string
	// Limits of a verb that is not Safe. The zero value allows nothing.
	Limits Limits
	// Do performs the verb. The result, which must encode to a JSON object,
	// becomes the link's answer; nil where there is nothing to say.
	//
	// A Safe verb is called by one goroutine per link, in the order of arrival,
	// and must return soon. Any other verb is called by the Executor, in a
	// goroutine of its own, and may take as long as it needs until ctx ends. Its
	// error becomes part of the answer, beside the result: it must hold no secret.
	Do func(ctx context.Context, call Call) (any, error)
	// Resume, where set, is called instead of Do for a request that an end of the daemon has
	// interrupted: it does nothing again, and returns what came of it. It may be interrupted
	// itself. The Args of its call are empty. Without it, such a request is answered Interrupted.
	Resume func(ctx context.Context, call Call) (any, error)
}

// A Call is one request for a verb, its arguments checked.
type Call struct {
	Link   string // the link it came by, for the log
	Source string // where on the link it came from, as in Request
	Word   string // what the link calls the verb, as in Request
	ID     string // that the platform gave to the request; often none
	Seq    uint64 // of the request in the ledger; 0 of Safe verbs
	// Signer is who signed the request; "" where nobody has.
	Signer string
	// Order is the signed message, as it came; nil where nobody has signed.
	Order []byte
	// Local says that somebody asks at the device itself, and nobody has to sign.
	Local bool
	Args  Args
	Progress
}

// Progress follows what a verb has begun and Do does not wait for: a text that is
// spoken, a sound that is played. Any of its functions may be nil; Began and Ended must not
// block.
type Progress struct {
	// Room is called when nothing stands against the sound and before it takes its place: what
	// it is to be heard instead of ends there. Its error is the request's. It returns soon.
	Room func() error
	// Began is called when the first sample has been played; never when there is none.
	Began func()
	// Ended is called once, after Do has returned nil, with the reason where not all
	// was heard. That is ErrCut where nothing has gone wrong.
	Ended func(error)
}

// ErrCut is wrapped by the reason that Progress.Ended gets when something more
// important was played instead, or somebody asked for silence.
var ErrCut = errors.New("it was cut short")

// ErrUnknown is wrapped by the error for a verb that is not registered.
var ErrUnknown = errors.New("no such behaviour")

// Registry is the set of verbs that this device offers. It is filled before
// the links start, and only read afterwards.
type Registry struct {
	// Signed, where set, reports whether the owner wants what has one of these names, its
	// verb, its word or its power, to be signed.
	Signed func(names ...string) bool
	// Refused, where set, has a refusal for want of a signature audited.
	Refused func(q Request, why string)

	verbs []Verb
}

// Add offers a verb. A name that is already taken is a mistake in the program.
func (r *Registry) Add(verbs ...Verb) {
	for _, v := range verbs {
		if _, ok := r.Find(v.Name); ok {
			panic("behaviors: " + v.Name + " is registered twice")
		}
		r.verbs = append(r.verbs, v)
	}
}

// Verbs lists what is offered, in the order of registration.
func (r *Registry) Verbs() []Verb { return r.verbs }

// Find returns the verb of that name.
func (r *Registry) Find(name string) (Verb, bool) {
	for _, v := range r.verbs {
		if v.Name == name {
			return v, true
		}
	}
	return Verb{}, false
}

// Do checks the arguments and performs a Safe verb; the others are asked for by
// Executor.Submit. call says who calls; its Args are filled in here. What the owner wants to
// be signed, and is not, is refused by an error that wraps ErrUnsigned. Bad arguments come
// back as *ArgumentError. A panic inside the verb is the verb's error: one behaviour
// must not take the device down.
func (r *Registry) Do(ctx context.Context, call Call, name string, args Arguments) (any, error) {
	verb, ok := r.Find(name)
	if !ok {
		return nil, fmt.Errorf("%w: %q", ErrUnknown, name)
	}
	if verb.Power != Safe {
		return nil, fmt.Errorf("%s: a %s behaviour is not done in passing", name, verb.Power)
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

// A panicError is what a verb panicked with.
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
