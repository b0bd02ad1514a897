package wake

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lintod/audio"
	"lintod/audio/wav"
)

// said returns a recording of a person saying a word, and the directory of its
// model.
func said(t testing.TB, recording string) (pcm []int16, models string) {
	t.Helper()
	dir := os.Getenv("LINTOD_WAKE_MODELS")
	if dir == "" {
		t.Skip("SKIPPED: LINTOD_WAKE_MODELS is not a directory with models and recordings/WORD-N.wav")
	}
	f, err := os.Open(filepath.Join(dir, "recordings", recording))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	pcm, _, err = wav.Read(f)
	if err != nil {
		t.Fatal(err)
	}
	return pcm, dir
}

func micro(models string, words ...Word) Config {
	return Config{Engine: EngineMicroWakeWord, Refractory: Defaults().Refractory, Words: words, Models: []string{models}}
}

// A word is detected once, soon, with its score; and again after a pause in which
// the device did something else.
func TestNetworkDetectsAWord(t *testing.T) {
	pcm, models := said(t, "okay_nabu-2.wav")
	l := listen(t, micro(models, Word{Name: "alexa"}, Word{Name: "okay_nabu", Link: "linto"}))
	eventually(t, "listening", func() bool { return l.Status().State == Listening })
	began := fresh()
	l.mic.feed(began, join(pcm, quiet(time.Second)))
	d := await(t, "word", l.heard)
	if d.Word.Name != "okay_nabu" || d.Word.Link != "linto" || d.Score < 0.97 || d.Score > 1 {
		t.Errorf("heard %+v", d)
	}
	if over := d.Over.Sub(began); over < 500*time.Millisecond || over > time.Duration(len(pcm))*time.Second/audio.CaptureRate {
		t.Errorf("its end was at %v", over)
	}
	eventually(t, "heard to the end", func() bool { return len(l.mic.frames) == 0 })
	// A gap, as after a turn.
	l.mic.feed(began.Add(20*time.Second), join(pcm, quiet(time.Second)))
	if d := await(t, "word", l.heard); d.Word.Name != "okay_nabu" {
		t.Errorf("heard %+v", d)
	}
	if s := l.Status(); s.Detections != 2 || s.Ignored != 0 {
		t.Errorf("status %+v", s)
	}
}

// Without a model the engine is unavailable, for a reason that contains the command;
// when the model is installed it listens, without a restart.
func TestNetworkWaitsForItsModel(t *testing.T) {
	_, models := said(t, "okay_nabu-2.wav")
	dir := t.TempDir()
	c := micro(dir, Word{Name: "okay_nabu"})
	if err := Try(t.Context(), c); err == nil || !strings.Contains(err.Error(), "lintod wake get okay_nabu") {
		t.Errorf("without a model: %v", err)
	}
	l := listen(t, c)
	eventually(t, "away", func() bool { return l.Status().State == Away && l.Status().Away > 0 })
	for _, name := range []string{"okay_nabu.tflite", "okay_nabu.json"} {
		content, err := os.ReadFile(filepath.Join(models, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), content, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "listening", func() bool { return l.Status().State == Listening })
	if err := Try(t.Context(), c); err != nil {
		t.Errorf("with a model: %v", err)
	}
	// The owner's own model may be in any directory.
	own := micro(t.TempDir(), Word{Name: "hey box", Model: filepath.Join(dir, "okay_nabu.json")})
	if err := Try(t.Context(), own); err != nil {
		t.Errorf("the owner's own model: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "okay_nabu.tflite"), []byte("RIFF....WAVEfmt "), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Try(t.Context(), own); err == nil || !strings.Contains(err.Error(), filepath.Join(dir, "okay_nabu.tflite")) {
		t.Errorf("a file that is not a model: %v", err)
	}
}

// A trial reports the scores of a model, and which sensitivity would be sufficient.
func TestTrial(t *testing.T) {
	pcm, models := said(t, "alexa-1.wav")
	trial, err := NewTrial(micro(models, Word{Name: "alexa"}), "")
	if err != nil {
		t.Fatal(err)
	}
	heard, best := false, 0.0
	var f audio.Frame
	for pcm = join(pcm, quiet(time.Second)); len(pcm) >= audio.FrameSamples; pcm = pcm[audio.FrameSamples:] {
		copy(f.PCM[:], pcm)
		for _, s := range trial.Hear(&f) {
			heard, best = heard || s.Heard, max(best, s.Score)
		}
	}
	if s, ok := trial.Sensitivity(0, best); !heard || best < 0.9 || !ok || s > 0.5 {
		t.Errorf("detected %v, at best %g, from sensitivity %g %v", heard, best, s, ok)
	}
	if _, ok := trial.Sensitivity(0, 0.4); ok {
		t.Error("a score of 0.4 is sufficient")
	}
	if _, err := NewTrial(micro(models), ""); err == nil {
		t.Error("a trial without a word succeeded")
	}
	if _, err := NewTrial(micro(models), "okay_nabu"); err != nil {
		t.Errorf("a word that is not in the configuration: %v", err)
	}
}

// A word that stops is detected while the device speaks, and no other word is then.
// Words from before the device spoke, or from just after it, are handled as usual.
func TestStopWord(t *testing.T) {
	talk, stop := Word{Name: "talk"}, Word{Name: "stop", Action: ActionStop}
	awake, speaking := true, false
	var obeyed []string
	l := &Listener{
		Config: Config{Refractory: Defaults().Refractory, Words: []Word{talk, stop}},
		Awake:  func() bool { return awake }, Speaking: func() bool { return speaking },
		Heard: func(d Detection) { obeyed = append(obeyed, d.Word.Name) }, Log: discard(),
	}
	mic := &instant{at: time.Now().Add(time.Hour)}
	c := &capture{listener: l, stream: mic}
	l.status.State = Listening
	hear := func(w Word) bool {
		t.Helper()
		var f audio.Frame
		if _, err := c.read(t.Context(), &f); err != nil {
			t.Fatal(err)
		}
		before := len(obeyed)
		c.heard(w, 1, f.At)
		return len(obeyed) > before
	}
	if hear(stop) {
		t.Error("stop was detected although the device does not speak")
	}
	if !hear(talk) {
		t.Error("talk was not detected")
	}
	awake, speaking = false, true
	if state := l.Status().State; state != Listening {
		t.Errorf("%s while waiting for stop", state)
	}
	if hear(talk) {
		t.Error("the device's own speech opened a turn")
	}
	if !hear(stop) {
		t.Error("stop was not detected soon after another word")
	}
	awake, speaking = true, false
	if hear(talk) {
		t.Error("the reverberation of the device's speech opened a turn")
	}
	mic.at = mic.at.Add(5 * time.Second)
	if !hear(talk) {
		t.Error("talk was not detected after the device had spoken")
	}
	// During a turn, no word is detected.
	awake = false
	if state := l.Status().State; state != Paused {
		t.Errorf("%s during a turn", state)
	}
}

// instant is a microphone whose frames arrive at once.
type instant struct{ at time.Time }

func (m *instant) Read(_ context.Context, f *audio.Frame) error {
	m.at = m.at.Add(audio.FrameTime)
	f.At = m.at
	return nil
}
func (*instant) Dropped() uint64 { return 0 }
func (*instant) Close() error    { return nil }
