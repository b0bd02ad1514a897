package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"testing"
	"time"

	"lintod/audio"
	"lintod/audio/audiotest"
	"lintod/audio/resample"
	"lintod/audio/wake"
	"lintod/audio/wake/microwakeword"
	"lintod/audio/wav"
)

// wakeModels is the directory with models and recordings/WORD-N.wav of people.
const wakeModels = "LINTOD_WAKE_MODELS"

// wakeWords are the measured words, with the goals for recall and false alarms, and whether
// pocketsphinx's dictionary contains them.
var wakeWords = []struct {
	name, phrase string
	people       string // goal of 36
	others, near string // goals of false alarms
	sphinx       bool
}{
	{"hey_jarvis", "hey jarvis", "36", "0", "0", true},
	{"alexa", "alexa", "≥ 34", "≤ 1", "0", true},
	{"hey_mycroft", "hey mycroft", "≥ 32", "0", "≤ 4", false},
	{"okay_nabu", "okay nabu", "-", "0", "≤ 8", false},
}

// nearMisses are spoken by all voices; none of them contains a wake word.
var nearMisses = []string{
	"Hey, Charles is in the service. Hey, Travis, hey Marvin, hey Harvest.",
	"Alex, uh, relax. Alexander and Alexis are at the annex. A lecture is next.",
	"My croft is near Microsoft. Hey, my craft is a microphone, hey Mike, crafty.",
	"Okay, nah, boo. Okay, now blue. Okay, Naboo is a planet. Okay, nobody.",
	"Hey, Jarred is here. They jar this every year, hey.",
	"I like the text. The legs are long. Election, our Lexus, elects us.",
	"Hey, Minecraft. Hey, my crop. Aircraft and hovercraft. Hey, my cough.",
	"Okay, Nab it. Okay, navy blue. Oh, canoe. OK, new boots.",
	"The carvers and the harvesters of service say hey.",
	"A microwave, a macro, an acronym, and okay, that will do.",
}

// sounds are the test sounds for the words.
type sounds struct {
	people map[string][][]int16 // each in twelve conditions
	quiet  map[string][][]int16 // people and voices, in a quiet room
	voices map[string][][]int16 // voices, of which the models are expected to detect each
	near   []int16
	others []int16
}

// wake measures wake words, and pocketsphinx on the same sound.
func (b *bench) wake(ctx context.Context, _ int) (rows []row, err error) {
	dir := os.Getenv(wakeModels)
	if dir == "" {
		fmt.Fprintf(os.Stderr, "wake: SKIPPED: %s does not name a directory with models and recordings/WORD-N.wav\n", wakeModels)
		return nil, nil
	}
	var s sounds
	failed := use(ctx, func(t *tb) { err = s.make(t, dir) })
	if err = errors.Join(failed, err); err != nil {
		return nil, err
	}
	fmt.Fprintf(os.Stderr, "wake: %.0f minutes of near misses, %.0f of other sound\n", minutes(s.near), minutes(s.others))
	cost, err := costOfWord(ctx, dir)
	if err != nil {
		return nil, err
	}
	rows = append(rows, cost...)
	var delays []float64
	for _, w := range wakeWords {
		var sphinx sphinxCounts
		if w.sphinx {
			if sphinx, err = s.sphinx(ctx, w.name, w.phrase); err != nil {
				return nil, err
			}
		}
		model, err := microwakeword.Open(filepath.Join(dir, w.name+".json"), 0.5)
		if err != nil {
			return nil, err
		}
		hears := func(pcm []int16) bool { return len(alarms(model, pcm)) > 0 }
		for _, c := range []struct {
			what   string
			sounds [][]int16
			goal   string
		}{{"people in 12 conditions", s.people[w.name], w.people}, {"4 voices, quiet", s.voices[w.name], ""}} {
			found := 0.0
			for _, pcm := range c.sounds {
				if hears(pcm) {
					found++
				}
			}
			r := row{What: fmt.Sprintf("%s: %s, heard of %d", w.name, c.what, len(c.sounds)), Ours: found, Goal: c.goal}
			if n, ok := sphinx[c.what]; ok {
				r.Reference, r.By = &n, "pocketsphinx, sensitivity 0.5"
			}
			rows = append(rows, r)
		}
		for _, c := range []struct {
			what string
			pcm  []int16
			goal string
		}{{"near misses", s.near, w.near}, {"other sound", s.others, w.others}} {
			r := row{What: fmt.Sprintf("%s: false alarms in %.0f min of %s", w.name, minutes(c.pcm), c.what), Ours: float64(len(alarms(model, c.pcm))), Goal: c.goal}
			if n, ok := sphinx[c.what]; ok {
				r.Reference, r.By = &n, "pocketsphinx, sensitivity 0.5"
			}
			rows = append(rows, r)
		}
		day := func(alarms float64) float64 { return alarms * 24 * 60 / minutes(s.others) }
		accepts := row{
			What: fmt.Sprintf("%s: false accepts in 24 h, by the %.0f min of other sound", w.name, minutes(s.others)),
			Ours: day(float64(len(alarms(model, s.others)))),
		}
		if n, ok := sphinx["other sound"]; ok {
			n = day(n)
			accepts.Reference, accepts.By = &n, "pocketsphinx, sensitivity 0.5"
		}
		rows = append(rows, accepts)
		for _, pcm := range s.quiet[w.name] {
			if found := alarms(model, pcm); len(found) > 0 {
				delays = append(delays, ms(found[0]-wordEnd(pcm)))
			}
		}
	}
	return append(rows,
		row{What: "end of the word → heard, in the sound, median", Unit: "ms", Ours: quantile(delays, 0.5), Goal: "≤ 250 ms"},
		row{What: "end of the word → heard, in the sound, 95th percentile", Unit: "ms", Ours: quantile(delays, 0.95), Goal: "≤ 400 ms"},
	), nil
}

func minutes(pcm []int16) float64 { return float64(len(pcm)) / audio.CaptureRate / 60 }

// alarms returns the times at which a model detects its word; a detection suppresses others for 2
// s.
func alarms(model *microwakeword.Word, pcm []int16) (at []time.Duration) {
	s := microwakeword.NewSpotter([]*microwakeword.Word{model})
	s.Reset()
	now := time.Duration(0)
	heard := func(int) {
		if len(at) == 0 || now-at[len(at)-1] >= 2*time.Second {
			at = append(at, now)
		}
	}
	for frame := range slices.Chunk(pcm, audio.FrameSamples) {
		now += audio.FrameTime
		s.Hear(frame, heard)
	}
	return at
}

// wordEnd returns the end of the last sound that is less than 28 dB weaker than the loudest.
func wordEnd(pcm []int16) time.Duration {
	loudest, last := 0.0, time.Duration(0)
	for range 2 {
		now := time.Duration(0)
		for block := range slices.Chunk(pcm, audio.CaptureRate/100) {
			now += 10 * time.Millisecond
			level := audiotest.RMS(audiotest.Floats(block))
			if loudest = max(loudest, level); level > loudest/25 {
				last = now
			}
		}
	}
	return last
}

// make creates the sounds.
func (s *sounds) make(t testing.TB, dir string) error {
	s.people, s.quiet, s.voices = map[string][][]int16{}, map[string][][]int16{}, map[string][][]int16{}
	music, err := g722("/usr/share/asterisk/moh")
	if err != nil {
		return err
	}
	prompts, err := g722("/usr/share/asterisk/sounds")
	if err != nil {
		return err
	}
	var readers []int16
	for _, r := range audiotest.Recordings(t) {
		readers = append(append(readers, r.PCM...), make([]int16, audio.CaptureRate)...)
	}
	from := func(pcm []int16) audiotest.Noise {
		return func(_ testing.TB, n int) []float64 {
			out := make([]float64, n)
			for i := range out {
				out[i] = float64(pcm[(i+20*audio.CaptureRate)%len(pcm)])
			}
			return out
		}
	}
	for _, w := range wakeWords {
		for n := 1; n <= 3; n++ {
			word, err := readSound(filepath.Join(dir, "recordings", fmt.Sprintf("%s-%d.wav", w.name, n)))
			if err != nil {
				return err
			}
			s.people[w.name] = append(s.people[w.name], conditions(t, word, from(readers), from(music))...)
			s.quiet[w.name] = append(s.quiet[w.name], stage(t, word, audiotest.Pink, 40))
		}
		for _, voice := range []string{"slt", "rms", "awb", "kal16"} {
			word, err := flite(voice, w.phrase)
			if err != nil {
				return err
			}
			s.voices[w.name] = append(s.voices[w.name], stage(t, word, audiotest.Pink, 40))
		}
		s.quiet[w.name] = append(s.quiet[w.name], s.voices[w.name]...)
	}
	for _, text := range nearMisses {
		for _, voice := range []string{"slt", "rms", "awb", "kal16"} {
			pcm, err := flite(voice, text)
			if err != nil {
				return err
			}
			s.near = append(append(s.near, pcm...), make([]int16, audio.CaptureRate)...)
		}
		for _, voice := range []string{"en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-us+f3", "en-gb+f4"} {
			s.near = append(append(s.near, audiotest.Speak(t, voice, text)...), make([]int16, audio.CaptureRate)...)
		}
	}
	s.others = slices.Concat(prompts, music, readers)
	for _, noise := range []audiotest.Noise{audiotest.Pink, audiotest.White, audiotest.Fan, audiotest.Mains, audiotest.Babble} {
		s.others = append(s.others, audiotest.Samples(audiotest.AtLevel(noise(t, 60*audio.CaptureRate), -30))...)
	}
	for _, pcm := range audiotest.Disturbances(t) {
		s.others = append(s.others, audiotest.Samples(pcm)...)
	}
	return nil
}

// stage returns a word at the usual level, 2 s after the start of a noise that is weaker by snr dB,
// and 2 s of the noise.
func stage(t testing.TB, word []int16, noise audiotest.Noise, snr float64) []int16 {
	lead := 2 * audio.CaptureRate
	return audiotest.Stage(t, word, lead, noise, snr).PCM[:lead+len(word)+lead]
}

func conditions(t testing.TB, word []int16, talker, music audiotest.Noise) [][]int16 {
	request := audiotest.Speak(t, "en-us", "what time is it in Paris")
	room := audiotest.Samples(audiotest.Room(append(audiotest.Floats(word), make([]float64, audio.CaptureRate)...), 0, 400*time.Millisecond))
	scaled := audiotest.Samples(audiotest.AtLevel(audiotest.Floats(word), audiotest.Speech))
	breath := append(scaled, audiotest.Samples(audiotest.AtLevel(audiotest.Floats(request), audiotest.Speech))...)
	return [][]int16{
		stage(t, word, audiotest.Pink, 60), stage(t, breath, audiotest.Pink, 60),
		stage(t, word, audiotest.Pink, 10), stage(t, word, audiotest.Pink, 5), stage(t, word, audiotest.Fan, 5),
		stage(t, word, audiotest.Babble, 10), stage(t, word, audiotest.Babble, 5), stage(t, word, talker, 10),
		stage(t, word, music, 10), stage(t, word, music, 5),
		stage(t, room, audiotest.Pink, 30), stage(t, room, audiotest.Pink, 15),
	}
}

func flite(voice, text string) ([]int16, error) {
	f, err := os.CreateTemp("", "lintod-bench-*.wav")
	if err != nil {
		return nil, err
	}
	f.Close()
	defer func() { _ = os.Remove(f.Name()) }()
	if out, err := exec.Command("flite", "-voice", voice, "-t", text, "-o", f.Name()).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("flite: %w: %s", err, out)
	}
	return readSound(f.Name())
}

func readSound(path string) ([]int16, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	pcm, rate, err := wav.Read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if rate == audio.CaptureRate {
		return pcm, nil
	}
	r := resample.New(rate, audio.CaptureRate)
	return r.Flush(r.Process(nil, pcm)), nil
}

// g722 decodes all files of a directory of Asterisk, and concatenates them.
func g722(dir string) ([]int16, error) {
	var all bytes.Buffer
	files := os.DirFS(dir)
	err := fs.WalkDir(files, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || filepath.Ext(path) != ".g722" {
			return err
		}
		content, err := fs.ReadFile(files, path)
		all.Write(content)
		return err
	})
	if err != nil {
		return nil, err
	}
	ffmpeg := exec.Command("ffmpeg", "-loglevel", "error", "-f", "g722", "-i", "-", "-f", "s16le", "-ar", "16000", "-ac", "1", "-")
	ffmpeg.Stdin = &all
	out, err := ffmpeg.Output()
	if err != nil {
		return nil, fmt.Errorf("ffmpeg: %w", err)
	}
	pcm := make([]int16, len(out)/2)
	for i := range pcm {
		pcm[i] = int16(binary.LittleEndian.Uint16(out[2*i:]))
	}
	return pcm, nil
}

// costOfWord runs one model over a day of sound.
func costOfWord(ctx context.Context, dir string) ([]row, error) {
	pid := os.Getpid()
	rest := func() float64 {
		debug.FreeOSMemory()
		return resident(pid)
	}
	before := rest()
	model, err := microwakeword.Open(filepath.Join(dir, "okay_nabu.json"), 0.5)
	if err != nil {
		return nil, err
	}
	spotter := microwakeword.NewSpotter([]*microwakeword.Word{model})
	noise := make([]int16, 60*audio.CaptureRate)
	random := uint32(1)
	for i := range noise {
		random = random*1664525 + 1013904223
		noise[i] = int16(int32(random)>>16) >> (4 + i/audio.CaptureRate%4)
	}
	loaded := rest()
	var first, last float64
	var heap [2]runtime.MemStats
	allocations := testing.AllocsPerRun(100, func() { spotter.Hear(noise[:audio.FrameSamples], func(int) {}) })
	began := used(pid)
	const day = 24 * 60
	for n := range day {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		spotter.Hear(noise, func(int) {})
		if n == 60 {
			first = rest()
			runtime.ReadMemStats(&heap[0])
		}
	}
	cpu := used(pid).since(began).cpu
	runtime.ReadMemStats(&heap[1])
	last = rest()
	return []row{
		{What: "one word: of a core", Unit: "%", Ours: 100 * cpu.Seconds() / (day * 60), Goal: "≤ 0.25 %"},
		{What: "one word: memory of the model and the front end", Unit: "MB", Ours: math.Max(0, loaded-before-float64(2*len(noise))/(1<<20)), Goal: "≤ 1.5 MB"},
		{What: "one word: allocations a frame", Ours: allocations, Goal: "0"},
		{What: "one word: growth over a day of sound, after its first hour", Unit: "MB", Ours: last - first, Goal: "0"},
		{What: "one word: objects allocated in that time", Ours: float64(heap[1].Mallocs - heap[0].Mallocs), Goal: "a few, of the measurement"},
	}, nil
}

// sphinxCounts are the numbers of pocketsphinx's detections, by test.
type sphinxCounts map[string]float64

// sphinx gives the same sounds to pocketsphinx, through the product's own path.
func (s *sounds) sphinx(ctx context.Context, name, phrase string) (sphinxCounts, error) {
	counts := sphinxCounts{}
	for what, list := range map[string][][]int16{
		"people in 12 conditions": s.people[name], "4 voices, quiet": s.voices[name],
		"near misses": {s.near}, "other sound": {s.others},
	} {
		heard, err := spot(ctx, wake.Word{Name: name, Phrase: phrase}, list)
		if err != nil {
			return nil, err
		}
		counts[what] = float64(heard)
		if len(list) > 1 { // each of these is detected or not
			counts[what] = math.Min(counts[what], float64(len(list)))
		}
	}
	return counts, nil
}

// spot counts how often pocketsphinx detects a word.
func spot(ctx context.Context, w wake.Word, list [][]int16) (int, error) {
	config := wake.Defaults()
	config.Engine, config.Words = wake.EnginePocketsphinx, []wake.Word{w}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	mic := &tape{at: time.Now().Add(48 * time.Hour), over: cancel}
	for _, pcm := range list {
		mic.pcm = append(append(mic.pcm, pcm...), make([]int16, 3*audio.CaptureRate)...)
	}
	mic.pcm = append(mic.pcm, make([]int16, 10*audio.CaptureRate)...)
	heard := 0
	l := &wake.Listener{
		Config: config, Listen: func() wake.Stream { return mic }, Awake: func() bool { return true },
		Heard: func(wake.Detection) { heard++ }, Log: slog.New(slog.DiscardHandler),
	}
	if err := l.Run(ctx); !errors.Is(err, errTapeOver) {
		return 0, err
	}
	return heard, nil
}

var errTapeOver = errors.New("the tape is over")

// tape is a microphone that delivers its sound as fast as it is read.
type tape struct {
	at   time.Time
	pcm  []int16
	over context.CancelCauseFunc
}

func (m *tape) Read(ctx context.Context, f *audio.Frame) error {
	if len(m.pcm) < audio.FrameSamples {
		// Sound on its way to the engine is still processed.
		if err := pause(ctx, 5*time.Second); err == nil {
			m.over(errTapeOver)
		}
		return context.Cause(ctx)
	}
	m.pcm = m.pcm[copy(f.PCM[:], m.pcm):]
	f.At, m.at = m.at, m.at.Add(audio.FrameTime)
	return ctx.Err()
}

func (*tape) Dropped() uint64 { return 0 }
func (*tape) Close() error    { return nil }
