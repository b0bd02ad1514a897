package audio

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// fakeMic returns a frame every 20 ms, numbered in its first sample.
type fakeMic struct {
	next   int16
	cues   atomic.Int32
	closed atomic.Bool
	fail   chan error // returned by Read instead of a frame
}

func (m *fakeMic) Read(ctx context.Context, f []Frame) (int, error) {
	select {
	case <-time.After(FrameTime):
	case err := <-m.fail:
		return 0, err
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	f[0] = Frame{At: time.Now().Add(-FrameTime)}
	f[0].PCM[0] = m.next
	m.next++
	return 1, nil
}

func (m *fakeMic) Close() error { m.closed.Store(true); return nil }
func (m *fakeMic) Cue()         { m.cues.Add(1) }

// rig is a hub with fake microphones, the last of which is mic.
type rig struct {
	*Hub
	mic   *fakeMic
	opens int
	done  chan error
}

// start runs a hub in the present bubble; the test must end it with stop.
func start(t *testing.T, h *Hub) (r *rig, stop func()) {
	r = &rig{Hub: h, done: make(chan error, 1)}
	h.Log = slog.New(slog.DiscardHandler)
	h.Open = func(context.Context) (Input, error) {
		r.opens++
		r.mic = &fakeMic{fail: make(chan error, 1)}
		return r.mic, nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	r.run(ctx)
	return r, func() { cancel(); <-r.done }
}

func (r *rig) run(ctx context.Context) {
	go func() { r.done <- r.Run(ctx) }()
	synctest.Wait()
}

func read(t *testing.T, s *Stream) Frame {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	var f Frame
	if err := s.Read(ctx, &f); err != nil {
		t.Fatal(err)
	}
	return f
}

// Schedule: one second without listeners, so frames 0…49 have passed; the pre-roll
// of 100 ms is then frames 45…49, and the next one is 50.
func TestStreamBeginsWithThePreroll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, stop := start(t, &Hub{Preroll: 100 * time.Millisecond})
		defer stop()
		time.Sleep(time.Second)
		synctest.Wait()
		with, without := h.Listen(true), h.Listen(false)
		for want := int16(45); want < 55; want++ {
			if f := read(t, with); f.PCM[0] != want || f.Lost != 0 {
				t.Errorf("frame %d (lost %d), want %d", f.PCM[0], f.Lost, want)
			}
		}
		if f := read(t, without); f.PCM[0] != 50 {
			t.Errorf("without pre-roll: frame %d, want 50", f.PCM[0])
		}
		if n := h.mic.cues.Load(); n != 2 {
			t.Errorf("%d cues for 2 listeners", n)
		}
	})
}

func TestPrerollIsLimitedToTheAvailableFrames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, stop := start(t, &Hub{Preroll: time.Second})
		defer stop()
		time.Sleep(3 * FrameTime)
		synctest.Wait()
		s := h.Listen(true)
		for want := range int16(5) {
			if f := read(t, s); f.PCM[0] != want {
				t.Errorf("frame %d, want %d", f.PCM[0], want)
			}
		}
	})
}

func TestMuteClosesTheCardBeforeItReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, stop := start(t, &Hub{Preroll: 100 * time.Millisecond})
		defer stop()
		s := h.Listen(false)
		read(t, s)
		first := h.mic
		if err := h.SetMuted(t.Context(), true); err != nil || !first.closed.Load() {
			t.Fatalf("muted: %v, card closed: %v", err, first.closed.Load())
		}
		time.Sleep(time.Minute)
		if hl := h.Health(); hl.Wanted || hl.Open || hl.Deaf(time.Now()) || h.opens != 1 {
			t.Errorf("while muted: %+v, %d opens", hl, h.opens)
		}
		if err := h.SetMuted(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		// The stream continues, and reports the minute as lost: 60 s and up to a
		// frame.
		f := read(t, s)
		if gap := float64(f.Lost) / CaptureRate; gap < 59.9 || gap > 60.1 || h.opens != 2 {
			t.Errorf("lost %.2f s over a minute of mute, %d opens", gap, h.opens)
		}
		if f := read(t, s); f.Lost != 0 {
			t.Errorf("the gap is reported twice")
		}
		if f := read(t, h.Listen(true)); f.PCM[0] != 0 {
			t.Errorf("pre-roll begins with frame %d, from before the mute", f.PCM[0])
		}
	})
}

// A card whose Close blocks must not block the caller.
func TestMuteIsBoundedByItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		h := &Hub{Log: slog.New(slog.DiscardHandler)}
		h.Open = func(context.Context) (Input, error) { <-release; return nil, errors.New("no card") }
		done := make(chan error, 1)
		go func() { done <- h.Run(t.Context()) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := h.SetMuted(ctx, true); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, want deadline exceeded", err)
		}
		close(release)
		if err := h.SetMuted(t.Context(), true); err != nil {
			t.Error(err)
		}
		select {
		case err := <-done:
			t.Errorf("Run ended with %v although the card was not in use", err)
		default:
		}
	})
}

func TestPrivacyOpensTheCardPerListener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, stop := start(t, &Hub{Privacy: true, Preroll: time.Second})
		defer stop()
		if hl := h.Health(); hl.Wanted || h.opens != 0 {
			t.Fatalf("open without listeners: %+v", hl)
		}
		s := h.Listen(true)
		read(t, s)
		if h.opens != 1 || h.mic.cues.Load() != 1 || !h.Health().Wanted {
			t.Errorf("%d opens, %d cues, %+v", h.opens, h.mic.cues.Load(), h.Health())
		}
		s.Close()
		synctest.Wait()
		if !h.mic.closed.Load() || h.Health().Open {
			t.Error("still open without listeners")
		}
	})
}

func TestFailureEndsRunAndStreamsContinue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := start(t, &Hub{})
		s := h.Listen(false)
		read(t, s)
		pulled := errors.New("card pulled")
		h.mic.fail <- pulled
		if err := <-h.done; !errors.Is(err, pulled) || !h.mic.closed.Load() {
			t.Fatalf("Run: %v, closed %v", err, h.mic.closed.Load())
		}
		time.Sleep(3 * time.Second)
		if hl := h.Health(); !hl.Wanted || hl.Open || !hl.Deaf(time.Now()) {
			t.Errorf("3 s after the failure: %+v", hl)
		}
		ctx, cancel := context.WithCancel(t.Context())
		h.run(ctx)
		if f := read(t, s); f.Lost < 3*CaptureRate {
			t.Errorf("lost %d samples in more than 3 s", f.Lost)
		}
		if h.Health().Deaf(time.Now()) {
			t.Error("reported as deaf although frames arrive")
		}
		cancel()
		if err := <-h.done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func TestOpenFailureIsReturned(t *testing.T) {
	none := errors.New("no such card")
	h := &Hub{Log: slog.New(slog.DiscardHandler), Open: func(context.Context) (Input, error) { return nil, none }}
	if err := h.Run(t.Context()); !errors.Is(err, none) {
		t.Error(err)
	}
}

// Schedule: a listener that reads nothing for 6 s; 250 frames (5 s) fit.
func TestSlowListenerLosesTheOldest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, stop := start(t, &Hub{})
		defer stop()
		s := h.Listen(false)
		time.Sleep(6 * time.Second)
		synctest.Wait()
		f := read(t, s)
		if s.Dropped() != 50 || f.PCM[0] != 50 || f.Lost != 50*uint32(FrameSamples) || h.Health().Dropped != 50 {
			t.Errorf("dropped %d, then frame %d with %d lost", s.Dropped(), f.PCM[0], f.Lost)
		}
		if f := read(t, s); f.PCM[0] != 51 || f.Lost != 0 {
			t.Errorf("then frame %d with %d lost", f.PCM[0], f.Lost)
		}
	})
}

func TestCloseAndContextEndABlockedRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &Hub{Log: slog.New(slog.DiscardHandler)}
		s := h.Listen(true)
		ctx, cancel := context.WithCancelCause(t.Context())
		enough := errors.New("enough")
		time.AfterFunc(time.Second, func() { cancel(enough) })
		if err := s.Read(ctx, new(Frame)); !errors.Is(err, enough) {
			t.Error(err)
		}
		time.AfterFunc(time.Second, func() { s.Close() })
		if err := s.Read(t.Context(), new(Frame)); err != ErrClosed {
			t.Error(err)
		}
		s.Close()
		if len(h.streams) != 0 {
			t.Error("a closed stream is still subscribed")
		}
	})
}

func TestDeafNeedsTimeAndAWantedMicrophone(t *testing.T) {
	now := time.Now()
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	cases := map[string]struct {
		h    Health
		deaf bool
	}{
		"not wanted":                  {Health{}, false},
		"frames arrive":               {Health{Wanted: true, Since: ago(time.Hour), Last: ago(time.Second)}, false},
		"just unmuted, old frame":     {Health{Wanted: true, Since: ago(time.Second), Last: ago(time.Hour)}, false},
		"no frame since start":        {Health{Wanted: true, Since: ago(3 * time.Second)}, true},
		"frames stopped, card 'open'": {Health{Wanted: true, Open: true, Since: ago(time.Hour), Last: ago(2100 * time.Millisecond)}, true},
	}
	for name, c := range cases {
		if c.h.Deaf(now) != c.deaf {
			t.Errorf("%s: deaf is %v", name, !c.deaf)
		}
	}
}

// card is a microphone that is not a file: its zeros are significant.
type card struct {
	Input
	sound *atomic.Bool
}

func (c card) Read(ctx context.Context, f []Frame) (int, error) {
	n, err := c.Input.Read(ctx, f)
	f[0].PCM[0] = 0
	if c.sound.Load() {
		f[0].PCM[FrameSamples-1] = -1
	}
	return n, err
}

// A card that delivers only zeros is deaf after ZerosAfter, or after a listener has
// listened to the end; until it delivers sound.
func TestZerosCountAsDeaf(t *testing.T) {
	const beat = 100 * time.Millisecond
	for name, c := range map[string]struct {
		hub   *Hub
		story bool
		// what happens: "s" a beat of sound, "z" a beat of zeros, "Z" ten seconds of
		// zeros, "l" a listener of 3 s, "m" mute for 15 s, "c" the card fails; then
		// "D" or "H": deaf, or hears.
		play string
	}{
		"sound":                        {play: "ssssH"},
		"zeros for some seconds":       {play: "szzzzzzzzzzHZDzD"},
		"zeros from the start":         {play: "zHZD"},
		"sound comes again":            {play: "sZzDsH"},
		"a listener":                   {play: "szHlDzDsHlDsH"},
		"a listener that heard sound":  {play: "slslsH"},
		"muted":                        {play: "smHzH"},
		"muted because of it":          {play: "szZDmHzHZD"},
		"a gate":                       {play: "sZzDszzszzszzsZzHZHZH"},
		"a gate, and a listener":       {play: "szzszzszzsZHlDsHzH"},
		"a gate, and another card":     {play: "szzszzszzscZzD"},
		"processing makes zeros":       {hub: &Hub{Gated: true}, play: "sZzHZHlDsH"},
		"a file":                       {story: true, play: "zZzHlHZH"},
		"private":                      {hub: &Hub{Privacy: true}, play: "zZHlHZH"},
		"private, and a long listener": {hub: &Hub{Privacy: true}, play: "LDzDsH"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, stop := start(t, cmp.Or(c.hub, &Hub{}))
				defer func() { stop() }()
				sound := &atomic.Bool{}
				sound.Store(true)
				if !c.story {
					open := h.Open
					h.Open = func(ctx context.Context) (Input, error) {
						in, err := open(ctx)
						return card{struct{ Input }{in}, sound}, err
					}
				}
				restart := func() {
					stop()
					ctx, cancel := context.WithCancel(t.Context())
					stop = func() { cancel(); <-h.done }
					h.run(ctx)
				}
				restart() // lost with the card
				time.Sleep(FrameTime / 2)
				for i, step := range c.play {
					sound.Store(step == 's')
					switch step {
					case 's', 'z':
						time.Sleep(beat)
					case 'Z':
						time.Sleep(ZerosAfter)
					case 'l', 'L':
						s := h.Listen(true)
						if time.Sleep(3 * time.Second); step == 'L' {
							time.Sleep(ZerosAfter)
							defer s.Close()
						} else {
							s.Close()
						}
					case 'm':
						if err := h.SetMuted(t.Context(), true); err != nil {
							t.Fatal(err)
						}
						time.Sleep(15 * time.Second)
						if h.Health().Deaf(time.Now()) {
							t.Error("deaf while it is muted")
						}
						if err := h.SetMuted(t.Context(), false); err != nil {
							t.Fatal(err)
						}
					case 'c':
						restart()
					default:
						if deaf := h.Health().Deaf(time.Now()); deaf != (step == 'D') {
							t.Errorf("after %q: deaf is %v, %+v", c.play[:i], deaf, h.Health())
						}
					}
				}
			})
		})
	}
}

func TestFramePathAllocatesNothing(t *testing.T) {
	h := &Hub{Preroll: 500 * time.Millisecond}
	a, b := h.Listen(false), h.Listen(false)
	defer a.Close()
	batch, ctx := []Frame{{At: time.Now()}}, t.Context()
	f := new(Frame)
	step := func() {
		h.publish(batch)
		if a.Read(ctx, f) != nil || b.Read(ctx, f) != nil {
			t.Fatal("no frame")
		}
	}
	for range 30 { // the pre-roll is full
		step()
	}
	if n := testing.AllocsPerRun(1000, step); n != 0 {
		t.Errorf("%v allocations a frame", n)
	}
}

func BenchmarkFrameToTwoListeners(b *testing.B) {
	h := &Hub{Preroll: 500 * time.Millisecond}
	s, o := h.Listen(false), h.Listen(false)
	batch, ctx := []Frame{{At: time.Now()}}, b.Context()
	f := new(Frame)
	b.ReportAllocs()
	for b.Loop() {
		h.publish(batch)
		s.Read(ctx, f)
		o.Read(ctx, f)
	}
}

// Schedule: frames 0…99 have passed; frame n starts at n·20 ms.
func TestStreamBeginsInThePast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		h, stop := start(t, &Hub{Preroll: 100 * time.Millisecond, Memory: time.Second})
		defer stop()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		for name, c := range map[string]struct {
			since time.Duration
			want  int16
		}{
			"within a frame":        {1510 * time.Millisecond, 75},
			"between two frames":    {1520 * time.Millisecond, 76},
			"further than memory":   {100 * time.Millisecond, 50},
			"in the future":         {time.Hour, 100},
			"the pre-roll is short": {-1, 95},
		} {
			s := h.ListenSince(began.Add(c.since))
			if c.since < 0 {
				s = h.Listen(true)
			}
			cues := h.mic.cues.Load()
			for want := c.want; want < 100; want++ {
				if f := read(t, s); f.PCM[0] != want || f.Lost != 0 {
					t.Fatalf("%s: frame %d (lost %d), want %d", name, f.PCM[0], f.Lost, want)
				}
			}
			if c.since >= 0 && h.mic.cues.Load() != cues {
				t.Errorf("%s: the file was restarted", name)
			}
			s.Close()
		}
		if n := h.mic.cues.Load(); n != 1 {
			t.Errorf("%d cues, want only that of Listen", n)
		}
	})
}

// lateMic delivers its frames as late as allowed, and counts how often it does.
type lateMic struct {
	fakeMic
	delay   atomic.Int64
	batches atomic.Int32
}

func (m *lateMic) SetDelay(d time.Duration) { m.delay.Store(int64(d)) }

func (m *lateMic) Read(ctx context.Context, frames []Frame) (n int, err error) {
	defer m.batches.Add(1)
	for n == 0 || n < int(time.Duration(m.delay.Load())/FrameTime) {
		if _, err := m.fakeMic.Read(ctx, frames[n:]); err != nil {
			return 0, err
		}
		n++
	}
	return n, nil
}

// startLate runs a hub with a lateMic in the present bubble.
func startLate(t *testing.T, h *Hub) (mic *lateMic, stop func()) {
	mic = &lateMic{}
	h.Log = slog.New(slog.DiscardHandler)
	h.Open = func(context.Context) (Input, error) { return mic, nil }
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- h.Run(ctx) }()
	synctest.Wait()
	return mic, func() { cancel(); <-done }
}

// Schedule: no listeners for two IdleDelays, whose frames the hub has received, and
// another 100 ms, whose five frames are still in the card. A listener with a
// pre-roll of 100 ms gets those; one without starts with the frame that is being
// captured.
func TestMicrophoneIsLateWithoutListeners(t *testing.T) {
	const late = 2 * int16(IdleDelay/FrameTime)
	for preroll, first := range map[bool]int16{true: late, false: late + 5} {
		synctest.Test(t, func(t *testing.T) {
			h := &Hub{Preroll: 100 * time.Millisecond}
			mic, stop := startLate(t, h)
			defer stop()
			time.Sleep(2*IdleDelay + 100*time.Millisecond + time.Microsecond)
			synctest.Wait()
			if n := h.Health().Frames; n != uint64(late) || mic.batches.Load() != 2 {
				t.Errorf("%d frames came in %d batches, want %d in 2", n, mic.batches.Load(), late)
			}
			s := h.Listen(preroll)
			if mic.delay.Load() != 0 {
				t.Error("the microphone is late although there is a listener")
			}
			for want := first; want < first+20; want++ {
				if f := read(t, s); f.PCM[0] != want || f.Lost != 0 {
					t.Errorf("frame %d (lost %d), want %d", f.PCM[0], f.Lost, want)
				}
			}
			s.Close()
			if time.Duration(mic.delay.Load()) != IdleDelay {
				t.Error("the microphone is not late although there are no listeners")
			}
		})
	}
}

// Schedule: 2 s pass. A listener that asks for the room also gets the frames of the
// second before the pre-roll, marked, unless the microphone is a file or was just
// opened.
func TestRoomIsTheSoundBeforeThePreroll(t *testing.T) {
	for name, c := range map[string]struct {
		story, privacy bool
		listen         func(h *Hub) *Stream
		first          int16 // frame
		past           int   // frames that are marked
	}{
		"a card":               {listen: func(h *Hub) *Stream { return h.ListenInRoom(true) }, first: 45, past: 50},
		"without the pre-roll": {listen: func(h *Hub) *Stream { return h.ListenInRoom(false) }, first: 50, past: 50},
		"from a given time on": {listen: func(h *Hub) *Stream {
			return h.ListenSince(time.Now().Add(-200 * time.Millisecond))
		}, first: 45, past: 45}, // all frames that are remembered
		"without a request":  {listen: func(h *Hub) *Stream { return h.Listen(true) }, first: 95},
		"a story":            {story: true, listen: func(h *Hub) *Stream { return h.ListenInRoom(true) }, first: 95},
		"a card just opened": {privacy: true, listen: func(h *Hub) *Stream { return h.ListenInRoom(true) }, first: 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := &Hub{Preroll: 100 * time.Millisecond, Room: time.Second, Privacy: c.privacy, Log: slog.New(slog.DiscardHandler)}
			h.Open = func(context.Context) (Input, error) {
				if c.story {
					return &fakeMic{}, nil
				}
				return struct{ Input }{&fakeMic{}}, nil
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- h.Run(ctx) }()
			time.Sleep(2 * time.Second)
			synctest.Wait()
			s := c.listen(h)
			for i := range 70 {
				f := read(t, s)
				if f.PCM[0] != c.first+int16(i) || f.Lost != 0 || f.Past != (i < c.past) {
					t.Fatalf("%s: frame %d is %d (lost %d, past %t), want %d, %d past", name, i, f.PCM[0], f.Lost, f.Past, c.first, c.past)
				}
			}
			s.Close()
			cancel()
			<-done
		})
	}
}

// The listener with the shortest delay determines the batches, and a batch wakes
// each listener once.
func TestShortestDelayOfTheListenersApplies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &Hub{}
		mic, stop := startLate(t, h)
		defer stop()
		allows := func(want time.Duration) {
			t.Helper()
			if got := time.Duration(mic.delay.Load()); got != want {
				t.Errorf("frames may be %v late, want %v", got, want)
			}
		}
		patient, hasty := h.Listen(false), h.Listen(false)
		allows(0)
		patient.SetDelay(100 * time.Millisecond)
		allows(0)
		hasty.SetDelay(60 * time.Millisecond)
		allows(60 * time.Millisecond)
		hasty.Close()
		allows(100 * time.Millisecond)

		time.Sleep(100 * time.Millisecond) // the time with another delay is over
		synctest.Wait()
		var f Frame
		for patient.pop(&f) {
		}
		before, wakes, last := mic.batches.Load(), 0, time.Time{}
		for range 50 {
			if read(t, patient); !time.Now().Equal(last) {
				last = time.Now()
				wakes++
			}
		}
		if n := mic.batches.Load() - before; wakes != 10 || n != 10 {
			t.Errorf("a second of sound came in %d batches, and woke its listener %d times, want 10", n, wakes)
		}
		patient.Close()
		allows(IdleDelay)
	})
}
