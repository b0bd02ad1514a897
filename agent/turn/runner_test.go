package turn

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"lintod/audio"
	"lintod/audio/endpoint"
)

// room is a microphone paced like a card: 20 ms frames whose samples are all
// loud while the user speaks. It also records how the turn opened it.
type room struct {
	loud    atomic.Int32
	off     atomic.Bool // the microphone is switched off
	preroll []bool
	since   time.Time // of the last ListenSince
	dropped uint64
	before  func(at time.Time) int32 // how loud it was; nil: nothing is buffered
}

func (r *room) Listen(preroll bool) Stream {
	r.preroll = append(r.preroll, preroll)
	return &roomStream{room: r}
}

func (r *room) ListenInRoom(preroll bool) Stream {
	r.preroll = append(r.preroll, preroll)
	return &roomStream{room: r, early: r.early(time.Now())}
}

// early returns the frames of the 5 s before a time.
func (r *room) early(end time.Time) (list []early) {
	if r.before == nil {
		return nil
	}
	for at := end.Add(-5 * time.Second); at.Before(end); at = at.Add(audio.FrameTime) {
		list = append(list, early{at, r.before(at)})
	}
	return list
}

type early struct {
	at   time.Time
	loud int32
}

// ListenSince delivers the past frames immediately, all of them loud: they
// contain the wake word.
func (r *room) ListenSince(t time.Time) Stream {
	r.since = t
	return &roomStream{room: r, past: t, early: r.early(t)}
}

type roomStream struct {
	room  *room
	early []early   // frames that are Past
	past  time.Time // zero if none is left
}

func (s *roomStream) Read(ctx context.Context, f *audio.Frame) error {
	at, loud, past := time.Now(), s.room.loud.Load(), len(s.early) > 0
	switch {
	case past:
		at, loud = s.early[0].at, s.early[0].loud
		s.early = s.early[1:]
	case s.past.Before(at) && !s.past.IsZero():
		at, loud = s.past, 8000
		s.past = s.past.Add(audio.FrameTime)
	default:
		s.past = time.Time{}
		select {
		case <-time.After(audio.FrameTime):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	*f = audio.Frame{At: at, Silent: s.room.off.Load(), Past: past}
	for i := range f.PCM { // a square wave is loud at every frequency
		f.PCM[i] = int16(loud) * int16(1-2*(i/8%2))
	}
	return nil
}
func (s *roomStream) SetDelay(time.Duration) {}
func (s *roomStream) Dropped() uint64        { return s.room.dropped }
func (s *roomStream) Close() error           { return nil }

// loudspeaker is a speaker on which every text takes one second.
type loudspeaker struct {
	said   []string   // finished
	cut    []string   // interrupted
	mu     sync.Mutex // guards cues
	cues   []Cue
	turns  []bool // the calls of SetTurn
	hushed int
	broken error
	dry    atomic.Uint64           // underruns
	played func(at time.Time) bool // nil: it never played
	plays  atomic.Int32            // concurrent calls
	mixed  atomic.Bool             // two calls overlapped
}

type speech struct {
	audio.Sound
	text string
}

func (speech) Close() error { return nil }

func (l *loudspeaker) Speak(ctx context.Context, text string, started func()) error {
	if l.broken != nil {
		return l.broken
	}
	return l.Play(ctx, speech{text: text}, started)
}

func (l *loudspeaker) Play(ctx context.Context, s audio.Sound, started func()) error {
	if l.plays.Add(1) > 1 {
		l.mixed.Store(true)
	}
	defer l.plays.Add(-1)
	started()
	select {
	case <-time.After(time.Second):
		l.said = append(l.said, s.(speech).text)
		return nil
	case <-ctx.Done():
		l.cut = append(l.cut, s.(speech).text)
		return context.Cause(ctx)
	}
}
func (l *loudspeaker) Underruns() uint64 { return l.dry.Load() }
func (l *loudspeaker) Cue(c Cue) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cues = append(l.cues, c)
}

// cued returns the cues so far.
func (l *loudspeaker) cued() []Cue {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.cues)
}

func (l *loudspeaker) Sounded(at time.Time) bool { return l.played != nil && l.played(at) }

func (l *loudspeaker) SetTurn(b bool) { l.turns = append(l.turns, b) }
func (l *loudspeaker) Hush()          { l.hushed++ }

// answer is the answer from a platform.
type answer struct {
	Text, Transcript string
	Ask              bool
}

// platform is a talker that collects the utterance and takes a second to answer.
type platform struct {
	answers []answer // given in order
	err     error
	heard   []time.Duration // length of each utterance
	dropped []error
	by      []Trigger
	written []string
}

func (p *platform) Name() string { return "platform" }

func (p *platform) Talk(ctx context.Context, x *Exchange) (Next, error) {
	if x.Question != "" {
		p.written = append(p.written, x.Question)
	} else {
		p.by = append(p.by, x.Trigger)
		var f audio.Frame
		var length time.Duration
		for {
			err := x.Read(&f)
			if errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				p.dropped = append(p.dropped, err)
				return Over, err
			}
			length += audio.FrameTime
		}
		p.heard = append(p.heard, length)
	}
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
		return Over, context.Cause(ctx)
	}
	if p.err != nil || len(p.answers) == 0 {
		return Over, p.err
	}
	a := p.answers[0]
	p.answers = p.answers[1:]
	next := Over
	if a.Ask {
		next = Again
	}
	if a.Transcript != "" {
		x.Notify(GotTranscript, a.Transcript)
	}
	x.Answer(a.Text, next)
	return next, x.Say(ctx, a.Text)
}

// stage is a runner with its fakes, in a synctest bubble.
type stage struct {
	*Runner
	*testing.T
	room        *room
	loudspeaker *loudspeaker
	platform    *platform
	notices     *Subscription
	cancel      context.CancelFunc
	done        chan error
}

func play(t *testing.T, answers []answer, story func(*stage), others ...Talker) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{T: t, room: &room{}, loudspeaker: &loudspeaker{}, platform: &platform{answers: answers}, done: make(chan error, 1)}
		s.Runner = &Runner{
			Microphone: s.room, Loudspeaker: s.loudspeaker, Talkers: append(others, s.platform), Duplex: true, Bus: &Bus{}, Log: slog.New(slog.DiscardHandler),
			Endpoint: endpoint.Config{Silence: 800 * time.Millisecond, MaxUtterance: 20 * time.Second, NoSpeech: 6 * time.Second},
		}
		s.notices = s.Bus.Subscribe(100)
		ctx, cancel := context.WithCancel(t.Context())
		s.cancel = cancel
		go func() { s.done <- s.Runner.Run(ctx) }()
		story(s)
		s.end()
		if s.loudspeaker.mixed.Load() {
			t.Error("two sounds were played at once")
		}
	})
}

// end stops the runner; the bubble fails if any goroutine is left.
func (s *stage) end() {
	s.cancel()
	if err := <-s.done; !errors.Is(err, context.Canceled) {
		s.Errorf("Run returned %v", err)
	}
}

func (s *stage) wait(d time.Duration) {
	time.Sleep(d) // the bubble's clock
	synctest.Wait()
}

func (s *stage) tap() {
	s.Helper()
	if err := s.Trigger(Tap, ""); err != nil {
		s.Fatal(err)
	}
	synctest.Wait()
}

// speak speaks for d after a moment of silence.
func (s *stage) speak(d time.Duration) {
	s.wait(400 * time.Millisecond)
	s.room.loud.Store(8000)
	s.wait(d)
	s.room.loud.Store(0)
}

// until waits for the next notice of a kind.
func (s *stage) until(w What) {
	for n := range s.notices.C {
		if n.What == w {
			return
		}
	}
}

func (s *stage) expect(want State) {
	s.Helper()
	synctest.Wait()
	if got := s.Snapshot().State; got != want {
		s.Fatalf("state is %v, want %v", got, want)
	}
}

func TestTapAndSpeak(t *testing.T) {
	play(t, []answer{{Text: "ten o'clock", Transcript: "what time is it"}}, func(s *stage) {
		s.tap()
		s.expect(Listening)
		s.speak(2 * time.Second)
		s.expect(Listening)
		s.wait(900 * time.Millisecond) // endpoint silence is 800 ms
		s.expect(Thinking)
		s.wait(time.Second)
		s.expect(Speaking)
		s.wait(time.Second)
		s.expect(Idle)

		if !slices.Equal(s.loudspeaker.said, []string{"ten o'clock"}) {
			t.Errorf("said %q", s.loudspeaker.said)
		}
		if !slices.Equal(s.room.preroll, []bool{true}) {
			t.Errorf("pre-roll requested: %v", s.room.preroll)
		}
		var story []What
		for len(s.notices.C) > 0 {
			n := <-s.notices.C
			story = append(story, n.What)
		}
		want := []What{StateChanged, SpeechBegan, SpeechEnded, StateChanged, GotTranscript, GotAnswer, StateChanged, FirstSound, GotSentence, TurnOver, StateChanged}
		if !slices.Equal(story, want) {
			t.Errorf("notices %v, want %v", story, want)
		}
		r := s.Records()[0]
		for name, at := range map[string]time.Time{"heard": r.Heard, "finished": r.Finished, "answered": r.Answered, "framed": r.Framed, "sounded": r.Sounded, "closed": r.Closed} {
			if at.IsZero() {
				t.Errorf("the record lacks %s", name)
			}
		}
		if r.Result != ResultSpoken || r.Link != "platform" || r.Trigger != ByTap {
			t.Errorf("record %+v", r)
		}
	})
}

func TestHeldButtonEndsOnReleaseOnly(t *testing.T) {
	play(t, []answer{{Text: "ok"}}, func(s *stage) {
		if err := s.Trigger(Press, "platform"); err != nil {
			t.Fatal(err)
		}
		s.speak(time.Second)
		s.wait(3 * time.Second) // a pause does not end the utterance while the button is pressed
		s.expect(Listening)
		s.Post(Release)
		s.expect(Thinking)
		if want := 4400 * time.Millisecond; s.platform.heard[0] != want {
			t.Errorf("the utterance has %v, want %v: everything captured before the release", s.platform.heard[0], want)
		}
		if s.platform.by[0] != ByHold {
			t.Errorf("triggered by %q", s.platform.by[0])
		}
	})
}

// TestPressThatWasATap is a short press: it opens a turn immediately, and
// silence ends the utterance.
func TestPressThatWasATap(t *testing.T) {
	play(t, []answer{{Text: "ok"}}, func(s *stage) {
		if err := s.Trigger(Press, ""); err != nil {
			t.Fatal(err)
		}
		s.wait(200 * time.Millisecond)
		s.Post(LetGo)
		s.expect(Listening)
		s.speak(time.Second)
		s.wait(900 * time.Millisecond)
		s.expect(Thinking)
	})
}

// A turn that is ended within a second of its trigger without speech was a
// mistake; with speech in it, or later, it is a question.
func TestTooShortIsIgnored(t *testing.T) {
	tests := []struct {
		name    string
		open    Event
		close   Event
		silent  time.Duration
		speech  time.Duration
		result  Result
		cues    []Cue
		answers int
	}{
		{"two taps in a row", Tap, Tap, 100 * time.Millisecond, 0, ResultTooShort, []Cue{NothingCue}, 0},
		{"a short hold", Press, Release, 700 * time.Millisecond, 0, ResultTooShort, []Cue{NothingCue}, 0},
		{"a short word", Press, Release, 400 * time.Millisecond, 300 * time.Millisecond, ResultSpoken, nil, 1},
		{"a whisper", Press, Release, time.Second, 0, ResultSpoken, nil, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			play(t, []answer{{Text: "ok"}}, func(s *stage) {
				if err := s.Trigger(tt.open, ""); err != nil {
					t.Fatal(err)
				}
				s.wait(tt.silent)
				if tt.speech > 0 {
					s.room.loud.Store(8000)
					s.wait(tt.speech)
				}
				if tt.close == Release {
					s.Post(Release)
				} else {
					s.tap()
				}
				s.wait(3 * time.Second)
				s.expect(Idle)
				r := s.Records()[0]
				if r.Result != tt.result || !slices.Equal(s.loudspeaker.cued(), tt.cues) || len(s.platform.heard) != tt.answers {
					t.Errorf("record %+v, cues %v; the platform got %v", r, s.loudspeaker.cued(), s.platform.heard)
				}
			})
		})
	}
}

func TestAskListensAgain(t *testing.T) {
	play(t, []answer{{Text: "when?", Ask: true}, {Text: "noted"}}, func(s *stage) {
		s.tap()
		s.speak(time.Second)
		s.until(FirstSound)
		s.expect(Speaking)
		s.wait(990 * time.Millisecond)
		s.expect(Speaking)
		s.wait(20 * time.Millisecond) // the last sample was played
		s.expect(Listening)
		s.speak(time.Second)
		s.wait(900*time.Millisecond + 2*time.Second)
		s.expect(Idle)
		if !slices.Equal(s.room.preroll, []bool{true, false}) {
			t.Errorf("pre-roll requested: %v; after a question it would contain the device's own voice", s.room.preroll)
		}
		if !slices.Equal(s.platform.by, []Trigger{ByTap, ByFollowUp}) {
			t.Errorf("triggers %v", s.platform.by)
		}
		if !slices.Equal(s.loudspeaker.cued(), []Cue{ListeningCue}) {
			t.Errorf("cues %v, want none for a button and one for a follow-up", s.loudspeaker.cued())
		}
	})
}

type asked struct {
	Reply
	err error
}

// ask poses a written question from a goroutine of its own.
func (s *stage) ask(text string) <-chan asked {
	c := make(chan asked, 1)
	go func() {
		a, err := s.Ask(s.Context(), "", text)
		c <- asked{a, err}
	}()
	synctest.Wait()
	return c
}

func TestWrittenQuestion(t *testing.T) {
	play(t, []answer{{Text: "when?", Ask: true}, {Text: "noted"}}, func(s *stage) {
		s.SetOnline("platform", false) // a written question is not refused while offline: the link decides
		c := s.ask("remind me")
		s.expect(Thinking)
		s.SetOnline("platform", true)
		if other := <-s.ask("me too"); !errors.Is(other.err, ErrInTurn) {
			t.Errorf("a second question got %v", other.err)
		}
		s.wait(time.Second)
		s.expect(Speaking)
		if a := <-c; a.err != nil || a.Text != "when?" || !a.Ask {
			t.Errorf("answer %+v", a)
		}
		s.wait(time.Second) // the answer is a question: the user may speak
		s.expect(Listening)
		if other := <-s.ask("me too"); !errors.Is(other.err, ErrInTurn) {
			t.Errorf("a question while the user speaks got %v", other.err)
		}
		s.speak(time.Second)
		s.wait(900*time.Millisecond + 2*time.Second)
		s.expect(Idle)
		if r := s.Records()[0]; r.Trigger != ByText || r.Cause != "spoken-ask" || r.Link != "platform" {
			t.Errorf("record %+v", r)
		}
		if !slices.Equal(s.platform.by, []Trigger{ByFollowUp}) || !slices.Equal(s.platform.written, []string{"remind me"}) {
			t.Errorf("spoken %v, written %q", s.platform.by, s.platform.written)
		}
	})
}

func TestWrittenQuestionsThatFail(t *testing.T) {
	play(t, nil, func(s *stage) {
		s.platform.err = errors.New("no route to platform")
		c := s.ask("hello")
		s.wait(time.Second)
		if a := <-c; !errors.Is(a.err, s.platform.err) {
			t.Errorf("the caller got %v", a.err)
		}
		s.expect(Idle)
		c = s.ask("hello")
		s.Post(Stop)
		if a := <-c; !errors.Is(a.err, ErrStopped) {
			t.Errorf("a question that was dropped returned %v", a.err)
		}
	})
}

func TestNoSpeech(t *testing.T) {
	play(t, nil, func(s *stage) {
		s.tap()
		s.wait(6100 * time.Millisecond)
		s.expect(Idle)
		if len(s.platform.heard) != 0 || !errors.Is(s.platform.dropped[0], ErrUnheard) {
			t.Errorf("the platform got %v, %v", s.platform.heard, s.platform.dropped)
		}
		if !slices.Equal(s.loudspeaker.cued(), []Cue{NothingCue}) {
			t.Errorf("cues %v", s.loudspeaker.cued())
		}
	})
}

// A turn without speech has failed if the microphone delivered only zeros; with any
// sound in it, it has not.
func TestAllZeroMicrophoneFailsTheTurn(t *testing.T) {
	for _, tt := range []struct {
		name    string
		open    Event
		on      time.Duration // into the turn; 0: never
		result  Result
		cue     Cue
		answers int
	}{
		{"tap", Tap, 0, ResultFailed, ErrorCue, 0},
		{"hold", Press, 0, ResultSilent, "", 1}, // a held button is a question
		{"tap, and a sound", Tap, 5 * time.Second, ResultNothing, NothingCue, 0},
		{"hold, and a sound", Press, 5 * time.Second, ResultSilent, "", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			play(t, nil, func(s *stage) {
				s.room.off.Store(true)
				if err := s.Trigger(tt.open, ""); err != nil {
					t.Fatal(err)
				}
				if tt.on > 0 {
					s.wait(tt.on)
					s.room.off.Store(false)
					s.wait(100 * time.Millisecond)
					s.room.off.Store(true)
				}
				s.wait(7*time.Second - tt.on)
				s.Post(Release)
				s.wait(3 * time.Second)
				s.expect(Idle)
				cues := slices.DeleteFunc(s.loudspeaker.cued(), func(c Cue) bool { return c != tt.cue && c == ThinkingCue })
				if r := s.Records()[0]; r.Result != tt.result || len(s.platform.heard) != tt.answers || tt.cue != "" && !slices.Equal(cues, []Cue{tt.cue}) {
					t.Errorf("record %+v, cues %v, the platform got %v", r, cues, s.platform.heard)
				}
			})
		})
	}
}

func TestBargeIn(t *testing.T) {
	play(t, []answer{{Text: "a long story"}, {Text: "ok"}}, func(s *stage) {
		s.tap()
		s.speak(time.Second)
		s.wait(900*time.Millisecond + time.Second + 500*time.Millisecond)
		s.expect(Speaking)
		s.tap()
		s.expect(Listening)
		if !slices.Equal(s.loudspeaker.cut, []string{"a long story"}) {
			t.Errorf("interrupted %q", s.loudspeaker.cut)
		}
		if r := s.Records()[0]; r.Result != ResultInterrupted || r.Cause != "tap" {
			t.Errorf("the first turn was %s by %q", r.Result, r.Cause)
		}
	})
}

// The speaker is reserved for the turn from the trigger to the last sample.
func TestLoudspeakerBelongsToTheTurn(t *testing.T) {
	play(t, []answer{{Text: "answer"}}, func(s *stage) {
		s.expect(Idle)
		s.tap()
		s.speak(time.Second)
		s.wait(10 * time.Second)
		s.expect(Idle)
		if want := []bool{false, true, true, true, false}; !slices.Equal(s.loudspeaker.turns, want) {
			t.Errorf("SetTurn was called with %v, want %v", s.loudspeaker.turns, want)
		}
		s.Post(Stop)
		s.expect(Idle)
		if s.loudspeaker.hushed != 1 {
			t.Error("stop did not end announcements")
		}
	})
}

func TestFailures(t *testing.T) {
	play(t, []answer{{Text: "never said"}}, func(s *stage) {
		s.platform.err = errors.New("no route to platform")
		s.tap()
		s.speak(time.Second)
		s.wait(2 * time.Second)
		s.expect(Idle)
		s.platform.err, s.loudspeaker.broken = nil, errors.New("espeak-ng is not installed")
		s.tap()
		s.speak(time.Second)
		s.wait(2 * time.Second)
		s.expect(Idle)
		if !slices.Equal(s.loudspeaker.cued(), []Cue{ErrorCue, ErrorCue}) {
			t.Errorf("cues %v", s.loudspeaker.cued())
		}
		var problems []string
		for len(s.notices.C) > 0 {
			if n := <-s.notices.C; n.What == Problem {
				problems = append(problems, n.Text)
			}
		}
		if len(problems) != 2 || !strings.Contains(problems[0], "no route") || !strings.Contains(problems[1], "espeak-ng") {
			t.Errorf("problems: %q", problems)
		}
	})
}

func TestMuteClosesATurn(t *testing.T) {
	play(t, nil, func(s *stage) {
		s.tap()
		s.Post(Muted)
		s.expect(Idle)
		if len(s.platform.dropped) != 1 {
			t.Errorf("the platform's turn was not dropped: %v", s.platform.dropped)
		}
		s.tap()
		s.expect(Idle)
		if !slices.Equal(s.loudspeaker.cued(), []Cue{MutedCue}) {
			t.Errorf("cues %v", s.loudspeaker.cued())
		}
	})
}

// A cue signals once that the device is still thinking.
func TestLinkThatNeverAnswers(t *testing.T) {
	play(t, nil, func(s *stage) {
		s.tap()
		s.speak(time.Second)
		s.until(SpeechEnded)
		s.expect(Thinking)
		s.wait(patience - time.Millisecond)
		if len(s.loudspeaker.cued()) != 0 {
			t.Errorf("cues %v before patience has passed", s.loudspeaker.cued())
		}
		s.wait(thinkingLimit - patience + 2*time.Millisecond)
		s.expect(Idle)
		s.wait(time.Minute)
		if !slices.Equal(s.loudspeaker.cued(), []Cue{ThinkingCue, ErrorCue}) {
			t.Errorf("cues %v", s.loudspeaker.cued())
		}
	}, stuck{})
}

// stuck is a link with a bug: it ignores everything but its context.
type stuck struct{}

func (stuck) Name() string { return "stuck" }
func (stuck) Talk(ctx context.Context, _ *Exchange) (Next, error) {
	<-ctx.Done()
	return Over, context.Cause(ctx)
}

func TestStopInEveryState(t *testing.T) {
	for _, state := range []State{Idle, Listening, Thinking, Speaking} {
		t.Run(state.String(), func(t *testing.T) {
			play(t, []answer{{Text: "a"}}, func(s *stage) {
				if state > Idle {
					s.tap()
					s.speak(time.Second)
				}
				if state > Listening {
					s.wait(900 * time.Millisecond)
				}
				if state > Thinking {
					s.wait(time.Second)
				}
				s.expect(state)
				s.Post(Stop)
				s.expect(Idle)
			})
		})
	}
}

// TestPlatformHasHeardEnough: the platform may end the utterance while the user
// speaks.
func TestPlatformHasHeardEnough(t *testing.T) {
	play(t, nil, func(s *stage) {
		s.Notify("hasty", Transcribing, "outside of a turn")
		s.tap()
		s.expect(Listening)
		s.speak(700 * time.Millisecond)
		for len(s.notices.C) > 0 {
			n := <-s.notices.C
			if n.What == Transcribing && (n.Turn != 0 || n.Since != 0) || n.What == GotPartial && (n.Turn != 1 || n.Since != time.Second) || n.Link != "hasty" {
				t.Errorf("published %+v", n)
			}
		}
		s.expect(Thinking)
		s.wait(time.Second)
		s.expect(Speaking)
	}, hasty{})
}

// hasty is a link whose platform stops listening after a second.
type hasty struct{}

func (hasty) Name() string { return "hasty" }
func (hasty) Talk(ctx context.Context, x *Exchange) (Next, error) {
	var f audio.Frame
	for range time.Second / audio.FrameTime {
		if err := x.Read(&f); err != nil {
			return Over, err
		}
	}
	x.Notify(GotPartial, "in a turn")
	x.Enough()
	time.Sleep(time.Second) // in the bubble
	if err := x.Read(&f); !errors.Is(err, io.EOF) {
		return Over, errors.New("the utterance did not end")
	}
	return Over, x.Say(ctx, "I see")
}

func TestUnknownLink(t *testing.T) {
	r := Runner{Talkers: []Talker{stuck{}}}
	if err := r.Trigger(Tap, "nobody"); !errors.Is(err, errUnknownLink) {
		t.Errorf("error %v", err)
	}
	if err := (&Runner{}).Trigger(Tap, ""); err == nil {
		t.Error("a device without links opened a turn")
	}
}

func TestSlowSubscriberLosesTheOldest(t *testing.T) {
	var b Bus
	s := b.Subscribe(2)
	for i := range 5 {
		b.Publish(Notice{Turn: i})
	}
	if a, z := <-s.C, <-s.C; a.Turn != 3 || z.Turn != 4 || s.Dropped() != 3 {
		t.Errorf("got notices %d and %d, %d dropped", a.Turn, z.Turn, s.Dropped())
	}
	s.Close()
	b.Publish(Notice{})
	if len(s.C) != 0 {
		t.Error("a closed subscription still gets notices")
	}
}

// Many long texts for subscribers that do not read use little memory, and a
// truncated text does not retain the rest of it.
func TestLongTextsUseLittleMemory(t *testing.T) {
	var b Bus
	var listeners []*Subscription
	for range 16 {
		listeners = append(listeners, b.Subscribe(256))
	}
	heap := func() int {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	before := heap()
	for i := range 300 {
		b.Publish(Notice{Turn: i, What: GotPartial, Text: strings.Repeat("é", 4<<20-i)})
	}
	if grown := heap() - before; grown > 4<<20 {
		t.Errorf("%d bytes are kept", grown)
	}
	for _, s := range listeners {
		kept, bytes, last := len(s.C), 0, Notice{}
		for len(s.C) > 0 {
			last = <-s.C
			bytes += len(last.Text)
		}
		if bytes > maxNoticeQueue || last.Turn != 299 || int(s.Dropped()) != 300-kept || last.Cut != 2*(4<<20-299)-maxNoticeText {
			t.Errorf("%d notices with %d bytes are kept, %d dropped; the last is %d, cut by %d", kept, bytes, s.Dropped(), last.Turn, last.Cut)
		}
	}
	// Short texts fill the queue by number, also after others have been read.
	for i := range 1000 {
		b.Publish(Notice{Turn: i, Text: strings.Repeat("x", i)})
		if i%7 == 0 {
			<-listeners[0].C
		}
	}
	if n, m := len(listeners[0].C), len(listeners[1].C); n < 200 || m != 256 {
		t.Errorf("%d and %d short notices are kept", n, m)
	}
}

// The rest of the wake word is sent to the platform but is not speech: a pause
// after the word does not end the utterance.
func TestWakeWord(t *testing.T) {
	play(t, []answer{{Text: "ten o'clock"}}, func(s *stage) {
		s.wait(10 * time.Second)
		over := time.Now()
		if err := s.Wake(WakeWord{"computer", 0.8}, "", over); err != nil {
			t.Fatal(err)
		}
		s.expect(Listening)
		if want := over.Add(-lead); !s.room.since.Equal(want) {
			t.Errorf("the stream starts %v before the end of the word, want %v", over.Sub(s.room.since), lead)
		}
		s.speak(time.Second)
		s.wait(time.Second)
		s.expect(Thinking)
		s.wait(2 * time.Second)
		s.expect(Idle)
		if r := s.Records()[0]; r.Trigger != ByWake || r.WakeWord == nil || *r.WakeWord != (WakeWord{"computer", 0.8}) || r.Result != ResultSpoken {
			t.Errorf("record %+v, wake word %v", r, r.WakeWord)
		}
		if !strings.Contains(s.Records()[0].Line(), `by wake "computer"`) {
			t.Errorf("line: %s", s.Records()[0].Line())
		}
	})
}

// twice is a link that answers with two sentences.
type twice struct{}

func (twice) Name() string { return "twice" }

func (twice) Talk(ctx context.Context, x *Exchange) (Next, error) {
	return Over, errors.Join(x.Say(ctx, "first"), x.Say(ctx, "second"))
}

// Subscribers of the bus get each wake word, each sentence in order, and the result
// of the turn.
func TestSubscriberGetsTheWholeTurn(t *testing.T) {
	play(t, nil, func(s *stage) {
		for range 2 {
			if err := s.Wake(WakeWord{"computer", 0.8}, "twice", time.Now()); err != nil {
				t.Fatal(err)
			}
			s.wait(5 * time.Second)
			s.expect(Idle)
		}
		var story []Notice
		for len(s.notices.C) > 0 {
			switch n := <-s.notices.C; n.What {
			case Woken, GotSentence, TurnOver:
				story = append(story, n)
			}
		}
		if len(story) != 8 {
			t.Fatalf("%d notices: %+v", len(story), story)
		}
		for i, n := range story {
			number := 1 + i/4
			switch i % 4 {
			case 0:
				if n.What != Woken || n.Link != "twice" || n.Turn != 0 || *n.WakeWord != (WakeWord{"computer", 0.8}) {
					t.Errorf("%+v", n)
				}
			case 1, 2:
				if n.What != GotSentence || n.Turn != number || n.Order != i%4 || n.Text != []string{"first", "second"}[i%4-1] {
					t.Errorf("%+v", n)
				}
			case 3:
				r := n.Record
				if n.What != TurnOver || n.Turn != number || n.Link != "twice" || r.Trigger != ByWake || r.Result != ResultSpoken || n.Since != r.Closed.Sub(r.Triggered) {
					t.Errorf("%+v, record %+v", n, r)
				}
			}
		}
	}, twice{})
}

// A question is posed to a link, and refused while a turn is running.
func TestPose(t *testing.T) {
	play(t, []answer{{Text: "ten o'clock"}}, func(s *stage) {
		if err := s.Pose(s.Context(), "", "what time is it"); err != nil {
			t.Fatal(err)
		}
		s.expect(Thinking)
		if err := s.Pose(s.Context(), "", "and now"); !errors.Is(err, ErrInTurn) {
			t.Errorf("error %v", err)
		}
		s.wait(3 * time.Second)
		if !slices.Equal(s.platform.written, []string{"what time is it"}) || !slices.Equal(s.loudspeaker.said, []string{"ten o'clock"}) {
			t.Errorf("asked %q, said %q", s.platform.written, s.loudspeaker.said)
		}
		if err := s.Pose(s.Context(), "nobody", "x"); !errors.Is(err, errUnknownLink) {
			t.Errorf("error %v", err)
		}
	})
}

func TestRestOfTheWakeWordIsNotSpeech(t *testing.T) {
	play(t, nil, func(s *stage) {
		s.wait(10 * time.Second)
		// 400 ms of the word would be enough speech if they counted: they arrive
		// as past frames, which are loud, although the reported end of the word is
		// later.
		if err := s.Wake(WakeWord{Name: "computer"}, "", time.Now().Add(lead)); err != nil {
			t.Fatal(err)
		}
		s.room.loud.Store(8000)
		s.wait(lead)
		s.room.loud.Store(0)
		s.wait(time.Second)
		s.expect(Listening)
		for len(s.notices.C) > 0 {
			if n := <-s.notices.C; n.What == SpeechBegan {
				t.Error("the rest of the wake word was taken for speech")
			}
		}
	})
}

func TestWakeWordNamesItsLink(t *testing.T) {
	play(t, nil, func(s *stage) {
		if err := s.Wake(WakeWord{Name: "computer"}, "nobody", time.Now()); !errors.Is(err, errUnknownLink) {
			t.Errorf("error %v", err)
		}
		if err := s.Wake(WakeWord{Name: "computer"}, "platform", time.Now()); err != nil {
			t.Error(err)
		}
		s.expect(Listening)
	})
}

// Another sound ends an answer, and no other part of a turn.
func TestMakeRoom(t *testing.T) {
	play(t, []answer{{Text: "a long story"}}, func(s *stage) {
		room := func(want State) {
			t.Helper()
			if err := s.MakeRoom(s.Context()); err != nil {
				t.Fatal(err)
			}
			s.expect(want)
		}
		room(Idle)
		s.tap()
		room(Listening)
		s.speak(time.Second)
		s.wait(900 * time.Millisecond)
		room(Thinking)
		s.wait(1500 * time.Millisecond)
		s.expect(Speaking)
		room(Idle)
		if !slices.Equal(s.loudspeaker.cut, []string{"a long story"}) || s.loudspeaker.hushed != 4 {
			t.Errorf("cut %q, hushed %d times", s.loudspeaker.cut, s.loudspeaker.hushed)
		}
		if r := s.Records()[0]; r.Result != ResultInterrupted {
			t.Errorf("record %+v", r)
		}
		if cues := s.loudspeaker.cued(); len(cues) > 0 {
			t.Errorf("cues %v", cues)
		}
	})
}

// understands reports its transcript, and then thinks for a long time.
type understands struct{}

func (understands) Name() string { return "slow" }

func (understands) Talk(ctx context.Context, x *Exchange) (Next, error) {
	var f audio.Frame
	for x.Read(&f) == nil {
	}
	time.Sleep(time.Second)
	x.Notify(GotTranscript, "what time is it")
	<-ctx.Done()
	return Over, context.Cause(ctx)
}

// With Unheard, a subscriber's answer plays as soon as the transcript is known,
// without waiting for the platform's answer.
func TestMakeRoomWithUnheard(t *testing.T) {
	for _, unheard := range []bool{false, true} {
		play(t, nil, func(s *stage) {
			s.Unheard = unheard
			s.tap()
			s.speak(time.Second)
			s.wait(900 * time.Millisecond)
			for _, want := range []State{Thinking, map[bool]State{false: Thinking, true: Idle}[unheard]} {
				if err := s.MakeRoom(s.Context()); err != nil {
					t.Fatal(err)
				}
				s.expect(want)
				s.wait(time.Second) // then the transcript is known
			}
		}, understands{})
	}
}

// With Unheard, the platform's answer is not played and its question does not open
// the microphone; its transcript and answer are published nevertheless.
func TestUnheard(t *testing.T) {
	play(t, []answer{{Text: "which one?", Transcript: "play a song", Ask: true}}, func(s *stage) {
		s.Unheard = true
		s.tap()
		s.speak(time.Second)
		s.wait(900*time.Millisecond + 3*time.Second)
		s.expect(Idle)
		if len(s.loudspeaker.said)+len(s.loudspeaker.cut) > 0 || len(s.platform.by) != 1 {
			t.Errorf("said %q, cut %q, %d utterances", s.loudspeaker.said, s.loudspeaker.cut, len(s.platform.by))
		}
		texts := map[What]string{}
		for len(s.notices.C) > 0 {
			n := <-s.notices.C
			texts[n.What] = n.Text
		}
		if _, told := texts[GotSentence]; told || texts[GotTranscript] != "play a song" || texts[GotAnswer] != "which one?" {
			t.Errorf("published %v", texts)
		}
	})
}
