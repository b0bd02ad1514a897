package player

import (
	"context"
	"io"
	"math"

	"lintod/audio"
)

// PCM is a Sound of samples in memory, mono at rate samples a second. The
// samples are not changed, so that several sounds may share them.
func PCM(pcm []int16, rate int) audio.Sound { return &memory{pcm, rate} }

type memory struct {
	pcm  []int16
	rate int
}

func (m *memory) Rate() int { return m.rate }

func (m *memory) Read(ctx context.Context, pcm []int16) (int, error) {
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	if len(m.pcm) == 0 {
		return 0, io.EOF
	}
	n := copy(pcm, m.pcm)
	m.pcm = m.pcm[n:]
	return n, nil
}

func (m *memory) Close() error { return nil }

// The chimes return 120 ms of sound for PCM, at rate samples a second. They are
// told apart without looking: up is yes, down is no, low is off.

// ListeningChime says: go on, speak.
func ListeningChime(rate int) []int16 { return notes(rate, 660, 880) }

// ErrorChime says: that did not work.
func ErrorChime(rate int) []int16 { return notes(rate, 440, 330) }

// MuteChime says: the microphone is closed.
func MuteChime(rate int) []int16 { return notes(rate, 294, 196) }

// notes are soft sines of 60 ms each at −12 dBFS. Every one fades in and out, so
// that nothing clicks.
func notes(rate int, hertz ...float64) []int16 {
	const seconds, amplitude = 0.060, 0.25 * math.MaxInt16
	n := int(seconds * float64(rate))
	pcm := make([]int16, 0, n*len(hertz))
	for _, f := range hertz {
		for i := range n {
			fade := math.Sin(math.Pi * float64(i) / float64(n))
			pcm = append(pcm, int16(amplitude*fade*fade*math.Sin(2*math.Pi*f*float64(i)/float64(rate))))
		}
	}
	return pcm
}
