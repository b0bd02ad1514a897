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

// letGo is how long the previous exchange may take to return after it
// was dropped. Meanwhile the user may speak; that sound is kept.
const letGo = 10 * time.Second

var errNotReturned = errors.New("the previous turn does not end; the link does not respond")

// Exchange is one turn in progress between the device and one link. Its
// methods are for the link that carries it, and may be called from any
// goroutine unless documented otherwise. After the exchange is dropped they
// fail with the cause.
type Exchange struct {
	Trigger  Trigger
	WakeWord *WakeWord // with ByWake
	Question string    // with ByText: a written question; the microphone is closed

	runner *Runner
	number int
	talker Talker
	ctx    context.Context
	cancel context.CancelCauseFunc
	mic    *microphone // nil in a turn without the microphone
	record record
	reply  chan reply // with ByText; capacity 1

	problem error // reported by the platform along with its answer

	understood atomic.Bool  // the platform has sent what it understood
	begun      atomic.Bool  // a sound has started
	sentences  atomic.Int32 // of the answer, published so far
	sounded    atomic.Bool  // a sound was played to its end

	mu     sync.Mutex
	said   []string        // spoken by Say, in order
	sounds []chan struct{} // queued for the speaker, in order; the first one plays
}

// reply is the result of a written question.
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
	// Only the machine drops an exchange, so that the cause gives the reason,
	// also when Run's context ends.
	x.ctx, x.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	r.turn = x
	return x
}

// listen opens a turn with the microphone. Sound is recorded from now on,
// whether or not the link is ready.
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

// drop ends the running exchange; e determines the result.
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

// talk runs the link's Talk when the previous one has returned, and reports
// the result.
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

// over reports the result of the exchange to the machine and to the caller of Ask.
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
	case next == Again && spoke && !x.runner.Unheard: // otherwise a broken platform could keep the microphone open
		x.report(SpokenAsk)
	case x.sounded.Load():
		x.report(Spoken)
	default:
		x.report(Silent)
	}
}

// report posts an event of the exchange and returns when the machine has
// handled it, or the exchange was dropped. Unlike triggers, these events are
// never lost.
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

// EndsBy sets who decides that the user has finished, and returns who does: if
// the microphone picks up the speaker, Platform replaces Nobody. Until it is
// called, the Ender of the link's last utterance applies, at first Device. It has
// no effect on an utterance that has ended.
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

// Read stores the next frame of the utterance in f. The first one is half a
// second older than the trigger. It blocks until there is a frame, and
// returns io.EOF when the user has finished, or immediately in a turn
// without the microphone. Only one goroutine may read. Sound is buffered for
// the reader: the last 80 s are kept, before that the oldest frames are
// dropped (Frame.Lost).
func (x *Exchange) Read(f *audio.Frame) error {
	switch {
	case x.ctx.Err() != nil:
		return context.Cause(x.ctx)
	case x.mic == nil:
		return io.EOF
	}
	return x.mic.heard.read(x.ctx, f)
}

// Enough ends the utterance now, because the platform has heard enough. It
// returns when the machine has handled that.
func (x *Exchange) Enough() {
	if x.mic != nil && x.mic.listening.Err() == nil {
		x.mic.speech.Store(true) // the platform must have detected some
		x.mic.finish(time.Now())
		x.report(Finished)
	}
}

// Heard reports whether a voice was detected in this exchange.
func (x *Exchange) Heard() bool { return x.mic != nil && x.mic.speech.Load() }

// Quiet returns how long ago the last voice was detected; 0 if there was none.
func (x *Exchange) Quiet() time.Duration {
	if x.mic == nil {
		return 0
	}
	return time.Duration(x.mic.quiet.Load())
}

// LastVoice returns when a voice was last detected in this exchange; the zero Time
// if there was none.
func (x *Exchange) LastVoice() time.Time {
	if x.mic == nil || x.mic.voice.Load() == 0 {
		return time.Time{}
	}
	return time.Unix(0, x.mic.voice.Load())
}

// Notify publishes a notice of this exchange. It does not block.
func (x *Exchange) Notify(w What, text string) { x.runner.publishFor(x, w, text) }

// Answer publishes the platform's answer and what follows, as soon as both are
// known, so that the caller of Ask gets it while it is still playing. It does
// not block, and only the first call counts. A link that does not know both
// early need not call it.
func (x *Exchange) Answer(text string, next Next) {
	x.Notify(GotAnswer, text)
	x.answer(Reply{Text: text, Ask: next == Again, Problem: x.problem}, nil)
}

// Problem publishes an error that the platform reports with an answer that is
// played nevertheless. The link calls it before Answer, which passes it on to
// the caller of Ask.
func (x *Exchange) Problem(err error) {
	x.problem = err
	x.runner.problemFor(x, err)
}

// answer passes the reply to the caller of Ask; only the first one counts.
func (x *Exchange) answer(r Reply, err error) {
	select {
	case x.reply <- reply{r, err}:
	default: // no caller waits, or it has its answer
	}
}

// Say speaks a text and returns when its last sample has been played; when ctx ends
// the sound stops within one frame. It may be called several times: texts and
// sounds are played one after the other. Each text is published as GotSentence when
// it starts to play.
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
			x.Notify(GotSentence, text)
		})
	})
}

// Play is Say for a sound, which it closes. The link publishes the text of the
// sound, as only the link knows it.
func (x *Exchange) Play(ctx context.Context, s audio.Sound) error {
	defer s.Close()
	return x.emit(ctx, func(ctx context.Context, started func()) error {
		if x.runner.Unheard {
			return pass(ctx, s)
		}
		return x.runner.Loudspeaker.Play(ctx, s, started)
	})
}

// pass reads a sound to its end in real time.
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

// soundError is an error of the speaker, for which the link is not responsible.
type soundError struct{ error }

func (e soundError) Unwrap() error { return e.error }

// emit waits for its position in the queue of sounds, and plays.
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
			x.Notify(FirstSound, "")
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

// queue waits for the speaker: first is closed when all earlier sounds have
// ended.
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
