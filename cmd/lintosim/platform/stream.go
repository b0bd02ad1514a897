package platform

import (
	"encoding/binary"
	"encoding/json"
	"strings"
	"time"
)

const (
	chunkQueue    = 512             // chunks that wait while the recogniser works
	streamTimeout = time.Minute     // without a chunk, after which a stream is given up
	partialEvery  = sampleRate      // samples between partial results: 1 s
	pauseSamples  = sampleRate      // silence that ends an utterance: 1 s
	maxCollected  = 60 * sampleRate // longest utterance of a stream
)

// stream is one live transcription. It has a goroutine of its own.
type stream struct {
	p      *Platform
	m      Message // the request that started it
	chunks chan []byte
	done   chan struct{} // closed when the stream has ended by itself

	taken int     // chunks so far
	pcm   []int16 // the utterance that goes on
	odd   []byte  // half a sample that waits for its other half
	fresh int     // samples since the last partial result
	last  string  // the last partial result
	past  int     // samples of utterances before this one
	texts []string
	words []Word
}

// stream handles streaming/<step>.
func (p *Platform) stream(step string, m Message) {
	key := m.Scope + "/" + m.Serial
	s := p.streams[key]
	if s != nil && s.over() {
		delete(p.streams, key)
		s = nil
	}
	switch {
	case step == "chunk":
		p.chunk(s, m)
	case step != "start" && step != "stop":
		p.unknownStep(m)
	case !p.trusts(m):
		p.streamError(m, step, "error", unsigned)
	case step == "start":
		p.startStream(key, s, m)
	case s == nil:
		p.streamError(m, step, "stop", "no stream is running")
	default:
		delete(p.streams, key)
		p.streaming(m, "streaming/stop", Streaming{Status: "stop"})
		close(s.chunks)
	}
}

// unknownStep answers as the router of older servers; the newest says nothing.
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

func (p *Platform) startStream(key string, s *stream, m Message) {
	switch {
	case s != nil:
		p.streamError(m, "start", "started", "a stream is running already")
	case len(p.streams) >= maxStreams:
		p.streamError(m, "start", "error", "too many streams")
	case !acceptable(m.Payload):
		p.streamError(m, "start", "error", "sample_rate must be 16000")
	default:
		s = &stream{p: p, m: m, chunks: make(chan []byte, chunkQueue), done: make(chan struct{})}
		p.streams[key] = s
		p.streaming(m, "streaming/start", Streaming{Status: "started"})
		p.wg.Go(s.run)
	}
}

// acceptable reports whether the configuration of a stream, which may be
// missing, asks for the rate that we know.
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

func (p *Platform) chunk(s *stream, m Message) {
	if s == nil {
		p.streamError(m, "chunk", "chunk", "no stream is running")
		return
	}
	select {
	case s.chunks <- m.Payload:
	default:
		p.dropped.Add(1)
		p.notef(m, "the recogniser cannot follow; a chunk was dropped")
	}
}

// endStreams lets all streams go when the platform closes.
func (p *Platform) endStreams() {
	for _, s := range p.streams {
		close(s.chunks)
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

func (s *stream) over() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// run listens until the stream is stopped, and then sends the final result.
func (s *stream) run() {
	defer close(s.done)
	idle := time.NewTimer(streamTimeout)
	defer idle.Stop()
	for {
		select {
		case chunk, more := <-s.chunks:
			if !more {
				s.finish()
				return
			}
			idle.Reset(streamTimeout)
			s.take(chunk)
			if s.taken++; s.taken == s.p.opts.ChunkLimit {
				s.p.streaming(s.m, "streaming/stop", Streaming{Status: "stop"})
				s.finish()
				return
			}
		case <-idle.C:
			s.p.streaming(s.m, "streaming/stop", Streaming{Status: "stop", Message: "no sound for a minute"})
			return
		case <-s.p.ctx.Done():
			return
		}
	}
}

// take adds a chunk, of any length, and tells what can be told by now.
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
	return voiced(s.pcm) > 0 && LevelOf(quiet) < gateFloor
}

func (s *stream) partial() {
	s.fresh = 0
	if voiced(s.pcm) == 0 {
		return
	}
	h, ok := s.hear()
	if text := told(h); ok && text != "" && text != s.last {
		s.last = text
		s.p.streaming(s.m, "streaming/chunk", Streaming{Partial: text})
	}
}

// utterance tells the text of an utterance that is over; the stream goes on.
func (s *stream) utterance() {
	if text := s.conclude(); text != "" {
		s.p.streaming(s.m, "streaming/chunk", Streaming{Text: text})
	}
}

// conclude moves the utterance that goes on to those that are over.
func (s *stream) conclude() string {
	h, ok := s.hear()
	if ok {
		s.p.tell(Event{Kind: Understood, Message: s.m, Heard: h})
	}
	at := durationOf(s.past, sampleRate).Seconds()
	s.past += len(s.pcm)
	s.pcm, s.fresh, s.last = nil, 0, ""
	text := told(h)
	if !ok || text == "" {
		return ""
	}
	s.texts = append(s.texts, text)
	for _, w := range h.Words {
		w.Start, w.End = hundredths(w.Start+at), hundredths(w.End+at)
		s.words = append(s.words, w)
	}
	return text
}

func (s *stream) hear() (Heard, bool) {
	h, err := s.p.speech.hear(s.p.ctx, s.pcm, anything)
	if err != nil {
		s.p.notef(s.m, "%v", err)
	}
	return h, err == nil
}

// finish sends the final result, if this server does: JSON in a string, as real
// servers do.
func (s *stream) finish() {
	if s.p.opts.NoFinal {
		return
	}
	if voiced(s.pcm) > 0 {
		s.conclude()
	}
	result, err := json.MarshalIndent(struct {
		Text  string `json:"text"`
		Words []Word `json:"words"`
	}{strings.Join(s.texts, " "), append([]Word{}, s.words...)}, "", "  ")
	if err != nil {
		s.p.notef(s.m, "%v", err)
		return
	}
	s.p.streaming(s.m, "streaming/final", Streaming{Status: "final", Result: string(result)})
}

// told is the text of an utterance, or what can be said of it without a
// recogniser.
func told(h Heard) string {
	if h.By == ByLevel && h.Level > gateFloor {
		return describe(h)
	}
	return h.Text
}
