package audio

import (
	"context"
	"math"
	"sync"
	"time"

	"lintod/agent/base/loop"
	"lintod/audio/ring"
)

// queueTime bounds what a stream keeps for a reader that does not come; then
// the oldest frame goes.
const queueTime = 5 * time.Second

// Stream is one listener's share of the microphone. One goroutine reads; any
// may Close.
type Stream struct {
	hub    *Hub
	since  time.Time     // what was captured before is not wanted, but for room
	room   time.Duration // of the past before
	ready  loop.Signal   // holds one token when frames may be waiting
	closed chan struct{}
	once   sync.Once

	// The hub's mutex guards what follows.
	queue   ring.Ring[Frame] // what waits
	delay   time.Duration
	dropped uint64
	until   time.Time // end of the newest frame; zero before the first
	missing uint32    // samples of a gap, told with the next frame
	got     int       // frames so far
	sound   bool      // not all of them were zeros
}

// newStream has room for what is wanted of the past beside what is to come.
func newStream(h *Hub, since time.Time, room time.Duration) *Stream {
	past := max(0, min(int((time.Since(since)+room)/FrameTime)+1, h.memory()))
	return &Stream{
		hub:    h,
		since:  since,
		room:   room,
		ready:  loop.NewSignal(),
		closed: make(chan struct{}),
		queue:  ring.New[Frame](int(queueTime/FrameTime) + past),
	}
}

// Read blocks until a frame is there. It fails with ErrClosed after Close, and
// with the cause when ctx ends; the card's failures only show as a pause, after
// which Frame.Lost tells how much is missing.
func (s *Stream) Read(ctx context.Context, f *Frame) error {
	for {
		select {
		case <-s.closed:
			return ErrClosed
		default:
		}
		if s.pop(f) {
			return nil
		}
		select {
		case <-s.ready:
		case <-s.closed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Close ends the subscription and a blocked Read. It may be called twice.
func (s *Stream) Close() error {
	s.once.Do(func() {
		s.hub.remove(s)
		close(s.closed)
	})
	return nil
}

// SetDelay lets frames come up to d late, several at a time: each time that the
// microphone hands over sound costs power. Without it they come at once. It does not
// block.
func (s *Stream) SetDelay(d time.Duration) {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	s.delay = d
	s.hub.pace()
}

// Dropped counts the frames that were thrown away because nobody read them in
// time. They are also in Frame.Lost of the frame that follows them.
func (s *Stream) Dropped() uint64 {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	return s.dropped
}

func (s *Stream) pop(f *Frame) bool {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	if s.queue.Len() == 0 {
		return false
	}
	*f = *s.queue.At(0)
	s.queue.Drop()
	return true
}

// offer pushes a frame, unless it is older than what is wanted: one that was
// captured before may come after. It needs the hub's mutex.
func (s *Stream) offer(f *Frame) {
	if f.At.Add(FrameTime + s.room).After(s.since) {
		s.push(f)
	}
}

// push needs the hub's mutex.
func (s *Stream) push(f *Frame) {
	if s.queue.Full() {
		s.dropOldest()
	}
	at := s.queue.Push(f)
	at.Lost = addLost(at.Lost, s.missing)
	at.Past = !f.At.Add(FrameTime).After(s.since)
	s.missing = 0
	if !at.Past {
		s.got++
		s.sound = s.sound || !f.Silent
	}
	s.until = f.At.Add(FrameTime)
}

// missed needs the hub's mutex. It notes that the microphone was closed from
// the newest frame until now; a stream that had no frame yet misses nothing.
func (s *Stream) missed(now time.Time) {
	if gap := now.Sub(s.until); !s.until.IsZero() && gap > 0 {
		s.missing = uint32(min(gap.Seconds()*CaptureRate, math.MaxUint32))
	}
}

func (s *Stream) dropOldest() {
	lost := s.queue.At(0).Lost
	s.queue.Drop()
	next := s.queue.At(0)
	next.Lost = addLost(addLost(next.Lost, lost), uint32(FrameSamples))
	s.dropped++
	s.hub.health.Dropped++
}

func addLost(a, b uint32) uint32 { return uint32(min(uint64(a)+uint64(b), math.MaxUint32)) }
