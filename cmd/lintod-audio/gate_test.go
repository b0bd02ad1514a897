//go:build cgo

package main

import (
	"slices"
	"testing"
	"time"

	"lintod/audio"
	"lintod/audio/audiotest"
)

// echoing returns what a microphone hears of a loudspeaker that plays far: an echo
// that is 6 dB weaker and comes after delay, and the noise of the room.
func echoing(t testing.TB, far []float64, delay time.Duration) []float64 {
	mic := audiotest.AtLevel(audiotest.Pink(t, len(far)), -65)
	late := samples(audiotest.Rate, delay)
	for i, s := range audiotest.Room(far, 6, 200*time.Millisecond)[:len(far)-late] {
		mic[i+late] += s
	}
	return mic
}

// louder counts the fifths of a second in which pcm is louder than dbfs.
func louder(pcm []int16, dbfs float64) (n int) {
	for block := range slices.Chunk(pcm, audiotest.Rate/5) {
		if dBFS(block) > dbfs {
			n++
		}
	}
	return n
}

// The device does not hear itself: not before the canceller has adapted, not if the
// delay of the echo changes, and not if it is too long to be cancelled.
func TestGateHoldsBackTheEcho(t *testing.T) {
	const (
		rate = audiotest.Rate
		step = 4 * rate
	)
	far := answer(t)
	said := audiotest.Samples(far)
	for name, c := range map[string]struct {
		delay   time.Duration
		shifts  []int // shifts of the reference in samples, one after the other
		noticed bool  // reported by the loudspeaker: underruns
		most    int   // fifths of a second in which the echo may be audible
	}{
		"a room":                   {delay: 40 * time.Millisecond},
		"a late loudspeaker":       {delay: 200 * time.Millisecond},
		"a delay that is too long": {delay: 350 * time.Millisecond},
		"it runs dry":              {40 * time.Millisecond, []int{30, -170, 200}, true, 0},
		"an unnoticed shift":       {40 * time.Millisecond, []int{30, -170, 200}, false, 3},
	} {
		t.Run(name, func(t *testing.T) {
			mic := audiotest.Samples(echoing(t, far, c.delay))
			played := newReference()
			pipe := open(t, audio.Processing{EchoCancelling: true}, played)
			var out []int16
			var frame [audio.FrameSamples]int16
			shift := 0
			for i := 0; i+2*len(frame) <= len(said); i += len(frame) {
				if n := i / step; i > 0 && i%step == 0 && n <= len(c.shifts) {
					shift = c.shifts[n-1]
					if c.noticed {
						played.shifts.Add(1)
					}
				}
				at := int64(1e12) + int64(i)*sampleTime
				from := max(0, i+shift)
				played.write(at/sampleTime, said[from:from+len(frame)])
				copy(frame[:], mic[i:])
				pipe.process(at, &frame)
				out = append(out, frame[:]...)
			}
			const loud = -50
			echo, left := louder(mic, loud), louder(out, loud)
			t.Logf("the echo is louder than %d dBFS for %d fifths of a second; heard in %d", loud, echo, left)
			if left > c.most {
				t.Error("the device hears itself")
			}
		})
	}
}

// Of twenty users who talk to the device while it speaks, as loudly as it does, most
// are heard.
func TestTableOfInterruptions(t *testing.T) {
	const (
		rate = audiotest.Rate
		echo = -26
	)
	far := answer(t)
	heard := echoing(t, far, 40*time.Millisecond)
	for len(far) < 80*rate {
		far, heard = slices.Concat(far, far), slices.Concat(heard, heard)
	}
	users := audiotest.Sentences(t)
	t.Log("user against echo   heard")
	for _, over := range rows([]float64{6, -6, 0}) {
		mic := slices.Clone(heard)
		played := newReference()
		pipe := open(t, audio.Processing{EchoCancelling: true}, played)
		var spans [][2]int
		for i := range 20 {
			from := 8*rate + i*7/2*rate
			user := audiotest.Floats(users[i%len(users)].PCM)
			user = audiotest.AtLevel(user[:min(len(user), 2*rate)], echo+over)
			for k, s := range user {
				mic[from+k] += s
			}
			spans = append(spans, [2]int{from, from + len(user)})
		}
		out := through(pipe, played, audiotest.Samples(far), audiotest.Samples(mic))
		through := 0
		for _, s := range spans {
			if dBFS(out[s[0]:s[1]]) > echo+over-6 {
				through++
			}
		}
		t.Logf("%13.0f dB   %2d of 20", over, through)
		if over == 0 && through < 18 {
			t.Errorf("only %d of 20 are heard", through)
		}
	}
}

// Where the microphone does not hear the loudspeaker at all, the users are heard, from a
// few seconds after its first sound.
func TestInterruptionsWithoutEcho(t *testing.T) {
	const (
		rate = audiotest.Rate
		loud = -32
	)
	far := slices.Concat(answer(t), answer(t), answer(t), answer(t))
	mic := audiotest.AtLevel(audiotest.Pink(t, len(far)), -62)
	users := audiotest.Sentences(t)
	var spans [][2]int
	for at := 8 * rate; at+3*rate < len(far); at += 5 * rate {
		user := audiotest.Floats(users[len(spans)%len(users)].PCM)
		user = audiotest.AtLevel(user[:min(len(user), 2*rate)], loud)
		for k, s := range user {
			mic[at+k] += s
		}
		spans = append(spans, [2]int{at, at + len(user)})
	}
	played := newReference()
	pipe := open(t, audio.Processing{EchoCancelling: true}, played)
	out := through(pipe, played, audiotest.Samples(far), audiotest.Samples(mic))
	heard := 0
	for _, s := range spans {
		if dBFS(out[s[0]:s[1]]) > loud-6 {
			heard++
		}
	}
	if heard < len(spans)*9/10 {
		t.Errorf("only %d of %d are heard", heard, len(spans))
	}
}

// A loudspeaker that becomes audible is heard for a moment only.
func TestEchoBegins(t *testing.T) {
	const rate = audiotest.Rate
	far := slices.Concat(answer(t), answer(t), answer(t))[:30*rate]
	mic := echoing(t, far, 40*time.Millisecond)
	copy(mic, audiotest.AtLevel(audiotest.Pink(t, 12*rate), -65))
	played := newReference()
	pipe := open(t, audio.Processing{EchoCancelling: true}, played)
	out := through(pipe, played, audiotest.Samples(far), audiotest.Samples(mic))
	const loud = -50
	n := louder(out, loud)
	t.Logf("the echo is louder than %d dBFS for %d fifths of a second", loud, n)
	if n > 8 {
		t.Error("the device hears itself")
	}
}
