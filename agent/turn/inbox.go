package turn

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"
)

// ErrInTurn is returned by Ask and Call while a turn is running.
var ErrInTurn = errors.New("a turn is in progress; try again when it has ended")

var errBusy = errors.New("the device is busy: too many pending triggers")

// eventQueue is how many events can wait; further triggers are dropped.
const eventQueue = 64

// happening is an event on its way to Run, with its arguments.
type happening struct {
	event Event
	turn  *Exchange     // the exchange that reports it; nil if none does
	open  opening       // with a trigger
	hold  *hold         // with DictationBegan
	taken chan struct{} // closed when Run has handled it; may be nil
	// verdict, if not nil, has capacity 1 and receives why the event was refused,
	// or nil.
	verdict chan error
}

// opening describes the turn that a trigger opens.
type opening struct {
	trigger  Trigger
	talker   Talker
	word     *WakeWord     // with ByWake
	said     time.Time     // when the word ended
	question string        // with ByText
	reply    chan reply    // with ByText: capacity 1
	refused  chan struct{} // closed when the turn was not opened; may be nil
}

// link is the Runner's state of a link.
type link struct {
	busy  chan struct{} // holds a token while a Talk runs
	ender atomic.Int32  // an Ender: of its last utterance
	away  atomic.Bool   // it is offline
}

// link returns the state of the named link.
func (r *Runner) link(name string) *link {
	r.truth.Lock()
	defer r.truth.Unlock()
	return r.known(name)
}

// known is link for callers that hold truth.
func (r *Runner) known(name string) *link {
	l := r.links[name]
	if l == nil {
		l = &link{busy: make(chan struct{}, 1)}
		l.away.Store(r.Initial.Offline)
		r.links[name] = l
	}
	return l
}

// Snapshot is the state of the machine now.
func (r *Runner) Snapshot() Snapshot {
	r.init()
	return *r.now.Load()
}

// Records are the last turns, oldest first.
func (r *Runner) Records() []Record { return r.records.list() }

// Level is the loudness of the last frame while listening, in dBFS.
func (r *Runner) Level() float64 { return float64(r.level.Load()) / 100 }

// Post passes a flag event, Release, LetGo or Stop to the Runner. It never
// blocks.
//
// A flag event is never lost, however many triggers wait: LEDs and status must
// not show a closed microphone while it is open. SetOnline changes the status of
// links, and Hold opens dictations.
func (r *Runner) Post(e Event) {
	r.init()
	if !e.flag() {
		r.post(happening{event: e})
		return
	}
	r.truth.Lock()
	defer r.truth.Unlock()
	r.flags = r.flags.after(e)
	r.look()
}

// look makes Run compare the flags, unless it is about to.
func (r *Runner) look() {
	r.flagged.Set()
}

// SetOnline sets whether a link reaches its platform. It never blocks and is
// never lost. Triggers are refused for a link that is offline, and for no other.
// The flag Offline means that all Talkers are offline.
func (r *Runner) SetOnline(name string, yes bool) {
	r.init()
	r.truth.Lock()
	defer r.truth.Unlock()
	r.known(name).away.Store(!yes)
	r.flags.Offline = !slices.ContainsFunc(r.Talkers, func(t Talker) bool { return !r.known(t.Name()).away.Load() })
	r.look()
}

// Online reports whether a link reaches its platform.
func (r *Runner) Online(name string) bool {
	r.init()
	return !r.link(name).away.Load()
}

// Trigger posts Tap or Press for the named link; an empty name is the first link.
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

// Tap is Trigger with Tap, and returns when the machine has handled the tap, with
// the reason if it was refused, or when ctx ends.
func (r *Runner) Tap(ctx context.Context, link string) error {
	t, err := r.talker(link)
	if err != nil {
		return err
	}
	h := happening{event: Tap, open: opening{trigger: ByTap, talker: t}, verdict: make(chan error, 1)}
	if !r.post(h) {
		return errBusy
	}
	select {
	case err := <-h.verdict:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// MakeRoom ends what is playing, including an answer, so that another sound can
// play. A turn that does not speak yet continues, unless its answer would not be
// played (Unheard) and its purpose is fulfilled: the transcript is known. It
// returns when that is done, or with ctx's cause.
func (r *Runner) MakeRoom(ctx context.Context) error {
	taken := make(chan struct{})
	if !r.post(happening{event: MakeRoom, taken: taken}) {
		return errBusy
	}
	select {
	case <-taken:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Flags returns the flags of the device. The machine gets them before the next
// event.
func (r *Runner) Flags() Flags {
	r.init()
	r.truth.Lock()
	defer r.truth.Unlock()
	return r.flags
}

// Wake opens a turn for the named link after a wake word that ended at the
// given time; the request starts there. An empty name is the first link.
func (r *Runner) Wake(w WakeWord, link string, over time.Time) error {
	t, err := r.talker(link)
	if err != nil {
		return err
	}
	r.Publish(Notice{What: Woken, Link: t.Name(), WakeWord: &w})
	r.post(happening{event: Wake, open: opening{trigger: ByWake, talker: t, word: &w, said: over}})
	return nil
}

func (r *Runner) talker(name string) (Talker, error) {
	for _, t := range r.Talkers {
		if name == "" || t.Name() == name {
			return t, nil
		}
	}
	if name == "" {
		return nil, errors.New("no link that supports turns is enabled")
	}
	return nil, fmt.Errorf("%w %q", errUnknownLink, name)
}

var errUnknownLink = errors.New("unknown link")

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

// Reply is the platform's answer to a written question.
type Reply struct {
	Text    string // may be empty: some answers are sound, or silence
	Ask     bool   // the platform asks a question, and the device listens next
	Problem error  // an error that the platform reports with its answer
}

// Ask opens a turn with a written question for the named link; an empty name is
// the first link. It returns the answer as soon as it is complete, while it is
// being spoken. It fails with ErrInTurn while another question or utterance is
// in progress.
func (r *Runner) Ask(ctx context.Context, link, text string) (Reply, error) {
	t, err := r.talker(link)
	if err != nil {
		return Reply{}, err
	}
	o := opening{trigger: ByText, talker: t, question: text, reply: make(chan reply, 1), refused: make(chan struct{})}
	if !r.post(happening{event: Ask, open: o}) {
		return Reply{}, ErrInTurn
	}
	select {
	case a := <-o.reply:
		return a.Reply, a.err
	case <-o.refused:
		return Reply{}, ErrInTurn
	case <-ctx.Done():
		return Reply{}, context.Cause(ctx)
	}
}

// Call opens a turn at the request of a link's platform. The microphone is
// closed: the platform speaks first, or its link returns Again immediately. Call
// returns when the turn is open, and fails with ErrInTurn while another one is
// running.
func (r *Runner) Call(ctx context.Context, t Talker) error {
	return r.open(ctx, Call, opening{trigger: ByPlatform, talker: t})
}

// Pose is Ask without waiting for the answer.
func (r *Runner) Pose(ctx context.Context, link, text string) error {
	t, err := r.talker(link)
	if err != nil {
		return err
	}
	return r.open(ctx, Ask, opening{trigger: ByText, talker: t, question: text})
}

// open posts a trigger and returns when the machine has handled it, with ErrInTurn
// if it was refused.
func (r *Runner) open(ctx context.Context, e Event, o opening) error {
	taken := make(chan struct{})
	o.refused = make(chan struct{})
	if !r.post(happening{event: e, open: o, taken: taken}) {
		return ErrInTurn
	}
	select {
	case <-taken:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case <-o.refused:
		return ErrInTurn
	default:
		return nil
	}
}

// Notify publishes a notice that belongs to no turn; link is "" if it comes
// from no link. It does not block.
func (r *Runner) Notify(link string, w What, text string) {
	r.Publish(Notice{What: w, Link: link, Text: text})
}

// Publish publishes a notice with the current time and state. It does not block.
func (r *Runner) Publish(n Notice) {
	now := r.Snapshot()
	n.At, n.State, n.Flags = time.Now(), now.State, now.Flags
	r.Bus.Publish(n)
}

// Probe returns nil when Run's loop has handled it, which proves that the loop
// runs, or ctx's cause.
func (r *Runner) Probe(ctx context.Context) error {
	r.init()
	return r.probes.Check(ctx)
}
