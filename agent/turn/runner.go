package turn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"lintod/audio"
	"lintod/audio/endpoint"
)

// Cue is a short sound that tells the user how things stand.
type Cue string

const (
	ListeningCue Cue = "listening" // in a turn that no hand has opened
	ThinkingCue  Cue = "thinking"
	MutedCue     Cue = "muted"
	UnmutedCue   Cue = "unmuted"
	ErrorCue     Cue = "error"
	NothingCue   Cue = "nothing"
)

// Mouth is what a turn needs of the loudspeaker.
type Mouth interface {
	// Speak turns text into sound. It returns as soon as the engine has started.
	Speak(ctx context.Context, text string) (audio.Sound, error)
	// Play blocks until the last sample has been played; when ctx ends it falls
	// silent within one frame. started is called when the first sample went to
	// the loudspeaker.
	Play(ctx context.Context, s audio.Sound, started func()) error
	// Cue plays a short sound, without blocking.
	Cue(Cue)
	// Underruns counts the times that the loudspeaker ran dry, since the start.
	Underruns() uint64
	// SetTurn tells that a turn has begun, so that nothing else may be heard, or
	// is over. It does not block.
	SetTurn(runs bool)
	// Hush ends what is said outside a turn, without blocking.
	Hush()
}

// Ear is what a turn needs of the microphone.
type Ear interface {
	// Listen opens a stream, beginning with the pre-roll where that is wanted: not
	// when the device itself has just spoken.
	Listen(preroll bool) Stream
	// ListenSince opens a stream that begins in the past, as far as that is
	// remembered.
	ListenSince(t time.Time) Stream
}

// Limits after which a state is ended by force, whatever went wrong. Each is
// far above the limits that the parts have themselves.
const (
	thinkingLimit = 90 * time.Second
	speakingLimit = 15 * time.Minute
	listenSlack   = 5 * time.Second
)

// patience is after how much thinking the user is told, once, that the device
// has not forgotten.
const patience = 4 * time.Second

const forever = time.Duration(1<<63 - 1)

// eventQueue is how many events wait; more triggers are dropped.
const eventQueue = 64

// ErrInTurn is returned by Write while the user speaks or waits for an answer.
var ErrInTurn = errors.New("a turn is going on; ask again when it is over")

// errDropped is the cause of a turn's context when the machine drops the turn.
var errDropped = errors.New("the turn was dropped")

// Runner feeds the machine and carries out its effects. Its fields are set
// before Run; one goroutine (Run's) owns all that follows them.
type Runner struct {
	Ear      Ear
	Mouth    Mouth
	Talkers  []Talker        // the first is used when a trigger names none
	Endpoint endpoint.Config // for turns that end by silence
	Bus      *Bus
	Log      *slog.Logger
	// Initial is what is true before the first event.
	Initial Flags

	truth sync.Mutex // guards flags
	flags Flags      // what Run should make the machine's

	flagged chan struct{} // they may have changed
	once    sync.Once
	events  chan happening
	lost    atomic.Int64 // triggers dropped because the queue was full
	probes  chan struct{}

	now      atomic.Pointer[Snapshot]
	level    atomic.Int64 // millibel, of the last frame heard
	records  records
	turn     *exchange                // nil when nothing runs
	running  atomic.Pointer[exchange] // the same, for others
	turns    int
	limit    *time.Timer
	patience *time.Timer // runs while thinking
	children sync.WaitGroup
}

type happening struct {
	event Event
	turn  *exchange // the exchange that reports, nil from outside
	open  opening
	asked *question // with Ask
}

type opening struct {
	trigger Trigger
	talker  Talker
	word    *WakeWord // with ByWake
	said    time.Time // when the word was over
}

// question is one that was asked in writing.
type question struct {
	text   string
	answer chan answered // with room for it
}

type answered struct {
	Answer
	err error
}

// exchange is the turn in progress.
type exchange struct {
	number    int
	ctx       context.Context
	cancel    context.CancelCauseFunc
	utterance *Utterance
	answer    Answer
	talker    Talker
	record    record
}

func (r *Runner) init() {
	r.once.Do(func() {
		r.events = make(chan happening, eventQueue)
		r.probes = make(chan struct{})
		r.flagged = make(chan struct{}, 1)
		r.flags = r.Initial
		r.now.Store(&Snapshot{Flags: r.Initial})
	})
}

// Snapshot is the state of the machine now.
func (r *Runner) Snapshot() Snapshot {
	r.init()
	return *r.now.Load()
}

// Records are the last turns, oldest first.
func (r *Runner) Records() []Record { return r.records.list() }

// Level is the loudness of the last frame heard while listening, in dBFS.
func (r *Runner) Level() float64 { return float64(r.level.Load()) / 100 }

// Post tells the Runner of a flag event, Release, LetGo or Stop. It never blocks.
//
// A flag event is never lost, however many triggers wait: LEDs and status must
// not say that the microphone is closed when it is open.
func (r *Runner) Post(e Event) {
	r.init()
	if !e.flag() {
		r.post(happening{event: e})
		return
	}
	r.truth.Lock()
	r.flags = r.flags.after(e)
	r.truth.Unlock()
	select {
	case r.flagged <- struct{}{}:
	default: // Run is about to look anyway
	}
}

// catchUp makes the machine's flags what they should be.
func (r *Runner) catchUp(ctx context.Context) {
	r.truth.Lock()
	want := r.flags
	r.truth.Unlock()
	for _, e := range want.changes(r.Snapshot().Flags) {
		r.handle(ctx, happening{event: e})
	}
}

// Trigger posts Tap or Press for the named link; an empty name is the first.
func (r *Runner) Trigger(e Event, link string) error {
	t, err := r.talker(link)
	if err != nil {
		return err
	}
	by := ByTap
	if e == Press {
		by = ByHold
	}
	r.post(happening{event: e, open: opening{trigger: by, talker: t}})
	return nil
}

// lead is how much sound from before the moment at which a wake word seems to
// be over is sent with what follows it: engines tell late, and the first sound
// of the request must not be lost. What is left of the word there is no speech.
const lead = 200 * time.Millisecond

// Wake opens a turn for the named link, because a wake word was said that was
// over at the given moment; the request begins there. An empty name is the
// first link.
func (r *Runner) Wake(w WakeWord, link string, over time.Time) error {
	t, err := r.talker(link)
	if err != nil {
		return err
	}
	r.post(happening{event: Wake, open: opening{ByWake, t, &w, over}})
	return nil
}

func (r *Runner) talker(name string) (Talker, error) {
	for _, t := range r.Talkers {
		if name == "" || t.Name() == name {
			return t, nil
		}
	}
	if name == "" {
		return nil, errors.New("no link can talk: enable one in the configuration, for example [linto]")
	}
	return nil, fmt.Errorf("no link is called %q", name)
}

func (r *Runner) post(h happening) bool {
	r.init()
	select {
	case r.events <- h:
		return true
	default:
		r.lost.Add(1)
		return false
	}
}

// Write opens a turn whose question is a text for the named link; an empty name
// is the first. It returns the answer as soon as it is there, while it is being
// spoken. It fails with ErrInTurn when somebody else is asking.
func (r *Runner) Write(ctx context.Context, link, text string) (Answer, error) {
	t, err := r.talker(link)
	if err != nil {
		return Answer{}, err
	}
	if _, ok := t.(Writer); !ok {
		return Answer{}, fmt.Errorf("link %s takes no questions in writing", t.Name())
	}
	q := &question{text, make(chan answered, 1)}
	if !r.post(happening{event: Ask, open: opening{trigger: ByText, talker: t}, asked: q}) {
		return Answer{}, ErrInTurn
	}
	select {
	case a := <-q.answer:
		return a.Answer, a.err
	case <-ctx.Done():
		return Answer{}, context.Cause(ctx)
	}
}

// Tell publishes a notice that a link wants the world to know of. It belongs to
// the turn that runs, if there is one.
func (r *Runner) Tell(w What, text string) {
	r.publishFor(r.running.Load(), w, text)
}

// Probe returns nil when Run's loop has taken it up, which proves that the loop
// turns, or with ctx's cause.
func (r *Runner) Probe(ctx context.Context) error {
	r.init()
	select {
	case r.probes <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Run owns the machine until ctx ends; then it drops the turn, silences the
// loudspeaker and waits for everything it started.
func (r *Runner) Run(ctx context.Context) error {
	r.init()
	r.limit, r.patience = time.NewTimer(forever), time.NewTimer(forever)
	defer r.limit.Stop()
	defer r.patience.Stop()
	defer r.children.Wait()
	defer r.shutDown()
	r.settled()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case h := <-r.events:
			r.handle(ctx, h)
		case <-r.flagged:
			r.catchUp(ctx)
		case <-r.probes:
		case <-r.patience.C:
			r.Mouth.Cue(ThinkingCue)
		case <-r.limit.C:
			r.problem(fmt.Errorf("%v lasted too long", r.Snapshot().State))
			r.handle(ctx, happening{event: TimedOut, turn: r.turn})
		}
	}
}

func (r *Runner) handle(ctx context.Context, h happening) {
	if h.turn != nil && h.turn != r.turn {
		return // a turn that was dropped reports late
	}
	running := r.turn
	before := r.Snapshot()
	after, effects := Next(before, h.event)
	r.now.Store(&after)
	for _, e := range effects {
		r.carryOut(ctx, e, h)
	}
	if h.event == Ask && len(effects) == 0 {
		h.asked.answer <- answered{err: ErrInTurn}
	}
	if after != before {
		if r.turn != nil {
			running = r.turn
		}
		r.publishFor(running, StateChanged, "") // of the turn that ends, or the one that begins
		r.Log.Debug(describe(before.State, h.event, after.State))
	}
	if after.State != before.State {
		r.settled()
	}
}

// settled is called when a state was entered: it sets the state's limit, and
// keeps the loudspeaker for the turn.
func (r *Runner) settled() {
	state := r.Snapshot().State
	r.Mouth.SetTurn(state != Idle)
	limit, wait := forever, forever
	switch state {
	case Listening:
		limit = r.Endpoint.MaxUtterance + r.Endpoint.NoSpeech + listenSlack
	case Thinking:
		limit, wait = thinkingLimit, patience
	case Speaking:
		limit = speakingLimit
	}
	r.limit.Reset(limit)
	r.patience.Reset(wait)
}

func (r *Runner) carryOut(ctx context.Context, e Effect, h happening) {
	switch e {
	case Listen, ListenHeld:
		r.listen(ctx, e == ListenHeld, h)
	case Unhold:
		r.turn.utterance.held.Store(false)
	case EndSpeech:
		r.turn.utterance.finish(time.Now())
		r.publish(SpeechEnded, "")
	case Send:
		r.write(ctx, h)
	case Drop:
		r.drop(h.event)
	case Speak:
		r.speak()
	case Hush:
		r.Mouth.Hush()
	case CueMuted:
		r.publish(Refused, "the microphone is muted")
		r.Mouth.Cue(MutedCue)
	case CueError:
		if h.event == Tap || h.event == Press || h.event == Wake {
			r.publish(Refused, r.Snapshot().Flags.refusal())
		}
		r.Mouth.Cue(ErrorCue)
	case CueNothing:
		r.Mouth.Cue(NothingCue)
	}
}

func (f Flags) refusal() string {
	if f.Deaf {
		return "the microphone gives no sound"
	}
	return "the platform cannot be reached"
}

func (r *Runner) begin(ctx context.Context, open opening) *exchange {
	r.turns++
	x := &exchange{number: r.turns, talker: open.talker}
	x.record.underruns = r.Mouth.Underruns()
	x.record.Record = Record{Turn: r.turns, Trigger: open.trigger, WakeWord: open.word, Triggered: time.Now()}
	if x.talker != nil {
		x.record.Link = x.talker.Name()
	}
	x.ctx, x.cancel = context.WithCancelCause(ctx)
	r.turn = x
	r.running.Store(x)
	return x
}

// drop ends what runs, for the reason that an event is.
func (r *Runner) drop(e Event) {
	if r.turn == nil {
		return
	}
	r.turn.cancel(errDropped)
	record := r.turn.record.close(e, r.Mouth.Underruns())
	r.records.add(record)
	level := slog.LevelInfo
	if record.Result == ResultFailed {
		level = slog.LevelWarn
	}
	r.Log.LogAttrs(context.Background(), level, "turn is over", record.attrs()...)
	r.turn = nil
	r.running.Store(nil)
}

// listen opens a turn: the link talks in a goroutine of its own, whose result
// comes back as an event.
func (r *Runner) listen(ctx context.Context, held bool, h happening) {
	open := h.open
	follow := h.event == SpokenAsk
	if follow {
		open = opening{trigger: ByFollowUp, talker: h.turn.talker}
	}
	x := r.begin(ctx, open)
	stream := r.open(open)
	x.utterance = newUtterance(x.ctx, open.trigger, stream, endpoint.New(r.Endpoint), hearing{r, x})
	x.utterance.held.Store(held)
	x.utterance.WakeWord, x.utterance.begins = open.word, open.said
	if open.trigger != ByTap && open.trigger != ByHold {
		r.Mouth.Cue(ListeningCue)
	}
	r.children.Go(func() {
		answer, err := open.talker.Talk(x.ctx, x.utterance)
		x.record.dropped(stream.Dropped())
		stream.Close()
		r.answered(x, answer, err)
	})
}

func (r *Runner) open(o opening) Stream {
	if o.trigger == ByWake {
		return r.Ear.ListenSince(o.said.Add(-lead))
	}
	return r.Ear.Listen(o.trigger != ByFollowUp)
}

// write opens a turn without a microphone.
func (r *Runner) write(ctx context.Context, h happening) {
	x := r.begin(ctx, h.open)
	r.children.Go(func() {
		answer, err := x.talker.(Writer).Write(x.ctx, h.asked.text) // Runner.Write has looked
		h.asked.answer <- answered{answer, err}
		r.answered(x, answer, err)
	})
}

// hearing reports what is heard in an exchange; it runs in the link's goroutine
// and allocates nothing.
type hearing struct {
	*Runner
	x *exchange
}

func (h hearing) heard(v endpoint.Verdict, f *audio.Frame) {
	h.level.Store(int64(100 * endpoint.Level(f)))
	h.x.record.frame(f)
	switch v {
	case endpoint.SpeechBegan:
		h.publishFor(h.x, SpeechBegan, "")
	case endpoint.EndSilence, endpoint.EndLimit:
		h.report(h.x, Finished)
	case endpoint.EndNoSpeech:
		h.report(h.x, Nothing)
	}
}

func (h hearing) tooShort() { h.report(h.x, TooShort) }

// report posts an event of a running exchange. Unlike a trigger it must not be
// lost, so it waits for room until the exchange is over.
func (r *Runner) report(x *exchange, e Event) {
	select {
	case r.events <- happening{event: e, turn: x}:
	case <-x.ctx.Done():
	}
}

func (r *Runner) answered(x *exchange, a Answer, err error) {
	switch {
	case err != nil && x.ctx.Err() != nil:
		return // dropped
	case err != nil:
		r.problemFor(x, fmt.Errorf("%s: %w", x.talker.Name(), err))
		r.report(x, Failed)
		return
	}
	if a.Transcript != "" {
		r.publishFor(x, GotTranscript, a.Transcript)
	}
	if a.Text == "" && a.Sound == nil {
		r.report(x, Silent)
		return
	}
	r.publishFor(x, GotAnswer, a.Text)
	x.answer = a // read by Run after it has received the event
	r.report(x, Answered)
}

func (r *Runner) speak() {
	x := r.turn
	r.children.Go(func() {
		if err := r.utter(x, x.answer); err != nil {
			r.problemFor(x, err)
			r.report(x, Failed)
			return
		}
		if x.answer.Ask {
			r.report(x, SpokenAsk)
			return
		}
		r.report(x, Spoken)
	})
}

// utter plays an answer to its last sample.
func (r *Runner) utter(x *exchange, a Answer) error {
	sound := a.Sound
	if sound == nil {
		var err error
		if sound, err = r.Mouth.Speak(x.ctx, a.Text); err != nil {
			return err
		}
	}
	defer sound.Close()
	return r.Mouth.Play(x.ctx, sound, func() { r.publishFor(x, FirstSound, "") })
}

func (r *Runner) shutDown() {
	r.drop(Stop)
	r.now.Store(&Snapshot{Flags: r.Snapshot().Flags})
}

func (r *Runner) publish(w What, text string) { r.publishFor(r.turn, w, text) }

func (r *Runner) publishFor(x *exchange, w What, text string) {
	now := r.Snapshot()
	n := Notice{At: time.Now(), What: w, State: now.State, Flags: now.Flags, Text: text}
	if x != nil {
		n.Turn, n.Since = x.number, time.Since(x.record.Triggered)
		x.record.mark(w, n.At)
	}
	r.Bus.Publish(n)
}

func (r *Runner) problem(err error) { r.problemFor(r.turn, err) }

func (r *Runner) problemFor(x *exchange, err error) {
	if x != nil {
		if x.ctx.Err() != nil {
			return // an exchange that was dropped on purpose has no problems
		}
		x.record.because(err)
	}
	r.publishFor(x, Problem, err.Error())
}
