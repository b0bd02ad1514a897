package turn

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"lintod/agent/base/loop"
	"lintod/audio"
	"lintod/audio/endpoint"
	"lintod/audio/ring"
	"lintod/audio/silero"
)

// Stream is the microphone as an exchange reads it; audio.Stream is one.
type Stream interface {
	// Read blocks for the next frame. Frames that already wait are returned even
	// when ctx has ended.
	Read(ctx context.Context, f *audio.Frame) error
	// SetDelay lets frames come that much later, several at a time.
	SetDelay(d time.Duration)
	// Dropped counts the frames that the reader was too slow for.
	Dropped() uint64
	Close() error
}

const (
	// shortest is how long after its trigger a turn may be ended without speech
	// and still be a question: somebody who holds the button for longer than that
	// means something, even if it is a whisper.
	shortest = time.Second
	// lead is how much sound from before the moment at which a wake word seems to
	// be over is sent with what follows it: engines report late, and the first sound
	// of the request must not be lost. What is left of the word there is no speech.
	lead = 200 * time.Millisecond
	// word is how long before its end a wake word may have begun; no engine tells.
	word = 1200 * time.Millisecond
	// maxWaiting bounds what waits for a link, in bytes: 80 s of sound.
	maxWaiting = 3 << 20
)

// microphone is what the user says in one exchange, from half a second before
// the trigger to the end of speech. It reads the device's microphone at once and
// finds the end of speech by itself: also while the link still connects, or
// still carries the exchange before.
type microphone struct {
	x        *Exchange
	stream   Stream
	detector *endpoint.Detector
	voices   *silero.Detector // nil: frames have the opinion of the card
	begins   time.Time        // what was captured before does not count as speech
	before   []audio.Frame    // that, until something counts
	judging  bool             // something does
	room     [2]time.Time     // between these, what is past tells how loud the room is
	opened   time.Time

	held   atomic.Bool  // silence does not end it
	ender  atomic.Int32 // an Ender
	speech atomic.Bool  // some was heard
	quiet  atomic.Int64 // what Exchange.Quiet returns, in nanoseconds
	voice  atomic.Int64 // what Exchange.LastVoice returns, in nanoseconds of Unix time; 0: none
	signal bool         // not all of it was zeros; pump's
	heard  frames       // for the link

	listening context.Context // ends when the user has finished
	once      sync.Once
	cancel    context.CancelFunc
	endAt     time.Time // set before listening ends
}

func newMicrophone(x *Exchange, stream Stream, begins time.Time, held bool) *microphone {
	m := &microphone{
		x: x, stream: stream, begins: begins, opened: time.Now(),
		detector: endpoint.New(x.runner.Endpoint), heard: frames{ready: loop.NewSignal()},
	}
	if said := x.runner.heard.Load(); said != nil {
		m.room[0] = *said
	}
	m.room[1] = m.opened
	if x.Trigger == ByWake {
		m.room[1] = begins.Add(-word)
		x.runner.heard.Store(&begins) // the word is no room either, for who interrupts this turn
	}
	m.listening, m.cancel = context.WithCancel(x.ctx)
	m.held.Store(held)
	m.ender.Store(x.runner.link(x.talker.Name()).ender.Load())
	return m
}

// pump reads the microphone until the user has finished or the exchange is
// dropped. Once it judges, it allocates nothing.
func (m *microphone) pump() {
	m.heard.end(m.run())
	m.stream.Close()
	if m.speech.Load() {
		now := time.Now()
		m.x.runner.heard.Store(&now)
	}
	m.cancel()
}

// run returns what the link reads after the last frame.
func (m *microphone) run() error {
	var f audio.Frame
	for {
		err := m.stream.Read(m.listening, &f)
		finished := m.listening.Err() != nil
		switch {
		case m.x.ctx.Err() != nil:
			return context.Cause(m.x.ctx)
		case err != nil && !finished:
			return err
		case err != nil, finished && !f.At.Before(m.endAt): // captured after the end
			if !m.speech.Load() && m.endAt.Sub(m.opened) < shortest {
				m.x.report(TooShort)
			}
			return io.EOF
		}
		m.take(&f)
	}
}

// remember learns from a frame of the past how loud the room is. What somebody has
// said to the device, and the device itself, is not the room.
func (m *microphone) remember(f *audio.Frame) {
	if f.At.After(m.room[0]) && f.At.Add(audio.FrameTime).Before(m.room[1]) && !f.Silent && !m.x.runner.Loudspeaker.Sounded(f.At) {
		m.detector.Remember(f)
	}
}

// recall learns from what was heard before. The network needs a while for the
// seconds of it; the link has the first sound of the utterance by then.
func (m *microphone) recall() {
	m.judging = true
	if model := m.x.runner.voiceModel(); model != nil {
		m.voices = silero.New(model)
	}
	for i := range m.before {
		f := &m.before[i]
		m.opine(f)
		if f.Past {
			m.remember(f)
		}
	}
	m.before = nil
}

// opine notes whether a frame is a voice, where the card has left that to us.
func (m *microphone) opine(f *audio.Frame) {
	if m.voices != nil {
		f.Speech = m.voices.Push(&f.PCM)
	}
}

// take hands a frame on and judges it.
func (m *microphone) take(f *audio.Frame) {
	if !f.Past {
		m.x.runner.level.Store(int64(100 * endpoint.Level(f)))
		m.x.record.frame(f)
		m.signal = m.signal || !f.Silent
		m.heard.push(f)
	}
	switch {
	case m.judging:
	case f.Past, f.At.Before(m.begins):
		m.before = append(m.before, *f)
		return
	default:
		m.recall()
	}
	m.opine(f)
	ender := Ender(m.ender.Load())
	m.detector.Hold(m.held.Load() || ender != Device)
	verdict := m.detector.Push(f)
	m.quiet.Store(int64(m.detector.Quiet()))
	if m.detector.Speaks() {
		m.voice.Store(f.At.UnixNano())
	}
	switch verdict {
	case endpoint.SpeechBegan:
		m.speech.Store(true)
		m.x.Tell(SpeechBegan, "")
	case endpoint.EndLimit:
		if ender == Nobody {
			m.detector.Restart()
			return
		}
		m.finish(f.At.Add(audio.FrameTime))
		m.x.report(Finished)
	case endpoint.EndSilence:
		m.finish(f.At.Add(audio.FrameTime))
		m.x.report(Finished)
	case endpoint.EndNoSpeech:
		if !m.signal {
			m.silent()
			return
		}
		m.x.report(Nothing)
	}
}

var errSilent = errors.New(audio.ZerosFault)

// silent reports that nobody spoke because the microphone gave nothing but zeros.
func (m *microphone) silent() {
	m.x.runner.problemFor(m.x, errSilent)
	m.x.report(Failed)
}

// finish ends the utterance at a moment; the first call counts. What was
// captured before it and still waits in the stream is part of the utterance.
func (m *microphone) finish(at time.Time) {
	m.once.Do(func() {
		m.endAt = at
		m.cancel()
	})
}

// dropped counts the frames that nobody read in time.
func (m *microphone) dropped() uint64 {
	if m == nil {
		return 0
	}
	return m.stream.Dropped() + m.heard.dropped()
}

// duplex tells whether the microphone stays open while something is heard.
func (m *microphone) duplex() bool {
	return m != nil && Ender(m.ender.Load()) == Nobody && m.listening.Err() == nil
}

// frames is a queue of sound for one reader. It grows as the reader falls
// behind, to maxWaiting; then the oldest frame goes.
type frames struct {
	ready loop.Signal // holds a token when there may be something to read

	mu     sync.Mutex
	queue  ring.Ring[audio.Frame]
	lost   uint32 // samples of frames that went, for Frame.Lost of the oldest
	gone   uint64 // those frames
	reason error  // what is read after the last one; nil: more may come
}

func (q *frames) push(f *audio.Frame) {
	q.mu.Lock()
	switch {
	case !q.queue.Full():
	case 2*q.queue.Room()*int(unsafe.Sizeof(*f)) <= maxWaiting:
		q.queue.Grow(max(64, 2*q.queue.Room()))
	default:
		q.lost += q.queue.At(0).Lost + uint32(audio.FrameSamples)
		q.gone++
	}
	q.queue.Push(f)
	q.mu.Unlock()
	q.ready.Set()
}

func (q *frames) end(reason error) {
	q.mu.Lock()
	q.reason = reason
	q.mu.Unlock()
	q.ready.Set()
}

func (q *frames) read(ctx context.Context, f *audio.Frame) error {
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if ok, err := q.pop(f); ok || err != nil {
			return err
		}
		select {
		case <-q.ready:
		case <-ctx.Done():
		}
	}
}

func (q *frames) pop(f *audio.Frame) (ok bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.queue.Len() == 0 {
		return false, q.reason
	}
	*f = *q.queue.At(0)
	f.Lost += q.lost
	q.lost = 0
	q.queue.Drop()
	return true, nil
}

// dropped counts the frames that went.
func (q *frames) dropped() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.gone
}
