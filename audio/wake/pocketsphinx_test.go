package wake

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lintod/audio"
	"lintod/audio/resample"
	"lintod/audio/wav"
)

// say lets flite speak: its voices are from people, whom pocketsphinx recognises
// better than the formants of espeak-ng.
func say(t testing.TB, voice, text string) []int16 {
	t.Helper()
	for _, p := range []string{"flite", program} {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("SKIPPED: %s is not installed", p)
		}
	}
	file := filepath.Join(t.TempDir(), "said.wav")
	if out, err := exec.Command("flite", "-voice", voice, "-t", text, "-o", file).CombinedOutput(); err != nil {
		t.Fatalf("flite: %v: %s", err, out)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pcm, rate, err := wav.Read(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if rate != audio.CaptureRate {
		r := resample.New(rate, audio.CaptureRate)
		pcm = r.Flush(r.Process(nil, pcm))
	}
	return pcm
}

func join(parts ...[]int16) []int16 {
	var all []int16
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

// quiet is a silent room: very faint noise.
func quiet(d time.Duration) []int16 {
	pcm := make([]int16, int(d*audio.CaptureRate/time.Second))
	seed := uint32(1)
	for i := range pcm {
		seed = seed*1664525 + 1013904223
		pcm[i] = int16(seed>>28) - 8
	}
	return pcm
}

// feed gives the microphone a sound whose first frame was captured at the given
// time.
func (m *microphone) feed(at time.Time, pcm []int16) {
	for i := 0; i+audio.FrameSamples <= len(pcm); i += audio.FrameSamples {
		f := audio.Frame{At: at.Add(time.Duration(i) * time.Second / audio.CaptureRate)}
		copy(f.PCM[:], pcm[i:])
		m.frames <- f
	}
}

func sphinx(words ...Word) Config {
	c := Defaults()
	c.Engine, c.Words = EnginePocketsphinx, words
	return c
}

const news = "The daily news of the evening begin with the weather in the north of the country, " +
	"where heavy rain and wind are expected until the end of the week. " +
	"In the capital the parliament has voted on the new budget for schools and hospitals."

func TestPocketsphinx(t *testing.T) {
	hey := Word{Name: "computer", Phrase: "Hey computer"}
	phrase := say(t, "rms", "hey computer")
	const second = audio.CaptureRate
	for name, c := range map[string]struct {
		sound []int16
		want  int
		over  int // samples from the start; of the first
	}{
		"said alone":                      {join(quiet(time.Second), phrase, quiet(2*time.Second)), 1, second + len(phrase)},
		"and the request without a pause": {join(quiet(time.Second), say(t, "rms", "hey computer what time is it in the city of Paris today"), quiet(2*time.Second)), 1, second + len(phrase)},
		"said twice":                      {join(quiet(time.Second), phrase, quiet(3*time.Second), phrase, quiet(2*time.Second)), 2, second + len(phrase)},
		"during a news reading":           {join(quiet(time.Second), say(t, "awb", news), phrase, say(t, "awb", news), quiet(2*time.Second)), 1, second + len(say(t, "awb", news)) + len(phrase)},
		"the news alone":                  {join(quiet(time.Second), say(t, "rms", news), quiet(2*time.Second)), 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			l := listen(t, sphinx(hey))
			eventually(t, "listening", func() bool { return l.Status().State == Listening })
			began := fresh()
			l.mic.feed(began, c.sound)
			// A word is detected within five seconds of sound.
			l.mic.feed(began.Add(time.Duration(len(c.sound))*time.Second/audio.CaptureRate), quiet(5*time.Second))
			if c.want > 0 {
				d := await(t, "detection", l.heard)
				late := d.Over.Sub(began) - time.Duration(c.over)*time.Second/audio.CaptureRate
				t.Logf("over %v after the phrase, score %.2f", late.Round(time.Millisecond), d.Score)
				if late < -500*time.Millisecond || late > 300*time.Millisecond || d.Score <= 0 || d.Word.Name != "computer" {
					t.Errorf("heard %+v, over %v after it was said", d, late)
				}
			}
			eventually(t, "heard to the end", func() bool { return len(l.mic.frames) == 0 })
			l.mic.feed(began.Add(time.Hour), quiet(5*time.Second)) // pushes the rest through the pipe
			eventually(t, "heard to the end", func() bool { return len(l.mic.frames) == 0 })
			if got := l.Status(); got.Detections != c.want || got.Away != 0 {
				t.Errorf("%+v, want %d words", got, c.want)
			}
		})
	}
}

func TestPocketsphinxKnowsTheWords(t *testing.T) {
	say(t, "rms", "computer")
	l := listen(t, sphinx(Word{Name: "linto", Phrase: "bonjour linto"}))
	err := await(t, "failure", l.fails)
	if !errors.Is(err, errDictionary) || !strings.Contains(err.Error(), `"linto"`) || !strings.Contains(err.Error(), "wake.word.phrase") {
		t.Errorf("error %v", err)
	}
}

func TestThreshold(t *testing.T) {
	for _, c := range []struct {
		sounds int
		s      float64
		want   int
	}{{10, 0.5, 20}, {10, 1, 40}, {10, 0, 0}, {8, 0.5, 16}} {
		if got := threshold(c.sounds, c.s); got != c.want {
			t.Errorf("%d sounds, sensitivity %v: 1e-%d, want 1e-%d", c.sounds, c.s, got, c.want)
		}
	}
}

// fake puts a shell script in the place of pocketsphinx.
func fake(t *testing.T, script string) *pocketsphinx {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "pocketsphinx")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "cmudict-en-us.dict"), []byte("hey HH EY\nhey(2) HH AY\nyou Y UW\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return &pocketsphinx{words: []Word{{Name: "hey", Phrase: "hey you"}}, program: path, model: dir, startLimit: time.Minute, takeLimit: time.Minute}
}

// Whatever the child does, it has ended when run returns, and its files are removed.
func TestChildrenThatFail(t *testing.T) {
	for name, c := range map[string]struct {
		script      string
		want        error
		start, take time.Duration
	}{
		"ends at once":                   {script: "echo 'ERROR: \"x.c\", line 3: planted-reason' >&2; exit 3", want: errPlanted},
		"prints why it ends":             {script: "echo 'INFO: a lot' >&2; echo 'ERROR: planted-reason' >&2; echo 'INFO: bye' >&2; exit 3", want: errPlanted},
		"ends without output":            {script: "head -c 100000 >/dev/null", want: errEnded},
		"takes nothing":                  {script: "sleep 600", want: os.ErrDeadlineExceeded, start: 100 * time.Millisecond},
		"stops reading":                  {script: "head -c 30000 >/dev/null; sleep 600", want: os.ErrDeadlineExceeded, take: 100 * time.Millisecond},
		"is killed":                      {script: "head -c 30000 >/dev/null; kill -9 $$", want: errExit},
		"closes its output":              {script: "exec >&-; sleep 600", want: errExit},
		"prints a line without an end":   {script: "head -c 30000 >/dev/null; tr '\\0' x </dev/zero | head -c 1000000; sleep 600", want: errExit},
		"floods its output and its logs": {script: "head -c 30000 >/dev/null; yes no words | head -c 3000000; yes | head -c 3000000 >&2; exit 7", want: errExit},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := fake(t, c.script)
			p.startLimit, p.takeLimit = cmp.Or(c.start, time.Minute), cmp.Or(c.take, time.Minute)
			mic := newMicrophone()
			l := &Listener{Config: sphinx(p.words...), Listen: mic.Listen, Awake: func() bool { return true }, Heard: func(Detection) { t.Error("a word") }}
			heard := &capture{listener: l}
			l.Log = discard()
			mic.feed(fresh(), quiet(20*time.Second))
			err := p.run(t.Context(), heard)
			if !isWanted(err, c.want) {
				t.Errorf("error %v, want %v", err, c.want)
			}
		})
	}
}

func TestLinesOfPocketsphinx(t *testing.T) {
	for line, want := range map[string]string{
		"hey computer 0.840 1.680 0.891533": "hey computer 1.68 0.89",
		"computer 0.0 1.5 1.1":              "computer 1.50 1.00",
		"hey computer":                      "no",
		"0.840 1.680 0.891533":              "no",
		"":                                  "no",
		"hey 0 NaN 0.5":                     "no",
		"hey 0 -1 0.5":                      "no",
		"hey 0 1e300 0.5":                   "no",
		"hey 0 1 NaN":                       "no",
	} {
		phrase, over, score, ok := parse(line)
		got := "no"
		if ok {
			got = fmt.Sprintf("%s %.2f %.2f", phrase, over, score)
		}
		if got != want {
			t.Errorf("%q is %s, want %s", line, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("hey computer 0.840 1.680 0.891533")
	f.Add("1 2 3")
	f.Fuzz(func(t *testing.T, line string) {
		phrase, over, score, ok := parse(line)
		if ok && (phrase == "" || !(over >= 0) || !(score >= 0 && score <= 1)) {
			t.Fatalf("%q is %q, over at %v, score %v", line, phrase, over, score)
		}
	})
}

type nowhere struct{ io.Writer }

func (nowhere) Close() error { return nil }

// Sound that is repeated in the input has one time of capture.
func TestTimesOfARecording(t *testing.T) {
	began := time.Now()
	input := &sphinxInput{to: nowhere{}, rest: chapter, history: make([]audio.Frame, 0, repeat/audio.FrameTime)}
	input.pause()
	for i := range 75 { // a section; it is loud, so it is repeated
		f := audio.Frame{At: began.Add(time.Duration(i) * audio.FrameTime)}
		for j := range f.PCM {
			f.PCM[j] = int16(10000 * (i % 2) * (1 - 2*(j%2)))
		}
		input.frame(&f)
		input.turnPage(&f)
	}
	for at, want := range map[time.Duration]time.Duration{
		pause:                             0,
		pause + time.Second:               time.Second,
		pause + chapter:                   chapter,
		2*pause + chapter:                 0,
		2*pause + chapter + time.Second/2: time.Second / 2,
	} {
		if got := input.when(at.Seconds()).Sub(began); got < want-audio.FrameTime || got > want+audio.FrameTime {
			t.Errorf("the sound at %v of the input was captured at %v, want %v", at, got, want)
		}
	}
}
