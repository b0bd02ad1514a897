package turn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"lintod/audio"
)

// gateway is a talker that differs from platform as much as possible: it must
// connect before it talks, the platform decides who ends an utterance,
// answers are several sounds, it opens exchanges by itself, and it may listen
// and speak at once. It returns from a dropped exchange after a delay.
type gateway struct {
	*Runner               // for calls
	hello   time.Duration // how long it takes to connect
	enough  time.Duration // of sound, after which the platform calls Enough; 0: never
	ends    Ender         // of each utterance
	is      Ender         // the result of EndsBy
	bye     time.Duration // how long it takes to return after its context has ended
	answer  func(x *Exchange, ctx context.Context) (Next, error)
	during  func(x *Exchange, heard time.Duration) // while the user speaks, after each frame

	talks   atomic.Int32 // running concurrently
	overlap atomic.Bool
	mu      sync.Mutex
	heard   []audioSpan // one for each exchange
	causes  []error
	asked   []string
}

// audioSpan is the sound that was received in an exchange.
type audioSpan struct {
	by      Trigger
	first   time.Time // when the first frame was captured
	length  time.Duration
	missing time.Duration // according to Frame.Lost
	gaps    int           // gaps that Frame.Lost does not report
	err     error         // after the last frame
}

func (g *gateway) Name() string { return "gateway" }

func (g *gateway) Talk(ctx context.Context, x *Exchange) (next Next, err error) {
	if g.talks.Add(1) > 1 {
		g.overlap.Store(true)
	}
	defer g.talks.Add(-1)
	defer func() {
		if ctx.Err() != nil {
			g.mu.Lock()
			g.causes = append(g.causes, context.Cause(ctx))
			g.mu.Unlock()
			time.Sleep(g.bye)
		}
	}()
	g.is = x.EndsBy(g.ends)
	select {
	case <-time.After(g.hello):
	case <-ctx.Done():
		return Over, context.Cause(ctx)
	}
	g.mu.Lock()
	g.asked = append(g.asked, x.Question)
	g.mu.Unlock()
	if g.ends == Nobody && x.Trigger != ByPlatform {
		return g.converse(ctx, x)
	}
	if err := g.listen(x); !errors.Is(err, io.EOF) {
		return Over, err
	}
	if g.answer == nil {
		return Over, nil
	}
	return g.answer(x, ctx)
}

// listen reads the utterance, and returns what follows it.
func (g *gateway) listen(x *Exchange) error {
	span := audioSpan{by: x.Trigger}
	var f audio.Frame
	var next time.Time
	for {
		if span.err = x.Read(&f); span.err != nil {
			break
		}
		if span.length == 0 {
			span.first, next = f.At, f.At
		}
		lost := time.Duration(f.Lost) * time.Second / audio.CaptureRate
		if span.length > 0 && !f.At.Equal(next.Add(lost)) {
			span.gaps++
		}
		next = f.At.Add(audio.FrameTime)
		span.missing += lost
		span.length += audio.FrameTime
		if g.during != nil {
			g.during(x, span.length)
		}
		if g.enough > 0 && span.length >= g.enough {
			x.Enough()
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.heard = append(g.heard, span)
	return span.err
}

// converse listens and answers at the same time, until either ends.
func (g *gateway) converse(ctx context.Context, x *Exchange) (Next, error) {
	heard := make(chan error, 1)
	go func() { heard <- g.listen(x) }()
	next, err := g.answer(x, ctx)
	if err == nil && next == Over {
		return next, nil // and listen ends with the exchange
	}
	<-heard
	return next, err
}

func (g *gateway) spans() []audioSpan {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.heard)
}

func (g *gateway) ended() []error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.causes)
}

// connect runs story on a stage whose first link is a gateway.
func connect(t *testing.T, g *gateway, story func(*stage)) {
	play(t, nil, func(s *stage) {
		g.Runner = s.Runner
		story(s)
		if g.overlap.Load() {
			t.Error("a Talk was called before the last one had returned")
		}
	}, g)
}

// says returns an answer that consists of sentences.
func says(next Next, sentences ...string) func(*Exchange, context.Context) (Next, error) {
	return func(x *Exchange, ctx context.Context) (Next, error) {
		for _, text := range sentences {
			x.Notify(GotAnswer, text)
			if err := x.Say(ctx, text); err != nil {
				return Over, err
			}
		}
		return next, nil
	}
}

// The user speaks for a second, immediately; the link needs eight to connect.
// The end of speech is found long before, and no frame is lost.
func TestEndOfSpeechWhileConnecting(t *testing.T) {
	g := &gateway{hello: 8 * time.Second, answer: says(Over, "here I am")}
	connect(t, g, func(s *stage) {
		pressed := time.Now()
		s.tap()
		s.speak(time.Second) // since 0.4 s
		s.wait(900 * time.Millisecond)
		s.expect(Thinking)
		s.wait(6 * time.Second)
		s.expect(Speaking)
		s.wait(time.Second)
		s.expect(Idle)
		h := g.spans()[0]
		if want := 2200 * time.Millisecond; !h.first.Equal(pressed) || h.length < want || h.length > want+100*time.Millisecond || h.gaps+int(h.missing) > 0 {
			t.Errorf("heard %+v, want %v without a gap", h, want)
		}
	})
}

// If a link takes longer to connect than sound is buffered, the oldest frames
// are dropped, and both the link and the record report how much.
func TestBufferedSoundIsBounded(t *testing.T) {
	g := &gateway{hello: 3 * time.Minute, ends: Nobody, answer: says(Over, "finally")}
	connect(t, g, func(s *stage) {
		s.tap()
		s.wait(3*time.Minute + 500*time.Millisecond)
		s.expect(Conversing)
		s.wait(time.Second)
		s.expect(Idle)
		h := g.spans()[0]
		if h.gaps > 0 || h.missing < time.Minute || h.length+h.missing < 3*time.Minute {
			t.Errorf("heard %+v; the user spoke for three minutes", h)
		}
		if r := s.Records()[0]; time.Duration(r.Dropped)*audio.FrameTime != h.missing {
			t.Errorf("the record has %d frames dropped, %v are missing for the link", r.Dropped, h.missing)
		}
	})
}

// Silence does not end an utterance that the platform ends; the user may end it,
// and the limit does.
func TestPlatformEndsTheUtterance(t *testing.T) {
	for _, tt := range []struct {
		name   string
		enough time.Duration
		after  time.Duration // until it ends
		press  bool          // whether the user presses the button
	}{
		{"the platform", 9 * time.Second, 9 * time.Second, false},
		{"the user", 0, 5 * time.Second, true},
		{"the limit", 0, 20 * time.Second, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := &gateway{ends: Platform, enough: tt.enough, answer: says(Over, "yes")}
			connect(t, g, func(s *stage) {
				s.tap()
				s.speak(time.Second)
				s.wait(tt.after - 1400*time.Millisecond - 10*time.Millisecond)
				s.expect(Listening) // although the user has been silent for seconds
				s.wait(20 * time.Millisecond)
				if tt.press {
					s.tap()
				}
				s.expect(Speaking)
				if h := g.spans()[0]; h.gaps > 0 || h.length < tt.after-audio.FrameTime || h.length > tt.after+audio.FrameTime {
					t.Errorf("heard %+v, want %v", h, tt.after)
				}
				s.wait(time.Second)
				s.expect(Idle)
			})
		})
	}
}

// Each sentence is played to its last sample before the next one, also if the
// link requests all of them at once. The device is silent between them only if
// they arrive late.
func TestSeveralSounds(t *testing.T) {
	tests := []struct {
		name   string
		answer func(x *Exchange, ctx context.Context) (Next, error)
		states []State // after the user has finished
	}{
		{"one after the other", says(Over, "one", "two", "three"), []State{Thinking, Speaking, Idle}},
		{"all at once", func(x *Exchange, ctx context.Context) (Next, error) {
			var all sync.WaitGroup
			for i, text := range []string{"one", "two", "three"} {
				all.Go(func() {
					time.Sleep(time.Duration(i) * time.Millisecond)
					if err := x.Say(ctx, text); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			return Over, nil
		}, []State{Thinking, Speaking, Idle}},
		{"sounds among the texts", func(x *Exchange, ctx context.Context) (Next, error) {
			return Over, errors.Join(x.Play(ctx, speech{text: "one"}), x.Say(ctx, "two"), x.Play(ctx, speech{text: "three"}))
		}, []State{Thinking, Speaking, Idle}},
		{"after a while", func(x *Exchange, ctx context.Context) (Next, error) {
			_, err := says(Over, "one", "two")(x, ctx)
			time.Sleep(2 * lull)
			return Over, errors.Join(err, x.Say(ctx, "three"))
		}, []State{Thinking, Speaking, Thinking, Speaking, Idle}},
		{"one of them is cancelled", func(x *Exchange, ctx context.Context) (Next, error) {
			short, cancel := context.WithTimeoutCause(ctx, 1500*time.Millisecond, errors.New("the platform says stop"))
			defer cancel()
			if err := x.Say(short, "one"); err != nil {
				t.Error(err)
			}
			if err := x.Say(short, "broken"); err != context.Cause(short) {
				t.Errorf("the sentence that was cancelled returned %v", err)
			}
			return says(Over, "two", "three")(x, ctx)
		}, []State{Thinking, Speaking, Idle}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := &gateway{ends: Platform, enough: 2 * time.Second, answer: tt.answer}
			connect(t, g, func(s *stage) {
				s.tap()
				s.speak(time.Second)
				s.until(SpeechEnded)
				s.wait(10 * time.Second)
				s.expect(Idle)
				if !slices.Equal(s.loudspeaker.said, []string{"one", "two", "three"}) {
					t.Errorf("said %q", s.loudspeaker.said)
				}
				var states []State
				sounds := 0
				for len(s.notices.C) > 0 {
					n := <-s.notices.C
					if n.What == StateChanged {
						states = append(states, n.State)
					}
					if n.What == FirstSound {
						sounds++
					}
					if n.Turn != 1 || n.Link != "gateway" {
						t.Errorf("a notice of turn %d, link %q", n.Turn, n.Link)
					}
				}
				if !slices.Equal(states, tt.states) || sounds != 1 {
					t.Errorf("states %v, want %v; %d first sounds", states, tt.states, sounds)
				}
				if r := s.Records()[0]; r.Result != ResultSpoken {
					t.Errorf("record %+v", r)
				}
			})
		})
	}
}

// The platform speaks first; then the user may answer, as after any question.
func TestPlatformCalls(t *testing.T) {
	g := &gateway{ends: Platform, enough: 2 * time.Second, answer: says(Again, "your tea is ready")}
	connect(t, g, func(s *stage) {
		if err := g.Call(s.Context(), g); err != nil {
			t.Fatal(err)
		}
		s.expect(Speaking)
		if len(s.room.preroll) != 0 {
			t.Error("the platform has opened the microphone")
		}
		if err := g.Call(s.Context(), s.platform); !errors.Is(err, ErrInTurn) {
			t.Errorf("another platform calls: %v", err)
		}
		s.wait(time.Second)
		s.expect(Listening)
		g.answer = says(Over, "enjoy it")
		s.speak(time.Second)
		s.wait(2 * time.Second)
		s.expect(Idle)
		if h := g.spans(); h[0].by != ByPlatform || h[0].length != 0 || h[1].by != ByFollowUp || h[1].length < 2*time.Second {
			t.Errorf("heard %+v", h)
		}
		if r := s.Records(); r[0].Trigger != ByPlatform || r[0].Result != ResultSpoken {
			t.Errorf("record %+v", r[0])
		}
	})
}

// A platform that only wants to listen opens the microphone with a cue; a muted
// device stays closed.
func TestPlatformCallsToListen(t *testing.T) {
	g := &gateway{ends: Platform, answer: says(Again)}
	connect(t, g, func(s *stage) {
		s.Post(Muted)
		for _, want := range []State{Idle, Listening} {
			if err := g.Call(s.Context(), g); err != nil {
				t.Fatal(err)
			}
			s.expect(want)
			s.Post(Unmuted)
		}
		if !slices.Equal(s.loudspeaker.cued(), []Cue{ListeningCue}) {
			t.Errorf("cues %v, want one for the open microphone", s.loudspeaker.cued())
		}
		// The link keeps returning Again: if neither side speaks, the turn ends.
		s.wait(30 * time.Second)
		s.expect(Idle)
	})
}

// The user interrupts, and the link takes three seconds to return: what is said
// meanwhile reaches it nevertheless, and the talks do not overlap.
func TestBargeInOnASlowLink(t *testing.T) {
	g := &gateway{bye: 3 * time.Second, answer: says(Over, "a long story", "that goes on")}
	connect(t, g, func(s *stage) {
		s.tap()
		s.speak(time.Second)
		s.wait(1200 * time.Millisecond)
		s.expect(Speaking)
		pressed := time.Now()
		s.tap()
		s.expect(Listening)
		if !slices.Equal(s.loudspeaker.cut, []string{"a long story"}) {
			t.Errorf("interrupted %q", s.loudspeaker.cut)
		}
		s.speak(time.Second)
		s.wait(900 * time.Millisecond)
		s.expect(Thinking) // 2.3 s after the tap; the link has not returned yet
		if len(g.spans()) != 1 {
			t.Error("the second Talk was called")
		}
		s.wait(time.Second)
		s.expect(Speaking)
		if h := g.spans()[1]; !h.first.Equal(pressed) || h.length < 2200*time.Millisecond || h.gaps > 0 || h.missing > 0 {
			t.Errorf("heard %+v of what was said since the interruption", h)
		}
		if causes := g.ended(); !errors.Is(causes[0], ErrBargeIn) {
			t.Errorf("the first talk was dropped because of %v", causes[0])
		}
		s.wait(5 * time.Second)
		s.expect(Idle)
	})
}

// Who ends an utterance is known before the link calls EndsBy: the value of its
// last utterance is used.
func TestEnderIsRemembered(t *testing.T) {
	g := &gateway{ends: Platform, enough: 3 * time.Second, bye: 5 * time.Second, answer: says(Over, "a long story")}
	connect(t, g, func(s *stage) {
		s.tap()
		s.wait(3100 * time.Millisecond)
		s.expect(Speaking)
		s.tap() // the link is busy for the next five seconds
		s.speak(time.Second)
		s.wait(2 * time.Second)
		s.expect(Listening) // silence does not end the utterance
		s.wait(2 * time.Second)
		s.expect(Speaking) // the buffered sound arrived at once, and was enough
	})
}

// What is posted before a trigger applies when the trigger is handled.
func TestMuteBeforeATrigger(t *testing.T) {
	connect(t, &gateway{}, func(s *stage) {
		for range 50 {
			s.Post(Muted)
			s.tap()
			s.Post(Unmuted)
			synctest.Wait()
		}
		if len(s.room.preroll) > 0 {
			t.Errorf("the microphone was opened %d times while it was muted", len(s.room.preroll))
		}
	})
}

// A link is offline until it reports that it is online.
func TestOfflineAtTheStart(t *testing.T) {
	r := &Runner{Talkers: []Talker{stuck{}, hasty{}}, Initial: Flags{Offline: true}}
	if r.Online("stuck") {
		t.Error("online before the link reported it")
	}
	if r.SetOnline("hasty", true); r.Online("stuck") || !r.Online("hasty") || r.flags.Offline {
		t.Errorf("flags %+v", r.flags)
	}
}

// A Talk that does not return affects the next exchange with its link, not the
// device.
func TestTalkThatNeverReturns(t *testing.T) {
	g := &gateway{bye: time.Minute, answer: says(Over, "a long story")}
	connect(t, g, func(s *stage) {
		s.tap()
		s.speak(time.Second)
		s.wait(1200 * time.Millisecond)
		s.expect(Speaking)
		s.tap()
		s.speak(time.Second)
		s.wait(letGo)
		s.expect(Idle)
		r := s.Records()[1]
		if r.Result != ResultFailed || r.Cause != "gateway: "+errNotReturned.Error() || !slices.Contains(s.loudspeaker.cued(), ErrorCue) {
			t.Errorf("record %+v, cues %v", r, s.loudspeaker.cued())
		}
		if err := s.Trigger(Tap, "platform"); err != nil { // another link is not affected
			t.Fatal(err)
		}
		s.speak(time.Second)
		s.wait(time.Minute)
		if len(s.platform.heard) != 1 {
			t.Error("the other link got no request")
		}
		g.bye = 0
		s.tap()
		s.speak(time.Second)
		s.wait(time.Minute)
		if last := s.Records()[3]; last.Result != ResultSpoken {
			t.Errorf("after it has returned: %+v", last)
		}
	})
}

// The cause of the context is the reason why an exchange was dropped.
func TestWhyAnExchangeIsDropped(t *testing.T) {
	tests := []struct {
		name string
		do   func(*stage)
		want error
	}{
		{"barge-in", (*stage).tap, ErrBargeIn},
		{"stop", func(s *stage) { s.Post(Stop) }, ErrStopped},
		{"mute", func(s *stage) { s.Post(Muted) }, ErrMuted},
		{"the microphone dies", func(s *stage) { s.Post(WentDeaf) }, ErrDeaf},
		{"no end", func(s *stage) { s.wait(time.Hour) }, ErrTimedOut},
		{"lintod stops", (*stage).end, ErrShutDown},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := &gateway{ends: Nobody}
			g.answer = func(x *Exchange, ctx context.Context) (Next, error) {
				for {
					if err := x.Say(ctx, "and"); err != nil {
						return Over, err
					}
					if tt.want == ErrTimedOut {
						<-ctx.Done()
					}
				}
			}
			connect(t, g, func(s *stage) {
				s.tap()
				s.expect(Conversing)
				if tt.do(s); tt.want != ErrShutDown {
					s.Post(Stop) // ends the turn that barge-in opened
				}
				synctest.Wait()
				if causes := g.ended(); len(causes) == 0 || !errors.Is(causes[0], tt.want) {
					t.Errorf("causes %v, want %v", causes, tt.want)
				}
				if tt.want == ErrShutDown {
					s.done <- context.Canceled // for the end of the story
				}
			})
		})
	}
}

// Full duplex: the microphone stays open while the answer plays. The platform
// detects that the user interrupts it, stops, and answers again.
func TestFullDuplex(t *testing.T) {
	g := &gateway{ends: Nobody}
	connect(t, g, func(s *stage) {
		interrupted := make(chan struct{})
		g.during = func(_ *Exchange, heard time.Duration) {
			if heard == 3*time.Second {
				close(interrupted)
			}
		}
		g.answer = func(x *Exchange, ctx context.Context) (Next, error) {
			time.Sleep(2200 * time.Millisecond)
			long, cancel := context.WithCancel(ctx)
			defer cancel()
			go func() { <-interrupted; cancel() }()
			if err := x.Say(long, "a long story"); err == nil {
				t.Error("the answer was not interrupted")
			}
			time.Sleep(2 * time.Second) // the user speaks
			return Over, x.Say(ctx, "a short one")
		}
		s.tap()
		s.speak(time.Second)
		s.wait(700 * time.Millisecond) // silence does not end the utterance
		s.expect(Listening)
		s.wait(200 * time.Millisecond)
		s.expect(Conversing)
		s.wait(600 * time.Millisecond) // 2.9 s
		s.expect(Conversing)
		s.wait(1500 * time.Millisecond)
		s.expect(Listening)
		s.wait(time.Second)
		s.expect(Conversing)
		s.wait(time.Second)
		s.expect(Idle)
		if h := g.spans()[0]; h.gaps > 0 || h.missing > 0 || h.length < 5900*time.Millisecond {
			t.Errorf("heard %+v; the microphone was open for 6 s", h)
		}
		if !slices.Equal(s.loudspeaker.said, []string{"a short one"}) || !slices.Equal(s.loudspeaker.cut, []string{"a long story"}) {
			t.Errorf("said %q, cut %q", s.loudspeaker.said, s.loudspeaker.cut)
		}
	})
}

// In full duplex the user's tap ends the conversation.
func TestUserEndsAConversation(t *testing.T) {
	g := &gateway{ends: Nobody}
	connect(t, g, func(s *stage) {
		over := make(chan struct{})
		g.answer = func(x *Exchange, ctx context.Context) (Next, error) { <-over; return says(Again, "bye")(x, ctx) }
		s.tap()
		s.speak(time.Second)
		s.wait(10 * time.Minute)
		s.expect(Listening)
		s.tap()
		s.expect(Thinking)
		if h := g.spans()[0]; !errors.Is(h.err, io.EOF) || h.gaps > 0 {
			t.Errorf("heard %+v", h)
		}
		close(over)
		s.expect(Speaking)
		s.wait(time.Second)
		s.expect(Conversing) // the platform wants to continue
	})
}

// If the microphone picks up the speaker, only one of the two is active at a time.
func TestNoFullDuplexWithEcho(t *testing.T) {
	g := &gateway{ends: Nobody, answer: says(Over, "hello")}
	connect(t, g, func(s *stage) {
		s.Duplex = false // nothing has happened yet
		s.tap()
		s.expect(Speaking)
		if g.is != Platform {
			t.Errorf("the utterance ends by %v", g.is)
		}
		s.wait(time.Second)
		s.expect(Idle)
	})
}

func TestWrittenQuestionToAGateway(t *testing.T) {
	g := &gateway{ends: Platform, answer: says(Over, "ten", "o'clock")}
	connect(t, g, func(s *stage) {
		c := s.ask("what time is it?")
		s.expect(Speaking)
		s.wait(2 * time.Second)
		if a := <-c; a.err != nil || a.Text != "ten o'clock" || a.Ask || g.asked[0] != "what time is it?" {
			t.Errorf("asked %q, got %+v", g.asked, a)
		}
		if len(s.room.preroll) != 0 {
			t.Error("a written question has opened the microphone")
		}
	})
}

// A trigger is refused only for a link that is offline.
func TestOnlinePerLink(t *testing.T) {
	g := &gateway{}
	connect(t, g, func(s *stage) {
		synctest.Wait()
		s.SetOnline("gateway", false)
		synctest.Wait()
		if s.Snapshot().Flags.Offline || s.Online("gateway") || !s.Online("platform") {
			t.Errorf("flags %+v", s.Snapshot().Flags)
		}
		s.tap()
		s.expect(Idle)
		if err := s.Trigger(Tap, "platform"); err != nil {
			t.Fatal(err)
		}
		s.expect(Listening)
		s.Post(Stop)
		s.SetOnline("platform", false)
		s.SetOnline("automation", true) // a link that does not talk
		synctest.Wait()
		if !s.Snapshot().Flags.Offline {
			t.Error("all links are offline")
		}
		s.SetOnline("gateway", true)
		synctest.Wait()
		s.tap()
		s.expect(Listening)
		var got []string
		for len(s.notices.C) > 0 {
			switch n := <-s.notices.C; n.What {
			case Reached, Refused:
				got = append(got, fmt.Sprint(n.Link, " ", n.What, " ", n.Text))
			}
		}
		want := []string{"gateway link offline", "gateway refused the platform cannot be reached", "platform link offline", "gateway link online"}
		if !slices.Equal(got, want) {
			t.Errorf("published %q, want %q", got, want)
		}
	})
}

// A flood of triggers does not hide a change of a link's status.
func TestOnlineIsNeverLost(t *testing.T) {
	r := &Runner{Talkers: []Talker{stuck{}}, Initial: Flags{Offline: true}}
	for range 2 * eventQueue {
		_ = r.Trigger(Tap, "")
	}
	r.SetOnline("stuck", true)
	if r.lost.Load() == 0 || !r.Online("stuck") || r.flags.Offline {
		t.Errorf("%d triggers lost, online %v", r.lost.Load(), r.Online("stuck"))
	}
}

// Either an exchange or a dictation has the microphone.
func TestWhoHasTheMicrophone(t *testing.T) {
	connect(t, &gateway{}, func(s *stage) {
		var taken atomic.Int32
		hold := func() (Stream, error) { return s.Hold(s.Context(), func() { taken.Add(1) }) }
		dictating := func(want bool) {
			t.Helper()
			synctest.Wait()
			if s.Snapshot().Flags.Dictating != want {
				t.Fatalf("flags %+v, want dictating %v", s.Snapshot().Flags, want)
			}
		}
		s.tap()
		if _, err := hold(); !errors.Is(err, errListening) {
			t.Errorf("while the user speaks: %v", err)
		}
		s.Post(Stop)
		s.expect(Idle)
		mic, err := hold()
		if err != nil {
			t.Fatal(err)
		}
		dictating(true)
		var f audio.Frame
		if err := mic.Read(s.Context(), &f); err != nil {
			t.Error(err)
		}
		if _, err := hold(); !errors.Is(err, errDictating) {
			t.Errorf("a second dictation: %v", err)
		}
		s.tap()
		s.expect(Idle)
		if !slices.Contains(s.loudspeaker.cued(), ErrorCue) {
			t.Error("the tap was refused in silence")
		}
		mic.Close()
		mic, err = hold() // immediately
		if err != nil {
			t.Fatal(err)
		}
		dictating(true)
		s.Post(Muted)
		dictating(false)
		if err := mic.Read(s.Context(), &f); !errors.Is(err, ErrMuted) || taken.Load() != 1 {
			t.Errorf("muted: %v, taken %d times", err, taken.Load())
		}
		if _, err := hold(); !errors.Is(err, errMuted) {
			t.Errorf("while muted: %v", err)
		}
		s.Post(Unmuted)
		dictating(false) // it does not resume by itself
		mic.Close()
		gone, cancel := context.WithCancel(s.Context())
		cancel()
		if m, err := s.Hold(gone, func() {}); err == nil { // either may come first
			m.Close()
		}
		dictating(false)
		if _, err := hold(); err != nil {
			t.Fatal(err)
		}
		s.end()
		synctest.Wait()
		if taken.Load() != 2 || s.Snapshot().Flags.Dictating {
			t.Errorf("when lintod stops: taken %d times", taken.Load())
		}
		s.done <- context.Canceled
	})
}
