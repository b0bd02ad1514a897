package folotoy

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"slices"
	"sync"

	"lintod/behaviors"
)

// seen is a command and its result, with which redeliveries are answered.
type seen struct {
	digest [sha256.Size]byte
	result *result
}

// result is the acknowledged result of a command.
type result struct {
	mu   sync.Mutex
	done bool
	err  error
}

// The verbs for the words of integrations.
var (
	playWord = behaviors.Word{Verb: "play", Params: map[string]string{"url": "url"}}
	sayWord  = behaviors.Word{Verb: "say_as", Params: map[string]string{"text": "text", "language": "language", "voice": "voice"}}
	nowWord  = behaviors.Word{Verb: "volume", Params: map[string]string{volume: "percent"}}
	keepWord = behaviors.Word{Verb: "start_volume", Params: map[string]string{volume: "percent"}}
)

var (
	errUnknown = errors.New("unknown identifier")
	errNeither = errors.New("inputParams has neither url nor text")
	errNothing = errors.New("the sound was empty")
)

// obey executes commands, one at a time, until ctx ends.
func (l *Link) obey(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-l.commands:
			l.do(ctx, r)
		case <-l.probes:
		}
	}
}

// do executes a command and acknowledges it once, when it has succeeded or failed.
func (l *Link) do(ctx context.Context, r request) {
	c, err := readCommand(r.payload)
	if err != nil {
		l.Log.Warn("message ignored", "error", err)
		return
	}
	topic := l.Config.topic("command/callAck")
	if r.config {
		topic = l.Config.Prefix + "/configAck"
	}
	first, again := l.remember(r)
	acknowledge := func(err error) {
		first.mu.Lock()
		defer first.mu.Unlock()
		if first.done {
			return
		}
		first.done, first.err = true, err
		if err != nil {
			l.Log.Warn("command failed", "identifier", c.name, "error", err)
		}
		l.post(func(ctx context.Context) { l.send(ctx, topic, encode(c.ack(err))) })
	}
	switch {
	case again:
		first.mu.Lock()
		defer first.mu.Unlock()
		if first.done { // otherwise it will be
			answer := encode(c.ack(first.err))
			l.post(func(ctx context.Context) { l.send(ctx, topic, answer) })
		}
	case r.config && c.name == rolesCommand:
		acknowledge(l.reloadRoles())
	case !r.config && c.name == playCommand:
		if err := l.play(ctx, c, acknowledge); err != nil {
			acknowledge(err)
		}
	case !r.config && c.name == updateCommand:
		acknowledge(l.updateCommon(ctx, c))
	default:
		acknowledge(errUnknown)
	}
}

// remember returns the result of a command, and whether it is a redelivery. Only
// the DUP flag shows that: integrations reuse numbers, some use the same one for
// every command.
func (l *Link) remember(r request) (*result, bool) {
	digest := sha256.Sum256(r.payload)
	if r.duplicate {
		for _, s := range slices.Backward(l.seen) {
			if s.digest == digest {
				return s.result, true
			}
		}
	}
	if len(l.seen) == maxSeen {
		l.seen = l.seen[1:]
	}
	s := seen{digest, &result{}}
	l.seen = append(l.seen, s)
	return s.result, false
}

// play replaces the current sound with a sound or text. It returns an error if that
// cannot be started; otherwise success or failure is acknowledged later.
func (l *Link) play(ctx context.Context, c command, acknowledge func(error)) error {
	role, err := c.role()
	if err != nil {
		return err
	}
	url, err := c.text("url")
	if err != nil {
		return err
	}
	text, err := c.text("text")
	if err != nil {
		return err
	}
	l.mu.Lock()
	if role != 0 {
		l.role = role
	}
	voice := l.roles[role]
	l.mu.Unlock()
	word := playWord
	progress := behaviors.Progress{Room: func() error { return l.MakeRoom(ctx) }, Began: func() { acknowledge(nil) }}
	switch {
	case url != "": // takes precedence if both are present
	case text != "":
		word = sayWord
		word.Fixed = map[string]json.RawMessage{"language": encode(voice.Language), "voice": encode(voice.Voice)}
		progress.Began = func() {
			acknowledge(nil)
			l.post(func(ctx context.Context) { l.say(ctx, text) })
		}
	default:
		return errNeither
	}
	progress.Ended = func(err error) {
		if err == nil {
			err = errNothing // unless it has started
		}
		acknowledge(err)
	}
	args := word.Arguments(c.params)
	call := l.call(word)
	call.Progress = progress
	_, err = l.Registry.Do(ctx, call, word.Verb, args)
	return err
}

// updateCommon applies and saves the values that an integration sets.
func (l *Link) updateCommon(ctx context.Context, c command) error {
	set, err := readCommon(c)
	if err != nil {
		return err
	}
	if _, there := set[volume]; there {
		for _, word := range []behaviors.Word{nowWord, keepWord} { // check all before changing any
			if err := l.permit(word, word.Arguments(c.params)); err != nil {
				return err
			}
		}
		for _, word := range []behaviors.Word{nowWord, keepWord} {
			if _, err := l.Registry.Do(ctx, l.call(word), word.Verb, word.Arguments(c.params)); err != nil {
				return err
			}
		}
	}
	return l.memory.update(set)
}

// call converts a command to the call of a verb. In the owner's settings, say_as
// is covered by say.
func (l *Link) call(word behaviors.Word) behaviors.Call {
	call := behaviors.Call{Link: Name, Source: l.Config.topic("command/call")}
	if word.Verb == sayWord.Verb {
		call.Word = "say"
	}
	return call
}

// permit refuses a command that must be signed, before any effect: this protocol
// has no signatures.
func (l *Link) permit(word behaviors.Word, args behaviors.Arguments) error {
	call := l.call(word)
	return l.Registry.Permit(behaviors.Request{Link: Name, Source: call.Source, Verb: word.Verb, Word: call.Word, Args: args})
}

// reloadRoles reads the roles file again. An invalid file changes nothing.
func (l *Link) reloadRoles() error {
	roles, err := loadRoles(l.Config.RolesFile)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.roles = roles
	return nil
}
