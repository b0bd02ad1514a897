package turn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"lintod/audio/endpoint"
)

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

func (r *Runner) init() {
	r.once.Do(func() {
		r.events = make(chan happening, eventQueue)
		r.probes = make(chan struct{})
		r.flagged = make(chan struct{}, 1)
		r.flags = r.Initial
		r.now.Store(&Snapshot{Flags: r.Initial})
	})
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
			r.catchUp(ctx) // a trigger that follows a flag finds it set
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

// catchUp makes the machine's flags what they should be.
func (r *Runner) catchUp(ctx context.Context) {
	for _, e := range r.Flags().changes(r.Snapshot().Flags) {
		r.handle(ctx, happening{event: e})
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
	if h.verdict != nil {
		h.verdict <- after.Flags.Refusal(before.State, h.event)
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
			r.publish(Refused, r.Snapshot().Flags.fault().Error())
		}
		r.Mouth.Cue(ErrorCue)
	case CueNothing:
		r.Mouth.Cue(NothingCue)
	}
}

// Refusal is why an event does not open a turn in a state; nil when it does, or was
// not meant to.
func (f Flags) Refusal(s State, e Event) error {
	if f.admit(s, e) == e {
		return nil
	}
	return f.fault()
}

// fault is the first reason why no turn can be opened.
func (f Flags) fault() error {
	switch {
	case f.Muted:
		return errors.New("the device is muted; unmute it first, with its button or from the platform")
	case f.Deaf && !f.Silent:
		return errors.New("the microphone gives no sound")
	case f.Offline:
		return errors.New("the platform cannot be reached")
	}
	return nil
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
