package cardtest

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"lintod/audio"
	"lintod/audio/filecard"
)

func sine(level float64, offset int16) []int16 {
	pcm := make([]int16, audio.CaptureRate)
	for i := range pcm {
		v := level*math.MaxInt16*math.Sin(2*math.Pi*300*float64(i)/audio.CaptureRate) + float64(offset)
		pcm[i] = int16(max(math.MinInt16, min(v, math.MaxInt16)))
	}
	return pcm
}

func TestJudge(t *testing.T) {
	tests := []struct {
		name  string
		r     Reading
		grade Grade
		fault fault
	}{
		{"zeros", Reading{PCM: make([]int16, 16000)}, Dead, silent},
		{"a constant", Reading{PCM: sine(0, 900)}, Dead, silent},
		{"nothing at all", Reading{}, Dead, silent},
		{"the last bit", Reading{PCM: sine(1.2/math.MaxInt16, 0)}, Doubtful, quiet},
		{"a quiet room", Reading{PCM: sine(0.001, 0)}, Plausible, none},
		{"a quiet room with an offset", Reading{PCM: sine(0.001, 2000)}, Plausible, none},
		{"loud", Reading{PCM: sine(0.5, 0)}, Doubtful, loud},
		{"clipped", Reading{PCM: sine(3, 0)}, Doubtful, overdriven},
		{"with gaps", Reading{PCM: sine(0.01, 0), Lost: 160}, Doubtful, lossy},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			grade, sentence, remedy := tt.r.Judge()
			if fault := tt.r.fault(); grade != tt.grade || fault != tt.fault || sentence == "" || (remedy == "") != (grade == Plausible) {
				t.Errorf("grade %d, fault %d, %q, %q", grade, fault, sentence, remedy)
			}
		})
	}
}

// airCard is a microphone that captures noise, and the loudspeaker through the air.
type airCard struct {
	loss float64 // share of the loudspeaker's sound that arrives; 0 means all of it
	air  chan int16
	dead error
}

func (c *airCard) OpenInput(context.Context) (audio.Input, error) { return airInput{c}, c.dead }
func (c *airCard) OpenOutput(_ context.Context, rate int) (audio.Output, error) {
	if rate != audio.CaptureRate {
		return nil, errors.New("rate")
	}
	return airOutput{c}, nil
}

type airInput struct{ *airCard }

func (c airInput) Read(ctx context.Context, frames []audio.Frame) (int, error) {
	f := &frames[0]
	time.Sleep(audio.FrameTime)
	for i := range f.PCM {
		f.PCM[i] = int16(rand.IntN(200) - 100)
		select {
		case s := <-c.air:
			f.PCM[i] += int16(float64(s) * (1 - c.loss))
		default:
		}
	}
	return 1, context.Cause(ctx)
}
func (airInput) Close() error { return nil }

type airOutput struct{ *airCard }

func (c airOutput) Write(_ context.Context, pcm []int16) error {
	for _, s := range pcm {
		c.air <- s
	}
	return nil
}
func (airOutput) Drain(context.Context) error { time.Sleep(toneTime); return nil }
func (airOutput) Flush() error                { return nil }
func (airOutput) Close() error                { return nil }

func TestTry(t *testing.T) {
	for name, tt := range map[string]struct {
		loss  float64
		hears bool
	}{
		"beside each other":         {0, true},
		"across the room":           {0.98, true},
		"loudspeaker in headphones": {1, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &airCard{loss: tt.loss, air: make(chan int16, audio.CaptureRate)}
				r := Try(t.Context(), c, c, audio.CaptureRate)
				if r.In != nil || r.Out != nil || r.Hears() != tt.hears {
					t.Errorf("%v, %v, hears: %v (%.0f after %.0f dBFS)", r.In, r.Out, r.Hears(), r.Echo.tone(), r.Room.tone())
				}
				if len(r.Room.PCM) != audio.CaptureRate {
					t.Errorf("%d samples of the room", len(r.Room.PCM))
				}
			})
		})
	}
}

func TestLoudspeakerIsTestedWithoutAMicrophone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := errors.New("no such card")
		c := &airCard{air: make(chan int16, audio.CaptureRate), dead: gone}
		r := Try(t.Context(), c, c, audio.CaptureRate)
		if !errors.Is(r.In, gone) || r.Out != nil || len(c.air) == 0 {
			t.Errorf("%v, %v, %d samples played", r.In, r.Out, len(c.air))
		}
	})
}

func TestRecordAndPlayKeepTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		r, err := Record(t.Context(), filecard.Card("null"), 3*time.Second)
		if err != nil || len(r.PCM) != 3*audio.CaptureRate || time.Since(start) < 2900*time.Millisecond {
			t.Errorf("%d samples in %v, %v", len(r.PCM), time.Since(start), err)
		}
		start = time.Now()
		if err := Play(t.Context(), filecard.Card("null"), Tone(48000), 48000); err != nil || time.Since(start) < toneTime-60*time.Millisecond {
			t.Errorf("played for %v, %v", time.Since(start), err)
		}
	})
}
