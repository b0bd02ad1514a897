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

// seen is a command and its result, which a redelivery gets again.
type seen struct {
	digest [sha256.Size]byte
	result *result
}

// result is what a command was acknowledged with.
type result struct {
	mu   sync.Mutex
	done bool
	err  error
}

// What the words of integrations are as verbs.
var (
	playWord = behaviors.Word{Verb: "play", Params: map[string]string{"url": "url"}}
	sayWord  = behaviors.Word{Verb: "say_as", Params: map[string]string{"text": "text", "language": "language", "voice": "voice"}}
	nowWord  = behaviors.Word{Verb: "volume", Params: map[string]string{volume: "percent"}}
	keepWord = behaviors.Word{Verb: "start_volume", Params: map[string]string{volume: "percent"}}
)

var (
	errUnknown = errors.New("unknown identifier")
	errNeither = errors.New("inputParams has neither url nor text")
	errNothing = errors.New("there was nothing to hear")
)

// obey does what integrations ask for, one after the other, until ctx ends.
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

// do does a command and has it acknowledged once, when it has succeeded or failed.
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
		if first.done { // else it will be
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

// remember returns the result of a command, and whether it is a redelivery. Only the wire
// says that: integrations use numbers again, some the same one for every command.
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

// play has a sound or a text played instead of what is heard. It returns an error when that
// does not begin; else began or failed is acknowledged later.
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
	case url != "": // wins when both are there
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
			err = errNothing // unless it has begun
		}
		acknowledge(err)
	}
	args := word.Arguments(c.params)
	call := l.call(word)
	call.Progress = progress
	_, err = l.Registry.Do(ctx, call, word.Verb, args)
	return err
}

// updateCommon applies and keeps what an integration sets.
func (l *Link) updateCommon(ctx context.Context, c command) error {
	set, err := readCommon(c)
	if err != nil {
		return err
	}
	if _, there := set[volume]; there {
		for _, word := range []behaviors.Word{nowWord, keepWord} { // all or nothing
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

// call is a command for a verb. Owners know say_as by the name say.
func (l *Link) call(word behaviors.Word) behaviors.Call {
	call := behaviors.Call{Link: Name, Source: l.Config.topic("command/call")}
	if word.Verb == sayWord.Verb {
		call.Word = "say"
	}
	return call
}

// permit refuses a command before any effect, where it must be signed: this protocol carries
// no signatures.
func (l *Link) permit(word behaviors.Word, args behaviors.Arguments) error {
	call := l.call(word)
	return l.Registry.Permit(behaviors.Request{Link: Name, Source: call.Source, Verb: word.Verb, Word: call.Word, Args: args})
}

// reloadRoles reads the file of the roles again. A wrong one changes nothing.
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
