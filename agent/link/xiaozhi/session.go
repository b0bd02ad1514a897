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
	// lapse is how soon after our first message a goodbye means that the server did
	// not know the session.
	lapse = 3 * time.Second
	// lateGoodbye is how long after hello a goodbye may be that of the previous
	// session, whatever its id (C51).
	lateGoodbye = time.Second
)

const (
	eventQueue = 256
	// maxSentences is how many sentences of an answer are kept, for written
	// questions.
	maxSentences = 200
)

const forever = time.Duration(1<<63 - 1)

// event is an input of the session, with its arguments.
type event struct {
	kind    eventKind
	session int             // number of the session; 0 for the current one
	channel channel         // with up
	taken   chan struct{}   // closed when it was handled; may be nil
	talk    *talk           // the exchange that it belongs to
	sound   int             // number of the answer, with played
	message message.Message // from the server
	from    bool            // message is set, and kind is not determined yet
	card    *link.Card      // card to look up; kind is unused then
	uid     string          // of the card, with cool
	err     error
	cause   error // with dropped
}

// session is the state of the conversation with a server. Run's goroutine owns it;
// fields that other goroutines use are marked.
type session struct {
	*Link

	state   state
	limit   limit
	timer   *time.Timer
	channel channel // nil while offline
	talk    *talk   // the exchange that uses the session, or waits for it; may be nil

	warmed string // the card for which an unused session was opened

	number int    // counts sessions, because their ids are not reliable (C51)
	id     string // the server's id of the current or last session
	stream *jitter.Stream
	why    error     // reason of a failure
	opened time.Time // when hello was sent
	began  time.Time // when the microphone was opened, or the question was sent
	parted bool      // we ended the previous session, without an echo
	sign   time.Time // time of the server's last message

	sounds    int       // answers so far
	more      bool      // another answer follows the current one
	spoken    bool      // the server has started a sentence of this answer
	promised  time.Time // when this answer was announced
	received  uint64    // packets of the session received before this answer
	refused   uint64    // invalid datagrams received before this answer
	suspected bool      // the sound of this answer does not arrive
	deaf      int       // consecutive answers without sound, across sessions
	silent    error     // why no sound arrives; nil if some has
	forgotten int       // consecutive exchanges whose second session was forgotten, too

	arrived atomic.Int64 // when the last packet of sound arrived, in nanoseconds since the link's start
	pending atomic.Bool  // post the first packet of an answer
}

// run owns the session until ctx ends; then it sends goodbye.
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

// take handles an event, and discards those of earlier sessions or exchanges.
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

// afterSound returns the event for the end of an answer's sound.
func (s *session) afterSound() eventKind {
	switch {
	case !s.soundMissing():
		s.audible()
	case s.allInvalid():
		return garbled
	case s.state == draining && s.endsSilent():
		return dead
	case s.spoken && s.talk.question == "": // a written question has its answer as text
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

// handle performs the transition for an event.
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

// allow sets the time limit of the current state.
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
		return dialLimit + sendLimit // or what prepare returns
	}
	return forever
}

// left is how much longer the current state may last because the server or the user
// was active meanwhile.
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

// firstOpus returns the function that the channel calls for each packet of a
// session.
func (s *session) firstOpus(session int) func() {
	return func() {
		s.arrived.Store(int64(time.Since(s.started)))
		if s.pending.CompareAndSwap(true, false) {
			s.post(context.Background(), event{kind: firstOpus, session: session})
		}
	}
}

// do carries out a step of the transition from the state was. An error ends the
// session.
func (s *session) do(ctx context.Context, do step, was state, e event) error {
	switch do {
	case setOnline:
		s.Connected(true)
	case setOffline:
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

// startMic announces the microphone to the server, and opens the gate.
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

// ask sends a written question, or the answer to a request from the server.
func (s *session) ask() error {
	t := s.talk
	s.began = time.Now()
	switch {
	case t.request != nil:
		return s.channel.send(message.SpeakReady(t.request.Session, t.number == s.number))
	default:
		t.x.Notify(turn.RequestOut, "")
		return s.channel.send(message.ListenDetect(s.id, t.question))
	}
}

// startSound starts an answer, and passes it to the exchange, if there is one.
func (s *session) startSound(ctx context.Context) {
	s.sounds++
	s.more, s.spoken, s.suspected, s.promised = false, false, false, time.Now()
	s.received, s.refused = s.stream.Stats().Packets, s.channel.stats().Dropped
	s.pending.Store(true)
	s.stream.Start()
	if time.Since(s.started.Add(time.Duration(s.arrived.Load()))) < earlySound && s.arrived.Load() > 0 {
		s.pending.Store(false)
		s.handle(ctx, event{kind: firstOpus}) // it arrived before it was announced (G24)
	}
	if s.talk != nil {
		if s.talk.mode != message.Realtime {
			s.talk.mic.close()
		}
		s.talk.take(answer{s.sounds, s.stream.Sound()})
	}
}

// earlySound is how long before its announcement the sound of an answer may
// arrive.
const earlySound = 500 * time.Millisecond

// soundMissing reports whether no packet of this answer has arrived.
func (s *session) soundMissing() bool { return s.stream.Stats().Packets == s.received }

// suspect is called when announced sound does not arrive. A server that has not
// started a sentence may still be generating it.
func (s *session) suspect(ctx context.Context) {
	switch {
	case s.allInvalid():
		s.handle(ctx, event{kind: garbled})
	case s.channel.stats().Unreachable > 0, (!s.suspected || s.spoken) && s.countSilent():
		s.handle(ctx, event{kind: dead})
	case time.Since(s.promised) > moreLimit:
		s.handle(ctx, event{kind: ttsStop})
	}
	s.suspected = true
}

// countSilent counts an answer without sound, and reports whether that is enough to give
// up on UDP. Over WebSocket the server has not sent any.
func (s *session) countSilent() bool {
	s.deaf++
	return s.deaf >= 2 && s.channel.transport() == useMQTT
}

// endsSilent is countSilent at the end of an answer. If the server has started a
// sentence, one answer is enough in a session in which no datagram has arrived.
func (s *session) endsSilent() bool {
	if s.channel.transport() == useMQTT && s.spoken && s.channel.stats().Received == 0 {
		return true
	}
	return !s.suspected && s.countSilent()
}

// audible records that sound arrives.
func (s *session) audible() { s.deaf, s.silent = 0, nil }

// allInvalid reports whether everything received for this answer is invalid, which a
// new key may fix.
func (s *session) allInvalid() bool {
	if !s.soundMissing() || s.channel == nil || s.channel.stats().Dropped == s.refused {
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
	return fmt.Errorf("no sound arrives from %s, perhaps because a firewall blocks the UDP port; `lintod doctor` tests it", stats.Remote)
}

// callDevice opens an exchange for what the server says without a request.
func (s *session) callDevice(ctx context.Context) {
	if s.talk != nil {
		return
	}
	number := s.number
	go func() {
		if err := s.Call(ctx, s.Link); err != nil {
			s.Log.Info("the server's call was refused", "reason", err)
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

// reason returns the protocol's name of an interruption.
func reason(e event) string {
	switch {
	case e.kind == wantListen && e.talk != nil && e.talk.x.Trigger == turn.ByWake, errors.Is(e.cause, turn.ErrWoken):
		return message.WakeWordDetected
	case e.kind == wantListen, errors.Is(e.cause, turn.ErrBargeIn):
		return message.ButtonPressed
	}
	return message.UserInterrupt
}

// conclude ends the exchange that uses the session.
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
	errNoVoice  = errors.New("the server started an answer but sent no sound")
	errNotOpus  = errors.New("received packets are not Opus: they are too long, or belong to another session")
	errGoodbye  = errors.New("the server has ended the session")
	errForgets  = errors.New("the server ends each session at once")
)

// failure returns why the exchange failed; nil if the user expects nothing more.
func (s *session) failure(was state, e event) error {
	t := s.talk
	silent := t != nil && was == listening && t.x.Trigger == turn.ByFollowUp && !t.x.Heard()
	switch {
	case silent && e.kind != down:
		return nil // the user did not continue
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

// receive handles a message from the server.
func (s *session) receive(ctx context.Context, m message.Message) {
	s.sign = time.Now()
	foreign := m.Session != "" && s.id != "" && m.Session != s.id
	e := event{message: m}
	switch m.Type {
	case message.Hello:
		if s.state != connecting {
			return // late, or without a request
		}
		e.kind = hello
	case message.TTS:
		if foreign {
			return
		}
		s.forgotten = 0
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
		switch {
		case !s.forgot():
		case s.talk.retried:
			if s.forgotten++; s.forgotten == 2 {
				s.forgotten = 0
				s.channel.renew()
			}
		default:
			s.talk.retried = true
			e.kind = lapsed
		}
	case message.Error:
		text := printable.Clip(strings.TrimSpace(m.Text+" "+m.Code), 200)
		s.Warn("the server reports an error", errors.New(text))
		e.kind, e.err = refused, fmt.Errorf("the server reported: %s", text)
		if s.state != connecting {
			return // an event without a transition
		}
	case message.SpeakRequest:
		if !s.Config.AllowRemoteSpeech || s.talk != nil {
			if s.reports.isNew("speak_request", strconv.FormatBool(s.Config.AllowRemoteSpeech)) {
				s.Log.Info("ignoring the server's request to speak", "allowed", s.Config.AllowRemoteSpeech)
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
		s.handleOther(ctx, m)
		return
	}
	s.handle(ctx, e)
}

// forgot reports whether a goodbye answers our first message: the server does not
// know the session that we have open. The utterance is sent again, once, so that
// nothing is lost. A gateway that forgets the new sessions of two exchanges may do so
// with each one until the device connects anew (G18); not of one, because a press
// would be refused while the device connects. A server that has just answered knows
// the session: it ends the conversation.
func (s *session) forgot() bool {
	t := s.talk
	return t != nil && t.x.Trigger != turn.ByFollowUp && time.Since(s.began) < lapse &&
		(s.state == listening || s.state == waiting && t.wants == wantAnswer)
}

// late reports whether a goodbye belongs to an earlier session: it follows a hello
// that was sent right after our goodbye (C51), or it arrives without a session and
// without an id (G19).
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

// modeUpdate applies a change of mode or character.
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

// sentence records a sentence that the server starts to speak.
func (s *session) sentence(text string) {
	s.spoken = true
	if t := s.talk; t != nil && text != "" && (s.state == announced || s.state == speaking || s.state == draining && s.more) {
		if len(t.sentences) < maxSentences {
			t.sentences = append(t.sentences, text)
		}
		t.x.Notify(turn.GotSentence, text)
	}
}

// handleOther handles messages that change no state.
func (s *session) handleOther(ctx context.Context, m message.Message) {
	notify := s.Notify
	if s.talk != nil {
		notify = s.talk.x.Notify
	}
	switch m.Type {
	case message.STT:
		if s.talk != nil {
			s.talk.understood = true
		}
		if m.Text != "" {
			notify(turn.GotTranscript, m.Text)
		}
	case message.LLM, message.Emotion:
		if m.Emotion != "" {
			notify(turn.GotEmotion, m.Emotion)
		}
	case message.Alert:
		text := strings.Trim(m.Status+": "+m.Text, ": ")
		s.Warn("alert from the server", errors.New(printable.Clip(text, 500)))
		notify(turn.GotDisplay, text)
	case message.System:
		s.system(m.Command)
	case message.IoT:
		s.iot(m)
	case message.AgentReady, message.CallAccepted, message.Greeting:
		if s.reports.isNew("an event", m.Type) {
			s.Log.Info("event from the server", "event", m.Type)
		}
	case message.CardContent, message.CardCurrent, message.CardUnknown, message.CardAI, message.DownloadResponse:
		s.handleCard(ctx, m)
	default:
		s.unknown(m.Type)
	}
}
