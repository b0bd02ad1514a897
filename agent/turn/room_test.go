package turn

import (
	"testing"
	"time"

	"lintod/audio/audiotest"
	"lintod/audio/silero"
)

// loud is the level of the stage's user; nearlySilent is just above silence.
const loud, nearlySilent = 8000, 10

// The turn is loud throughout, so without knowledge of the background noise it is
// taken for speech immediately.
func TestBackgroundNoiseIsLearnedBeforeTheTurn(t *testing.T) {
	always := func(level int32) func(time.Time) int32 { return func(time.Time) int32 { return level } }
	tap := func(s *stage) { s.tap() }
	for name, c := range map[string]struct {
		begin func(s *stage) // opens a turn
		begun bool           // speech is detected
	}{
		"a loud room":                   {func(s *stage) { s.room.before = always(loud); s.tap() }, false},
		"a room that was nearly silent": {func(s *stage) { s.room.before = always(nearlySilent); s.tap() }, true},
		"a card that was just opened":   {tap, true},
		"the device itself was loud": {func(s *stage) {
			s.room.before = always(loud)
			s.loudspeaker.played = func(at time.Time) bool { return time.Since(at) < 4500*time.Millisecond }
			s.tap()
		}, true},
		"the wake word was loud": {func(s *stage) {
			over := time.Now()
			s.room.before = func(at time.Time) int32 {
				if over.Sub(at) < word {
					return loud
				}
				return nearlySilent
			}
			if err := s.Wake(WakeWord{Name: "computer"}, "", over); err != nil {
				s.Fatal(err)
			}
		}, true},
		"the room was loud before the wake word": {func(s *stage) {
			s.room.before = always(loud)
			if err := s.Wake(WakeWord{Name: "computer"}, "", time.Now()); err != nil {
				s.Fatal(err)
			}
		}, false},
		"a wake word was loud that nothing followed, and the device since": {func(s *stage) {
			over := time.Now()
			s.room.before = always(loud)
			s.loudspeaker.played = func(at time.Time) bool { return over.Sub(at) > word || at.After(over) }
			if err := s.Wake(WakeWord{Name: "computer"}, "", over); err != nil {
				s.Fatal(err)
			}
			s.wait(time.Second)
			s.Post(Stop)
			s.wait(time.Second)
			s.expect(Idle)
			s.tap()
		}, true},
		"the user was loud in the turn before": {func(s *stage) {
			s.tap()
			s.speak(3 * time.Second)
			s.until(SpeechEnded)
			ended := time.Now()
			s.wait(2 * time.Second)
			s.expect(Idle)
			s.room.before = func(at time.Time) int32 {
				if at.Before(ended) {
					return loud
				}
				return nearlySilent
			}
			s.tap()
		}, true},
	} {
		play(t, []answer{{Text: "yes"}}, func(s *stage) {
			s.wait(10 * time.Second)
			c.begin(s)
			for len(s.notices.C) > 0 {
				<-s.notices.C
			}
			s.room.loud.Store(loud)
			s.wait(3 * time.Second)
			s.room.loud.Store(0)
			if begun := s.begun(); begun != c.begun {
				t.Errorf("%s: speech began: %t", name, begun)
			}
			s.wait(10 * time.Second)
			if heard := s.platform.heard; len(heard) > 0 && heard[len(heard)-1] > 5*time.Second {
				t.Errorf("%s: the link has got %v, also of the past", name, heard)
			}
		})
	}
}

// begun reports whether the queued notices include the start of speech.
func (s *stage) begun() (yes bool) {
	for len(s.notices.C) > 0 {
		yes = (<-s.notices.C).What == SpeechBegan || yes
	}
	return yes
}

// A loud tone in a room with noise is taken for speech by the simple detector but
// not by the network, which also learns from the seconds before. The link gets the
// first sound before that is done.
func TestVoiceDetectionDuringTurns(t *testing.T) {
	model, err := silero.Load(audiotest.SileroWeights(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, neural := range []bool{false, true} {
		play(t, []answer{{Text: "yes"}}, func(s *stage) {
			loads := 0
			if neural {
				s.VoiceModel = func() *silero.Model { loads++; return model }
			}
			s.wait(10 * time.Second)
			if loads != 0 {
				t.Error("the network was loaded before the first turn")
			}
			s.room.before = func(time.Time) int32 { return 300 }
			s.tap()
			s.speak(2 * time.Second)
			s.wait(time.Second)
			if begun := s.begun(); begun == neural {
				t.Errorf("neural: %t; the tone is taken for speech: %t", neural, begun)
			}
		})
	}
}
