package wake

import (
	"context"
	"io"
	"testing"
	"time"

	"lintod/audio"
)

// BenchmarkPocketsphinx prints the detections and false detections of each
// sensitivity: phrases said by four voices, each alone and directly followed by a
// request; and the same voices reading similar-sounding text.
func BenchmarkPocketsphinx(b *testing.B) {
	voices := []string{"slt", "rms", "awb", "kal16"}
	const chatter = news + " The people went on the streets to sing and to dance. " +
		"Hey, come here. Could you please commute to the office with the other commuters? Good evening, ladies and gentlemen of the radio."
	for _, phrase := range []string{"hey computer", "computer", "good morning radio"} {
		for _, sensitivity := range []float64{0.1, 0.5, 0.9} {
			b.Run(phrase+", sensitivity "+string('0'+rune(10*sensitivity+0.5)), func(b *testing.B) {
				var with, without []int16
				for _, v := range voices {
					with = join(with, quiet(3*time.Second), say(b, v, phrase), quiet(3*time.Second), say(b, v, phrase+" what time is it in Paris"))
					without = join(without, quiet(time.Second), say(b, v, chatter))
				}
				for b.Loop() {
					found := spot(b, Word{Name: "w", Phrase: phrase, Sensitivity: &sensitivity}, with)
					mistaken := spot(b, Word{Name: "w", Phrase: phrase, Sensitivity: &sensitivity}, without)
					b.ReportMetric(float64(found), "found/8")
					b.ReportMetric(float64(mistaken)/(float64(len(without))/audio.CaptureRate/60), "mistakes/min")
				}
			})
		}
	}
}

// spot counts the words in a sound.
func spot(b *testing.B, w Word, pcm []int16) int {
	l := listen(b, sphinx(w))
	eventually(b, "listening", func() bool { return l.Status().State == Listening })
	began := fresh()
	for _, sound := range [][]int16{pcm, quiet(5 * time.Second), quiet(5 * time.Second)} {
		l.mic.feed(began, sound)
		began = began.Add(time.Duration(len(sound)) * time.Second / audio.CaptureRate)
		eventually(b, "heard to the end", func() bool { return len(l.mic.frames) == 0 })
	}
	return l.Status().Detections
}

// endless is a microphone that is never silent for long.
type endless struct{ at time.Time }

func (m *endless) Read(_ context.Context, f *audio.Frame) error {
	m.at = m.at.Add(audio.FrameTime)
	f.At = m.at
	f.PCM[0], f.PCM[100] = 20000, -20000
	return nil
}
func (*endless) Dropped() uint64 { return 0 }
func (*endless) Close() error    { return nil }

// BenchmarkFrame is the cost of a frame on its way to pocketsphinx, including pauses
// and repetitions.
func BenchmarkFrame(b *testing.B) {
	l := &Listener{Config: sphinx(), Listen: func() Stream { return &endless{at: fresh()} }, Awake: func() bool { return true }, Log: discard()}
	e := &capture{listener: l}
	e.open()
	input := &sphinxInput{to: nowhere{io.Discard}, mic: e, rest: chapter, history: make([]audio.Frame, 0, repeat/audio.FrameTime)}
	var f audio.Frame
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.read(b.Context(), &f); err != nil {
			b.Fatal(err)
		}
		input.frame(&f)
		input.turnPage(&f)
		if err := input.flush(time.Second); err != nil {
			b.Fatal(err)
		}
	}
}
