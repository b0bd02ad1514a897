package endpoint

import (
	"testing"

	"lintod/audio"
	"lintod/audio/audiotest"
)

const second = audio.CaptureRate

func cut(pcm []float64) []audio.Frame { return frame(audiotest.Samples(pcm)) }

func frame(pcm []int16) []audio.Frame {
	fs := make([]audio.Frame, len(pcm)/audio.FrameSamples)
	for i := range fs {
		copy(fs[i].PCM[:], pcm[i*audio.FrameSamples:])
	}
	return fs
}

// scene is an audiotest.Scene in frames, with its limits in seconds.
func scene(t testing.TB, speech []int16, lead float64, n audiotest.Noise, snr float64) (fs []audio.Frame, begin, end float64) {
	s := audiotest.Stage(t, speech, int(lead*second), n, snr)
	return frame(s.PCM), float64(s.From) / second, float64(s.To) / second
}
