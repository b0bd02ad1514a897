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
	// PacketTime is how much sound an Opus packet to the server holds (C61).
	PacketTime   = packetFrames * audio.FrameTime
	packetFrames = 3
	// unpaced is how many packets that waited for the session are sent at once; those
	// after them follow each other by paceTime, six times as fast as they were said, or
	// buffers on the way would overflow.
	unpaced  = 10
	paceTime = PacketTime / 6
	// quietTime is how long nobody must have spoken for the end of an utterance to mean
	// that nobody will; who presses the button sooner means something.
	quietTime = 10 * time.Second
	// deafTime is how long a server that decides when the user has finished may not notice that
	// they have; it does after one or two seconds. Then it is told so, which is worth nothing where
	// it hears nothing, but the user sees that the device waits for an answer.
	deafTime = 5 * time.Second
	// maxText is far more than anybody writes, in bytes.
	maxText = 4 << 10
)

// talk is an exchange as the session sees it.
type talk struct {
	x     *turn.Exchange
	wants eventKind // wantListen, wantAnswer or join
	mode  message.Listening
	again bool // the microphone opens again after the answer

	word     string           // heard, to be reported before the utterance
	question string           // for wantAnswer
	request  *message.Message // the same: the server's speak_request

	mic     gate
	answers chan answer
	enough  loop.Signal // holds a token when the server has heard enough
	done    chan result // gets one

	// The session's goroutine owns the rest.
	number     int // of the session that was there when it began
	sounds     int // answers before it
	retried    bool
	understood bool
	sentences  []string
}

// answer is sound for the exchange, and which.
type answer struct {
	number int
	sound  audio.Sound
}

type result struct {
	next turn.Next
	err  error
}

// Talk carries an exchange in a session with the server, which it has opened if need be;
// it implements turn.Talker. The session decides what happens (states.go).
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
		l.microphones.Go(func() { l.hear(ctx, t) })
	}
	defer t.mic.close()
	replays := []time.Duration{200 * time.Millisecond, 500 * time.Millisecond, time.Second} // a card that is unplugged takes a moment to be replaced
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
				l.Log.Info("the rest of an answer is played again", "reason", err)
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

// newTalk says what an exchange wants of the session.
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
		x.EndsBy(turn.Device) // when the button comes up
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
		if x.EndsBy(turn.Nobody) != turn.Nobody { // the microphone hears the loudspeaker
			t.mode = message.Auto
		}
		t.again = true
	default:
		x.EndsBy(turn.Platform)
		t.again = true
	}
	return t, nil
}

// take hands an answer to Talk. There are as many as the server announces while one is
// heard, which is one.
func (t *talk) take(a answer) {
	select {
	case t.answers <- a:
	default:
		a.sound.Close()
	}
}

// conclude ends Talk; the first call counts.
func (t *talk) conclude(next turn.Next, err error) {
	select {
	case t.done <- result{next, err}:
	default:
	}
}

// hear sends the microphone while the session wants it, from half a second before the
// trigger on: what is said while the session is being opened waits in the exchange.
// Between packets it allocates nothing.
func (l *Link) hear(ctx context.Context, t *talk) {
	u := utterance{Link: l, talk: t}
	err := u.run(ctx)
	switch {
	case ctx.Err() != nil:
	case !errors.Is(err, io.EOF):
		l.post(ctx, event{kind: dropped, talk: t, cause: err})
		t.conclude(turn.Over, fmt.Errorf("microphone: %w", err))
	case t.mode == message.Auto && u.heard > quietTime && !t.x.Heard():
		l.post(ctx, event{kind: nothing, talk: t})
	default:
		l.post(ctx, event{kind: finished, talk: t})
	}
}

// utterance is what the user says in one exchange, on its way to the server.
type utterance struct {
	*Link
	*talk
	encoder Encoder
	heard   time.Duration // so far
	sent    int
	began   time.Time // when the first packet was sent
	kept    [][]byte  // of the first seconds, for a server that has to be asked twice
	opening int       // which opening of the gate the kept packets went to
}

// run returns io.EOF when the user has finished and all of it has been sent.
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
			clear(pcm[len(pcm):cap(pcm)]) // the last packet is filled up with silence
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

// send sends a packet as soon as the session hears the microphone. When the server has
// heard enough it is not sent.
func (u *utterance) send(ctx context.Context, packet []byte) error {
	channel, opening, err := u.mic.wait(ctx)
	if err != nil {
		return err
	}
	if opening != u.opening {
		u.opening, u.began, u.sent = opening, time.Now(), 0
		for _, early := range u.kept { // a session in the place of one that the server had forgotten
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

// pace waits before the next packet where many have waited.
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

// gate is what the microphone goes through. It is closed at first.
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

// wait returns where sound goes, and the number of the opening, when the gate is open.
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
