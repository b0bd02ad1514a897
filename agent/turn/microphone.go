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

// Stream is the microphone as an exchange reads it, for example an audio.Stream.
type Stream interface {
	// Read blocks for the next frame. Frames that are already queued are
	// returned even when ctx has ended.
	Read(ctx context.Context, f *audio.Frame) error
	// SetDelay lets frames arrive up to d later, several at a time.
	SetDelay(d time.Duration)
	// Dropped counts the frames that the reader was too slow for.
	Dropped() uint64
	Close() error
}

const (
	// shortest is how long after its trigger a turn may be ended without speech
	// and still count as a question: a button that is held for longer is held on
	// purpose, even if the user only whispers.
	shortest = time.Second
	// lead is how much sound from before the detected end of a wake word is sent
	// with the request: engines report late, and the start of the request must not
	// be lost. What it still contains of the word does not count as speech.
	lead = 200 * time.Millisecond
	// word is how long a wake word may be; engines do not report its start.
	word = 1200 * time.Millisecond
	// maxWaiting bounds the sound that is queued for a link, in bytes: 80 s.
	maxWaiting = 3 << 20
)

// microphone is the user's utterance in one exchange, from half a second before
// the trigger to the end of speech. It reads the device's microphone immediately
// and finds the end of speech by itself, also while the link still connects or
// is busy with the previous exchange.
type microphone struct {
	x        *Exchange
	stream   Stream
	detector *endpoint.Detector
	voices   *silero.Detector // nil: the card's detection is used
	begins   time.Time        // sound captured before this does not count as speech
	before   []audio.Frame    // frames before begins, until speech counts
	judging  bool             // speech counts now
	room     [2]time.Time     // between these times, past sound is background noise
	opened   time.Time

	held   atomic.Bool  // silence does not end the utterance
	ender  atomic.Int32 // an Ender
	speech atomic.Bool  // some was detected
	quiet  atomic.Int64 // what Exchange.Quiet returns, in nanoseconds
	voice  atomic.Int64 // what Exchange.LastVoice returns, in nanoseconds of Unix time; 0: none
	signal bool         // some of it was not zero; used by pump only
	heard  frames       // queued for the link

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
		x.runner.heard.Store(&begins) // nor is the word background noise for a turn that interrupts this one
	}
	m.listening, m.cancel = context.WithCancel(x.ctx)
	m.held.Store(held)
	m.ender.Store(x.runner.link(x.talker.Name()).ender.Load())
	return m
}

// pump reads the microphone until the user has finished or the exchange is
// dropped. Once it detects speech, it allocates nothing.
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

// remember learns the level of the background noise from a past frame. Speech to
// the device, and the device's own sound, do not count.
func (m *microphone) remember(f *audio.Frame) {
	if f.At.After(m.room[0]) && f.At.Add(audio.FrameTime).Before(m.room[1]) && !f.Silent && !m.x.runner.Loudspeaker.Sounded(f.At) {
		m.detector.Remember(f)
	}
}

// recall learns from the sound before the turn. The network takes a while for
// these seconds; the link gets the first sound of the utterance before that.
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

// opine sets whether a frame is a voice, if the card does not detect voices.
func (m *microphone) opine(f *audio.Frame) {
	if m.voices != nil {
		f.Speech = m.voices.Push(&f.PCM)
	}
}

// take queues a frame for the link and evaluates it.
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
		m.x.Notify(SpeechBegan, "")
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

// silent publishes an error if nothing was detected because the microphone
// delivered only zeros.
func (m *microphone) silent() {
	m.x.runner.problemFor(m.x, errSilent)
	m.x.report(Failed)
}

// finish ends the utterance at the given time; only the first call counts.
// Sound that was captured before it and is still queued belongs to the
// utterance.
func (m *microphone) finish(at time.Time) {
	m.once.Do(func() {
		m.endAt = at
		m.cancel()
	})
}

// dropped counts the frames that were not read in time.
func (m *microphone) dropped() uint64 {
	if m == nil {
		return 0
	}
	return m.stream.Dropped() + m.heard.dropped()
}

// duplex reports whether the microphone stays open while sound is playing.
func (m *microphone) duplex() bool {
	return m != nil && Ender(m.ender.Load()) == Nobody && m.listening.Err() == nil
}

// frames is a queue of sound for one reader. It grows up to maxWaiting if
// the reader is slow; then the oldest frame is dropped.
type frames struct {
	ready loop.Signal // holds a token when there may be something to read

	mu     sync.Mutex
	queue  ring.Ring[audio.Frame]
	lost   uint32 // samples of dropped frames, for Frame.Lost of the oldest
	gone   uint64 // number of dropped frames
	reason error  // returned after the last frame; nil: more may follow
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

// dropped counts the dropped frames.
func (q *frames) dropped() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.gone
}
