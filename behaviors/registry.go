// Package behaviors holds the verbs that a platform may ask of the device: what
// they are called, what arguments they take, what they do. Each is written
// once; every link offers it in its own words (a LinTO topic, an MCP tool).
//
// The registry is the edge where hostile arguments are checked, in one place
// for all links. What must not live here: topics, acknowledgements and other
// wire facts (agent/link), and the parts that do the work (audio, agent/state):
// verbs reach those through the small interfaces of this package.
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
)

// A Verb is one thing that a platform may ask.
type Verb struct {
	Name   string
	About  string // one sentence, for people and for platforms that list tools
	Power  Power
	Params []Param
	// Do performs the verb. It is called by one goroutine per link, in the order
	// of arrival, and must return soon: what takes time is queued elsewhere. The
	// result becomes the link's answer; nil where there is nothing to say.
	Do func(ctx context.Context, call Call) (any, error)
}

// A Call is one request for a verb, its arguments checked.
type Call struct {
	Link string // the link it came by, for the log
	Args Args
}

// ErrUnknown is wrapped by the error for a verb that is not registered.
var ErrUnknown = errors.New("no such behaviour")

// Registry is the set of verbs that this device offers. It is filled before
// the links start, and only read afterwards.
type Registry struct {
	verbs []Verb
}

// Add offers a verb. A name that is already taken is a mistake in the program.
func (r *Registry) Add(verbs ...Verb) {
	for _, v := range verbs {
		if _, ok := r.find(v.Name); ok {
			panic("behaviors: " + v.Name + " is registered twice")
		}
		r.verbs = append(r.verbs, v)
	}
}

// Verbs lists what is offered, in the order of registration.
func (r *Registry) Verbs() []Verb { return r.verbs }

func (r *Registry) find(name string) (Verb, bool) {
	for _, v := range r.verbs {
		if v.Name == name {
			return v, true
		}
	}
	return Verb{}, false
}

// Do checks the arguments, a JSON object (empty stands for {}), and performs
// the verb. Bad arguments come back as *ArgumentError. A panic inside the verb
// is the verb's error: one behaviour must not take the device down.
func (r *Registry) Do(ctx context.Context, link, name string, payload []byte) (result any, err error) {
	verb, ok := r.find(name)
	if !ok {
		return nil, fmt.Errorf("%w: %q", ErrUnknown, name)
	}
	args, err := parseArgs(verb.Params, payload)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s: bug: %v\n%s", name, p, debug.Stack())
		}
	}()
	result, err = verb.Do(ctx, Call{Link: link, Args: args})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return result, nil
}
