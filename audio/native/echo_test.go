package native

import (
	"context"
	"math"
	"sync/atomic"
	"testing"
	"time"

	"lintod/audio"
	"lintod/audio/audiotest"
)

func dBFS(pcm []int16) float64 {
	return 20 * math.Log10(max(audiotest.RMS(audiotest.Floats(pcm)), 1)/32768)
}

// listener reads an input until the test ends.
type listener struct {
	in  audio.Input
	pcm []int16
}

// hear reads for a second, and returns the level.
func (l *listener) hear(t *testing.T) float64 {
	for range time.Second / audio.FrameTime {
		f := read(t, l.in)
		l.pcm = append(l.pcm, f.PCM[:]...)
	}
	return dBFS(l.pcm[len(l.pcm)-audiotest.Rate:])
}

// The microphone picks up the loudspeaker at full level: after processing the
// loudspeaker must be gone, but not a user who speaks meanwhile.
func TestEchoIsCancelled(t *testing.T) {
	rig, p := startReal(t)
	const delay = 40 * time.Millisecond
	rig.Echo(delay, 0)
	plain := &listener{in: p.openInput()}
	p.Processing = audio.Processing{EchoCancelling: true}
	clear := &listener{in: p.openInput()}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	out, err := p.OpenOutput(ctx, 48000) // so that the reference is converted
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	played := make(chan struct{})
	go func() {
		defer close(played)
		said := atRate48(answer(t))
		for out.Write(ctx, said) == nil {
			continue
		}
	}()
	defer func() { cancel(); <-played }()

	// On a busy machine sound has gaps, and the delay of the echo changes: the
	// canceller may have to adapt again, and cannot if the delay exceeds that of any
	// room.
	await := func(what string, enough func(echo, left float64) bool) {
		for try := 1; ctx.Err() == nil; try++ {
			if try%20 == 0 {
				rig.Echo(delay, 0)
			}
			echo, left := plain.hear(t), clear.hear(t)
			t.Logf("%s: the microphone hears %.1f dBFS, of which %.1f dBFS are left", what, echo, left)
			if enough(echo, left) {
				return
			}
		}
		t.Fatalf("%s: timeout", what)
	}
	await("echo", func(echo, left float64) bool { return echo > -30 && echo-left > 12 })
	var enough atomic.Bool
	fed := make(chan struct{})
	go func() {
		defer close(fed)
		user := audiotest.AtLevel(audiotest.Floats(audiotest.Speak(t, "en-gb", "please stop, I would like to hear the news instead")), -20)
		user = append(user, make([]float64, 5*audiotest.Rate)...) // time for the canceller to adapt
		for !enough.Load() && ctx.Err() == nil {                  // unrecognised speech is repeated
			rig.Feed(audiotest.Samples(user))
		}
	}()
	await("both", func(_, left float64) bool { return left > -27 })
	enough.Store(true)
	<-fed
	await("echo again", func(echo, left float64) bool { return echo > -30 && echo-left > 12 })
}

// answer is the speech of the loudspeaker.
func answer(t *testing.T) []int16 {
	said := audiotest.Speak(t, "en-us", "The weather will be fine this afternoon, with a light wind from the west and a few clouds over the hills.")
	return audiotest.Samples(audiotest.AtLevel(audiotest.Floats(said), -20))
}

// atRate48 repeats each sample: the added frequencies lie above the band of the rig.
func atRate48(pcm []int16) []int16 {
	out := make([]int16, 0, 3*len(pcm))
	for _, s := range pcm {
		out = append(out, s, s, s)
	}
	return out
}
