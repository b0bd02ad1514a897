package turn

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrInTurn is returned by Write while the user speaks or waits for an answer.
var ErrInTurn = errors.New("a turn is going on; ask again when it is over")

// eventQueue is how many events wait; more triggers are dropped.
const eventQueue = 64

// happening is an event on its way to Run, with what belongs to it.
type happening struct {
	event Event
	turn  *exchange // the exchange that reports, nil from outside
	open  opening
	asked *question // with Ask
	// verdict, where there is one, has room to be told why the event was refused, nil
	// when it was not.
	verdict chan error
}

// opening is what a trigger says of the turn that it opens.
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

// Tap is Trigger with Tap for who wants to know what comes of it: it returns when
// the machine has taken the tap, with the reason when that was refused, or when ctx
// ends.
func (r *Runner) Tap(ctx context.Context, link string) error {
	t, err := r.talker(link)
	if err != nil {
		return err
	}
	h := happening{event: Tap, open: opening{trigger: ByTap, talker: t}, verdict: make(chan error, 1)}
	if !r.post(h) {
		return errors.New("the device is busy: too many triggers wait")
	}
	select {
	case err := <-h.verdict:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Flags are what is true of the device now. The machine knows them before the next
// event.
func (r *Runner) Flags() Flags {
	r.init()
	r.truth.Lock()
	defer r.truth.Unlock()
	return r.flags
}

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
