package xiaozhi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	saved "lintod/agent/base/state"
	"lintod/agent/link"
	"lintod/agent/link/xiaozhi/message"
	"lintod/agent/turn"
	"lintod/audio"
	"lintod/audio/endpoint"
	"lintod/audio/jitter"
	"lintod/behaviors"
)

// stage is a device with a real turn machine and a session on a server that follows
// the test's script, in a bubble.
type stage struct {
	*testing.T
	*Link
	config      Config
	device      link.Device
	runner      *turn.Runner
	server      *server
	room        *room
	loudspeaker *loudspeaker
	ctx         context.Context
}

// server is the far end: a channel whose other side is a script. By default it
// opens a session 30 ms after hello, and sends nothing else.
type server struct {
	*stage
	kind   string
	script func(m sent)  // called for each message; may be nil
	delay  time.Duration // delay of its hello; negative for never
	mute   bool          // does not echo a goodbye
	broken error         // error of send
	deaf   uint64        // Unreachable
	id     string        // id of all sessions; "" for a new one each

	speaking sync.WaitGroup
	mu       sync.Mutex
	sent     []sent
	packets  int
	sessions int
	ended    int
	renewed  int
	sequence uint32
	bury     bool // packets to the device are lost
	spoil    bool // they arrive as packets that are too long
	arrived  uint64
	spoiled  uint64
}

// udpAddress is the address for the sound of the sessions.
const udpAddress = "192.0.2.1:8884"

// sent is a message from the device.
type sent struct {
	Type, State, Mode, Text, Reason string
	Session                         string `json:"session_id"`
	UID                             string `json:"rfid_uid"`
	at                              time.Time
}

func (m sent) String() string {
	return strings.Join(slices.DeleteFunc([]string{m.Type, m.State, m.Mode, m.Text, m.Reason, m.UID}, func(s string) bool { return s == "" }), " ")
}

func (s *server) transport() string { return s.kind }
func (s *server) prepare(ctx context.Context, n int) time.Duration {
	s.post(ctx, event{kind: ready, session: n})
	return time.Second
}
func (s *server) quiet() {}
func (s *server) echoes() bool {
	return s.kind == useMQTT
}

func (s *server) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended++
}

func (s *server) renew() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.renewed++
}

func (s *server) stats() wireStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return wireStats{Remote: udpAddress, Unreachable: s.deaf, Sent: uint64(s.packets), Received: s.arrived, Dropped: s.spoiled}
}

func (s *server) open(context.Context, int, message.Message) error { return nil }

func (s *server) sound([]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.packets++
}

func (s *server) send(payload []byte) error {
	if s.broken != nil {
		return s.broken
	}
	var m sent
	if err := json.Unmarshal(payload, &m); err != nil {
		s.Errorf("the device sends %s", payload)
	}
	m.at = time.Now()
	s.mu.Lock()
	s.sent = append(s.sent, m)
	s.mu.Unlock()
	switch {
	case m.Type == "hello" && s.delay >= 0:
		s.mu.Lock()
		s.sessions++
		id := s.id
		if id == "" {
			id = strings.Repeat("s", s.sessions)
		}
		s.mu.Unlock()
		s.after(s.delay, `{"type":"hello","transport":"udp","session_id":"`+id+`","udp":{"server":"192.0.2.1","port":8884,"key":"00000000000000000000000000000000","nonce":"01000000000000010000000000000000"}}`)
	case m.Type == "goodbye" && !s.mute:
		s.after(20*time.Millisecond, `{"type":"goodbye","session_id":"`+m.Session+`"}`)
	}
	if s.script != nil {
		s.script(m)
	}
	return nil
}

func (*server) hello(language string) []byte { return message.NewHello(3, "udp", language) }

// says sends messages from the server now.
func (s *server) says(messages ...string) {
	for _, m := range messages {
		s.receive(0, []byte(m), nil, func([]byte) error { return nil })
	}
}

func (s *server) after(d time.Duration, messages ...string) {
	time.AfterFunc(d, func() { s.says(messages...) })
}

// speaks sends d of sound at the pace of a server, without announcing it.
func (s *server) speaks(d time.Duration) {
	stream := s.Link.session.stream
	first := s.Link.session.firstOpus(s.Link.session.number)
	for range d / PacketTime {
		s.mu.Lock()
		s.sequence++
		n, lost := s.sequence, s.bury
		switch {
		case !lost:
			s.arrived++
		case s.spoil:
			s.spoiled++
		}
		s.mu.Unlock()
		if !lost {
			stream.Put(n, []byte{0x58, 1, 2, 3, 4, 5, 6, 7, 8, 9})
			first()
		}
		select {
		case <-time.After(PacketTime):
		case <-s.ctx.Done():
			return
		}
	}
}

// answer sends a whole answer.
func (s *server) answer(d time.Duration) {
	s.speaking.Go(func() {
		s.says(`{"type":"tts","state":"start"}`, `{"type":"tts","state":"sentence_start","text":"it is four"}`)
		s.speaks(d)
		s.says(`{"type":"tts","state":"stop"}`)
	})
}

// messages returns what the device has sent so far.
func (s *server) messages() (list []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.sent {
		list = append(list, m.String())
	}
	return list
}

func (s *server) heard() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.packets
}

// room is a microphone.
type room struct{ loud atomic.Int32 }

func (r *room) Listen(bool) turn.Stream           { return &roomStream{r} }
func (r *room) ListenInRoom(bool) turn.Stream     { return &roomStream{r} }
func (r *room) ListenSince(time.Time) turn.Stream { return &roomStream{r} }

type roomStream struct{ *room }

func (s *roomStream) Read(ctx context.Context, f *audio.Frame) error {
	at := time.Now()
	select {
	case <-time.After(audio.FrameTime):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	*f = audio.Frame{At: at}
	for i := range f.PCM {
		f.PCM[i] = int16(s.loud.Load()) * int16(1-2*(i/8%2))
	}
	return nil
}
func (*roomStream) SetDelay(time.Duration) {}
func (*roomStream) Dropped() uint64        { return 0 }
func (*roomStream) Close() error           { return nil }

// loudspeaker plays at the pace of a card.
type loudspeaker struct {
	mu     sync.Mutex
	heard  time.Duration // duration of sound other than silence
	last   time.Time     // when
	cues   []turn.Cue
	said   []string
	broken error
	breaks time.Duration // fails once after this much of a sound
}

func (m *loudspeaker) Speak(_ context.Context, text string, started func()) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.said = append(m.said, text)
	started()
	return nil
}

func (m *loudspeaker) Play(ctx context.Context, s audio.Sound, started func()) error {
	if m.broken != nil {
		return m.broken
	}
	pcm := make([]int16, s.Rate()/50)
	for begun := false; ; begun = true {
		n, err := s.Read(ctx, pcm)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if !begun {
			started()
		}
		time.Sleep(time.Duration(n) * time.Second / time.Duration(s.Rate()))
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if m.breaks > 0 && m.length() >= m.breaks {
			m.breaks = 0
			return errors.New("the card is gone")
		}
		if slices.Max(pcm[:n]) > 0 {
			m.mu.Lock()
			m.heard += time.Duration(n) * time.Second / time.Duration(s.Rate())
			m.last = time.Now()
			m.mu.Unlock()
		}
	}
}

func (m *loudspeaker) Cue(c turn.Cue) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cues = append(m.cues, c)
}
func (*loudspeaker) Underruns() uint64      { return 0 }
func (*loudspeaker) Sounded(time.Time) bool { return false }
func (*loudspeaker) SetTurn(bool)           {}
func (*loudspeaker) Hush()                  {}

func (m *loudspeaker) length() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.heard
}

func (m *loudspeaker) cued(c turn.Cue) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Contains(m.cues, c)
}

// codec encodes 60 ms to ten bytes, and back.
type codec struct{ frames chan struct{} }

func newCodec() codec { return codec{make(chan struct{}, 64)} }

func (c codec) Close() error { return nil }

type encoder struct{ codec }

func (c encoder) Write(context.Context, []int16) error { c.frames <- struct{}{}; return nil }
func (c encoder) Read(_ context.Context, packet []byte) (int, error) {
	<-c.frames
	return copy(packet, []byte{0x58, 1, 2, 3, 4, 5, 6, 7, 8, 9}), nil
}

type decoder struct{ codec }

func (c decoder) Write(context.Context, []byte) error { c.frames <- struct{}{}; return nil }
func (c decoder) Read(ctx context.Context, frame []int16) (int, error) {
	select {
	case <-c.frames:
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	n := 16000 * 60 / 1000
	for i := range n {
		frame[i] = int16(8000 * (1 - 2*(i/8%2)))
	}
	return n, nil
}

// play runs a test on a stage with a connected server.
func play(t *testing.T, change func(*stage), story func(*stage)) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := &stage{T: t, ctx: ctx, room: &room{}, loudspeaker: &loudspeaker{}}
		s.config = Defaults()
		s.device = link.Device{
			StateDir: t.TempDir(), Registry: &behaviors.Registry{}, Log: slog.New(slog.DiscardHandler),
			Volume: func() int { return 50 }, Settings: func() saved.Saved { return saved.Saved{Language: "en-GB"} },
			Announce:   func(text string) error { return s.loudspeaker.Speak(ctx, text, func() {}) },
			OutputRate: 16000,
		}
		s.runner = &turn.Runner{
			Microphone: s.room, Loudspeaker: s.loudspeaker, Bus: &turn.Bus{}, Log: s.device.Log,
			Endpoint: endpoint.Config{Silence: 800 * time.Millisecond, MaxUtterance: 20 * time.Second, NoSpeech: 6 * time.Second},
			Initial:  turn.Flags{Offline: true},
		}
		s.device.Connected = func(up bool) { s.runner.SetOnline(Name, up) }
		s.device.Notify = func(w turn.What, text string) { s.runner.Notify(Name, w, text) }
		s.device.Call = s.runner.Call
		s.server = &server{stage: s, kind: useMQTT, delay: 30 * time.Millisecond}
		if change != nil {
			change(s)
		}
		s.Link = New(s.config, s.device)
		s.openEncoder = func(context.Context) (Encoder, error) { return encoder{newCodec()}, nil }
		s.openDecoder = func(context.Context) (jitter.Decoder, error) { return decoder{newCodec()}, nil }
		s.runner.Talkers = []turn.Talker{s.Link}
		var all sync.WaitGroup
		all.Go(func() { _ = s.runner.Run(ctx) })
		all.Go(func() { defer close(s.stopped); s.Link.session.run(ctx) })
		all.Go(func() { _ = s.Link.tools.Run(ctx) })
		defer func() {
			cancel()
			all.Wait()
			s.microphones.Wait()
			s.server.speaking.Wait()
		}()
		s.put(ctx, event{kind: up, channel: s.server})
		synctest.Wait()
		story(s)
	})
}

func (s *stage) wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (s *stage) tap() {
	s.Helper()
	if err := s.runner.Trigger(turn.Tap, Name); err != nil {
		s.Fatal(err)
	}
	synctest.Wait()
}

func (s *stage) press() {
	s.Helper()
	if err := s.runner.Trigger(turn.Press, Name); err != nil {
		s.Fatal(err)
	}
	synctest.Wait()
}

func (s *stage) release() { s.runner.Post(turn.Release); synctest.Wait() }

// talks makes the user speak for d.
func (s *stage) talks(d time.Duration) {
	s.room.loud.Store(8000)
	s.wait(d)
	s.room.loud.Store(0)
}

func (s *stage) expect(want turn.State) {
	s.Helper()
	if got := s.runner.Snapshot().State; got != want {
		s.Fatalf("the device is %v, want %v; sent %q", got, want, s.server.messages())
	}
}

func (s *stage) expectSent(want ...string) {
	s.Helper()
	if got := s.server.messages(); !slices.Equal(got, want) {
		s.Fatalf("sent\n%q, want\n%q", got, want)
	}
}

// last is the record of the last turn.
func (s *stage) last() turn.Record {
	s.Helper()
	r := s.runner.Records()
	if len(r) == 0 {
		s.Fatal("no turn has ended")
	}
	return r[len(r)-1]
}
