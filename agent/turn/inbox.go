package turn

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"
)

// ErrInTurn is returned by Ask and Call while a turn goes on.
var ErrInTurn = errors.New("a turn is in progress; try again when it has ended")

var errBusy = errors.New("the device is busy: too many pending triggers")

// eventQueue is how many events wait; more triggers are dropped.
const eventQueue = 64

// happening is an event on its way to Run, with what belongs to it.
type happening struct {
	event Event
	turn  *Exchange     // the exchange that reports, nil from outside
	open  opening       // with a trigger
	hold  *hold         // with DictationBegan
	taken chan struct{} // closed when Run has handled it; may be nil
	// verdict, where there is one, has room for why the event was refused, nil when
	// it was not.
	verdict chan error
}

// opening is what a trigger says of the turn that it opens.
type opening struct {
	trigger  Trigger
	talker   Talker
	word     *WakeWord     // with ByWake
	said     time.Time     // when the word was over
	question string        // with ByText
	reply    chan reply    // with ByText: has room for one
	refused  chan struct{} // closed when the turn was not opened; may be nil
}

// link is what the Runner knows of a link.
type link struct {
	busy  chan struct{} // holds a token while a Talk runs
	ender atomic.Int32  // an Ender: of its last utterance
	away  atomic.Bool   // it does not reach its platform
}

// link returns what is known of the link of a name.
func (r *Runner) link(name string) *link {
	r.truth.Lock()
	defer r.truth.Unlock()
	return r.known(name)
}

// known needs truth.
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

// Level is the loudness of the last frame heard while listening, in dBFS.
func (r *Runner) Level() float64 { return float64(r.level.Load()) / 100 }

// Post tells the Runner of a flag event, Release, LetGo or Stop. It never blocks.
//
// A flag event is never lost, however many triggers wait: LEDs and status must
// not say that the microphone is closed when it is open. Of links, SetOnline
// says what Post does not, and of dictations Hold.
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

// look has Run look at the flags, if it is not about to.
func (r *Runner) look() {
	r.flagged.Set()
}

// SetOnline says whether a link reaches its platform. It never blocks and is
// never lost. A link that does not is refused to triggers, and no other link is;
// the flag Offline says that none of the Talkers does.
func (r *Runner) SetOnline(name string, yes bool) {
	r.init()
	r.truth.Lock()
	defer r.truth.Unlock()
	r.known(name).away.Store(!yes)
	r.flags.Offline = !slices.ContainsFunc(r.Talkers, func(t Talker) bool { return !r.known(t.Name()).away.Load() })
	r.look()
}

// Online tells whether a link reaches its platform.
func (r *Runner) Online(name string) bool {
	r.init()
	return !r.link(name).away.Load()
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
		return errBusy
	}
	select {
	case err := <-h.verdict:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// MakeRoom ends what is heard, an answer, too, so that something else is heard in its
// place. A turn that does not speak yet goes on, unless its answer would not be heard
// (Unheard) and all that it was for is known: what was understood. It returns when that is done, or with
// ctx's cause.
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

// Reply is what the platform answers to a question in writing.
type Reply struct {
	Text    string // may be empty: some answers are sound, or silence
	Ask     bool   // the platform asks back, and the device listens next
	Problem error  // the platform answered, but reports this error; nil without one
}

// Ask opens a turn whose question is a text for the named link; an empty name
// is the first. It returns the answer as soon as it is there, while it is being
// spoken. It fails with ErrInTurn when somebody else is asking.
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

// Call opens a turn because the platform of a link wants one. Its microphone is
// closed: the platform speaks first, or has its link return Again at once. Call
// returns when the turn is open, and fails with ErrInTurn while another goes on.
func (r *Runner) Call(ctx context.Context, t Talker) error {
	return r.open(ctx, Call, opening{trigger: ByPlatform, talker: t})
}

// Pose is Ask for who does not wait for the answer, which is heard.
func (r *Runner) Pose(ctx context.Context, link, text string) error {
	t, err := r.talker(link)
	if err != nil {
		return err
	}
	return r.open(ctx, Ask, opening{trigger: ByText, talker: t, question: text})
}

// open posts a trigger and returns when the machine has taken it, with ErrInTurn when
// it has refused.
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

// Tell publishes a notice that belongs to no turn; link is "" where no link
// says so. It does not block.
func (r *Runner) Tell(link string, w What, text string) {
	r.Publish(Notice{What: w, Link: link, Text: text})
}

// Publish publishes a notice, of this moment and the present state. It does not block.
func (r *Runner) Publish(n Notice) {
	now := r.Snapshot()
	n.At, n.State, n.Flags = time.Now(), now.State, now.Flags
	r.Bus.Publish(n)
}

// Probe returns nil when Run's loop has taken it up, which proves that the loop
// turns, or with ctx's cause.
func (r *Runner) Probe(ctx context.Context) error {
	r.init()
	return r.probes.Check(ctx)
}
