package turn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"lintod/audio"
	"lintod/audio/endpoint"
)

// lead is how much sound from before the moment at which a wake word seems to
// be over is sent with what follows it: engines tell late, and the first sound
// of the request must not be lost. What is left of the word there is no speech.
const lead = 200 * time.Millisecond

// errDropped is the cause of a turn's context when the machine drops the turn.
var errDropped = errors.New("the turn was dropped")

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

func (r *Runner) begin(ctx context.Context, open opening) *exchange {
	r.turns++
	x := &exchange{number: r.turns, talker: open.talker}
	x.record.underruns = r.Mouth.Underruns()
	x.record.Record = Record{
		Turn: r.turns, Link: open.talker.Name(),
		Trigger: open.trigger, WakeWord: open.word, Triggered: time.Now(),
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

var errSilent = errors.New(audio.ZerosFault)

func (h hearing) silent() {
	h.problemFor(h.x, errSilent)
	h.report(h.x, Failed)
}

// report posts an event of a running exchange. Unlike a trigger it must not be
// lost, so it waits for room until the exchange is over.
func (r *Runner) report(x *exchange, e Event) {
	select {
	case r.events <- happening{event: e, turn: x}:
	case <-x.ctx.Done():
	}
}

func (r *Runner) answered(x *exchange, a Answer, err error) {
	if a.Sound != nil { // also when it is dropped before it is spoken
		context.AfterFunc(x.ctx, func() { a.Sound.Close() })
	}
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
