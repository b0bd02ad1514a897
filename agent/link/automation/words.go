package automation

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"lintod/agent/base/printable"
	"lintod/behaviors"
	"lintod/behaviors/meeting"
)

// A word is a topic by which home automation requests a verb.
type word struct {
	topic string // below the device's prefix
	state string // the topic whose value is published again after a refusal; "" for none
	verbs []string
	param string // of all verbs; "" if the payload is unused
	// read converts a payload to the argument.
	read func(payload string) (any, error)
	// fixed returns the other arguments; nil if there are none.
	fixed func() map[string]any
}

// words are all commands. No privileged verb is among them (decision H14).
var words = []word{
	{topic: "muted/set", state: "muted", verbs: []string{"mute"}, param: "on", read: readSwitch},
	{topic: "volume/set", state: "volume", verbs: []string{"volume", "start_volume"}, param: "percent", read: readPercent},
	{topic: "language/set", state: "language", verbs: []string{"language"}, param: "language", read: readText},
	{topic: "meeting/set", state: "meeting", verbs: []string{meeting.Verb}, param: "action", read: readRecording, fixed: newSession},
	{topic: "say", verbs: []string{"say"}, param: "text", read: readText},
	{topic: "ask", verbs: []string{"ask"}, param: "text", read: readText},
	{topic: "play", verbs: []string{"play"}, param: "url", read: readText},
	{topic: "talk", verbs: []string{"talk"}},
	{topic: "stop", verbs: []string{"stop"}},
}

// A payloadError describes the expected payload.
type payloadError struct{ want, got string }

func (e *payloadError) Error() string { return "want " + e.want + ", got " + e.got }

func wanted(want, payload string) error {
	if payload == "" {
		return &payloadError{want, "nothing"}
	}
	return &payloadError{want, printable.Clip(payload, 40)}
}

func readSwitch(payload string) (any, error) {
	switch strings.ToUpper(payload) {
	case "ON", "TRUE", "1":
		return true, nil
	case "OFF", "FALSE", "0":
		return false, nil
	}
	return nil, wanted("ON or OFF", payload)
}

// readPercent accepts the zero with decimals that some consumers send.
func readPercent(payload string) (any, error) {
	n, err := strconv.ParseFloat(payload, 64)
	if err != nil || n < 0 || n > 100 || n != math.Trunc(n) {
		return nil, wanted("0 to 100", payload)
	}
	return int(n), nil
}

func readText(payload string) (any, error) {
	if payload == "" || !utf8.ValidString(payload) {
		return nil, wanted("a text in UTF-8", payload)
	}
	return payload, nil
}

func readRecording(payload string) (any, error) {
	on, err := readSwitch(payload)
	if on == true {
		return meeting.Start, err
	}
	return meeting.Stop, err
}

// newSession names a recording; stop ends the current one, whatever its name.
func newSession() map[string]any {
	return map[string]any{"session": "automation-" + time.Now().Format("2006-01-02-1504")}
}

// maxCommand bounds the payload of a command, in bytes.
const maxCommand = 64 << 10

// do executes a command. It may wait for the disk and the microphone.
func (l *Link) do(ctx context.Context, w word, payload string) error {
	args := behaviors.Arguments{Values: map[string]json.RawMessage{}, Names: map[string]string{w.param: "payload"}}
	if w.read != nil {
		value, err := w.read(payload)
		if err != nil {
			return err
		}
		args.Values[w.param] = encode(value)
	}
	if w.fixed != nil {
		for name, value := range w.fixed() {
			args.Values[name] = encode(value)
		}
	}
	for _, verb := range w.verbs {
		if err := l.perform(ctx, w, verb, args); err != nil {
			return err
		}
	}
	return nil
}

// perform executes a verb: a safe one immediately, others under the owner's policy,
// whose answer follows later.
func (l *Link) perform(ctx context.Context, w word, name string, args behaviors.Arguments) error {
	verb, ok := l.Registry.Find(name)
	if !ok {
		return fmt.Errorf("%w: %s", behaviors.ErrUnknown, name)
	}
	if verb.Power == behaviors.Safe {
		ended := func(err error) { l.fail(w, err) }
		_, err := l.Registry.Do(ctx, behaviors.Call{Link: Name, Source: l.topic(w.topic), Word: w.topic, Progress: behaviors.Progress{Ended: ended}}, name, args)
		return err
	}
	if l.Powers == nil {
		return behaviors.Fail(behaviors.Unsupported, "this device does not offer %s", name)
	}
	refusal, accepted := l.Powers.Submit(behaviors.Request{
		Link: Name, Source: l.topic(w.topic), Verb: name, Word: w.topic, Args: args, Digest: behaviors.Digest(encode(args.Values)),
		Answered: func() { l.deliver(w) },
	})
	if !accepted {
		return fmt.Errorf("%s", refusal.Error)
	}
	return nil
}

// deliver handles queued answers. Those without an error are dropped, because the
// state has changed.
func (l *Link) deliver(w word) {
	err := l.Powers.Deliver(Name, func(a behaviors.Answer) error {
		if a.Code != behaviors.OK {
			l.fail(w, fmt.Errorf("%s", a.Error))
		}
		return nil
	})
	if err != nil {
		l.Log.Warn("answer not delivered", "error", err)
	}
}

// offers reports whether a verb is available to this link.
func (l *Link) offers(name string) bool {
	verb, ok := l.Registry.Find(name)
	return ok && (verb.Power == behaviors.Safe || verb.Limits.Enabled && l.Powers != nil) && !l.Registry.MustSign(name, "")
}
