package linto

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"lintod/agent/base/loop"
	"lintod/agent/base/printable"
	"lintod/agent/broker"
	"lintod/agent/turn"
	"lintod/audio"
	"lintod/audio/codec"
)

// request publishes a request and waits for its answer (protocol 1.4).
func (l *Link) request(ctx context.Context, x *turn.Exchange, kind string, payload []byte) (reply, error) {
	topic := kind + "/" + uuid.NewString()
	answers := l.pending.add(topic)
	defer l.pending.remove(topic)
	if err := l.conn.Publish(ctx, broker.Message{Topic: l.egress(topic), Payload: payload, QoS: 1}); err != nil {
		return reply{}, fmt.Errorf("request not sent: %w", err)
	}
	x.Notify(turn.RequestOut, "")
	limit := time.NewTimer(l.Config.AnswerTimeout.Std())
	defer limit.Stop()
	select {
	case r := <-answers:
		if r.Problem != nil {
			l.doubt()
		}
		return l.accept(x.Notify, kind, r)
	case <-limit.C:
		l.doubt()
		return reply{}, fmt.Errorf("no answer from the platform within %v", l.Config.AnswerTimeout)
	case <-ctx.Done():
		return reply{}, context.Cause(ctx)
	}
}

// accept acts on an answer, in the order that protocol 1.4 recommends: error,
// actions, display, and finally sound.
func (l *Link) accept(notify notifyFunc, topic string, r reply) (reply, error) {
	if r.Problem != nil {
		if r.Text == "" && r.Audio == "" {
			return reply{}, r.Problem
		}
		l.Log.Warn("answer with an error", "error", r.Problem)
	}
	l.act(notify, topic, r)
	l.mu.Lock()
	l.conversation = r.Conversation
	l.mu.Unlock()
	if r.Audio == "" {
		return r, nil
	}
	sound, err := decodeAudio(r.Audio)
	if err != nil {
		l.Log.Warn("cannot play the sound of the answer; speaking its text", "error", err)
	} else {
		r.Sound = sound
	}
	return r, nil
}

// act handles the parts of an answer that are not sound. notify publishes notices.
func (l *Link) act(notify notifyFunc, topic string, r reply) {
	if r.Ignored != nil {
		l.Log.Warn("part of the answer ignored", "error", r.Ignored)
	}
	if r.Custom {
		l.fire(notify, topic, r.Behavior)
	}
	if r.Display != nil {
		notify(turn.GotDisplay, r.Display.Type+" "+r.Display.Content)
		l.programs.show(*r.Display)
	}
}

// fire publishes a custom action on the bus and passes it to the owner's
// program, without the sound, which may be long.
func (l *Link) fire(notify notifyFunc, topic string, behavior json.RawMessage) {
	var members map[string]json.RawMessage
	_ = json.Unmarshal(behavior, &members) // an action may have no members
	delete(members, "audio")
	event, err := json.Marshal(map[string]any{"topic": topic, "behavior": members})
	if err != nil || len(event) > maxAction {
		l.Log.Warn("action ignored: too long", "topic", topic, "bytes", len(event), "limit", maxAction)
		return
	}
	notify(turn.GotAction, string(event))
	l.programs.do(event)
}

// notifyFunc publishes a notice, with or without an exchange.
type notifyFunc func(w turn.What, text string)

// notify publishes a notice that belongs to no exchange.
func (l *Link) notify(w turn.What, text string) {
	if l.Notify != nil {
		l.Notify(w, text)
	}
}

// decodeAudio decodes a base64 sound file, padded or not; some platforms
// prepend the header of a data URL.
func decodeAudio(text string) (audio.Sound, error) {
	if rest, ok := strings.CutPrefix(text, "data:"); ok {
		_, text, _ = strings.Cut(rest, ",")
	}
	file, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "=\r\n"))
	if err != nil {
		return nil, fmt.Errorf("audio is not base64: %w", err)
	}
	return codec.Decode(file)
}

// isAnswer reports whether a topic is that of an answer to one of our
// requests, or to a request of another client (1.7).
func isAnswer(topic string) bool {
	for _, kind := range []string{nlpFile, nlpText, chatbot, customAction} {
		if topic == kind || strings.HasPrefix(topic, kind+"/") {
			return true
		}
	}
	return false
}

const customAction = "customAction"

// handleAnswer passes an answer to the request that waits for it.
func (l *Link) handleAnswer(topic string, payload []byte) {
	asked := !strings.HasPrefix(topic, customAction)
	if asked && !l.pending.waits(topic) {
		l.Log.Info("answer ignored: no request is waiting for it", "topic", printable.Clip(topic, 100))
		return
	}
	r, err := parseAnswer(payload, l.Config.Speak == "phonetic")
	switch {
	case err != nil && asked: // no other answer will follow, so the request fails now
		l.pending.resolve(topic, reply{Problem: err})
	case err != nil:
		l.Log.Warn("message ignored", "topic", printable.Clip(topic, 100), "error", err)
	case asked:
		l.pending.resolve(topic, r)
	default:
		l.handleAction(printable.Clip(topic, 100), r)
	}
}

// handleAction handles an answer that belongs to no turn (protocol 1.7). Its
// text is spoken as an announcement; an ask is not followed by listening,
// because conversations belong to turns.
func (l *Link) handleAction(topic string, r reply) {
	if r.Problem != nil {
		l.Log.Warn("action with an error", "topic", topic, "error", r.Problem)
	}
	r.Custom = true
	l.act(l.notify, topic, r)
	switch {
	case len(r.Text) > maxCommand: // commands are queued, and the queue must stay small
		l.Log.Warn("text of an action ignored: too long", "topic", topic, "bytes", len(r.Text), "limit", maxCommand)
	case r.Text != "":
		say, _ := wordOf("say")
		if l.Registry.MustSign(say.Verb, say.topic) { // no other path may speak without a signature
			l.Log.Warn("text of an action ignored: say requires a signature", "topic", topic)
			return
		}
		l.dropped.Add(loop.Push(l.commands, command{word: say, payload: encode(map[string]string{say.bare: r.Text})}))
	}
}

// pending are the requests without an answer, oldest first. Each turn has
// one, and dropped turns remove theirs, so the list stays short.
type pending struct {
	mu   sync.Mutex
	list []waiting
}

type waiting struct {
	topic   string
	answers chan reply // buffered: the first answer fits without a reader
}

func (p *pending) add(topic string) <-chan reply {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := waiting{topic, make(chan reply, 1)}
	p.list = append(p.list, w)
	return w.answers
}

func (p *pending) remove(topic string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.list = slices.DeleteFunc(p.list, func(w waiting) bool { return w.topic == topic })
}

func (p *pending) waits(topic string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.index(topic) >= 0
}

// index finds the request of an answer. The documented topics have no id: such
// an answer belongs to the oldest request of its kind (decision L9).
func (p *pending) index(topic string) int {
	return slices.IndexFunc(p.list, func(w waiting) bool {
		return w.topic == topic || w.topic[:strings.LastIndexByte(w.topic, '/')] == topic
	})
}

// resolve delivers the first answer and ignores duplicates.
func (p *pending) resolve(topic string, r reply) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := p.index(topic); i >= 0 {
		select {
		case p.list[i].answers <- r:
		default:
		}
	}
}
