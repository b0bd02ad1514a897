package gpio

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Verb is the operation of an Action.
type Verb string

// The operations of a button. A button bound to "talk" requests TalkPress as soon as it is pressed.
// When it is released, it requests TalkLetGo after a tap (keep listening until the user stops
// talking) and TalkRelease after a hold (the user has finished). So the microphone opens
// immediately in either case. A button bound to "talk tap" requests TalkTap, once.
const (
	TalkPress   Verb = "talk_press"
	TalkRelease Verb = "talk_release"
	TalkLetGo   Verb = "talk_let_go"
	TalkTap     Verb = "talk_tap"
	Stop        Verb = "stop"
	Mute        Verb = "mute" // toggle
	VolumeUp    Verb = "volume_up"
	VolumeDown  Verb = "volume_down"
	Meeting     Verb = "meeting"  // toggle
	Say         Verb = "say"      // Text
	Behavior    Verb = "behavior" // Name, Args
	Shutdown    Verb = "shutdown"
	Reboot      Verb = "reboot"
)

// Verbs lists the operations that a Board requests.
func Verbs() []Verb {
	return []Verb{
		TalkPress, TalkRelease, TalkLetGo, TalkTap, Stop, Mute, VolumeUp, VolumeDown, Meeting, Say, Behavior, Shutdown, Reboot,
	}
}

// Action is the action of a gesture.
type Action struct {
	Verb   Verb
	Text   string          // Say: the text
	Name   string          // Behavior: its name
	Args   json.RawMessage // Behavior: a JSON object, or nil
	Link   string          // the link to talk to; empty: the first one
	Button string          // the button that requested it
}

func (a Action) String() string {
	switch a.Verb {
	case Say:
		return "say " + a.Text
	case Behavior:
		return strings.TrimSpace("behavior " + a.Name + " " + string(a.Args))
	}
	return strings.ReplaceAll(string(a.Verb), "_", " ")
}

// talkModes are the modes of a talk button: "talk" depends on how long it is held, the others do
// not.
const (
	talk     Verb = "talk"
	talkHold Verb = "talk hold"
	talkTap  Verb = "talk tap"
)

const actionSyntax = `one of "talk", "talk hold", "talk tap", "stop", "mute", "volume_up", "volume_down", "meeting", ` +
	`"say TEXT", "behavior NAME {json}", "shutdown", "reboot"`

// ParseAction parses an action in the form of the configuration, of a button or another input.
func ParseAction(s string) (Action, error) {
	verb, rest, _ := strings.Cut(strings.TrimSpace(s), " ")
	rest = strings.TrimSpace(rest)
	switch v := Verb(verb); v {
	case Say:
		if rest == "" {
			return Action{}, fmt.Errorf(`"say" requires a text`)
		}
		return Action{Verb: v, Text: rest}, nil
	case Behavior:
		return parseBehavior(rest)
	case talk:
		switch rest {
		case "":
			return Action{Verb: talk}, nil
		case "hold":
			return Action{Verb: talkHold}, nil
		case "tap":
			return Action{Verb: talkTap}, nil
		}
	case Stop, Mute, VolumeUp, VolumeDown, Meeting, Shutdown, Reboot:
		if rest == "" {
			return Action{Verb: v}, nil
		}
	}
	return Action{}, fmt.Errorf("unknown action %q; want %s", s, actionSyntax)
}

func parseBehavior(s string) (Action, error) {
	name, args, _ := strings.Cut(s, " ")
	args = strings.TrimSpace(args)
	if name == "" || strings.ContainsAny(name, "{}\"") {
		return Action{}, fmt.Errorf(`"behavior" requires a name, as in: behavior say {"value": "hello"}`)
	}
	a := Action{Verb: Behavior, Name: name}
	if args == "" {
		return a, nil
	}
	var object map[string]any
	if err := json.Unmarshal([]byte(args), &object); err != nil || object == nil {
		return Action{}, fmt.Errorf("the text after %q is not a JSON object: %s", "behavior "+name, args)
	}
	a.Args = json.RawMessage(args)
	return a, nil
}

// power reports whether the action shuts down or reboots the machine.
func (a Action) power() bool { return a.Verb == Shutdown || a.Verb == Reboot }
