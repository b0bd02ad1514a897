package virtual

import (
	"context"
	"sync"
	"time"

	"lintod/audio"
)

// microphone gives a frame each 20 ms: of the sound while it lasts, else of
// silence.
type microphone struct {
	sound  []int16
	next   time.Time // when the next frame begins
	timer  *time.Timer
	closed chan struct{}
	once   sync.Once

	mu   sync.Mutex
	rest []int16 // what is still to be heard of sound
}

func newMicrophone(sound []int16) *microphone {
	return &microphone{sound: sound, next: time.Now(), timer: time.NewTimer(0), closed: make(chan struct{})}
}

// Cue implements audio.Cuer: the sound begins with the next frame.
func (m *microphone) Cue() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rest = m.sound
}

// Read implements audio.Input. A frame is there when its last sample is. A
// reader that comes late gets frames at once until it has caught up.
func (m *microphone) Read(ctx context.Context, f *audio.Frame) error {
	m.timer.Reset(time.Until(m.next.Add(audio.FrameTime)))
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-m.closed:
		return audio.ErrClosed
	case <-m.timer.C:
	}
	f.At, f.Lost = m.next, 0
	m.next = m.next.Add(audio.FrameTime)
	m.mu.Lock()
	defer m.mu.Unlock()
	n := copy(f.PCM[:], m.rest)
	clear(f.PCM[n:])
	m.rest = m.rest[n:]
	return nil
}

// Close implements audio.Input.
func (m *microphone) Close() error {
	m.once.Do(func() { close(m.closed) })
	return nil
}
