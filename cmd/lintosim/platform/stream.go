package platform

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"lintod/cmd/lintosim/speech"
)

const (
	chunkQueue   = 512              // queued chunks
	partialEvery = speech.Rate      // samples between partial results: 1 s
	pauseSamples = speech.Rate      // silence that ends an utterance: 1 s
	maxCollected = 60 * speech.Rate // maximum length of an utterance
	// heldAfterStop is how long the newest server holds a stream after a stop.
	heldAfterStop = 3 * time.Second
)

// Result is how a recogniser reports the end of a stream.
type Result string

// The known results of recognisers.
const (
	TextResult  Result = "text"  // a text on streaming/chunk, as current recognisers do
	FinalResult Result = "final" // JSON with words, which servers send as streaming/final
	NoResult    Result = "none"  // none, because the server closed the connection earlier
)

// ParseResult parses the name of a result.
func ParseResult(name string) (Result, error) {
	switch r := Result(name); r {
	case TextResult, FinalResult, NoResult:
		return r, nil
	}
	return "", fmt.Errorf("unknown result %q; want one of %s, %s, %s", name, TextResult, FinalResult, NoResult)
}

// stream is one live transcription: the server's state for a device, and its recogniser, which has
// its own goroutine.
type stream struct {
	p      *Platform
	m      Message // the request that started it
	chunks chan []byte
	open   atomic.Bool // whether the recogniser is connected

	// Owned by serve.
	sent    int  // chunks passed to the recogniser
	stopped bool // the recogniser has got the end of the sound
	deaf    bool // a chunk arrived before the recogniser was connected

	// Owned by run.
	pcm   []int16 // the current utterance
	odd   []byte  // the first byte of an incomplete sample
	fresh int     // samples since the last partial result
	last  string  // the last partial result
	past  int     // samples of utterances before this one
	texts []string
	words []speech.Word
}

// stream handles streaming/<step>.
func (p *Platform) stream(step string, m Message) {
	key := m.Scope + "/" + m.Serial
	s := p.streams[key]
	switch {
	case step == "chunk" && s == nil:
		p.streamError(m, "chunk", "chunk", "no stream is running")
	case step == "chunk":
		p.chunk(key, s, m)
	case step != "start" && step != "stop":
		p.unknownStep(m)
	case !p.trusts(m):
		p.streamError(m, step, "error", unsigned)
	case step == "start":
		p.startStream(key, s, m)
	case s == nil:
		p.streamError(m, step, "stop", "no stream is running")
	default:
		p.streaming(m, "streaming/stop", Streaming{Status: "stop"})
		p.stopStream(key, s)
	}
}

// unknownStep answers like the router of older servers; the newest does not answer.
func (p *Platform) unknownStep(m Message) {
	if p.opts.Server != Server2021 {
		return
	}
	wrong := Behavior{Error: &Problem{Status: "error", Message: Problem{Message: "unknown action " + m.Command, Code: 400}}}
	payload, err := p.opts.Server.spell(Reply{Behavior: wrong})
	if err != nil {
		p.notef(m, "%v", err)
		return
	}
	p.respond(m, m.Command, payload)
}

// startStream sends "started" before the recogniser is reachable, like real servers.
func (p *Platform) startStream(key string, s *stream, m Message) {
	switch {
	case s != nil:
		p.streamError(m, "start", "started", "a stream is running already")
	case len(p.streams) >= maxStreams:
		p.streamError(m, "start", "error", "too many streams")
	case !acceptable(m.Payload):
		p.streamError(m, "start", "error", "sample_rate must be 16000")
	default:
		s = &stream{p: p, m: m, chunks: make(chan []byte, chunkQueue)}
		p.streams[key] = s
		p.streaming(m, "streaming/start", Streaming{Status: "started"})
		p.wg.Go(func() { s.run(key) })
	}
}

// stopStream sends the end of the sound to the recogniser, if it is connected. The 2021 server
// releases the stream immediately. The newest releases, 3 s later, whichever stream the device then
// has; it never releases a stream without a recogniser.
func (p *Platform) stopStream(key string, s *stream) {
	reached := s.open.Load()
	if reached || p.opts.Server == Server2021 {
		s.end()
	}
	switch {
	case p.opts.Server == Server2021:
		delete(p.streams, key)
	case reached:
		p.wg.Go(func() {
			if p.pause(heldAfterStop) {
				p.later(func() { p.forget(key) })
			}
		})
	}
}

// forget closes the current stream of a device.
func (p *Platform) forget(key string) {
	if s := p.streams[key]; s != nil {
		delete(p.streams, key)
		s.end()
	}
}

// later makes serve call f.
func (p *Platform) later(f func()) {
	select {
	case p.calls <- f:
	case <-p.ctx.Done():
	}
}

// end closes the recogniser's input; serve calls it.
func (s *stream) end() {
	if !s.stopped {
		s.stopped = true
		close(s.chunks)
	}
}

// acceptable reports whether the configuration of a stream, which may be missing, has the supported
// rate.
func acceptable(payload []byte) bool {
	var start struct {
		Config struct {
			Rate *json.Number `json:"sample_rate"`
		} `json:"config"`
	}
	if err := json.Unmarshal(payload, &start); err != nil && len(payload) > 0 {
		return false
	}
	return start.Config.Rate == nil || start.Config.Rate.String() == "16000"
}

// chunk passes sound to the recogniser. While that is not connected, sound is silently dropped.
func (p *Platform) chunk(key string, s *stream, m Message) {
	switch {
	case p.opts.ChunkLimit > 0 && s.sent >= p.opts.ChunkLimit:
		p.streaming(s.m, "streaming/stop", Streaming{Status: "stop"})
		p.stopStream(key, s)
		return
	case !s.open.Load() || s.stopped:
		if !s.deaf {
			s.deaf = true
			p.notef(m, "the recogniser is not connected; sound is dropped")
		}
		return
	}
	s.sent++
	select {
	case s.chunks <- m.Payload:
	default:
		p.dropped.Add(1)
		p.notef(m, "the recogniser is too slow; a chunk was dropped")
	}
}

// endStreams releases all streams when the platform closes.
func (p *Platform) endStreams() {
	for _, s := range p.streams {
		s.end()
	}
}

func (p *Platform) streamError(m Message, step, status, message string) {
	topic, s := p.opts.Server.streamError(step, status, message)
	p.streaming(m, topic, s)
}

func (p *Platform) streaming(m Message, topic string, s Streaming) {
	if p.currentFault() == Silent {
		return
	}
	payload, err := p.opts.Server.spell(Reply{Behavior: Behavior{Streaming: &s}})
	if err != nil {
		p.notef(m, "%v", err)
		return
	}
	p.respond(m, topic, payload)
}

// run simulates the recogniser: it connects after a delay, listens until the stream is stopped, and
// returns the rest after another delay.
func (s *stream) run(key string) {
	if !s.p.pause(s.p.opts.RecogniserOpens) {
		return
	}
	s.open.Store(true)
	defer s.open.Store(false)
	for n := 0; ; n++ {
		select {
		case chunk, more := <-s.chunks:
			if !more {
				s.finish(key)
				return
			}
			s.take(chunk)
			if n+1 == s.p.opts.RecogniserDies {
				s.open.Store(false)
				s.p.notef(s.m, "the recogniser failed")
				return
			}
		case <-s.p.ctx.Done():
			return
		}
	}
}

// take adds a chunk of any length, and sends the results so far.
func (s *stream) take(chunk []byte) {
	s.odd = append(s.odd, chunk...)
	n := len(s.odd) / 2
	for i := range n {
		s.pcm = append(s.pcm, int16(binary.LittleEndian.Uint16(s.odd[2*i:])))
	}
	s.odd = append(s.odd[:0], s.odd[2*n:]...)
	s.fresh += n
	switch {
	case s.fresh < partialEvery:
	case s.ended():
		s.utterance()
	default:
		s.partial()
	}
}

// ended reports whether the speaker has paused, or spoken for too long.
func (s *stream) ended() bool {
	if len(s.pcm) >= maxCollected {
		return true
	}
	quiet := s.pcm[max(0, len(s.pcm)-pauseSamples):]
	return speech.Voiced(s.pcm) > 0 && speech.Level(quiet) < speech.Floor
}

func (s *stream) partial() {
	s.fresh = 0
	if speech.Voiced(s.pcm) == 0 {
		return
	}
	h, ok := s.hear()
	if text := told(h); ok && text != "" && text != s.last {
		s.last = text
		s.p.streaming(s.m, "streaming/chunk", Streaming{Partial: text})
	}
}

// utterance sends the text of a finished utterance; the stream continues.
func (s *stream) utterance() {
	if text := s.conclude(); text != "" {
		s.p.streaming(s.m, "streaming/chunk", Streaming{Text: &text})
	}
}

// conclude moves the current utterance to the finished ones.
func (s *stream) conclude() string {
	h, ok := s.hear()
	if ok {
		s.p.tell(Event{Kind: Understood, Message: s.m, Heard: h})
	}
	at := speech.Duration(s.past, speech.Rate).Seconds()
	s.past += len(s.pcm)
	s.pcm, s.fresh, s.last = nil, 0, ""
	text := told(h)
	if !ok || text == "" {
		return ""
	}
	s.texts = append(s.texts, text)
	for _, w := range h.Words {
		w.Start, w.End = speech.Hundredths(w.Start+at), speech.Hundredths(w.End+at)
		s.words = append(s.words, w)
	}
	return text
}

func (s *stream) hear() (speech.Heard, bool) {
	h, err := s.p.ear.Hear(s.p.ctx, s.pcm, speech.Anything)
	if err != nil {
		s.p.notef(s.m, "%v", err)
	}
	return h, err == nil
}

// finish sends the remaining results, in the form of this recogniser. When the newest server passes
// on a result with words, it releases the stream that the device has at that time.
func (s *stream) finish(key string) {
	if s.p.opts.Result == NoResult || !s.p.pause(s.p.opts.RecogniserDelay) {
		return
	}
	rest := ""
	if speech.Voiced(s.pcm) > 0 {
		rest = s.conclude()
	}
	if s.p.opts.Result == TextResult {
		s.p.streaming(s.m, "streaming/chunk", Streaming{Text: &rest})
		return
	}
	result, err := json.MarshalIndent(struct {
		Text  string        `json:"text"`
		Words []speech.Word `json:"words"`
	}{strings.Join(s.texts, " "), append([]speech.Word{}, s.words...)}, "", "  ")
	if err != nil {
		s.p.notef(s.m, "%v", err)
		return
	}
	s.p.streaming(s.m, "streaming/final", Streaming{Status: "final", Result: string(result)})
	if s.p.opts.Server == Server2024 {
		s.p.later(func() { s.p.forget(key) })
	}
}

// told returns the text of an utterance, or a description without a recogniser.
func told(h speech.Heard) string {
	if h.By == speech.ByLevel && h.Level > speech.Floor {
		return speech.Describe(h)
	}
	return h.Text
}
