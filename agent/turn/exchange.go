package turn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"lintod/audio"
)

// letGo is how long the exchange before may take to return after it was
// dropped. The user speaks meanwhile, and nothing of it is lost.
const letGo = 10 * time.Second

var errNotReturned = errors.New("the previous turn does not end; the link does not respond")

// Exchange is one turn in progress between the device and one link. All of its
// methods are for the link that carries it, from any goroutine unless they say
// else. When the exchange is dropped they fail with the cause.
type Exchange struct {
	Trigger  Trigger
	WakeWord *WakeWord // with ByWake
	Question string    // with ByText: asked in writing, and the microphone is closed

	runner *Runner
	number int
	talker Talker
	ctx    context.Context
	cancel context.CancelCauseFunc
	mic    *microphone // nil: nobody speaks to it
	record record
	reply  chan reply // with ByText; has room for one

	problem error // the link's: what the platform reports beside its answer

	understood atomic.Bool  // the platform has said what it has understood
	begun      atomic.Bool  // something was heard
	sentences  atomic.Int32 // of the answer, that were told
	sounded    atomic.Bool  // and something to its end

	mu     sync.Mutex
	said   []string        // by Say, in order
	sounds []chan struct{} // those that want to be heard, in order; the first one is
}

// reply is what a question in writing leads to.
type reply struct {
	Reply
	err error
}

func (r *Runner) begin(ctx context.Context, open opening) *Exchange {
	r.turns++
	x := &Exchange{
		Trigger: open.trigger, WakeWord: open.word, Question: open.question,
		runner: r, number: r.turns, talker: open.talker, reply: open.reply,
	}
	x.record.underruns = r.Loudspeaker.Underruns()
	x.record.Record = Record{
		Turn: r.turns, Link: open.talker.Name(),
		Trigger: open.trigger, WakeWord: open.word, Triggered: time.Now(),
	}
	// Only the machine drops an exchange, so that its cause says why: also when
	// Run's context ends.
	x.ctx, x.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	r.turn = x
	return x
}

// listen opens a turn with the microphone: it is heard from now on, whether the
// link is ready or not.
func (r *Runner) listen(ctx context.Context, held bool, h happening) {
	open := h.open
	if h.event == SpokenAsk {
		open = opening{trigger: ByFollowUp, talker: h.turn.talker}
	}
	x := r.begin(ctx, open)
	x.mic = newMicrophone(x, r.microphone(open), open.said, held)
	if open.trigger != ByTap && open.trigger != ByHold {
		r.Loudspeaker.Cue(ListeningCue)
	}
	r.children.Go(x.mic.pump)
	r.children.Go(x.talk)
}

func (r *Runner) microphone(o opening) Stream {
	if o.trigger == ByWake {
		return r.Microphone.ListenSince(o.said.Add(-lead))
	}
	return r.Microphone.ListenInRoom(o.trigger != ByFollowUp)
}

// send opens a turn without the microphone.
func (r *Runner) send(ctx context.Context, h happening) {
	x := r.begin(ctx, h.open)
	r.children.Go(x.talk)
}

// drop ends what runs, for the reason that an event is.
func (r *Runner) drop(e Event, cause error) {
	if r.turn == nil {
		return
	}
	r.turn.cancel(cause)
	record := r.turn.record.close(e, r.turn.mic.dropped(), r.Loudspeaker.Underruns())
	r.records.add(record)
	r.Publish(Notice{What: TurnOver, Turn: record.Turn, Link: record.Link, Since: record.Closed.Sub(record.Triggered), Record: &record})
	level := slog.LevelInfo
	if record.Result == ResultFailed {
		level = slog.LevelWarn
	}
	r.Log.LogAttrs(context.Background(), level, "turn ended", record.attrs()...)
	r.turn = nil
}

// talk has the link carry the exchange, as soon as it has let go of the one
// before, and reports what came of it.
func (x *Exchange) talk() {
	link := x.runner.link(x.talker.Name())
	limit := time.NewTimer(letGo)
	defer limit.Stop()
	select {
	case link.busy <- struct{}{}:
	case <-limit.C:
		x.over(Over, errNotReturned)
		return
	case <-x.ctx.Done():
		x.over(Over, context.Cause(x.ctx))
		return
	}
	next, err := x.talker.Talk(x.ctx, x)
	<-link.busy
	x.over(next, err)
}

// over tells the machine, and who asked in writing, what came of the exchange.
func (x *Exchange) over(next Next, err error) {
	if cause := context.Cause(x.ctx); cause != nil {
		x.answer(Reply{}, cause)
		return
	}
	if err != nil {
		x.answer(Reply{}, err)
		if !errors.As(err, new(soundError)) {
			err = fmt.Errorf("%s: %w", x.talker.Name(), err)
		}
		x.runner.problemFor(x, err)
		x.report(Failed)
		return
	}
	x.mu.Lock()
	text := strings.Join(x.said, " ")
	x.mu.Unlock()
	x.answer(Reply{Text: text, Ask: next == Again}, nil)
	spoke := x.sounded.Load() || x.Trigger == ByPlatform || x.mic != nil && x.mic.speech.Load()
	switch {
	case next == Again && spoke && !x.runner.Unheard: // else a broken platform would keep the microphone open for good
		x.report(SpokenAsk)
	case x.sounded.Load():
		x.report(Spoken)
	default:
		x.report(Silent)
	}
}

// report posts an event of the exchange and returns when the machine has taken
// it, or the exchange was dropped. Unlike a trigger it is never lost.
func (x *Exchange) report(e Event) {
	taken := make(chan struct{})
	select {
	case x.runner.events <- happening{event: e, turn: x, taken: taken}:
	case <-x.ctx.Done():
		return
	}
	select {
	case <-taken:
	case <-x.ctx.Done():
	}
}

// EndsBy says who decides that the user has finished, and returns who does:
// where the microphone hears the loudspeaker, Platform takes the place of Nobody.
// Until it is called it is who ended the link's last utterance, at first the
// device. It changes nothing for an utterance that is over.
func (x *Exchange) EndsBy(e Ender) Ender {
	if e == Nobody && !x.runner.Duplex {
		e = Platform
	}
	x.runner.link(x.talker.Name()).ender.Store(int32(e))
	if x.mic != nil {
		x.mic.ender.Store(int32(e))
	}
	return e
}

// Read stores the next frame of what the user says in f; the first is half a
// second older than the trigger. It blocks until there is one, and returns
// io.EOF when the user has finished, or at once where nobody speaks. One
// goroutine may read. What the device hears waits for it: of the last 80 s
// nothing is lost, before that the oldest frames go (Frame.Lost).
func (x *Exchange) Read(f *audio.Frame) error {
	switch {
	case x.ctx.Err() != nil:
		return context.Cause(x.ctx)
	case x.mic == nil:
		return io.EOF
	}
	return x.mic.heard.read(x.ctx, f)
}

// Enough ends the utterance now, because the platform has heard enough of it. It
// returns when the device has taken note.
func (x *Exchange) Enough() {
	if x.mic != nil && x.mic.listening.Err() == nil {
		x.mic.speech.Store(true) // which the platform must have heard
		x.mic.finish(time.Now())
		x.report(Finished)
	}
}

// Heard tells whether a voice has been heard in this exchange.
func (x *Exchange) Heard() bool { return x.mic != nil && x.mic.speech.Load() }

// Quiet is for how long no voice has been heard after one was; 0 before the first.
func (x *Exchange) Quiet() time.Duration {
	if x.mic == nil {
		return 0
	}
	return time.Duration(x.mic.quiet.Load())
}

// LastVoice is when a voice was last heard in this exchange; the zero Time before the first.
func (x *Exchange) LastVoice() time.Time {
	if x.mic == nil || x.mic.voice.Load() == 0 {
		return time.Time{}
	}
	return time.Unix(0, x.mic.voice.Load())
}

// Tell publishes a notice of this exchange. It does not block.
func (x *Exchange) Tell(w What, text string) { x.runner.publishFor(x, w, text) }

// Answer publishes what the platform answers and what is next, as soon as both
// are known: who asked in writing gets it while it is still being heard. It does
// not block, and counts once. A link that does not know so early need not call
// it.
func (x *Exchange) Answer(text string, next Next) {
	x.Tell(GotAnswer, text)
	x.answer(Reply{Text: text, Ask: next == Again, Problem: x.problem}, nil)
}

// Problem publishes an error that the platform reports beside an answer which is
// heard nevertheless. The link calls it before Answer, with which it reaches who
// asked in writing.
func (x *Exchange) Problem(err error) {
	x.problem = err
	x.runner.problemFor(x, err)
}

// answer gives a reply to who waits for one; the first counts.
func (x *Exchange) answer(r Reply, err error) {
	select {
	case x.reply <- reply{r, err}:
	default: // nobody asked, or it was answered
	}
}

// Say has a text spoken and returns when its last sample has been played; when
// ctx ends the device falls silent within one frame. It may be called several
// times: what is asked for while something else is heard waits for its end. When it
// begins to be heard it is published as GotSentence.
func (x *Exchange) Say(ctx context.Context, text string) error {
	x.mu.Lock()
	x.said = append(x.said, text)
	x.mu.Unlock()
	return x.emit(ctx, func(ctx context.Context, started func()) error {
		if x.runner.Unheard {
			return nil
		}
		return x.runner.Loudspeaker.Speak(ctx, text, func() {
			started()
			x.Tell(GotSentence, text)
		})
	})
}

// Play is Say for a sound, which it closes. What is said in it, only the link knows:
// it publishes that itself.
func (x *Exchange) Play(ctx context.Context, s audio.Sound) error {
	defer s.Close()
	return x.emit(ctx, func(ctx context.Context, started func()) error {
		if x.runner.Unheard {
			return pass(ctx, s)
		}
		return x.runner.Loudspeaker.Play(ctx, s, started)
	})
}

// pass reads a sound to its end in the time that it takes to be heard.
func pass(ctx context.Context, s audio.Sound) error {
	pcm := make([]int16, s.Rate()/50)
	for {
		n, err := s.Read(ctx, pcm)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case <-time.After(time.Duration(n) * time.Second / time.Duration(s.Rate())):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// soundError is why something could not be heard; the link is not to blame.
type soundError struct{ error }

func (e soundError) Unwrap() error { return e.error }

// emit waits for its place among the sounds of the exchange, and has it played.
func (x *Exchange) emit(ctx context.Context, play func(ctx context.Context, started func()) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(x.ctx, func() { cancel(context.Cause(x.ctx)) })()
	first, leave := x.queue()
	defer leave()
	select {
	case <-first:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if x.report(Answered); ctx.Err() != nil {
		return context.Cause(ctx)
	}
	err := play(ctx, func() {
		if !x.begun.Swap(true) {
			x.Tell(FirstSound, "")
		}
	})
	if err == nil {
		x.sounded.Store(true)
	}
	x.report(Quiet)
	if err != nil && ctx.Err() == nil {
		return soundError{err}
	}
	return err
}

// queue waits for the loudspeaker: first is closed when the sounds that were
// asked for earlier are over.
func (x *Exchange) queue() (first <-chan struct{}, leave func()) {
	x.mu.Lock()
	defer x.mu.Unlock()
	mine := make(chan struct{})
	x.sounds = append(x.sounds, mine)
	if len(x.sounds) == 1 {
		close(mine)
	}
	return mine, func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		i := slices.Index(x.sounds, mine)
		x.sounds = slices.Delete(x.sounds, i, i+1)
		if i == 0 && len(x.sounds) > 0 {
			close(x.sounds[0])
		}
	}
}
