// Package wake waits for a spoken word, with an engine of the owner's choice:
// models of microWakeWord in this process, pocketsphinx as a child process, or any
// Wyoming service.
//
// What must not live here: what a wake word is good for (agent), and the
// microphone, which the engine is only lent.
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
	// maxLag is how old sound may be that an engine gets: older frames are dropped,
	// so that an engine that is too slow loses sound and not the present.
	maxLag = 2 * time.Second
	// settle is how long after a pause the engine hears nothing: what rings on in
	// the room is the device's own voice.
	settle = 300 * time.Millisecond
	// gapLimit is how much sound may be missing without the engine being told.
	gapLimit = 100 * time.Millisecond
)

// Stream is the microphone; audio.Stream is one.
type Stream interface {
	// Read blocks for the next frame.
	Read(ctx context.Context, f *audio.Frame) error
	// Dropped counts the frames that the reader was too slow for.
	Dropped() uint64
	Close() error
}

// Detection is a word that was said.
type Detection struct {
	Word  Word
	Score float64   // from 0 to 1; 0 where the engine does not tell
	Over  time.Time // when the word was over, as far as the engine knows
}

// Listener keeps the engine listening. Its fields are set before Run.
type Listener struct {
	Config Config
	// Listen opens the microphone; it is called once the engine can hear.
	Listen func() Stream
	// Awake tells whether a word would be obeyed now. While it would not, the
	// engine is given no sound. It must not block.
	Awake func() bool
	// Speaking tells whether the device speaks, so that a word that stops it would be
	// obeyed. It must not block, and is not called where no word stops.
	Speaking func() bool
	// Heard is told each word. It must not block.
	Heard func(Detection)
	Log   *slog.Logger

	mu     sync.Mutex
	status Status
	last   map[bool]time.Time // when the last word was over, of those that stop and of the others
	deaf   time.Time          // sound from before it is for words that stop only
	told   error              // why the engine went away; nil while it is there
}

// State says what the engine does.
type State string

// What an engine can be doing.
const (
	Away      State = "away"      // it does not run, or cannot be reached
	Listening State = "listening" // it hears what the microphone hears
	Paused    State = "paused"    // it hears nothing: a turn goes on, or the microphone is closed
)

// maxReason bounds why an engine is away, in bytes: services send any text.
const maxReason = 1 << 10

// Status is how the engine fares. The counters are those since the start.
type Status struct {
	Engine     string  `json:"engine"`
	State      State   `json:"state"`
	Reason     string  `json:"reason,omitempty"`    // why it is away
	Away       int     `json:"away"`                // how often it went away, or could not be had
	Detections int     `json:"detections"`          //
	Ignored    int     `json:"ignored"`             // words too soon after another, or at a moment when none counts
	Frames     uint64  `json:"frames"`              // given to the engine
	Dropped    uint64  `json:"dropped"`             // frames that it was too slow for
	LagMS      int64   `json:"lag_ms"`              // how old the last frame was when the engine took it
	MaxLagMS   int64   `json:"max_lag_ms"`          // the most that it ever was
	CPU        float64 `json:"cpu_percent"`         // of one core, of a child; lately
	AnswerMS   int64   `json:"answer_ms,omitempty"` // how long a service took to answer, lately
}

// Line tells the status to people.
func (s Status) Line() string {
	if s.State == Away {
		return fmt.Sprintf("%s is unavailable: %s", s.Engine, s.Reason)
	}
	return fmt.Sprintf("%s, %s; words detected: %d, frames dropped: %d", s.Engine, s.State, s.Detections, s.Dropped)
}

// Status is how the engine fares now.
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

// engine is a way to find words in sound.
type engine interface {
	// run starts or reaches the engine and gives it what mic hears, until it fails
	// or ctx ends; all that it started is gone when it returns. It reports to mic what
	// it finds.
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

// Run listens until ctx ends, or until the engine fails; it may then be called
// again. Until the engine is back it returns the same reason, that for which it
// went, so that an absence is one thing to tell; Status has the latest.
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

// hears tells whether any word would be obeyed now.
func (l *Listener) hears() bool { return l.Awake() || l.Config.Stops() && l.Speaking() }

// obeys tells whether that word would be obeyed now, as far as it was not said just
// before. It needs mu.
func (l *Listener) obeys(d Detection) bool {
	if d.Word.Stops() {
		return l.Speaking()
	}
	return l.Awake() && !d.Over.Before(l.deaf)
}

// heard decides whether a word counts.
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

// capture is what an engine gets of the microphone, and where it reports words.
// One goroutine reads.
type capture struct {
	listener *Listener
	stream   Stream // nil until opened
	dropped  uint64 // told of the stream so far
	deaf     time.Time
	until    time.Time // end of the last frame that the engine got
}

// open begins to listen: the engine is ready.
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

// read blocks for the next frame that the engine should hear. gap tells that
// the frame does not follow the one before it.
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

// rest notes that words that are over before then are not obeyed.
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

// count tells whether a frame of that age is still worth hearing.
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
