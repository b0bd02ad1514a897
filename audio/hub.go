package audio

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"lintod/agent/base/loop"
	"lintod/audio/ring"
)

// DeafAfter is how long a microphone that should be open may deliver no frame.
const DeafAfter = 2 * time.Second

// A microphone that delivers only zeros is switched off, or is on another channel. It counts as
// deaf after ZerosAfter, or if a listener got only zeros, for at least zerosHeard and until the
// end. A noise gate also produces zeros in a quiet room: for a microphone that has become silent
// and resumed more than gateAfter times, only listeners count.
const (
	ZerosAfter = 10 * time.Second
	zerosHeard = 2 * time.Second
	gateAfter  = 2
	gateRun    = 100 * time.Millisecond // a shorter silence is not a gate, but a gap of the card
)

// batch is how many frames are read at a time: those of IdleDelay, and some more if the machine was
// busy.
const batch = int(IdleDelay/FrameTime) * 5 / 4

var errNotWanted = errors.New("the microphone is not in use")

// Hub owns the microphone: it decides when the card is open, stores the most recent sound, and
// distributes every frame to all listeners.
type Hub struct {
	// Open opens the microphone.
	Open func(ctx context.Context) (Input, error)
	// Preroll is how much past sound Listen can start with.
	Preroll time.Duration
	// Memory is how far back ListenSince can reach; at least Preroll.
	Memory time.Duration
	// Room is how much earlier sound ListenInRoom and ListenSince deliver in addition, if it is
	// still stored.
	Room time.Duration
	// Privacy keeps the microphone closed while there is no listener.
	Privacy bool
	// Gated means that the sound is processed in a way that may turn a quiet room into zeros.
	Gated bool
	Log   *slog.Logger

	mu      sync.Mutex
	changed chan struct{} // closed at the next change of the following fields
	muted   bool
	streams []*Stream
	stop    context.CancelCauseFunc // ends the current capture, or nil
	input   Input                   // nil unless the card is open
	cue     bool                    // a listener was added before the card was open
	delay   time.Duration           // as passed to input
	gap     bool                    // the card was opened and has not delivered a frame yet
	past    ring.Ring[Frame]        // the newest frames
	health  Health
	real    bool // input is a card, for which zeros are relevant
	gates   int  // how often the open card was silent and resumed
	beat    loop.Signal
	beaten  time.Time // time of the last beat
}

// ZerosFault describes a microphone that delivers only zeros.
const ZerosFault = "the microphone delivers only zeros: it is switched off, or on another channel"

// Health is the state of the microphone.
type Health struct {
	Wanted  bool      `json:"wanted"`         // a microphone should be open now
	Open    bool      `json:"open"`           // one is
	Since   time.Time `json:"since,omitzero"` // since when it should be open
	Last    time.Time `json:"last,omitzero"`  // when the last frame arrived; zero before the first
	Frames  uint64    `json:"frames"`         // frames so far
	Lost    uint64    `json:"lost"`           // samples that the card lost
	Dropped uint64    `json:"dropped"`        // frames that slow listeners missed
	// Zeros is since when the open microphone has delivered only zeros, or zero if its last frame
	// had sound. Unheard means that this is a fault.
	Zeros   time.Time `json:"zeros_since,omitzero"`
	Unheard bool      `json:"unheard,omitempty"`
}

// Deaf reports whether expected sound has not arrived.
func (h Health) Deaf(now time.Time) bool { return h.Fault(now) != "" }

// Fault describes the fault of a deaf microphone, and is "" otherwise.
func (h Health) Fault(now time.Time) string {
	switch {
	case !h.Wanted:
		return ""
	case now.Sub(h.Since) > DeafAfter && now.Sub(h.Last) > DeafAfter:
		return "the microphone delivers no sound"
	case h.Unheard:
		return ZerosFault
	}
	return ""
}

// Run keeps the microphone open while it is needed, until ctx ends or the card fails; it returns
// the cause. Streams survive it: when Run is called again they continue, and the next frame reports
// how much was lost.
func (h *Hub) Run(ctx context.Context) error {
	for {
		if err := h.await(ctx, h.wanted); err != nil {
			return err
		}
		if err := h.capture(ctx); !errors.Is(err, errNotWanted) {
			return err
		}
	}
}

// SetMuted closes the capture device, or allows opening it again. Muting returns when the card is
// closed, or with the cause if ctx ends first; the card is closed in that case too.
func (h *Hub) SetMuted(ctx context.Context, muted bool) error {
	h.mu.Lock()
	h.muted = muted
	h.update()
	h.mu.Unlock()
	return h.await(ctx, func() bool { return !h.muted || h.stop == nil })
}

// Listen subscribes to the microphone, optionally starting with the pre-roll. It does not wait for
// the card: frames arrive when it is open. The caller must Close the stream.
func (h *Hub) Listen(preroll bool) *Stream {
	return h.listen(newStream(h, h.start(preroll), 0))
}

// ListenInRoom is Listen with the earlier sound of the room: the frames of Room come first, marked
// as Past. A Cuer, and a card that was just opened, have no past.
func (h *Hub) ListenInRoom(preroll bool) *Stream {
	return h.listen(newStream(h, h.start(preroll), h.Room))
}

func (h *Hub) start(preroll bool) time.Time {
	if preroll {
		return time.Now().Add(-h.Preroll)
	}
	return time.Now()
}

func (h *Hub) listen(s *Stream) *Stream {
	h.mu.Lock()
	h.cue = h.input == nil
	input := h.input
	h.add(s)
	h.mu.Unlock()
	cue(input)
	return s
}

// ListenSince subscribes to the microphone, starting in the past: with the first stored frame that
// ends after t, preceded by those of Room, marked as Past. A Cuer continues and does not restart.
// The caller must Close the stream.
func (h *Hub) ListenSince(t time.Time) *Stream {
	s := newStream(h, t, h.Room)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.add(s)
	return s
}

// add gives s the past that it requests, and all later frames. It needs mu.
func (h *Hub) add(s *Stream) {
	if h.input != nil && !h.real {
		s.room = 0
	}
	for i := range h.past.Len() {
		s.offer(h.past.At(i))
	}
	h.streams = append(h.streams, s)
	h.update()
}

// memory returns how many frames are stored.
func (h *Hub) memory() int { return int((max(h.Preroll, h.Memory) + h.Room) / FrameTime) }

// Health returns the current state of the microphone.
func (h *Hub) Health() Health {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.health.Wanted = h.wanted()
	h.health.Open = h.input != nil
	if z := h.health.Zeros; !z.IsZero() && !h.Gated && h.gates <= gateAfter && time.Since(z) > ZerosAfter {
		h.health.Unheard = true
	}
	return h.health
}

// Beat returns a channel that receives, while sound arrives, together with the sound after each
// IdleDelay, and when the microphone is closed. It allows periodic work without additional
// wake-ups. There is one channel, for one receiver.
func (h *Hub) Beat() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.beat == nil {
		h.beat = loop.NewSignal()
	}
	return h.beat
}

func (h *Hub) capture(parent context.Context) error {
	ctx, stop := context.WithCancelCause(parent)
	defer stop(nil)
	h.begin(stop)
	defer h.end()
	err := h.read(ctx)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func (h *Hub) read(ctx context.Context) error {
	input, err := h.Open(ctx)
	if err != nil {
		return fmt.Errorf("open the microphone: %w", err)
	}
	defer input.Close()
	h.opened(input)
	frames := make([]Frame, batch)
	for {
		n, err := input.Read(ctx, frames)
		if err != nil {
			return fmt.Errorf("read the microphone: %w", err)
		}
		h.publish(frames[:n])
	}
}

func (h *Hub) begin(stop context.CancelCauseFunc) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stop = stop
	h.update() // it may no longer be needed
}

func (h *Hub) opened(input Input) {
	h.mu.Lock()
	h.input, h.gap, h.delay = input, true, 0
	_, story := input.(Cuer)
	h.real, h.gates = !story, 0
	h.pace()
	pending := h.cue && len(h.streams) > 0
	h.cue = false
	h.mu.Unlock()
	h.Log.Debug("microphone open")
	if pending {
		cue(input)
	}
}

// end also discards the pre-roll: sound from before a gap must not become the pre-roll of the next
// trigger.
func (h *Hub) end() {
	h.mu.Lock()
	h.stop, h.input = nil, nil
	h.past.Clear()
	h.health.Zeros, h.health.Unheard = time.Time{}, false
	h.update()
	if h.beat != nil {
		h.beat.Set()
	}
	h.mu.Unlock()
	h.Log.Debug("microphone closed")
}

// publish passes frames to all listeners, each of which wakes up once.
func (h *Hub) publish(frames []Frame) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.health.Last = time.Now()
	if h.beat != nil && h.health.Last.Sub(h.beaten) > IdleDelay*3/4 {
		h.beaten = h.health.Last
		h.beat.Set()
	}
	for i := range frames {
		f := &frames[i]
		h.health.Frames++
		h.health.Lost += uint64(f.Lost)
		h.judge(f)
		h.remember(f)
		for _, s := range h.streams {
			if h.gap {
				s.missed(f.At)
			}
			s.offer(f)
		}
		h.gap = false
	}
	for _, s := range h.streams {
		s.ready.Set()
	}
}

// judge records whether the card delivers sound. It needs mu.
func (h *Hub) judge(f *Frame) {
	f.Silent = h.real && f.PCM == [FrameSamples]int16{}
	switch zeros := h.health.Zeros; {
	case f.Silent && zeros.IsZero():
		h.health.Zeros = h.health.Last
	case !f.Silent && !zeros.IsZero():
		if h.health.Last.Sub(zeros) > gateRun {
			h.gates++
		}
		h.health.Zeros, h.health.Unheard = time.Time{}, false
	}
}

func (h *Hub) remember(f *Frame) {
	size := h.memory()
	if size == 0 {
		return
	}
	if h.past.Room() < size {
		h.past.Grow(size)
	}
	h.past.Push(f)
}

func (h *Hub) remove(s *Stream) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.streams = slices.DeleteFunc(h.streams, func(o *Stream) bool { return o == s })
	if !s.sound && s.got >= int(zerosHeard/FrameTime) && !h.health.Zeros.IsZero() {
		h.health.Unheard = true
	}
	h.update()
}

// wanted needs mu.
func (h *Hub) wanted() bool { return !h.muted && (!h.Privacy || len(h.streams) > 0) }

// update needs mu. It ends a capture that is no longer needed and wakes goroutines that wait for a
// change.
func (h *Hub) update() {
	switch {
	case !h.wanted():
		h.health.Since = time.Time{}
		if h.stop != nil {
			h.stop(errNotWanted)
		}
	case h.health.Since.IsZero():
		h.health.Since = time.Now()
	}
	h.pace()
	if h.changed != nil {
		close(h.changed)
		h.changed = nil
	}
}

// pace sets the delay of the card to the maximum that all listeners allow. It needs mu.
func (h *Hub) pace() {
	delay := IdleDelay
	for _, s := range h.streams {
		delay = min(delay, s.delay)
	}
	if p, ok := h.input.(Pacer); ok && delay != h.delay {
		h.delay = delay
		p.SetDelay(delay)
	}
}

// await blocks until cond, which is called with mu held, or ctx's end.
func (h *Hub) await(ctx context.Context, cond func() bool) error {
	for {
		h.mu.Lock()
		if cond() {
			h.mu.Unlock()
			return nil
		}
		if h.changed == nil {
			h.changed = make(chan struct{})
		}
		changed := h.changed
		h.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func cue(input Input) {
	if c, ok := input.(Cuer); ok {
		c.Cue()
	}
}
