package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"lintod/cmd/lintosim/speech"
)

// message is a JSON object to or from a device.
type message map[string]any

// envelope contains the members of a device's message that the chat uses. Members of wrong types
// are zero.
type envelope struct {
	Type      string          `json:"type"`
	State     string          `json:"state"`
	Mode      string          `json:"mode"`
	Text      string          `json:"text"`
	Reason    string          `json:"reason"`
	UID       string          `json:"rfid_uid"`
	SessionID *string         `json:"session_id"`
	Payload   json.RawMessage `json:"payload"`
}

// readEnvelope parses a JSON object leniently; ok is false for anything else.
func readEnvelope(raw []byte) (e envelope, ok bool) {
	var members map[string]json.RawMessage
	if json.Unmarshal(raw, &members) != nil || members == nil {
		return e, false
	}
	for name, to := range map[string]*string{"type": &e.Type, "state": &e.State, "mode": &e.Mode, "text": &e.Text, "reason": &e.Reason, "rfid_uid": &e.UID} {
		_ = json.Unmarshal(members[name], to) // non-strings are treated as empty
	}
	_ = json.Unmarshal(members["session_id"], &e.SessionID)
	e.Payload = members["payload"]
	return e, true
}

// name returns the type and subtype of a message.
func (e envelope) name() string {
	var rpc struct {
		Method string          `json:"method"`
		ID     json.RawMessage `json:"id"`
		Error  json.RawMessage `json:"error"`
	}
	switch {
	case e.Type == "mcp" && json.Unmarshal(e.Payload, &rpc) == nil && rpc.Method != "":
		return "mcp " + rpc.Method
	case e.Type == "mcp" && rpc.Error != nil:
		return "mcp error"
	case e.Type == "mcp":
		return "mcp result"
	}
	return strings.TrimSpace(e.Type + " " + e.State)
}

// Timings of xinnan's chat server, 2.10.
const (
	sentAhead    = 5 // frames sent ahead of real time
	deafAfter    = 2 * time.Second
	stopAfter    = 7 * frameLength
	pauseLength  = 700 * time.Millisecond // silence that ends a sentence in auto mode
	leastVoice   = 250 * time.Millisecond // a device's chime is shorter, and real servers do not treat it as voice
	longestInput = 60 * speech.Rate
	inboxSize    = 512
	silenceLimit = 120 * time.Second
)

// chat is one session of the chat server: it listens, recognises, and answers.
type chat struct {
	g         *Gateway
	device    string
	id        string
	wire      Wire
	send      func(message)
	sound     func(opus []byte, timestamp uint32)
	end       func(text string) // ends the session from the server's side
	cut       func()            // drops the connection
	tools     *mcp
	wants     func() []Tool // the device's tools, as known to the chat server
	sentences bool          // sends "sentence_end", as E does

	inbox  chan func()
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	// Owned by run.
	decoder   *decoder
	listening bool
	mode      string
	deafUntil time.Time
	pcm       []int16
	voiced    time.Duration
	quiet     time.Duration
	frames    [][]byte    // unchanged, for the echo
	stop      func() bool // ends the current answer; false if there is none

	answers atomic.Int32 // answers in this session
}

// newChat creates a session; the caller sets its functions for sending to the device.
func (g *Gateway) newChat(ctx context.Context, device, id string, wire Wire) *chat {
	c := &chat{
		g: g, device: device, id: id, wire: wire,
		inbox: make(chan func(), inboxSize), decoder: newDecoder(), stop: func() bool { return false },
	}
	c.ctx, c.cancel = context.WithCancel(ctx)
	return c
}

// start runs the chat until close.
func (c *chat) start() {
	c.g.tell(Event{Kind: Opened, Device: c.device, Wire: c.wire, Text: c.id})
	c.wg.Go(c.run)
}

// close ends the chat's goroutines and waits for them. It must not be called from one of them.
func (c *chat) close() {
	c.cancel()
	c.wg.Wait()
}

func (c *chat) run() {
	silence := time.NewTimer(silenceLimit)
	defer silence.Stop()
	for {
		select {
		case f := <-c.inbox:
			f()
			if c.voiced > 0 {
				silence.Reset(silenceLimit)
			}
		case <-silence.C:
			c.end("no voice for 2 minutes")
		case <-c.ctx.Done():
			return
		}
	}
}

// put queues f for run, unless the queue is full.
func (c *chat) put(f func()) {
	select {
	case c.inbox <- f:
	case <-c.ctx.Done():
	default:
		c.g.notef(c.device, "the chat is too slow; a message of the device was dropped")
	}
}

func (c *chat) note(format string, args ...any) { c.g.notef(c.device, format, args...) }

// message handles one message of the device.
func (c *chat) message(e envelope) {
	switch e.Type {
	case "listen":
		c.listen(e)
	case "speech_end":
		if c.g.opts.Server != Cheeko {
			c.note("speech_end is not supported; send listen stop")
			return
		}
		c.finish()
	case "abort":
		c.abort()
	case "card_lookup":
		c.send(c.g.card(c.device, e.UID))
	case "mcp":
		if !c.tools.take(e.Payload) {
			c.note("unexpected mcp %s", e.name())
		}
	case "speak_ready", "ping", "iot", "udp_timeout":
	default:
		c.note("%s is ignored", e.name())
	}
}

func (c *chat) listen(e envelope) {
	switch e.State {
	case "start":
		c.mode, c.listening = e.Mode, true
		c.pcm, c.voiced, c.quiet, c.frames = nil, 0, 0, nil
		if e.Mode != "manual" && e.Mode != "auto" && e.Mode != "realtime" {
			c.g.broken(c.device, "2.6 mode", fmt.Sprintf("listen start with mode %q", e.Mode))
		}
		c.g.tell(Event{Kind: Listening, Device: c.device, Wire: c.wire, Text: e.Mode})
		c.at(listening)
	case "stop":
		c.finish()
	case "detect":
		c.deafUntil = time.Now().Add(deafAfter)
		c.answer(func(context.Context) (string, speech.Order) {
			return speech.Reply(speech.Plain(e.Text), c.g.opts.Now())
		}, e.Text)
	default:
		c.note("listen %q is ignored", e.State)
	}
}

// at injects the fault of this stage; it reports whether the session is over.
func (c *chat) at(s Stage) bool {
	f := c.g.currentFaults()
	switch s {
	case f.Goodbye:
		c.end("fault")
	case f.Cut:
		c.cut()
	default:
		return false
	}
	return true
}

// hear handles one Opus packet of the device.
func (c *chat) hear(packet []byte) {
	if strings.HasPrefix(string(packet), "ping:") {
		if c.g.opts.Server != Cheeko {
			c.g.broken(c.device, "2.5 ping", "only Cheeko supports a ping as first datagram; here it is forwarded as Opus")
		}
		c.note("ping of session %q", packet[len("ping:"):])
		return
	}
	pcm, err := c.decoder.decode(packet)
	if err != nil {
		c.g.broken(c.device, "2.5 Opus", fmt.Sprintf("a packet of %d bytes is not Opus: %v", len(packet), err))
		return
	}
	if !c.listening || time.Now().Before(c.deafUntil) || len(c.pcm) > longestInput {
		return
	}
	c.pcm, c.frames = append(c.pcm, pcm...), append(c.frames, packet)
	length := speech.Duration(len(pcm), speech.Rate)
	if speech.Level(pcm) > speech.Floor {
		c.voiced, c.quiet = c.voiced+length, 0
	} else {
		c.quiet += length
	}
	if c.mode != "manual" && c.voiced >= leastVoice && c.quiet >= pauseLength {
		c.finish()
	}
}

// finish recognises the utterance, and answers it.
func (c *chat) finish() {
	if !c.listening || c.g.currentFaults().Mute {
		return
	}
	pcm, frames := c.pcm, c.frames
	c.pcm, c.voiced, c.quiet, c.frames = nil, 0, 0, nil
	c.listening = c.mode == "realtime"
	if c.at(thinking) {
		return
	}
	if c.g.opts.Echo {
		c.play(func(ctx context.Context) { c.say(ctx, "echo", frames) })
		return
	}
	if len(pcm) == 0 {
		return // real recognisers return nothing, and no turn starts
	}
	c.answer(func(ctx context.Context) (string, speech.Order) { return c.understand(ctx, pcm) }, "")
}

// understand recognises pcm and decides on an answer.
func (c *chat) understand(ctx context.Context, pcm []int16) (string, speech.Order) {
	h, err := c.g.recogniser.Hear(ctx, pcm, speech.Opening)
	if err != nil {
		c.note("%v", err)
		return "", speech.Order{}
	}
	c.g.tell(Event{Kind: Understood, Device: c.device, Wire: c.wire, Heard: h})
	c.send(message{"type": "stt", "text": h.Text, "session_id": c.id})
	if h.By == speech.ByLevel {
		return speech.ReplyToSound(pcm), speech.Order{}
	}
	return speech.Reply(h.Text, c.g.opts.Now())
}

// answer speaks what decide returns; said is shown if it is known in advance.
func (c *chat) answer(decide func(context.Context) (string, speech.Order), said string) {
	c.play(func(ctx context.Context) {
		if said != "" && c.g.opts.Server != Golang {
			c.send(message{"type": "stt", "text": said, "session_id": c.id})
		}
		text, order := decide(ctx)
		if text == "" || ctx.Err() != nil {
			return
		}
		if f := c.g.currentFaults(); f.Early == 0 {
			c.send(message{"type": "tts", "state": "start", "session_id": c.id})
		}
		c.send(message{"type": "llm", "text": "🙂", "emotion": "happy", "session_id": c.id})
		if problem := c.obey(ctx, order); problem != nil {
			text = "That did not work: " + problem.Error() + "."
		}
		frames, err := c.g.voice(ctx, text)
		if err != nil {
			c.note("%v", err)
			return
		}
		c.say(ctx, text, frames)
	})
}

// play cancels the current answer and runs f.
func (c *chat) play(f func(context.Context)) {
	c.stop()
	ctx, cancel := context.WithCancel(c.ctx)
	c.stop = func() bool {
		playing := ctx.Err() == nil
		cancel()
		return playing
	}
	c.wg.Go(func() {
		defer cancel()
		f(ctx)
	})
}

// obey calls the tool for an order, if the device has it.
func (c *chat) obey(ctx context.Context, o speech.Order) error {
	name, arguments := "self.audio_speaker.set_volume", map[string]any{"volume": o.Percent}
	switch o.Verb {
	case speech.Nothing:
		return nil
	case speech.Mute:
		name, arguments = "self.audio_speaker.mute", map[string]any{}
	}
	known := false
	for _, t := range c.wants() {
		known = known || t.Name == name
	}
	if !known {
		return fmt.Errorf("I know no tool %s of this device", name)
	}
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	_, err := c.tools.call(ctx, name, arguments)
	return err
}

// say sends an answer: its messages, and its sound in real time.
func (c *chat) say(ctx context.Context, text string, frames [][]byte) {
	f := c.g.currentFaults()
	if c.g.opts.Echo && f.Early == 0 {
		c.send(message{"type": "tts", "state": "start", "session_id": c.id})
	}
	announced := f.Early == 0
	if announced {
		c.send(message{"type": "tts", "state": "sentence_start", "text": text, "session_id": c.id})
	}
	if f.Strange {
		c.strange()
	}
	if c.at(speaking) {
		return
	}
	begun := time.Now()
	length := time.Duration(len(frames)-sentAhead) * frameLength
	stopped := false
	halt := func() {
		stopped = true
		if !f.NoStop {
			c.send(message{"type": "tts", "state": "stop", "session_id": c.id})
		}
	}
	for i, frame := range frames {
		at := time.Duration(i-sentAhead) * frameLength
		if !announced && at >= f.Early {
			announced = true
			c.send(message{"type": "tts", "state": "start", "session_id": c.id})
		}
		if f.Tail > 0 && !stopped && at >= length-f.Tail {
			halt()
		}
		if !sleep(ctx, time.Until(begun.Add(at))) {
			return
		}
		if f.PCM {
			frame = rawPCM()
		}
		c.sound(frame, uint32(time.Now().UnixMilli()))
	}
	if c.sentences {
		c.send(message{"type": "tts", "state": "sentence_end", "text": text, "session_id": c.id})
	}
	if !stopped {
		if !sleep(ctx, stopAfter) {
			return
		}
		halt()
	}
	c.g.tell(Event{Kind: Answered, Device: c.device, Wire: c.wire, Text: text})
	if !sleep(ctx, frameLength) || c.at(idle) {
		return
	}
	if n := c.answers.Add(1); c.g.opts.Answers > 0 && n >= int32(c.g.opts.Answers) {
		c.end("the maximum number of answers is reached")
	}
}

// sleep returns false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// abort stops the answer, as requested by the device. The Go server sends nothing if there is none.
func (c *chat) abort() {
	if !c.stop() && c.g.opts.Server == Golang {
		return
	}
	c.send(message{"type": "tts", "state": "stop", "session_id": c.id})
}

// strange sends messages that a device must tolerate.
func (c *chat) strange() {
	c.send(message{"type": "glyph_push", "glyphs": []int{1, 2}, "session_id": c.id})
	c.send(message{"type": "tts", "state": "stop", "session_id": "of-somebody-else"})
	c.send(message{"type": "goodbye", "session_id": "of-somebody-else"})
	c.send(message{"type": 7, "state": message{}, "session_id": nil})
	c.send(message{"type": "stt", "text": nil})
	c.send(message{"type": "llm", "emotion": strings.Repeat("x", 70000)})
	c.send(message{"type": "mcp", "payload": message{"jsonrpc": "2.0", "method": "notifications/strange"}})
	c.send(message{"type": "mcp", "payload": message{"jsonrpc": "2.0", "id": 3999999999, "method": "tools/call", "params": message{"name": "no.such.tool"}}})
}
