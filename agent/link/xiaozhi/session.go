package xiaozhi

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"lintod/agent/base/printable"
	"lintod/agent/link"
	"lintod/agent/link/xiaozhi/message"
	"lintod/agent/turn"
	"lintod/audio/jitter"
)

// The times of the protocol (2.7.4).
const (
	helloLimit  = 10 * time.Second
	idleLimit   = 120 * time.Second
	answerLimit = 20 * time.Second
	opusLimit   = 3 * time.Second
	moreLimit   = 35 * time.Second
	tailLimit   = 8 * time.Second
	echoLimit   = time.Second
	// lapse is how soon a goodbye says that the server knew nothing of the session.
	lapse = 3 * time.Second
	// lateGoodbye is how long after hello a goodbye may be that of the session before,
	// whatever its id (C51).
	lateGoodbye = time.Second
)

const (
	eventQueue = 256
	// maxSentences is how many of an answer are kept, for who asked in writing.
	maxSentences = 200
)

const forever = time.Duration(1<<63 - 1)

// event is something that happened, with what belongs to it.
type event struct {
	kind    eventKind
	session int             // number of the session; 0: whichever there is
	channel channel         // with up
	taken   chan struct{}   // closed when it was handled; may be nil
	talk    *talk           // whose it is
	sound   int             // with played: which answer
	message message.Message // from the server
	from    bool            // there is a message, and kind is not known yet
	card    *link.Card      // that the server is asked about, and kind does not count
	uid     string          // of the card, with cool
	err     error
	cause   error // with dropped
}

// session is what goes on between the device and a server, and who carries it out.
// One goroutine, that of run, owns it; what other goroutines use is said to be theirs.
type session struct {
	*Link

	state   state
	limit   limit
	timer   *time.Timer
	channel channel // nil while offline
	talk    *talk   // the exchange that has the session, or waits for it; may be nil

	warmed string // the card that the session was opened for, and nobody has talked in

	number int    // counts sessions: their ids prove nothing (C51)
	id     string // that the server gave to the present or last one
	stream *jitter.Stream
	why    error     // of a failure
	opened time.Time // when hello went out
	began  time.Time // when the microphone opened, or the question went out
	parted bool      // the session before was ended by us, and not echoed
	sign   time.Time // the last message of the server

	sounds    int       // answers so far
	more      bool      // another answer follows the one that is heard
	spoken    bool      // the server has begun a sentence of this answer
	promised  time.Time // when this answer was announced
	received  uint64    // packets of the session before this answer
	refused   uint64    // datagrams of the session before it that were no packets of it
	suspected bool      // the sound of this answer does not come
	deaf      int       // answers without sound, one after the other, of whichever session
	silent    error     // why no sound comes; nil when some has

	arrived atomic.Int64 // when the last packet of sound came: nanoseconds since the link's start
	pending atomic.Bool  // the first packet of an answer is to be posted
}

// run owns the session until ctx ends; then it says goodbye.
func (s *session) run(ctx context.Context) {
	s.timer = time.NewTimer(forever)
	defer s.timer.Stop()
	for {
		select {
		case <-ctx.Done():
			s.shutDown()
			return
		case e := <-s.events:
			s.take(ctx, e)
		case <-s.timer.C:
			if left := s.left(); left > 0 {
				s.timer.Reset(left)
				continue
			}
			s.handle(ctx, event{kind: due})
		case <-s.probes:
		}
		s.show()
	}
}

func (s *session) shutDown() {
	if s.state.inSession() {
		s.sendGoodbye()
	}
	if s.channel != nil {
		s.channel.end()
	}
	if s.stream != nil {
		s.stream.Close()
	}
	if s.talk != nil {
		s.talk.conclude(turn.Over, turn.ErrShutDown)
	}
	s.state = offline
	s.show()
}

// take sorts an event: what belongs to an earlier session or exchange is past.
func (s *session) take(ctx context.Context, e event) {
	if e.taken != nil {
		defer close(e.taken)
	}
	if e.session != 0 && e.session != s.number {
		return
	}
	if e.from {
		s.receive(ctx, e.message)
		return
	}
	if e.card != nil {
		s.lookUp(*e.card)
		return
	}
	switch e.kind {
	case up:
		s.channel = e.channel
	case cool:
		if e.uid != s.warmed || s.warmed == "" {
			return
		}
		s.warmed = ""
	case wantListen, wantAnswer, join:
		s.talk, s.warmed = e.talk, ""
		s.talk.number, s.talk.sounds = s.number, s.sounds
	case finished:
		if e.talk != s.talk {
			return
		}
	case dropped:
		if e.talk != s.talk {
			return
		}
		s.talk.mic.close()
		s.talk = nil
		if errors.Is(e.cause, jitter.ErrNotOpus) {
			e.kind = garbled
		}
	case unplayed:
		if e.talk != s.talk || e.sound != s.sounds {
			return
		}
	case played:
		if e.talk != s.talk || e.sound != s.sounds {
			return
		}
		e.kind = s.afterSound()
	}
	s.handle(ctx, e)
}

// afterSound is what it means that an answer has been heard.
func (s *session) afterSound() eventKind {
	switch {
	case !s.unheard():
		s.audible()
	case s.garbles():
		return garbled
	case s.state == draining && s.endsUnheard():
		return dead
	case s.spoken && s.talk.question == "": // whoever asked in writing has the answer
		s.why = s.noSound()
		s.Warn("no sound arrives", s.why)
		return voiceless
	}
	switch {
	case s.more:
		return heardPart
	case s.talk.mode == message.Realtime && s.talk.mic.isOpen():
		return heardOut
	}
	return played
}

// handle asks the table and does what it says.
func (s *session) handle(ctx context.Context, e event) {
	now := s.state
	then, known := table[when{now, e.kind}]
	if !known {
		return
	}
	if now != then.state {
		s.Log.Debug("session", "step", describe(now, e.kind, then.state))
	}
	if e.err != nil {
		s.why = e.err
	}
	s.state = then.state
	s.allow(then.limit)
	for _, step := range then.do {
		if err := s.do(ctx, step, now, e); err != nil {
			s.handle(ctx, event{kind: refused, err: err})
			return
		}
	}
}

// allow sets how long the present state may last.
func (s *session) allow(l limit) {
	if l == unchanged {
		return
	}
	s.limit = l
	s.sign = time.Now()
	s.timer.Reset(s.longest())
}

func (s *session) longest() time.Duration {
	switch s.limit {
	case forHello:
		return helloLimit
	case forIdle:
		return idleLimit
	case forVoice:
		return s.Config.silence()
	case forAnswer:
		return answerLimit
	case forOpus:
		return opusLimit
	case forMore:
		return moreLimit
	case forTail:
		return tailLimit
	case forEcho:
		if s.channel != nil && s.channel.echoes() {
			return echoLimit
		}
		return time.Millisecond
	case forPrepare:
		return dialLimit + sendLimit // or what prepare says
	}
	return forever
}

// left is how much longer the present state may last because the server, or the user,
// has given a sign of life meanwhile.
func (s *session) left() time.Duration {
	last := s.sign
	switch s.limit {
	case forIdle, forAnswer:
	case forVoice:
		if s.talk != nil && s.talk.x.LastVoice().After(last) {
			last = s.talk.x.LastVoice()
		}
	case forMore:
		if sound := s.started.Add(time.Duration(s.arrived.Load())); sound.After(last) {
			last = sound
		}
	default:
		return 0
	}
	return time.Until(last.Add(s.longest()))
}

// firstOpus returns what the wire calls at each packet of a session.
func (s *session) firstOpus(session int) func() {
	return func() {
		s.arrived.Store(int64(time.Since(s.started)))
		if s.pending.CompareAndSwap(true, false) {
			s.post(context.Background(), event{kind: firstOpus, session: session})
		}
	}
}

// do carries out a step of the transition from the state was. An error ends the session.
func (s *session) do(ctx context.Context, do step, was state, e event) error {
	switch do {
	case tellOnline:
		s.Connected(true)
	case tellOffline:
		s.channel = nil
		s.Connected(false)
	case prepare:
		s.number++
		s.more, s.parted = false, s.parted && was == idle
		s.newStream()
		s.timer.Reset(s.channel.prepare(ctx, s.number))
	case sendHello:
		s.id, s.opened = "", time.Now()
		return s.channel.send(s.channel.hello(s.Config.language(s.Settings().Language)))
	case openSound:
		s.id = e.message.Session
		return s.channel.open(ctx, s.number, e.message)
	case proceed:
		if s.talk != nil {
			s.handle(ctx, event{kind: s.talk.wants})
		}
	case startMic:
		return s.startMic()
	case ask:
		return s.ask()
	case stopMicrophone:
		s.talk.mic.close()
		if s.Config.Profile == cheeko {
			return s.channel.send(message.NewSpeechEnd(s.id))
		}
		return s.channel.send(message.ListenStop(s.id))
	case cutMic:
		s.talk.mic.close()
		s.talk.enough.Set()
	case startSound:
		s.startSound(ctx)
	case giveSound:
		s.talk.take(answer{s.sounds, s.stream.Sound()})
	case stopSound:
		s.stream.Stop()
	case dropSound:
		s.stream.Drop()
	case again:
		s.more = true
	case call:
		s.callDevice(ctx)
	case suspect:
		s.suspect(ctx)
	case trust:
		s.audible()
	case abort:
		s.channel.quiet()
		s.stream.Drop()
		return s.channel.send(message.Abort(s.id, reason(e)))
	case sayTimeout:
		s.why = s.noSound()
		s.silent = s.why
		s.Warn("no sound arrives", s.why)
		s.avoidMQTT(s.why)
		return s.channel.send(message.UDPTimeout(s.id))
	case sayGoodbye:
		if s.why == nil && was == waiting {
			s.why = errNoAnswer
		}
		s.sendGoodbye()
	case endSession:
		if s.talk != nil {
			s.talk.mic.close()
		}
		s.channel.end()
		if s.state != leaving {
			s.stream.Close()
		}
	case over:
		s.conclude(nil)
	case fail:
		s.conclude(s.failure(was, e))
	}
	return nil
}

// startMic says that the microphone opens, and lets it flow.
func (s *session) startMic() error {
	t := s.talk
	s.began = time.Now()
	if t.word != "" {
		if err := s.channel.send(message.ListenDetect(s.id, t.word)); err != nil {
			return err
		}
		t.word = ""
	}
	if err := s.channel.send(message.ListenStart(s.id, t.mode)); err != nil {
		return err
	}
	t.mic.open(s.channel)
	return nil
}

// ask asks without the microphone: in writing, or because the server wants to be asked.
func (s *session) ask() error {
	t := s.talk
	s.began = time.Now()
	switch {
	case t.request != nil:
		return s.channel.send(message.SpeakReady(t.request.Session, t.number == s.number))
	default:
		t.x.Tell(turn.RequestOut, "")
		return s.channel.send(message.ListenDetect(s.id, t.question))
	}
}

// startSound begins an answer. The exchange, if there is one, gets it.
func (s *session) startSound(ctx context.Context) {
	s.sounds++
	s.more, s.spoken, s.suspected, s.promised = false, false, false, time.Now()
	s.received, s.refused = s.stream.Stats().Packets, s.channel.stats().Dropped
	s.pending.Store(true)
	s.stream.Start()
	if time.Since(s.started.Add(time.Duration(s.arrived.Load()))) < earlySound && s.arrived.Load() > 0 {
		s.pending.Store(false)
		s.handle(ctx, event{kind: firstOpus}) // it came before it was announced (G24)
	}
	if s.talk != nil {
		if s.talk.mode != message.Realtime {
			s.talk.mic.close()
		}
		s.talk.take(answer{s.sounds, s.stream.Sound()})
	}
}

// earlySound is how long before its announcement the sound of an answer may come.
const earlySound = 500 * time.Millisecond

// unheard tells that no packet of this answer has come.
func (s *session) unheard() bool { return s.stream.Stats().Packets == s.received }

// suspect is called when sound that was announced does not come. A server that has
// not begun a sentence may still be making it.
func (s *session) suspect(ctx context.Context) {
	switch {
	case s.garbles():
		s.handle(ctx, event{kind: garbled})
	case s.channel.stats().Unreachable > 0, (!s.suspected || s.spoken) && s.deafer():
		s.handle(ctx, event{kind: dead})
	case time.Since(s.promised) > moreLimit:
		s.handle(ctx, event{kind: ttsStop})
	}
	s.suspected = true
}

// deafer notes that announced sound has not come, and tells whether that is enough to
// give up on UDP. Over WebSocket the server has not sent any.
func (s *session) deafer() bool {
	s.deaf++
	return s.deaf >= 2 && s.channel.transport() == useMQTT
}

// endsUnheard is deafer at the end of an answer. One of which the server has begun a sentence
// is enough in a session in which not one datagram has come.
func (s *session) endsUnheard() bool {
	if s.channel.transport() == useMQTT && s.spoken && s.channel.stats().Received == 0 {
		return true
	}
	return !s.suspected && s.deafer()
}

// audible notes that sound arrives.
func (s *session) audible() { s.deaf, s.silent = 0, nil }

// garbles tells that what has come of this answer is no sound, which another key may mend.
func (s *session) garbles() bool {
	if !s.unheard() || s.channel == nil || s.channel.stats().Dropped == s.refused {
		return false
	}
	s.why = errNotOpus
	return true
}

func (s *session) noSound() error {
	if s.channel.transport() == useWebSocket {
		return errNoVoice
	}
	stats := s.channel.stats()
	if stats.Unreachable > 0 {
		return fmt.Errorf("no sound: the server's host refuses UDP at %s; open that port at the server", stats.Remote)
	}
	return fmt.Errorf("no sound arrives from %s, perhaps because the UDP port is closed on the way; `lintod doctor` tries it", stats.Remote)
}

// callDevice opens an exchange for what the server says by itself.
func (s *session) callDevice(ctx context.Context) {
	if s.talk != nil {
		return
	}
	number := s.number
	go func() {
		if err := s.Call(ctx, s.Link); err != nil {
			s.Log.Info("the server's call is not taken", "reason", err)
			s.post(ctx, event{kind: unwanted, session: number})
		}
	}()
}

func (s *session) sendGoodbye() {
	s.parted = s.channel.echoes()
	if err := s.channel.send(message.NewGoodbye(s.id)); err != nil {
		s.Log.Debug("goodbye not sent", "error", err)
	}
}

// reason is what an interruption is called.
func reason(e event) string {
	switch {
	case e.kind == wantListen && e.talk != nil && e.talk.x.Trigger == turn.ByWake, errors.Is(e.cause, turn.ErrWoken):
		return message.WakeWordDetected
	case e.kind == wantListen, errors.Is(e.cause, turn.ErrBargeIn):
		return message.ButtonPressed
	}
	return message.UserInterrupt
}

// conclude ends the exchange that has the session.
func (s *session) conclude(err error) {
	t := s.talk
	s.talk, s.why = nil, nil
	if t == nil {
		return
	}
	t.mic.close()
	next := turn.Over
	if t.again && s.state == open && s.sounds > t.sounds {
		next = turn.Again
	}
	t.conclude(next, err)
}

var (
	errNoAnswer = errors.New("the server does not answer")
	errNoHello  = errors.New("the server did not open a session within 10 s")
	errAway     = errors.New("the server cannot be reached")
	errNoVoice  = errors.New("the server has begun an answer, and sent no sound of it")
	errNotOpus  = errors.New("what was received is not Opus: the packets are too long, or of another session")
	errGoodbye  = errors.New("the server has ended the session")
)

// failure is why the exchange fails; nil where nobody misses anything.
func (s *session) failure(was state, e event) error {
	t := s.talk
	silent := t != nil && was == listening && t.x.Trigger == turn.ByFollowUp && !t.x.Heard()
	switch {
	case silent && e.kind != down:
		return nil // nobody wanted to go on
	case s.why != nil:
		return s.why
	case e.kind == due && was == connecting:
		return errNoHello
	case e.kind == goodbye && e.message.Reason != "":
		return fmt.Errorf("%w: %s", errGoodbye, printable.Clip(e.message.Reason, 200))
	case e.kind == goodbye:
		return errGoodbye
	case e.kind == due:
		return errNoAnswer
	}
	return errAway
}

// receive takes in a message of the server.
func (s *session) receive(ctx context.Context, m message.Message) {
	s.sign = time.Now()
	foreign := m.Session != "" && s.id != "" && m.Session != s.id
	e := event{message: m}
	switch m.Type {
	case message.Hello:
		if s.state != connecting {
			return // late, or nobody asked
		}
		e.kind = hello
	case message.TTS:
		if foreign {
			return
		}
		switch m.State {
		case "start":
			e.kind = ttsStart
		case "sentence_start":
			s.sentence(m.Text)
			return
		case "stop":
			e.kind = ttsStop
		default:
			return
		}
	case message.Goodbye:
		if foreign || s.late(m) {
			return
		}
		e.kind = goodbye
		if s.forgot() {
			s.talk.retried = true
			e.kind = lapsed
		}
	case message.Error:
		text := printable.Clip(strings.TrimSpace(m.Text+" "+m.Code), 200)
		s.Warn("the server reports an error", errors.New(text))
		e.kind, e.err = refused, fmt.Errorf("the server reports: %s", text)
		if s.state != connecting {
			return // an event, and no change
		}
	case message.SpeakRequest:
		if !s.Config.AllowRemoteSpeech || s.talk != nil {
			if s.reports.isNew("speak_request", strconv.FormatBool(s.Config.AllowRemoteSpeech)) {
				s.Log.Info("the server may not speak now; its request is not answered", "allowed", s.Config.AllowRemoteSpeech)
			}
			return
		}
		s.calls.speak(m)
		e.kind = request
	case message.RecordStop, message.SpeechEnd:
		e.kind = stopMic
	case message.Listen:
		if m.State != "stop" {
			return
		}
		e.kind = stopMic
	case message.ModeUpdate:
		s.modeUpdate(ctx, m)
		return
	default:
		s.hear(ctx, m)
		return
	}
	s.handle(ctx, e)
}

// forgot tells that a goodbye answers our first message: the server knows of no session,
// though we do. Of what was said nothing is lost if it is asked again, once.
func (s *session) forgot() bool {
	t := s.talk
	return t != nil && !t.retried && time.Since(s.began) < lapse &&
		(s.state == listening || s.state == waiting && t.wants == wantAnswer)
}

// late tells that a goodbye is not that of this session: it comes right after a hello
// that followed a goodbye of ours (C51); or there is none, and it has no id (G19).
func (s *session) late(m message.Message) bool {
	if s.state == closing {
		s.parted = false
		return false
	}
	if s.parted && time.Since(s.opened) <= lateGoodbye {
		s.parted = false
		return true
	}
	return s.state == connecting && m.Session == ""
}

// modeUpdate adopts what a change of mode or character brings.
func (s *session) modeUpdate(ctx context.Context, m message.Message) {
	if m.Listening != "" {
		s.wanted.Store(m.Listening)
	}
	if !s.state.inSession() && s.state != connecting {
		return
	}
	if m.Session != "" {
		s.id = m.Session
	}
	if m.UDP != nil && s.state.inSession() {
		if err := s.channel.open(ctx, s.number, m); err != nil {
			s.handle(ctx, event{kind: refused, err: err})
		}
	}
}

// sentence takes note of what the server begins to say.
func (s *session) sentence(text string) {
	s.spoken = true
	if t := s.talk; t != nil && text != "" && (s.state == announced || s.state == speaking) {
		if len(t.sentences) < maxSentences {
			t.sentences = append(t.sentences, text)
		}
		t.x.Tell(turn.GotSentence, text)
	}
}

// hear takes in what changes nothing.
func (s *session) hear(ctx context.Context, m message.Message) {
	tell := s.Tell
	if s.talk != nil {
		tell = s.talk.x.Tell
	}
	switch m.Type {
	case message.STT:
		if s.talk != nil {
			s.talk.understood = true
		}
		if m.Text != "" {
			tell(turn.GotTranscript, m.Text)
		}
	case message.LLM, message.Emotion:
		if m.Emotion != "" {
			tell(turn.GotEmotion, m.Emotion)
		}
	case message.Alert:
		text := strings.Trim(m.Status+": "+m.Text, ": ")
		s.Warn("alert of the server", errors.New(printable.Clip(text, 500)))
		tell(turn.GotDisplay, text)
	case message.System:
		s.system(m.Command)
	case message.IoT:
		s.iot(m)
	case message.AgentReady, message.CallAccepted, message.Greeting:
		if s.reports.isNew("an event", m.Type) {
			s.Log.Info("the server reports", "event", m.Type)
		}
	case message.CardContent, message.CardCurrent, message.CardUnknown, message.CardAI, message.DownloadResponse:
		s.hearCard(ctx, m)
	default:
		s.unknown(m.Type)
	}
}
