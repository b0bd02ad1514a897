package player

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lintod/audio"
)

const rate = 48000

// fakeCard plays at its own pace in the bubble's time, with a queue of 60 ms.
type fakeCard struct {
	heard   []int16 // everything written
	left    time.Time
	flushes int
	drains  int
	closed  bool
	fail    error     // returned by every Write
	failAt  time.Time // from then on; zero: at once
}

func (c *fakeCard) Write(ctx context.Context, pcm []int16) error {
	if c.fail != nil && !time.Now().Before(c.failAt) {
		return c.fail
	}
	if err := c.wait(ctx, 60*time.Millisecond); err != nil {
		return err
	}
	if now := time.Now(); c.left.Before(now) {
		c.left = now
	}
	c.heard = append(c.heard, pcm...)
	c.left = c.left.Add(time.Duration(len(pcm)) * time.Second / rate)
	return nil
}

// wait blocks until at most queue is left to play.
func (c *fakeCard) wait(ctx context.Context, queue time.Duration) error {
	left := time.Until(c.left)
	if left <= queue {
		return nil
	}
	select {
	case <-time.After(left - queue):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (c *fakeCard) Drain(ctx context.Context) error { c.drains++; return c.wait(ctx, 0) }

func (c *fakeCard) Flush() error {
	c.flushes++
	c.left = time.Now()
	return nil
}

func (c *fakeCard) Close() error { c.closed = true; return nil }

// rig is a running player with fake cards.
type rig struct {
	*Player
	cards []*fakeCard
	next  func(*fakeCard) error // prepares a card that is being opened
}

func start(t *testing.T) (*rig, func()) {
	r := &rig{Player: &Player{Rate: rate, Log: slog.New(slog.DiscardHandler)}}
	r.Open = func(_ context.Context, got int) (audio.Output, error) {
		c := &fakeCard{}
		if got != rate {
			t.Errorf("opened at %d", got)
		}
		if r.next != nil {
			if err := r.next(c); err != nil {
				return nil, err
			}
		}
		r.cards = append(r.cards, c)
		return c, nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	return r, func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
		for _, c := range r.cards {
			if !c.closed {
				t.Error("a card was left open")
			}
		}
	}
}

// play plays s as an announcement with a unique name.
func (p *rig) play(ctx context.Context, s audio.Sound, started func()) error {
	return p.Play(ctx, Item{Class: Announcement, Open: ready(s), Started: started})
}

func ready(s audio.Sound) func(context.Context) (audio.Sound, error) {
	return func(context.Context) (audio.Sound, error) { return s, nil }
}

func ramp(n int) []int16 {
	pcm := make([]int16, n)
	for i := range pcm {
		pcm[i] = int16(i * 7)
	}
	return pcm
}

func TestPlayReturnsWhenTheLastSampleWasPlayed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, stop := start(t)
		defer stop()
		want, from, starts := ramp(rate+7), time.Now(), 0
		if err := p.play(t.Context(), PCM(want, rate), func() { starts++ }); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(from) - time.Second; d < 0 || d > time.Millisecond {
			t.Errorf("a sound of 1 s returned %v late", d)
		}
		if !slices.Equal(p.cards[0].heard, want) {
			t.Error("full volume is not bit-exact")
		}
		if s := p.Stats(); starts != 1 || s.Frames != 51 || s.Underruns != 0 || s.Failures != 0 {
			t.Errorf("started %d times, %+v", starts, s)
		}
	})
}

func TestEveryRateIsConverted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, stop := start(t)
		defer stop()
		for _, from := range []int{22050, 16000, 22050, 44100, 8000, 20} {
			if err := p.play(t.Context(), PCM(make([]int16, from), from), nil); err != nil {
				t.Fatal(err)
			}
		}
		if got := len(p.cards[0].heard); got != 6*rate || len(p.cards) != 1 {
			t.Errorf("6 s of sound became %d samples on %d cards", got, len(p.cards))
		}
	})
}

// Schedule: 10 s of sound; the user interrupts at 3 s.
func TestInterruptedSoundStopsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, stop := start(t)
		defer stop()
		bargeIn := errors.New("barge-in")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(3*time.Second, func() { cancel(bargeIn) })
		from := time.Now()
		err := p.play(ctx, PCM(ramp(10*rate), rate), nil)
		if err != bargeIn || time.Since(from) != 3*time.Second || p.cards[0].flushes != 1 || p.cards[0].drains != 0 {
			t.Errorf("%v after %v, %d flushes", err, time.Since(from), p.cards[0].flushes)
		}
		if heard := len(p.cards[0].heard); heard > 3*rate+rate/10 {
			t.Errorf("%d samples were written after the interruption", heard-3*rate)
		}
		// The card is still usable, and the next sound starts at its own beginning.
		p.cards[0].heard = nil
		if err := p.play(t.Context(), PCM(ramp(500), rate), nil); err != nil || !slices.Equal(p.cards[0].heard, ramp(500)) {
			t.Errorf("next sound: %v, %d samples", err, len(p.cards[0].heard))
		}
	})
}

func TestInterruptedWhileDrainingOrWaitingForSound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, stop := start(t)
		defer stop()
		for name, s := range map[string]audio.Sound{"draining": PCM(ramp(rate/20), rate), "waiting": &script{stall: time.Hour}} {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
			from := time.Now()
			if err := p.play(ctx, s, nil); !errors.Is(err, context.DeadlineExceeded) || time.Since(from) != 30*time.Millisecond {
				t.Errorf("%s: %v after %v", name, err, time.Since(from))
			}
			cancel()
		}
	})
}

func TestSoundsArePlayedInOrderAndClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, stop := start(t)
		defer stop()
		var wg sync.WaitGroup
		var sounds []*script
		for i := range 5 {
			s := &script{pcm: slices.Repeat([]int16{int16(i)}, 2000)}
			sounds = append(sounds, s)
			wg.Go(func() {
				if err := p.play(t.Context(), s, nil); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait() // it is in the queue
		}
		wg.Wait()
		if !slices.IsSorted(p.cards[0].heard) || len(p.cards[0].heard) != 10000 {
			t.Errorf("out of order, or %d samples", len(p.cards[0].heard))
		}
		for i, s := range sounds {
			if s.closes != 1 {
				t.Errorf("sound %d was closed %d times", i, s.closes)
			}
		}
	})
}

func TestCancelledPlayLeavesTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Player{Rate: rate} // which is not running
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		open := func(context.Context) (audio.Sound, error) { t.Error("it was started"); return nil, io.EOF }
		if err := p.Play(ctx, Item{Open: open}); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if n := len(p.waiting); n != 0 {
			t.Errorf("%d are still waiting", n)
		}
	})
}

// A dropped turn plays one more sound: what has replaced it is played to the end.
func TestEndedContextDoesNotInterruptOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, stop := start(t)
		defer stop()
		dropped, drop := context.WithCancelCause(t.Context())
		drop(errors.New("dropped"))
		done := make(chan error, 1)
		if err := p.Queue(Item{Class: Announcement, Open: ready(PCM(ramp(rate), rate))}, func(err error) { done <- err }); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
		err := p.Play(dropped, Item{Class: Answer, Open: ready(PCM(ramp(rate), rate))})
		if !errors.Is(err, context.Cause(dropped)) {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Errorf("the announcement: %v", err)
		}
	})
}

func TestEndOfRunEndsTheSound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, stop := start(t)
		time.AfterFunc(time.Second, stop)
		if err := p.play(t.Context(), PCM(ramp(10*rate), rate), nil); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		synctest.Wait()
	})
}

func TestSoundWithoutARateIsRejected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, stop := start(t)
		defer stop()
		for _, r := range []int{0, -1} {
			if err := p.play(t.Context(), PCM(ramp(10), r), nil); err == nil {
				t.Errorf("rate %d was played", r)
			}
		}
	})
}

func TestCardThatCannotBeOpened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, stop := start(t)
		defer stop()
		gone := errors.New("no such device")
		p.next = func(*fakeCard) error { return gone }
		if err := p.play(t.Context(), PCM(ramp(100), rate), nil); !errors.Is(err, gone) {
			t.Error(err)
		}
		p.next = nil
		if err := p.play(t.Context(), PCM(ramp(100), rate), nil); err != nil || p.Stats().Failures != 1 {
			t.Errorf("%v, %+v", err, p.Stats())
		}
	})
}

// A card that was unplugged between two sounds does not affect the second.
func TestCardUnpluggedBetweenSoundsIsReopened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, stop := start(t)
		defer stop()
		if err := p.play(t.Context(), PCM(ramp(100), rate), nil); err != nil {
			t.Fatal(err)
		}
		p.cards[0].fail = errors.New("pulled")
		starts := 0
		if err := p.play(t.Context(), PCM(ramp(5000), rate), func() { starts++ }); err != nil || starts != 1 {
			t.Fatal(err, starts)
		}
		if len(p.cards) != 2 || !p.cards[0].closed || !slices.Equal(p.cards[1].heard, ramp(5000)) {
			t.Errorf("%d cards, %d samples", len(p.cards), len(p.cards[1].heard))
		}
	})
}

func TestCardThatFailsDuringASound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, stop := start(t)
		defer stop()
		pulled := errors.New("pulled")
		at := time.Now().Add(time.Second)
		p.next = func(c *fakeCard) error { c.fail, c.failAt = pulled, at; return nil }
		err := p.play(t.Context(), PCM(ramp(5*rate), rate), nil)
		if !errors.Is(err, pulled) || !p.cards[0].closed || p.Stats().Failures != 1 {
			t.Errorf("%v, closed %v, %+v", err, p.cards[0].closed, p.Stats())
		}
		p.next = nil
		if err := p.play(t.Context(), PCM(ramp(100), rate), nil); err != nil || len(p.cards) != 2 {
			t.Errorf("%v, %d cards", err, len(p.cards))
		}
	})
}

// script is a sound that stalls, and ends with an error.
type script struct {
	pcm    []int16
	stall  time.Duration
	err    error
	closes int
}

func (s *script) Rate() int    { return rate }
func (s *script) Close() error { s.closes++; return nil }
func (s *script) Read(ctx context.Context, pcm []int16) (int, error) {
	select {
	case <-time.After(s.stall):
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	if len(s.pcm) == 0 {
		return 0, cmpErr(s.err, io.EOF)
	}
	n := copy(pcm, s.pcm)
	s.pcm = s.pcm[n:]
	return n, nil
}

func cmpErr(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

func TestBrokenSoundIsPlayedToTheError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, stop := start(t)
		defer stop()
		crash := errors.New("engine crashed")
		from := time.Now()
		err := p.play(t.Context(), &script{pcm: ramp(rate), err: crash}, nil)
		if !errors.Is(err, crash) || time.Since(from) < time.Second || len(p.cards[0].heard) != rate {
			t.Errorf("%v after %v, %d samples", err, time.Since(from), len(p.cards[0].heard))
		}
		if err := p.play(t.Context(), &script{err: crash}, func() { t.Error("started without a sample") }); !errors.Is(err, crash) {
			t.Error(err)
		}
		if err := p.play(t.Context(), PCM(nil, rate), nil); err != nil || len(p.cards) != 1 {
			t.Error(err)
		}
	})
}

// Schedule: each frame of 20 ms arrives 50 ms after the last one, so that the card
// underruns before all but the first.
func TestUnderrunsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, stop := start(t)
		defer stop()
		if err := p.play(t.Context(), &script{pcm: ramp(5 * rate / 50), stall: 50 * time.Millisecond}, nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour) // a pause does not count
		if err := p.play(t.Context(), PCM(ramp(rate), rate), nil); err != nil {
			t.Fatal(err)
		}
		if s := p.Stats(); s.Underruns != 4 {
			t.Errorf("%d underruns, want 4", s.Underruns)
		}
	})
}

func TestLeadInOnlyForAnIdleCard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, stop := start(t)
		defer stop()
		p.Lead = 200 * time.Millisecond
		one := PCM(slices.Repeat([]int16{5}, 100), rate)
		play := func() []int16 {
			if err := p.play(t.Context(), one, nil); err != nil {
				t.Fatal(err)
			}
			one = PCM(slices.Repeat([]int16{5}, 100), rate)
			heard := p.cards[0].heard
			p.cards[0].heard = nil
			return heard
		}
		first, second := play(), play()
		time.Sleep(2 * time.Second)
		third := play()
		if len(first) != rate/5+100 || len(second) != 100 || len(third) != rate/5+100 || first[rate/5-1] != 0 || first[rate/5] != 5 {
			t.Errorf("%d, %d, %d samples", len(first), len(second), len(third))
		}
	})
}

func TestVolumeCurve(t *testing.T) {
	for percent, db := range map[int]float64{100: 0, 79: -6.1, 50: -18.1, 25: -36.1, 10: -60} {
		if got := 20 * math.Log10(curve(percent)); math.Abs(got-db) > 0.1 {
			t.Errorf("%d %%: %.1f dB, want %.1f", percent, got, db)
		}
	}
	if curve(0) != 0 || curve(100) != 1 {
		t.Error("the ends of the curve are not exact")
	}
}

func TestVolumeAndDuckMultiply(t *testing.T) {
	var p Player
	if p.Volume() != 100 {
		t.Errorf("the initial volume is %d", p.Volume())
	}
	cases := []struct {
		volume int
		duck   float64
		shown  int
		want   int16
	}{{100, 1, 100, 8000}, {50, 1, 50, 1000}, {50, 0.5, 50, 500}, {100, 0.5, 100, 4000}, {0, 1, 0, 0}, {100, 0, 100, 0}, {250, 7, 100, 8000}, {-3, 1, 0, 0}}
	for _, c := range cases {
		p.SetVolume(c.volume)
		p.SetDuck(c.duck)
		p.gain.jump()
		pcm := []int16{8000}
		if p.gain.apply(pcm, rate); pcm[0] != c.want || p.Volume() != c.shown {
			t.Errorf("volume %d, duck %v: %d at volume %d, want %d at %d", c.volume, c.duck, pcm[0], p.Volume(), c.want, c.shown)
		}
	}
}

// However the sound is split, a change takes 10 ms without an audible step.
func TestGainMovesWithoutAClick(t *testing.T) {
	var p Player
	p.prepare()
	p.gain.jump()
	pcm := slices.Repeat([]int16{20000}, rate/50)
	p.SetVolume(0)
	for at := 0; at < len(pcm); at += 70 {
		p.gain.apply(pcm[at:min(at+70, len(pcm))], rate)
	}
	for i := 1; i < len(pcm); i++ {
		if d := int(pcm[i-1]) - int(pcm[i]); d < 0 || d > 60 {
			t.Fatalf("step of %d at %d", d, i)
		}
	}
	if pcm[rate/100-10] == 0 || pcm[rate/100+10] != 0 {
		t.Error("the ramp is not 10 ms long")
	}
}

// endless is sound that never ends, and sink a card without a clock.
type endless struct{ rate int }

func (e endless) Rate() int                                      { return e.rate }
func (e endless) Read(_ context.Context, p []int16) (int, error) { return len(p), nil }
func (e endless) Close() error                                   { return nil }

type sink struct{}

func (sink) Write(context.Context, []int16) error { return nil }
func (sink) Drain(context.Context) error          { return nil }
func (sink) Flush() error                         { return nil }
func (sink) Close() error                         { return nil }

// framePath returns what pump does for each frame.
func framePath(ctx context.Context, from int) func() {
	p := &Player{Rate: rate, output: sink{}}
	p.prepare()
	p.SetVolume(70)
	p.convertFrom(from)
	s := audio.Sound(endless{from})
	return func() {
		n, _ := s.Read(ctx, p.in)
		p.out = p.resampler.Process(p.out[:0], p.in[:n])
		p.emit(ctx, false)
	}
}

func TestFramePathAllocatesNothing(t *testing.T) {
	step := framePath(t.Context(), 22050)
	for range 10 {
		step()
	}
	if n := testing.AllocsPerRun(500, step); n != 0 {
		t.Errorf("%v allocations a frame", n)
	}
}

func BenchmarkFrame(b *testing.B) {
	for name, from := range map[string]int{"22050to48000": 22050, "48000": 48000} {
		b.Run(name, func(b *testing.B) {
			step := framePath(b.Context(), from)
			b.ReportAllocs()
			for b.Loop() {
				step()
			}
		})
	}
}
