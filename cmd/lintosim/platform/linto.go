package platform

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"lintod/audio/wav"
	"lintod/cmd/lintosim/speech"
)

// maxUtterance is longer than any real utterance.
const maxUtterance = 2 * time.Minute

// Request is a request of a device.
type Request struct {
	// Message is the received message.
	Message Message
	// Kind is "nlp/file", "nlp/text", "chatbot" or "skills"; ID is the rest of the
	// command, for skills "<skill>/<action>".
	Kind, ID string
	// PCM is the sound of an nlp/file, mono at Rate samples a second.
	PCM  []int16
	Rate int
	// Transcript is the recognised text, or the text of the other kinds; Heard is how an nlp/file
	// was recognised.
	Transcript string
	Heard      speech.Heard
	// ConversationData is the received JSON object, or nil.
	ConversationData json.RawMessage
}

// serve handles the messages of all devices in order of arrival. Slow operations have their own
// goroutines.
func (p *Platform) serve() {
	defer p.endStreams()
	for {
		select {
		case m := <-p.queue:
			p.handle(m)
		case f := <-p.calls:
			f()
		case <-p.ctx.Done():
			return
		}
	}
}

func (p *Platform) handle(m Message) {
	if m.Command == "status" {
		p.greet(m)
		return
	}
	if step, ok := strings.CutPrefix(m.Command, "streaming/"); ok {
		p.stream(step, m)
		return
	}
	for kind, levels := range map[string]int{"nlp/file": 1, "nlp/text": 1, "chatbot": 1, "skills": 2} {
		if id, ok := strings.CutPrefix(m.Command, kind+"/"); ok {
			p.request(Request{Message: m, Kind: kind, ID: id}, levels)
		}
	}
}

// greet answers a status like the flow "on-connect".
func (p *Platform) greet(m Message) {
	if p.opts.StatusLanguage != "" {
		payload, _ := encode(map[string]string{"value": p.opts.StatusLanguage}) // strings always marshal
		p.respond(m, "tts_lang", payload)
	}
}

// request starts r, whose ID has the given number of levels, if this server answers it.
func (p *Platform) request(r Request, levels int) {
	switch {
	case r.ID == "" || strings.Count(r.ID, "/") != levels-1:
		p.notef(r.Message, "%s requires %d more level(s); not answered", r.Kind, levels)
	case !p.opts.Server.knows(r.Kind):
		p.notef(r.Message, "a server of %s does not support %s; not answered", p.opts.Server, r.Kind)
	case r.Kind == "chatbot" && p.opts.NoChatbot && !isSession(r.Message.Serial):
		p.notef(r.Message, "chatbot requests of devices that are not logged in get no answer here")
	case !p.trusts(r.Message) && r.Kind == "nlp/file":
		p.notef(r.Message, "%s; not answered", unsigned)
	case !p.trusts(r.Message):
		p.reply(r, NoFault, Fail(400, unsigned, "I do not know who you are."))
	default:
		p.start(r)
	}
}

const unsigned = "auth_token is missing or invalid"

// trusts reports whether m has the token that an older server requires of devices that are logged
// in.
func (p *Platform) trusts(m Message) bool {
	return p.logins == nil || p.opts.Server != Server2021 || !isSession(m.Serial) || p.logins.vouches(m.Serial, m.Payload)
}

// start answers r in its own goroutine.
func (p *Platform) start(r Request) {
	select {
	case p.work <- struct{}{}:
	default:
		p.reply(r, NoFault, Fail(503, "too many concurrent requests", "I am too busy."))
		return
	}
	p.wg.Go(func() {
		defer func() { <-p.work }()
		fault := p.currentFault()
		for _, reply := range fault.apply(p.answer(r), p.opts.Late) {
			if !p.pause(p.opts.Delay + reply.After) {
				return
			}
			p.reply(r, fault, reply)
		}
	})
}

// answer decides on the answer to r.
func (p *Platform) answer(r Request) []Reply {
	scripted, ok := p.scripted(r.Message.Serial)
	if err := p.understand(&r); err != nil {
		p.notef(r.Message, "%v", err)
		return []Reply{Fail(400, err.Error(), "I could not read what you sent.")}
	}
	switch {
	case ok:
		return scripted
	case p.opts.Answer != nil:
		return p.opts.Answer(r)
	}
	return dialogue{p.opts.Now()}.answer(r)
}

// pause waits, and returns false if the platform was closed.
func (p *Platform) pause(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	select {
	case <-time.After(d):
		return true
	case <-p.ctx.Done():
		return false
	}
}

// reply publishes one message of an answer. The ID is part of the topic in every server version,
// although the documentation omits it.
func (p *Platform) reply(r Request, fault Fault, reply Reply) {
	command := fault.topic(r.Kind, r.Message.Command)
	if r.Kind == "skills" {
		command = "customAction/" + r.ID
	}
	if reply.Command != "" {
		command = reply.Command
	}
	payload, err := p.opts.Server.spell(reply)
	if err != nil {
		p.notef(r.Message, "this answer cannot be encoded as JSON: %v", err)
		return
	}
	p.respond(r.Message, command, payload)
}

// respond publishes to the device that sent m.
func (p *Platform) respond(m Message, command string, payload []byte) {
	if p.ctx.Err() != nil {
		return
	}
	if _, err := p.publish(m.replyTopic(command), payload, p.opts.Server.answerQoS(), false); err != nil {
		p.notef(m, "%v", err)
	}
}

// understand parses the payload of r, which may be anything, and recognises its speech.
func (p *Platform) understand(r *Request) error {
	var body struct {
		Audio            *string         `json:"audio"`
		Text             *string         `json:"text"`
		ConversationData json.RawMessage `json:"conversationData"`
	}
	if err := json.Unmarshal(r.Message.Payload, &body); err != nil {
		return fmt.Errorf("the request is not a JSON object of the protocol: %w", err)
	}
	if d := body.ConversationData; len(d) > 0 && !bytes.Equal(d, []byte("null")) {
		if d[0] != '{' {
			return errors.New("conversationData is not a JSON object")
		}
		r.ConversationData = d
	}
	if r.Kind == "skills" {
		return nil
	}
	if r.Kind != "nlp/file" {
		if body.Text == nil {
			return errors.New(`the request has no "text"`)
		}
		r.Transcript = *body.Text
		return nil
	}
	if body.Audio == nil {
		return errors.New(`the request has no "audio"`)
	}
	return p.listen(r, *body.Audio)
}

func (p *Platform) listen(r *Request, audio string) error {
	pcm, rate, err := decodeAudio(audio)
	if err != nil {
		return err
	}
	h, err := p.ear.Hear(p.ctx, pcm, expected(r.ConversationData))
	if err != nil {
		return err
	}
	p.tell(Event{Kind: Understood, Message: r.Message, Heard: h})
	r.PCM, r.Rate, r.Heard, r.Transcript = pcm, rate, h, h.Text
	return nil
}

// decodeAudio decodes a base64-encoded WAV, with the 16 kHz that the STT service requires.
func decodeAudio(audio string) (pcm []int16, rate int, err error) {
	file, err := base64.StdEncoding.DecodeString(audio)
	if err != nil {
		return nil, 0, fmt.Errorf("audio is not base64: %w", err)
	}
	pcm, rate, err = wav.Read(bytes.NewReader(file))
	switch {
	case err != nil:
		return nil, 0, fmt.Errorf("audio: %w", err)
	case rate != speech.Rate:
		return nil, 0, fmt.Errorf("audio has %d Hz; LinTO requires %d Hz", rate, speech.Rate)
	case len(pcm) == 0:
		return nil, 0, errors.New("audio is empty")
	case speech.Duration(len(pcm), rate) > maxUtterance:
		return nil, 0, fmt.Errorf("audio is longer than %v", maxUtterance)
	}
	return pcm, rate, nil
}
