// Package wake detects wake words with the configured engine: microWakeWord models in this process,
// pocketsphinx as a child process, or any Wyoming service.
//
// The actions of wake words (agent), and the microphone, do not belong here.
package wake

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"lintod/agent/base/printable"
	"lintod/audio"
)

const (
	// maxLag is the maximum age of sound for an engine: older frames are dropped, so that a slow
	// engine loses sound but does not fall behind.
	maxLag = 2 * time.Second
	// settle is how long after a pause the engine gets no sound, because the reverberation is that
	// of the device's own voice.
	settle = 300 * time.Millisecond
	// gapLimit is how much sound may be missing before the engine is notified.
	gapLimit = 100 * time.Millisecond
)

// Stream is the microphone; audio.Stream is one.
type Stream interface {
	// Read blocks until the next frame.
	Read(ctx context.Context, f *audio.Frame) error
	// Dropped returns the number of frames that were dropped because the reader was too slow.
	Dropped() uint64
	Close() error
}

// Detection is a detected word.
type Detection struct {
	Word  Word
	Score float64   // from 0 to 1; 0 if the engine does not report it
	Over  time.Time // end of the word, as far as the engine knows
}

// Listener keeps the engine listening. Its fields are set before Run.
type Listener struct {
	Config Config
	// Listen opens the microphone; it is called when the engine is ready.
	Listen func() Stream
	// Awake reports whether a word would currently start a turn. While it would not, the engine
	// gets no sound. It must not block.
	Awake func() bool
	// Speaking reports whether the device is speaking, so that a stop word would have an effect. It
	// must not block, and is not called without a stop word.
	Speaking func() bool
	// Heard is called for each word. It must not block.
	Heard func(Detection)
	Log   *slog.Logger

	mu     sync.Mutex
	status Status
	last   map[bool]time.Time // end of the last word, for stop words and for others
	deaf   time.Time          // earlier sound is only for stop words
	told   error              // why the engine is unavailable; nil while it is available
}

// State is the state of the engine.
type State string

// The states of an engine.
const (
	Away      State = "away"      // it is not running, or cannot be reached
	Listening State = "listening" // it gets the microphone's sound
	Paused    State = "paused"    // it gets no sound: during a turn, or while the microphone is closed
)

// maxReason is the maximum length of the reason, in bytes, which may come from a service.
const maxReason = 1 << 10

// Status is the state of the engine, with counters since the start.
type Status struct {
	Engine     string  `json:"engine"`
	State      State   `json:"state"`
	Reason     string  `json:"reason,omitempty"`    // why it is unavailable
	Away       int     `json:"away"`                // how often it became unavailable, or could not be started
	Detections int     `json:"detections"`          //
	Ignored    int     `json:"ignored"`             // words too soon after another, or while none is accepted
	Frames     uint64  `json:"frames"`              // frames sent to the engine
	Dropped    uint64  `json:"dropped"`             // frames that were dropped because it was too slow
	LagMS      int64   `json:"lag_ms"`              // age of the last frame when the engine accepted it
	MaxLagMS   int64   `json:"max_lag_ms"`          // its maximum
	CPU        float64 `json:"cpu_percent"`         // recent CPU usage of a child, as a share of one core
	AnswerMS   int64   `json:"answer_ms,omitempty"` // recent response time of a service
}

// Line returns the status as text.
func (s Status) Line() string {
	if s.State == Away {
		return fmt.Sprintf("%s is unavailable: %s", s.Engine, s.Reason)
	}
	return fmt.Sprintf("%s, %s; words detected: %d, frames dropped: %d", s.Engine, s.State, s.Detections, s.Dropped)
}

// Status returns the current state of the engine.
func (l *Listener) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.status
	s.Engine = l.Config.Engine
	switch {
	case s.State == "":
		s.State, s.Reason = Away, "starting"
	case s.State == Listening && !l.hears():
		s.State = Paused
	}
	return s
}

// engine detects words in sound.
type engine interface {
	// run starts the engine or connects to it, and sends it the sound of mic, until it fails or ctx
	// ends; when it returns, everything that it started has ended. It reports detections to mic.
	run(ctx context.Context, mic *capture) error
}

func (l *Listener) engine() engine {
	switch l.Config.Engine {
	case EngineMicroWakeWord:
		return &network{words: l.Config.Words, dirs: l.Config.Models}
	case EnginePocketsphinx:
		return &pocketsphinx{
			words: l.Config.Words, program: program, model: englishModel,
			startLimit: startLimit, takeLimit: takeLimit,
		}
	}
	return &service{address: l.Config.Address, words: l.Config.Words}
}

// Run listens until ctx ends, or until the engine fails; it may then be called again. Until the
// engine is available again it returns the same, first reason, so that an outage is logged only
// once; Status has the latest.
func (l *Listener) Run(ctx context.Context) error {
	mic := &capture{listener: l}
	defer mic.close()
	err := l.engine().run(ctx, mic)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	l.update(func(s *Status) {
		s.State, s.Reason = Away, printable.Cut(err.Error(), maxReason)
		s.Away++
		if l.told == nil {
			l.told = fmt.Errorf("no wake word detection, buttons continue to work: %w", err)
		}
		err = l.told
	})
	return err
}

func (l *Listener) update(change func(*Status)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(&l.status)
}

// hears reports whether any word would currently have an effect.
func (l *Listener) hears() bool { return l.Awake() || l.Config.Stops() && l.Speaking() }

// obeys reports whether this word would currently have an effect, apart from the refractory time.
// It needs mu.
func (l *Listener) obeys(d Detection) bool {
	if d.Word.Stops() {
		return l.Speaking()
	}
	return l.Awake() && !d.Over.Before(l.deaf)
}

// heard decides whether a word is accepted.
func (l *Listener) heard(d Detection) {
	l.mu.Lock()
	last := l.last[d.Word.Stops()]
	counts := l.obeys(d) && (last.IsZero() || d.Over.Sub(last) >= l.Config.Refractory.Std())
	if counts {
		if l.last == nil {
			l.last = map[bool]time.Time{}
		}
		l.last[d.Word.Stops()] = d.Over
		l.status.Detections++
	} else {
		l.status.Ignored++
	}
	l.mu.Unlock()
	l.Log.Debug("wake word", "name", d.Word.Name, "score", d.Score, "obeyed", counts)
	if counts {
		l.Heard(d)
	}
}

// capture is an engine's access to the microphone, and gets its detections. One goroutine reads.
type capture struct {
	listener *Listener
	stream   Stream // nil until opened
	dropped  uint64 // already reported of the stream
	deaf     time.Time
	until    time.Time // end of the last frame sent to the engine
}

// open starts listening: the engine is ready.
func (c *capture) open() {
	c.stream = c.listener.Listen()
	c.listener.update(func(s *Status) {
		s.State, s.Reason = Listening, ""
		c.listener.told = nil
	})
	c.listener.Log.Info("waiting for a wake word", "engine", c.listener.Config.Engine)
}

func (c *capture) close() {
	if c.stream != nil {
		c.stream.Close()
	}
}

// read blocks until the next frame for the engine. gap reports that the frame does not follow the
// previous one.
func (c *capture) read(ctx context.Context, f *audio.Frame) (gap bool, err error) {
	for {
		if err := c.stream.Read(ctx, f); err != nil {
			return false, err
		}
		c.rest(f.At.Add(audio.FrameTime + settle))
		if f.At.Before(c.deaf) {
			continue
		}
		if c.count(time.Since(f.At)) {
			break
		}
	}
	gap = f.At.Sub(c.until) > gapLimit && !c.until.IsZero()
	c.until = f.At.Add(audio.FrameTime)
	return gap, nil
}

// rest sets the time before which words have no effect.
func (c *capture) rest(then time.Time) {
	l := c.listener
	switch {
	case l.Awake():
	case l.hears():
		l.mu.Lock()
		l.deaf = then
		l.mu.Unlock()
	default:
		c.deaf = then
	}
}

// count reports whether a frame of this age is still processed.
func (c *capture) count(age time.Duration) bool {
	missed := c.stream.Dropped()
	fresh := age <= maxLag
	lag := age.Milliseconds()
	c.listener.update(func(s *Status) {
		s.Dropped += missed - c.dropped
		s.LagMS, s.MaxLagMS = lag, max(s.MaxLagMS, lag)
		if fresh {
			s.Frames++
		} else {
			s.Dropped++
		}
	})
	c.dropped = missed
	return fresh
}

func (c *capture) heard(w Word, score float64, over time.Time) {
	c.listener.heard(Detection{w, score, over})
}
