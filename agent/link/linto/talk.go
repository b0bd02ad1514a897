package linto

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"lintod/agent/broker"
	"lintod/agent/turn"
	"lintod/audio"
	"lintod/audio/wav"
)

// Talk sends the utterance as one file and waits for the answer; it implements
// turn.Talker (protocol 1.4).
func (l *Link) Talk(ctx context.Context, u *turn.Utterance) (turn.Answer, error) {
	pcm, err := collect(u)
	if err != nil {
		return turn.Answer{}, err
	}
	id := uuid.NewString()
	answers := l.pending.add(id)
	defer l.pending.remove(id)

	request := fileRequest(pcm, l.takeConversation())
	err = l.conn.Publish(ctx, broker.Message{Topic: l.egress("nlp/file/" + id), Payload: request, QoS: 1})
	if err != nil {
		return turn.Answer{}, fmt.Errorf("request not sent: %w", err)
	}
	limit := time.NewTimer(l.Config.AnswerTimeout.Std())
	defer limit.Stop()
	select {
	case r := <-answers:
		return l.accept(r)
	case <-limit.C:
		return turn.Answer{}, fmt.Errorf("the platform gave no answer within %v", l.Config.AnswerTimeout)
	case <-ctx.Done():
		return turn.Answer{}, context.Cause(ctx)
	}
}

func (l *Link) accept(r reply) (turn.Answer, error) {
	if r.Problem != nil {
		if r.Text == "" {
			return turn.Answer{}, r.Problem
		}
		l.Log.Warn("answer with an error", "error", r.Problem)
	}
	l.mu.Lock()
	l.conversation = r.Conversation
	l.mu.Unlock()
	return r.Answer, nil
}

// takeConversation returns what the last ask left, and forgets it: a request
// that fails must not be continued by the next one.
func (l *Link) takeConversation() json.RawMessage {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.conversation
	l.conversation = emptyConversation
	return c
}

// collect reads the utterance to its end. Its length is limited by the turn
// (max_utterance).
func collect(u *turn.Utterance) ([]int16, error) {
	var pcm []int16
	var f audio.Frame
	for {
		switch err := u.Read(&f); {
		case errors.Is(err, io.EOF):
			return pcm, nil
		case err != nil:
			return nil, fmt.Errorf("microphone: %w", err)
		}
		pcm = append(pcm, f.PCM[:]...)
	}
}

// fileRequest builds the payload of nlp/file by hand: the sound is most of it,
// and conversationData must go back byte for byte.
func fileRequest(pcm []int16, conversation json.RawMessage) []byte {
	const head, middle, tail = `{"audio":"`, `","conversationData":`, `}`
	file := wav.Encode(pcm, audio.CaptureRate)
	b := make([]byte, 0, len(head)+base64.StdEncoding.EncodedLen(len(file))+len(middle)+len(conversation)+len(tail))
	b = append(b, head...)
	b = base64.StdEncoding.AppendEncode(b, file)
	b = append(b, middle...)
	b = append(b, conversation...)
	return append(b, tail...)
}

func isAnswer(topic string) bool {
	return topic == "nlp/file" || strings.HasPrefix(topic, "nlp/file/")
}

// handleAnswer gives an answer to the request that waits for it. The documented
// topic has no id: such an answer belongs to the oldest request (decision L9).
func (l *Link) handleAnswer(topic string, payload []byte) {
	id := strings.TrimPrefix(strings.TrimPrefix(topic, "nlp/file"), "/")
	if !l.pending.waits(id) {
		l.Log.Info("answer ignored: nothing waits for it", "topic", clip(topic, 100))
		return
	}
	if len(payload) > maxAnswer {
		l.Log.Warn("answer ignored: too long", "bytes", len(payload), "limit", maxAnswer)
		return
	}
	r, err := parseAnswer(payload, l.Config.Speak == "phonetic")
	if err != nil {
		l.Log.Warn("message ignored", "topic", clip(topic, 100), "error", err)
		return
	}
	l.pending.resolve(id, r)
}

// pending are the requests without an answer, oldest first. There is one a
// turn, and turns that were dropped remove theirs, so it stays short.
type pending struct {
	mu   sync.Mutex
	list []request
}

type request struct {
	id      string
	answers chan reply // buffered: the first answer fits without a reader
}

func (p *pending) add(id string) <-chan reply {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := request{id, make(chan reply, 1)}
	p.list = append(p.list, r)
	return r.answers
}

func (p *pending) remove(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := p.index(id); i >= 0 {
		p.list = append(p.list[:i], p.list[i+1:]...)
	}
}

func (p *pending) waits(id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.index(id) >= 0
}

// index finds a request; an empty id stands for the oldest.
func (p *pending) index(id string) int {
	for i, r := range p.list {
		if id == "" || r.id == id {
			return i
		}
	}
	return -1
}

// resolve delivers the first answer and ignores duplicates.
func (p *pending) resolve(id string, r reply) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := p.index(id); i >= 0 {
		select {
		case p.list[i].answers <- r:
		default:
		}
	}
}
