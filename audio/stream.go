package audio

import (
	"context"
	"math"
	"sync"
	"time"

	"lintod/agent/base/loop"
	"lintod/audio/ring"
)

// queueTime is the length of a stream's queue; if it is full, the oldest frame is dropped.
const queueTime = 5 * time.Second

// Stream is one listener's subscription to the microphone. One goroutine reads; any may call Close.
type Stream struct {
	hub    *Hub
	since  time.Time     // earlier frames are not requested, except for room
	room   time.Duration // of the earlier past
	ready  loop.Signal   // holds one token when frames may be waiting
	closed chan struct{}
	once   sync.Once

	// The hub's mutex guards the following fields.
	queue   ring.Ring[Frame] // queued frames
	delay   time.Duration
	dropped uint64
	until   time.Time // end of the newest frame; zero before the first
	missing uint32    // samples of a gap, reported with the next frame
	got     int       // frames so far
	sound   bool      // not all of them were zeros
}

// newStream returns a stream with capacity for the requested past in addition to the queue.
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

// Read blocks until a frame is available. It fails with ErrClosed after Close, and with the cause
// when ctx ends; failures of the card only cause a gap, whose length is in the next Frame.Lost.
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

// SetDelay allows frames to be delivered up to d late, several at a time, which saves power. By
// default they are delivered immediately. It does not block.
func (s *Stream) SetDelay(d time.Duration) {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	s.delay = d
	s.hub.pace()
}

// Dropped returns the number of frames that were dropped because they were not read in time. They
// are also counted in Frame.Lost of the next frame.
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

// offer pushes a frame, unless it is older than requested: frames captured earlier may arrive
// later. It needs the hub's mutex.
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

// missed needs the hub's mutex. It records that the microphone was closed since the newest frame; a
// stream without frames misses nothing.
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
