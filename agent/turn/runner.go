package turn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"lintod/agent/base/loop"
	"lintod/audio/endpoint"
	"lintod/audio/silero"
)

// Limits after which a state is ended by force, whatever the cause. Each is
// far above the timeouts of the parts themselves.
const (
	thinkingLimit = 90 * time.Second
	speakingLimit = 15 * time.Minute
	listenSlack   = 5 * time.Second
)

// patience is how long the device thinks before a cue signals, once, that it
// is still working.
const patience = 4 * time.Second

// lull is how long the speaker may be silent between two sounds of one
// answer; then the device shows that it waits.
const lull = time.Second

const forever = time.Duration(1<<63 - 1)

// Runner feeds events to the machine and carries out its effects. Its
// fields are set before Run; Run's goroutine owns everything that follows
// them.
type Runner struct {
	Microphone  Microphone
	Loudspeaker Loudspeaker
	Talkers     []Talker        // the first is used when a trigger names none
	Endpoint    endpoint.Config // for turns that silence ends
	Bus         *Bus
	Log         *slog.Logger
	// Initial are the flags before the first event.
	Initial Flags
	// VoiceModel loads the network that detects voices, when a turn first needs it. If
	// it or its result is nil, the card's detection is used, if there is one.
	VoiceModel func() *silero.Model
	// Duplex means that the microphone does not pick up the speaker, so that both
	// may be active at once (Nobody).
	Duplex bool
	// Unheard means that the answers of platforms are not played: a subscriber
	// answers instead, and calls MakeRoom.
	Unheard bool

	truth  sync.Mutex // guards the requested state, which Run may not have applied yet
	flags  Flags      // the flags that Run should apply to the machine
	links  map[string]*link
	holder *hold // nil unless flags.Dictating

	flagged loop.Signal // the flags may have changed
	once    sync.Once
	events  chan happening
	lost    atomic.Int64 // triggers dropped because the queue was full
	probes  loop.Probe

	now      atomic.Pointer[Snapshot]
	level    atomic.Int64              // millibel, of the last frame
	heard    atomic.Pointer[time.Time] // when the user last spoke to the device, including wake words; nil: never
	records  records
	turn     *Exchange       // nil if none is running
	online   map[string]bool // the published status of links
	turns    int
	entered  time.Time // when the state was entered
	limit    *time.Timer
	patience *time.Timer // runs while thinking
	lull     *time.Timer // runs while the speaker is silent between sounds
	children sync.WaitGroup
}

func (r *Runner) init() {
	r.once.Do(func() {
		r.events = make(chan happening, eventQueue)
		r.probes = loop.NewProbe()
		r.flagged = loop.NewSignal()
		r.flags = r.Initial
		r.links = map[string]*link{}
		r.now.Store(&Snapshot{Flags: r.Initial})
	})
}

func (r *Runner) voiceModel() *silero.Model {
	if r.VoiceModel == nil {
		return nil
	}
	return r.VoiceModel()
}

// Run owns the machine until ctx ends; then it drops the turn, silences the
// speaker and waits for everything it started.
func (r *Runner) Run(ctx context.Context) error {
	r.init()
	r.limit, r.patience, r.lull = time.NewTimer(forever), time.NewTimer(forever), time.NewTimer(forever)
	defer r.limit.Stop()
	defer r.patience.Stop()
	defer r.lull.Stop()
	defer r.children.Wait()
	defer r.shutDown(ctx)
	r.online = r.reach()
	r.settled()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case h := <-r.events:
			r.catchUp(ctx) // so that the flags that were set before the event apply to it
			r.handle(ctx, h)
		case <-r.flagged:
			r.catchUp(ctx)
		case <-r.probes:
		case <-r.patience.C:
			r.Loudspeaker.Cue(ThinkingCue)
		case <-r.lull.C:
			r.handle(ctx, happening{event: Paused, turn: r.turn})
		case <-r.limit.C:
			if rest := time.Until(r.entered.Add(r.longest())); rest > 0 {
				r.limit.Reset(rest) // the link has called EndsBy meanwhile
				continue
			}
			r.problemFor(r.turn, fmt.Errorf("%v took too long", r.Snapshot().State))
			r.handle(ctx, happening{event: TimedOut, turn: r.turn})
		}
	}
}

// reach returns which Talkers reach their platforms.
func (r *Runner) reach() map[string]bool {
	online := map[string]bool{}
	for _, t := range r.Talkers {
		online[t.Name()] = r.Online(t.Name())
	}
	return online
}

// catchUp applies the requested flags to the machine, and publishes what has
// changed.
func (r *Runner) catchUp(ctx context.Context) {
	for _, e := range r.Flags().changes(r.Snapshot().Flags) {
		r.handle(ctx, happening{event: e})
	}
	for name, yes := range r.reach() {
		if yes != r.online[name] {
			r.online[name] = yes
			r.Notify(name, Reached, map[bool]string{true: "online", false: "offline"}[yes])
		}
	}
}

func (r *Runner) handle(ctx context.Context, h happening) {
	if h.taken != nil {
		defer close(h.taken)
	}
	if h.turn != nil && h.turn != r.turn {
		return // a late report of a dropped turn
	}
	switch {
	case h.event == Answered && r.turn.mic.duplex():
		h.event = Interjected
	case h.event == MakeRoom && r.Unheard && r.Snapshot().State == Thinking && r.turn.understood.Load():
		h.event = Stop // a subscriber answers, and the platform's answer is not needed
	}
	running := r.turn
	before := r.Snapshot()
	after, effects := Step(before, h.event, h.away(r))
	if h.verdict != nil {
		h.verdict <- before.refusal(h.event, h.away(r))
	}
	r.now.Store(&after)
	for _, e := range effects {
		r.carryOut(ctx, e, h)
	}
	switch {
	case h.hold != nil:
		r.decide(h.hold, before, after)
	case h.open.refused != nil && r.turn == running:
		close(h.open.refused)
	case before.Flags.Dictating && !after.Flags.Dictating:
		r.takeAway(ErrMuted)
	}
	if after != before {
		if r.turn != nil {
			running = r.turn
		}
		r.publishFor(running, StateChanged, "") // of the turn that ends, or the one that starts
		r.Log.Debug(describe(before.State, h.event, after.State))
	}
	if after.State != before.State {
		r.settled()
	}
}

// away reports whether the link that a happening is for is offline.
func (h happening) away(r *Runner) bool {
	talker := h.open.talker
	if h.turn != nil {
		talker = h.turn.talker
	}
	return talker != nil && !r.Online(talker.Name())
}

// settled is called when a state was entered: it sets the state's limit, and
// reserves the speaker for the turn.
func (r *Runner) settled() {
	state := r.Snapshot().State
	r.Loudspeaker.SetTurn(state != Idle)
	r.entered = time.Now()
	r.limit.Reset(r.longest())
	r.lull.Reset(forever)
	r.patience.Reset(forever)
	if state == Thinking {
		r.patience.Reset(patience)
	}
}

// longest is how long the current state may last.
func (r *Runner) longest() time.Duration {
	switch r.Snapshot().State {
	case Listening:
		if !r.turn.mic.duplex() {
			return r.Endpoint.MaxUtterance + r.Endpoint.NoSpeech + listenSlack
		}
		fallthrough
	case Speaking, Conversing:
		return speakingLimit
	case Thinking:
		return thinkingLimit
	}
	return forever
}

func (r *Runner) carryOut(ctx context.Context, e Effect, h happening) {
	switch e {
	case Listen, ListenHeld:
		r.listen(ctx, e == ListenHeld, h)
	case Unhold:
		r.turn.mic.held.Store(false)
	case EndSpeech:
		r.turn.mic.finish(time.Now())
		r.publishFor(r.turn, SpeechEnded, "")
	case Send:
		r.send(ctx, h)
	case Drop:
		r.drop(h.event, h.event.cause())
	case Rest:
		r.lull.Reset(lull)
	case GoOn:
		r.settled()
	case Hush:
		r.Loudspeaker.Hush()
	case CueMuted:
		r.refuse(h, errMuted)
		r.Loudspeaker.Cue(MutedCue)
	case CueError:
		if h.event == Tap || h.event == Press || h.event == Wake {
			r.refuse(h, r.Snapshot().refusal(h.event, h.away(r)))
		}
		r.Loudspeaker.Cue(ErrorCue)
	case CueNothing:
		r.Loudspeaker.Cue(NothingCue)
	}
}

// refuse publishes why a trigger is refused, in the running turn if there is
// one.
func (r *Runner) refuse(h happening, why error) {
	if r.turn != nil {
		r.publishFor(r.turn, Refused, why.Error())
		return
	}
	r.Notify(h.open.talker.Name(), Refused, why.Error())
}

// Why the microphone is not opened.
var (
	errMuted     = errors.New("the device is muted; unmute it first, with its button or from the platform")
	errDeaf      = errors.New("the microphone delivers no sound")
	errAway      = errors.New("the platform cannot be reached")
	errDictating = errors.New("a dictation is using the microphone; stop it with `lintod stream -stop`")
	errListening = errors.New("a turn is using the microphone; try again when it has ended")
)

// refusal returns why an event does not open the microphone; nil if it does, or
// was not meant to.
func (s Snapshot) refusal(e Event, away bool) error {
	switch {
	case s.admit(e, away) == e:
		return nil
	case s.Flags.Muted:
		return errMuted
	case s.Flags.deaf():
		return errDeaf
	case away:
		return errAway
	case s.Flags.Dictating:
		return errDictating
	}
	return errListening
}

func (r *Runner) shutDown(ctx context.Context) {
	cause := fmt.Errorf("%w: %w", ErrShutDown, context.Cause(ctx))
	r.drop(Stop, cause)
	r.takeAway(cause)
	flags := r.Snapshot().Flags
	flags.Dictating = false
	r.now.Store(&Snapshot{Flags: flags})
}

func (r *Runner) publishFor(x *Exchange, w What, text string) {
	n := Notice{What: w, Text: text}
	if x != nil {
		n.Turn, n.Link, n.Since = x.number, x.talker.Name(), time.Since(x.record.Triggered)
		x.record.mark(w, time.Now())
		switch w {
		case GotTranscript:
			x.understood.Store(true)
		case GotSentence:
			n.Order = int(x.sentences.Add(1))
		}
	}
	r.Publish(n)
}

func (r *Runner) problemFor(x *Exchange, err error) {
	if x != nil {
		if x.ctx.Err() != nil {
			return // errors of a dropped exchange are not reported
		}
		x.record.because(err)
	}
	r.publishFor(x, Problem, err.Error())
}
