package endpoint

import (
	"math"
	"slices"
	"testing"
	"time"

	"lintod/audio"
	"lintod/audio/audiotest"
)

var config = Config{Silence: 800 * time.Millisecond, MaxUtterance: 20 * time.Second, NoSpeech: 6 * time.Second}

// result is the result of a detector for a scene; times in seconds, −1 for never.
type result struct {
	began, ended float64
	verdict      Verdict
}

func listen(c Config, fs []audio.Frame) result { return New(c).listen(fs) }

func (d *Detector) listen(fs []audio.Frame) result {
	r := result{-1, -1, None}
	for i := range fs {
		now := float64(i+1) * audio.FrameTime.Seconds()
		switch v := d.Push(&fs[i]); {
		case v == SpeechBegan:
			r.began = now
		case v.End():
			r.ended, r.verdict = now, v
			return r
		}
	}
	return r
}

// Every sentence after half a second (the pre-roll) and after two of noise. The
// table in the log is for improvements; the limits must hold.
func TestSpeechInNoise(t *testing.T) {
	var said [][]int16
	for _, s := range audiotest.Sentences(t) {
		said = append(said, s.PCM)
	}
	noises := []struct {
		name     string
		make     audiotest.Noise
		mustHold float64 // from this SNR on every sentence is found completely
	}{
		{"none", audiotest.Silence, 30},
		{"white", audiotest.White, 10},
		{"pink", audiotest.Pink, 5},
		{"fan", audiotest.Fan, 5},
		{"babble", audiotest.Babble, 15},
	}
	t.Log("noise    SNR  found  not heard  cut  no end  latest begin  latest end")
	for _, n := range noises {
		bed := n.make(t, 20*second)
		piece := func(_ testing.TB, n int) []float64 { return slices.Clone(bed[:n]) }
		for _, snr := range []float64{30, 20, 15, 10, 5, 0} {
			var found, deaf, early, noEnd int
			var began, late float64
			for _, speech := range said {
				for _, lead := range []float64{0.5, 2} {
					fs, from, to := scene(t, speech, lead, piece, snr)
					switch r := listen(config, fs); {
					case r.began < 0:
						deaf++
					case r.began < from-0.02 || r.ended > 0 && r.ended < to+0.4:
						early++
					case r.verdict != EndSilence:
						noEnd++
					default:
						found++
						began = max(began, r.began-from)
						late = max(late, r.ended-to-config.Silence.Seconds())
					}
				}
			}
			t.Logf("%-7s %2.0f dB  %2d/%d  %9d  %3d  %6d  %10.2f s  %8.2f s", n.name, snr, found, 2*len(said), deaf, early, noEnd, began, late)
			if snr >= n.mustHold && (found != 2*len(said) || began > 1 || late > 1) {
				t.Errorf("%s at %.0f dB: %d of %d found, latest begin %.2f s, latest end %.2f s", n.name, snr, found, 2*len(said), began, late)
			}
		}
	}
}

func TestSpeechFromTheFirstFrameIsHeard(t *testing.T) {
	for _, s := range audiotest.Sentences(t) {
		for _, lead := range []float64{0, 0.1} {
			fs, _, to := scene(t, s.PCM, lead, audiotest.Pink, 20)
			if r := listen(config, fs); r.began < 0 || r.verdict != EndSilence || r.ended < to+0.4 {
				t.Errorf("%q after %.1f s: %+v, speech ends at %.2f", s.Text, lead, r, to)
			}
		}
	}
}

func TestSoundWithoutSpeech(t *testing.T) {
	for name, pcm := range audiotest.Disturbances(t) {
		r := listen(config, cut(pcm))
		if r.began >= 0 || r.verdict != EndNoSpeech || r.ended < 6 || r.ended > 6.5 {
			t.Errorf("%s: %+v, want no speech after 6 s", name, r)
		}
	}
}

// A fan that starts while the user speaks becomes the noise floor after the floor's
// window of 3 s; then the silence is found.
func TestNoiseThatStartsDuringSpeech(t *testing.T) {
	fs, _, to := scene(t, audiotest.Speak(t, "en-us", "what time is it"), 0.5, audiotest.Pink, 40)
	loud := cut(audiotest.AtLevel(audiotest.Pink(t, 12*second), -32))
	fs = append(fs[:int(to*50)-10], loud...)
	if r := listen(config, fs); r.verdict != EndSilence || r.ended > to+5 {
		t.Errorf("%+v, speech ended at %.2f", r, to)
	}
}

// A click in the silence after speech must not start the 800 ms again.
func TestClickDoesNotProlongTheSilence(t *testing.T) {
	fs, _, to := scene(t, audiotest.Speak(t, "en-us", "what time is it"), 0.5, audiotest.Pink, 30)
	at := int((to + 0.4) * 50)
	copy(fs[at].PCM[:], cut(audiotest.AtLevel(audiotest.White(t, 320), -20))[0].PCM[:])
	if r := listen(config, fs); r.verdict != EndSilence || r.ended > to+0.9 {
		t.Errorf("%+v, speech ended at %.2f", r, to)
	}
}

func TestLimitsCountSoundThatWasLost(t *testing.T) {
	tone := make([]float64, 30*second)
	for i := range tone { // syllables of 300 ms, which are endless speech
		tone[i] = 5000 * math.Sin(2*math.Pi*300*float64(i)/second) * float64(i/4800%2)
	}
	cases := map[string]struct {
		c     Config
		lost  uint32
		ended float64
		v     Verdict
	}{
		"limit":               {config, 0, 20, EndLimit},
		"limit with a gap":    {config, 5 * second, 15, EndLimit},
		"limit before speech": {Config{Silence: time.Second, MaxUtterance: 100 * time.Millisecond}, 0, 0.1, EndLimit},
	}
	for name, c := range cases {
		fs := cut(tone)
		fs[199].Lost = c.lost
		if r := listen(c.c, fs); r.verdict != c.v || math.Abs(r.ended-c.ended) > 0.021 {
			t.Errorf("%s: %+v, want %v at %.1f", name, r, c.v, c.ended)
		}
	}
}

func TestEndIsRepeated(t *testing.T) {
	d := New(Config{Silence: time.Second, MaxUtterance: time.Second, NoSpeech: 100 * time.Millisecond})
	var got []Verdict
	for range 7 {
		got = append(got, d.Push(new(audio.Frame)))
	}
	if !slices.Equal(got, []Verdict{None, None, None, None, EndNoSpeech, EndNoSpeech, EndNoSpeech}) {
		t.Error(got)
	}
}

func TestLevel(t *testing.T) {
	frame := func(amplitude, freq float64) *audio.Frame {
		var f audio.Frame
		for i := range f.PCM {
			f.PCM[i] = int16(math.Round(amplitude * math.Cos(2*math.Pi*freq*float64(i)/second)))
		}
		return &f
	}
	cases := map[string]struct {
		f    *audio.Frame
		want float64
	}{
		"digital silence":    {frame(0, 0), -96},
		"full-scale sine":    {frame(32767, 1000), -3.01},
		"full-scale square":  {frame(32767, 0), 0},
		"a tenth":            {frame(3276.7, 1000), -23.01},
		"one bit up or down": {frame(1, 8000), -90.31},
	}
	for name, c := range cases {
		if got := Level(c.f); math.Abs(got-c.want) > 0.05 {
			t.Errorf("%s: %.2f dBFS, want %.2f", name, got, c.want)
		}
	}
}

func TestNothingIsAllocated(t *testing.T) {
	d, f := New(Config{Silence: time.Hour, MaxUtterance: time.Hour}), cut(audiotest.White(t, 320))[0]
	for name, take := range map[string]func(){"Remember": func() { d.Remember(&f) }, "Push": func() { d.Push(&f) }} {
		if n := testing.AllocsPerRun(1000, take); n != 0 {
			t.Errorf("%s: %v allocations a frame", name, n)
		}
	}
}

func BenchmarkPush(b *testing.B) {
	d, f := New(Config{Silence: time.Hour, MaxUtterance: 1000 * time.Hour}), cut(audiotest.White(b, 320))[0]
	b.ReportAllocs()
	for b.Loop() {
		d.Push(&f)
	}
}

// withSpeech gives every frame the Speech value that f returns for its second.
func withSpeech(fs []audio.Frame, f func(second float64) audio.Speech) []audio.Frame {
	for i := range fs {
		fs[i].Speech = f(float64(i) * audio.FrameTime.Seconds())
	}
	return fs
}

// A tone at the level of the room lasts from 2 s to 4 s, with different Speech values.
func TestSpeechValues(t *testing.T) {
	const from, to = 2, 4
	room := func() []audio.Frame { return cut(audiotest.AtLevel(audiotest.White(t, 9*second), -40)) }
	between := func(ts float64) audio.Speech {
		if ts >= from && ts < to {
			return audio.SpeechYes
		}
		return audio.SpeechNo
	}
	always := func(v audio.Speech) func(float64) audio.Speech { return func(float64) audio.Speech { return v } }
	for name, c := range map[string]struct {
		opinion func(float64) audio.Speech
		began   float64
		verdict Verdict
	}{
		"silence, then voice": {between, from + 0.16, EndSilence},
		"none":                {always(audio.SpeechUnknown), -1, EndNoSpeech},
		"silence":             {always(audio.SpeechNo), -1, EndNoSpeech},
		"voice from the first frame on, as in babble": {always(audio.SpeechYes), -1, EndNoSpeech},
	} {
		r := listen(config, withSpeech(room(), c.opinion))
		if r.verdict != c.verdict || math.Abs(r.began-c.began) > 0.03 {
			t.Errorf("%s: %+v", name, r)
		}
		if c.verdict == EndSilence && math.Abs(r.ended-to-0.8) > 0.03 {
			t.Errorf("%s: the end is at %.2f", name, r.ended)
		}
	}
}

func TestMinSpeech(t *testing.T) {
	voice := func(ts float64) audio.Speech {
		if ts >= 2 && ts < 2.3 {
			return audio.SpeechYes
		}
		return audio.SpeechNo
	}
	for least, began := range map[time.Duration]bool{200 * time.Millisecond: true, 400 * time.Millisecond: false} {
		c := config
		c.MinSpeech = least
		r := listen(c, withSpeech(cut(audiotest.AtLevel(audiotest.White(t, 9*second), -40)), voice))
		if r.began >= 0 != began {
			t.Errorf("300 ms of voice, at a minimum of %v: %+v", least, r)
		}
	}
}

// past makes a detector remember some frames, and process the others.
func past(c Config, before, fs []audio.Frame) result {
	d := New(c)
	for i := range before {
		d.Remember(&before[i])
	}
	return d.listen(fs)
}

// A talker in the background, in words of half a second, is not the user; a user who
// is 8 dB louder is, and the talker continues when the user has finished.
func TestTalkersOfTheRoomAreNotTheUser(t *testing.T) {
	words := func(seconds int, dbfs float64) []float64 {
		pcm := audiotest.AtLevel(audiotest.White(t, seconds*second), dbfs)
		for i := range pcm {
			if i%(second*7/10) > second/2 {
				pcm[i] /= 30
			}
		}
		return pcm
	}
	yes := func(fs []audio.Frame) []audio.Frame {
		return withSpeech(fs, func(float64) audio.Speech { return audio.SpeechYes })
	}
	talker := cut(words(14, -36))
	talk := func(louder float64) []audio.Frame {
		pcm := words(9, -36)
		for i, s := range words(2, -36+louder) {
			pcm[2*second+i] = s
		}
		return cut(pcm)
	}
	for name, c := range map[string]struct {
		opinion func([]audio.Frame) []audio.Frame
		before  int // frames
		louder  float64
		began   bool
		verdict Verdict
	}{
		"a talker":                        {yes, 250, 0, false, EndNoSpeech},
		"a talker, without opinions":      {slices.Clone[[]audio.Frame], 250, 0, false, EndNoSpeech},
		"the user":                        {yes, 250, 8, true, EndSilence},
		"the user, without opinions":      {slices.Clone[[]audio.Frame], 250, 8, true, EndSilence},
		"a talker after 0.5 s of room":    {yes, 25, 0, true, None},
		"a talker, at a card just opened": {yes, 0, 0, true, None},
	} {
		r := past(config, c.opinion(talker)[:c.before], c.opinion(talk(c.louder)))
		if r.began >= 0 != c.began || r.verdict != c.verdict || c.verdict == EndSilence && (r.began < 2 || r.ended > 5.2) {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// In a room that was silent, SpeechYes counts from the first frame on; it is ignored
// in steady noise that is not louder than before.
func TestSpeechValuesInAKnownRoom(t *testing.T) {
	noise := func(dbfs float64) []audio.Frame {
		return cut(audiotest.AtLevel(audiotest.White(t, 9*second), dbfs))
	}
	is := func(v audio.Speech) func(float64) audio.Speech { return func(float64) audio.Speech { return v } }
	before := withSpeech(noise(-40), is(audio.SpeechNo))[:250]
	for level, began := range map[float64]bool{-40: false, -37: true} {
		r := past(config, before, withSpeech(noise(level), is(audio.SpeechYes)))
		if r.began >= 0 != began || began && r.began > 0.6 {
			t.Errorf("noise of -40 dBFS, then %v with SpeechYes: %+v", level, r)
		}
	}
	if r := past(config, before, withSpeech(noise(-30), is(audio.SpeechNo))); r.began >= 0 {
		t.Errorf("noise that becomes louder with SpeechNo: %+v", r)
	}
}

func TestRestartKeepsTheRoom(t *testing.T) {
	noise := cut(audiotest.AtLevel(audiotest.Babble(t, 16*second), -36))
	c := Config{Silence: time.Second, MaxUtterance: 3 * time.Second}
	d := New(c)
	for i := range noise[:250] {
		d.Remember(&noise[i])
	}
	for part := range 3 {
		r := d.listen(noise[250+150*part:][:150])
		if r.began >= 0 || r.verdict != EndLimit {
			t.Errorf("part %d: %+v", part, r)
		}
		d.Restart()
	}
}
