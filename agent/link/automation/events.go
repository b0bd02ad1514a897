package automation

import (
	"context"
	"strconv"
	"strings"
	"unicode/utf8"

	"lintod/agent/base/printable"
	"lintod/agent/broker"
	"lintod/agent/turn"
)

// stateTopics are what the broker retains for the device, in addition to its
// status.
var stateTopics = []string{"state", "muted", "deaf", "meeting", "connected", "volume", "language"}

// states returns the current values by topic.
func (l *Link) states() map[string]string {
	now := l.Shown()
	shown := now.State
	if now.State == turn.Conversing || now.Flags.Dictating && now.State == turn.Idle {
		shown = turn.Listening // an open microphone must be shown
	}
	return map[string]string{
		"state":     shown.String(),
		"muted":     onOff(now.Flags.Muted),
		"deaf":      onOff(now.Flags.Deaf),
		"meeting":   onOff(now.Flags.Meeting),
		"connected": onOff(!now.Flags.Offline),
		"volume":    strconv.Itoa(l.Volume()),
		"language":  l.Settings().Language,
	}
}

func onOff(yes bool) string {
	if yes {
		return "ON"
	}
	return "OFF"
}

// outcomes are the types of the event "turn".
var outcomes = []string{"answered", "unanswered", "failed", "cancelled"}

// outcome converts the result of a turn to a type of the event.
func outcome(r turn.Result) string {
	switch r {
	case turn.ResultSpoken:
		return "answered"
	case turn.ResultSilent, turn.ResultNothing:
		return "unanswered"
	case turn.ResultFailed:
		return "failed"
	}
	return "cancelled"
}

// exchange is what was said in the current turn.
type exchange struct {
	number        int
	heard, answer string
	answered      bool // answer is complete, and published
}

// handleNotice publishes the event for a notice.
func (l *Link) handleNotice(ctx context.Context, n turn.Notice) {
	if n.Turn != 0 && n.Turn != l.turn.number {
		l.turn = exchange{number: n.Turn}
	}
	switch n.What {
	case turn.GotTranscript:
		l.turn.heard = n.Text
		l.text(ctx, "heard", n)
	case turn.GotAnswer:
		l.turn.answer, l.turn.answered = n.Text, true
		l.text(ctx, "answered", n)
	case turn.GotSentence:
		if !l.turn.answered && len(l.turn.answer) < maxMore {
			l.turn.answer = strings.TrimSpace(l.turn.answer + " " + n.Text)
		}
	case turn.TurnOver:
		if n.Text = l.turn.answer; n.Text != "" && !l.turn.answered { // of a platform that answers sentence by sentence
			l.text(ctx, "answered", n)
		}
		l.over(ctx, n)
	case turn.Woken:
		l.event(ctx, "wake", map[string]any{"event_type": "wake", "word": n.WakeWord.Name, "score": n.WakeWord.Score, "link": n.Link})
	case turn.Pressed:
		e := map[string]any{"event_type": n.Gesture.Kind}
		if n.Gesture.Held > 0 {
			e["held_ms"] = n.Gesture.Held.Milliseconds()
		}
		l.event(ctx, "button/"+buttonLevel(n.Gesture.Button), e)
	}
}

// over publishes the end of a turn.
func (l *Link) over(ctx context.Context, n turn.Notice) {
	e := map[string]any{
		"event_type": outcome(n.Record.Result), "turn": n.Turn, "link": n.Link,
		"trigger": n.Record.Trigger, "ms": n.Since.Milliseconds(),
	}
	if l.Config.Texts {
		e["heard"], e["answer"] = printable.Cut(l.turn.heard, maxMore), printable.Cut(l.turn.answer, maxMore)
	}
	l.event(ctx, "turn", e)
}

// Limits for texts.
const (
	maxState = 255     // characters of a state that Home Assistant accepts
	maxMore  = 8 << 10 // bytes of a text that is published completely
)

// clip converts a text to the state of an entity: one line of at most 255
// characters. "None" would mean that the state is unknown.
func clip(text string) string {
	text = printable.Line(text)
	switch {
	case text == "None":
		return "None."
	case utf8.RuneCountInString(text) <= maxState:
		return text
	}
	return printable.Short(text, maxState-3)
}

// text publishes a transcript or an answer. The attributes are published first, so
// that they are available when the state changes.
func (l *Link) text(ctx context.Context, topic string, n turn.Notice) {
	if !l.Config.Texts {
		return
	}
	l.event(ctx, topic+"/more", map[string]any{"text": printable.Cut(n.Text, maxMore), "turn": n.Turn, "link": n.Link})
	l.publish(ctx, broker.Message{Topic: l.topic(topic), Payload: []byte(clip(n.Text)), QoS: 1})
}

// event publishes a message that is not retained.
func (l *Link) event(ctx context.Context, topic string, members any) {
	l.publish(ctx, broker.Message{Topic: l.topic(topic), Payload: encode(members), QoS: 1})
}
