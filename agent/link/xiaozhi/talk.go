package xiaozhi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"lintod/agent/base/loop"
	"lintod/agent/link/xiaozhi/message"
	"lintod/agent/link/xiaozhi/udp"
	"lintod/agent/turn"
	"lintod/audio"
	"lintod/audio/jitter"
)

const (
	// PacketTime is the duration of sound in an Opus packet to the server (C61).
	PacketTime   = packetFrames * audio.FrameTime
	packetFrames = 3
	// unpaced is how many packets that were queued while the session was opened are
	// sent at once. The following ones are sent every paceTime, six times as fast as
	// real time, because faster sending would overflow buffers in the network.
	unpaced  = 10
	paceTime = PacketTime / 6
	// quietTime is how long the user must have been silent for the end of an utterance
	// to end the conversation; a button that is pressed sooner is a request.
	quietTime = 10 * time.Second
	// deafTime is how long a server that decides when the user has finished may fail
	// to detect it; normally it takes one or two seconds. After that the device sends
	// the end of speech. That does not help if the server receives no sound, but shows
	// the user that the device waits for an answer.
	deafTime = 5 * time.Second
	// maxText bounds a written question, in bytes. It is far longer than any in
	// practice.
	maxText = 4 << 10
)

// talk is an exchange as the session uses it.
type talk struct {
	x     *turn.Exchange
	wants eventKind // wantListen, wantAnswer or join
	mode  message.Listening
	again bool // the microphone is opened again after the answer

	word     string           // detected wake word, reported before the utterance
	question string           // for wantAnswer
	request  *message.Message // the server's speak_request, for wantAnswer

	mic     gate
	answers chan answer
	enough  loop.Signal // holds a token when the server has ended the utterance
	done    chan result // receives one result

	// The session's goroutine owns the rest.
	number     int // of the session at the start of the exchange
	sounds     int // number of answers before it
	retried    bool
	understood bool
	sentences  []string
}

// answer is a sound for the exchange, with its number.
type answer struct {
	number int
	sound  audio.Sound
}

type result struct {
	next turn.Next
	err  error
}

// Talk carries an exchange in a session with the server, which it opens if
// necessary; it implements turn.Talker. The session follows the table in states.go.
func (l *Link) Talk(ctx context.Context, x *turn.Exchange) (turn.Next, error) {
	if text := l.activationText(); text != "" {
		return turn.Over, x.Say(ctx, text)
	}
	t, err := l.newTalk(x)
	if err != nil {
		return turn.Over, err
	}
	l.post(ctx, event{kind: t.wants, talk: t})
	if t.wants == wantListen {
		l.microphones.Go(func() { l.sendMicrophone(ctx, t) })
	}
	defer t.mic.close()
	replays := []time.Duration{200 * time.Millisecond, 500 * time.Millisecond, time.Second} // an unplugged card takes a moment to be replaced
	for {
		select {
		case <-ctx.Done():
			l.post(context.WithoutCancel(ctx), event{kind: dropped, talk: t, cause: context.Cause(ctx)})
			return turn.Over, context.Cause(ctx)
		case <-t.enough:
			x.Enough()
		case a := <-t.answers:
			err := x.Play(ctx, a.sound)
			switch {
			case ctx.Err() != nil:
			case err != nil && !errors.Is(err, jitter.ErrNotOpus) && len(replays) > 0:
				l.Log.Info("playing the rest of an answer again", "reason", err)
				pause := time.NewTimer(replays[0])
				select {
				case <-pause.C:
				case <-ctx.Done():
				}
				pause.Stop()
				replays = replays[1:]
				l.post(ctx, event{kind: unplayed, talk: t, sound: a.number})
			case err != nil:
				l.post(ctx, event{kind: dropped, talk: t, cause: err})
				return turn.Over, err
			default:
				l.post(ctx, event{kind: played, talk: t, sound: a.number})
			}
		case r := <-t.done:
			if len(t.sentences) > 0 && r.err == nil {
				x.Answer(strings.Join(t.sentences, " "), r.next)
			}
			return r.next, r.err
		}
	}
}

// newTalk translates an exchange to a request to the session.
func (l *Link) newTalk(x *turn.Exchange) (*talk, error) {
	t := &talk{
		x: x, wants: wantListen, answers: make(chan answer, 4), enough: loop.NewSignal(), done: make(chan result, 1),
	}
	switch x.Trigger {
	case turn.ByText:
		if len(x.Question) > maxText {
			return nil, fmt.Errorf("the question has %d bytes; at most %d", len(x.Question), maxText)
		}
		t.wants, t.question = wantAnswer, x.Question
		return t, nil
	case turn.ByPlatform:
		l.calls.take(t)
		t.again = t.again && l.Config.AllowRemoteListening
		return t, nil
	case turn.ByHold:
		t.mode = message.Manual
		x.EndsBy(turn.Device) // when the button is released
		return t, nil
	case turn.ByWake:
		t.word = x.WakeWord.Name
	}
	t.mode = l.Config.Listening
	if wanted, ok := l.wanted.Load().(message.Listening); ok {
		t.mode = wanted
	}
	switch t.mode {
	case message.Manual:
		x.EndsBy(turn.Device)
	case message.Realtime:
		if x.EndsBy(turn.Nobody) != turn.Nobody { // the microphone picks up the speaker
			t.mode = message.Auto
		}
		t.again = true
	default:
		x.EndsBy(turn.Platform)
		t.again = true
	}
	return t, nil
}

// take passes an answer to Talk. The queue holds as many as the server can announce
// while one plays, which is one.
func (t *talk) take(a answer) {
	select {
	case t.answers <- a:
	default:
		a.sound.Close()
	}
}

// conclude ends Talk; only the first call counts.
func (t *talk) conclude(next turn.Next, err error) {
	select {
	case t.done <- result{next, err}:
	default:
	}
}

// sendMicrophone sends the microphone's sound while the session accepts it, from half a
// second before the trigger: sound is queued in the exchange while the session is
// being opened. It allocates nothing between packets.
func (l *Link) sendMicrophone(ctx context.Context, t *talk) {
	u := utterance{Link: l, talk: t}
	err := u.run(ctx)
	switch {
	case ctx.Err() != nil:
	case !errors.Is(err, io.EOF):
		l.post(ctx, event{kind: dropped, talk: t, cause: err})
		t.conclude(turn.Over, fmt.Errorf("microphone: %w", err))
	case t.mode == message.Auto && u.heard > quietTime && !t.x.Heard():
		l.post(ctx, event{kind: nothing, talk: t})
	case t.mode == message.Manual && !t.x.Heard():
		l.post(ctx, event{kind: unheard, talk: t})
	default:
		l.post(ctx, event{kind: finished, talk: t})
	}
}

// utterance is the sound of one exchange on its way to the server.
type utterance struct {
	*Link
	*talk
	encoder Encoder
	heard   time.Duration // duration so far
	sent    int
	began   time.Time // when the first packet was sent
	kept    [][]byte  // packets of the first seconds, in case they must be sent again
	opening int       // number of the gate's opening to which the kept packets were sent
}

// run returns io.EOF when the user has finished and all sound has been sent.
func (u *utterance) run(ctx context.Context) error {
	var err error
	if u.encoder, err = u.openEncoder(ctx); err != nil {
		return err
	}
	defer u.encoder.Close()
	var frame audio.Frame
	pcm := make([]int16, 0, packetFrames*audio.FrameSamples)
	packet := make([]byte, udp.MaxPayload)
	for {
		readErr := u.x.Read(&frame)
		switch {
		case readErr == nil:
			u.heard += audio.FrameTime
			if u.mode == message.Auto && u.x.Quiet() >= deafTime {
				u.x.Enough()
			}
			pcm = append(pcm, frame.PCM[:]...)
		case errors.Is(readErr, io.EOF) && len(pcm) > 0:
			clear(pcm[len(pcm):cap(pcm)]) // pad the last packet with silence
			pcm = pcm[:cap(pcm)]
		default:
			return readErr
		}
		if len(pcm) < cap(pcm) {
			continue
		}
		if err := u.encoder.Write(ctx, pcm); err != nil {
			return err
		}
		pcm = pcm[:0]
		n, err := u.encoder.Read(ctx, packet)
		if err != nil {
			return err
		}
		if err := u.send(ctx, packet[:n]); err != nil {
			return err
		}
		if readErr != nil {
			return readErr
		}
	}
}

// send sends a packet as soon as the gate is open. It discards the packet if the
// server has ended the utterance.
func (u *utterance) send(ctx context.Context, packet []byte) error {
	channel, opening, err := u.mic.wait(ctx)
	if err != nil {
		return err
	}
	if opening != u.opening {
		u.opening, u.began, u.sent = opening, time.Now(), 0
		for _, early := range u.kept { // a new session replaces one that the server had forgotten
			if err := u.pace(ctx); err != nil {
				return err
			}
			channel.sound(early)
		}
	}
	if time.Duration(len(u.kept))*PacketTime < lapse {
		u.kept = append(u.kept, append([]byte(nil), packet...))
	} else if u.kept != nil && time.Since(u.began) > lapse {
		u.kept = nil
	}
	if err := u.pace(ctx); err != nil {
		return err
	}
	channel.sound(packet)
	return nil
}

// pace waits before the next packet if many were queued.
func (u *utterance) pace(ctx context.Context) error {
	if u.sent == 0 && u.opening == 1 {
		u.x.Notify(turn.RequestOut, "")
	}
	u.sent++
	early := time.Duration(u.sent-unpaced)*paceTime - time.Since(u.began)
	if early <= 0 {
		return nil
	}
	select {
	case <-time.After(early):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// gate passes the microphone's sound to the server while it is open. It is closed
// at first.
type gate struct {
	mu      sync.Mutex
	channel channel // nil while closed
	opening int     // counts
	changed chan struct{}
}

func (g *gate) open(c channel) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.channel == c {
		return
	}
	g.channel = c
	g.opening++
	if g.changed != nil {
		close(g.changed)
		g.changed = nil
	}
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.channel = nil
}

func (g *gate) isOpen() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.channel != nil
}

// wait blocks until the gate is open, and returns the channel and the number of
// the opening.
func (g *gate) wait(ctx context.Context) (channel, int, error) {
	for {
		g.mu.Lock()
		c, n := g.channel, g.opening
		if g.changed == nil {
			g.changed = make(chan struct{})
		}
		changed := g.changed
		g.mu.Unlock()
		if c != nil {
			return c, n, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, 0, context.Cause(ctx)
		}
	}
}
