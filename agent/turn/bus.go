package turn

import (
	"sync"
	"sync/atomic"
	"time"

	"lintod/agent/base/printable"
)

// Notice is one line of the story that the device tells: to `lintod talk
// -wait`, to the demo, to LEDs. Notices follow the turn; they never lead it.
type Notice struct {
	At    time.Time     `json:"at"`
	Turn  int           `json:"turn"`           // counts from 1 since the start; 0 outside a turn
	Since time.Duration `json:"since_trigger"`  // in nanoseconds; 0 outside a turn
	Link  string        `json:"link,omitempty"` // whose turn it is, or who says so
	What  What          `json:"what"`
	State State         `json:"state"`
	Flags Flags         `json:"flags"`
	Text  string        `json:"text,omitempty"`
	// Cut is how many bytes Text lacks at its end, where it was too long.
	Cut int `json:"text_cut_bytes,omitempty"`
	// Order is the place of a GotSentence in its turn, from 1.
	Order    int       `json:"order,omitempty"`
	WakeWord *WakeWord `json:"wake_word,omitempty"` // of Woken
	Gesture  *Gesture  `json:"gesture,omitempty"`   // of Pressed
	Record   *Record   `json:"record,omitempty"`    // of TurnOver: trigger, times and result
}

// Gesture is what somebody did with a button.
type Gesture struct {
	Button string        `json:"button"`            // its name
	Kind   string        `json:"kind"`              // as the configuration writes it: "double_tap"
	Held   time.Duration `json:"held_ns,omitempty"` // of a release: how long it was down
}

// What platforms say has no bound of its own. So many bytes of a text are kept, and so
// many of all texts that wait for one listener.
const (
	maxNoticeText  = 64 << 10
	maxNoticeQueue = 512 << 10
)

// maxShown is how much of what a screen should show is told in a sentence, in bytes: it
// may be a page of HTML.
const maxShown = 200

// What says what a Notice is about.
type What string

const (
	StateChanged  What = "state"      // State or Flags have changed
	SpeechBegan   What = "speech"     // the detector hears speech
	SpeechEnded   What = "end"        // the user has finished
	RequestOut    What = "request"    // the platform has the question, or the first piece of it
	GotAnswer     What = "answer"     // Text: what the platform says
	GotSentence   What = "sentence"   // Text: a part of the answer that begins to be heard
	GotEmotion    What = "emotion"    // Text: how the platform wants the device to look
	GotTranscript What = "transcript" // Text: what the platform understood
	GotPartial    What = "partial"    // Text: what it has understood so far
	GotAction     What = "action"     // Text: a JSON object with what the platform wants to happen
	GotDisplay    What = "display"    // Text: what it wants to be shown: words, or "URL" or "DOCSTRING" (HTML), a space, and which
	Transcribing  What = "streaming"  // Text: how the live transcription stands
	FirstSound    What = "sound"      // the first sample of the answer went to the loudspeaker
	Announcing    What = "announcing" // something outside a turn is heard
	Announced     What = "announced"  // it is over; Text: why, if it was not heard to its end
	Woken         What = "wake"       // WakeWord was heard, for Link; the turn that it opens comes next, or Refused
	Pressed       What = "button"     // Gesture was completed
	TurnOver      What = "over"       // Record of the turn; the state that follows it is the next notice
	Reached       What = "link"       // Text: whether Link is "online" or "offline" now
	Problem       What = "problem"    // Text: what went wrong
	Refused       What = "refused"    // Text: why a trigger was not served
)

// Sentence tells a notice to people.
func (n Notice) Sentence() string {
	switch n.What {
	case StateChanged:
		return n.State.String()
	case SpeechBegan:
		return "speech detected"
	case SpeechEnded:
		return "end of speech"
	case RequestOut:
		return "request sent"
	case GotTranscript:
		return "understood: “" + n.Text + "”"
	case GotPartial:
		return "partial: “" + n.Text + "”"
	case GotAnswer:
		return "answer: “" + n.Text + "”"
	case GotSentence:
		return "says: “" + n.Text + "”"
	case FirstSound:
		return "first sound at the speaker"
	case Woken:
		if n.WakeWord != nil {
			return "wake word " + n.WakeWord.Name
		}
	case Pressed:
		if n.Gesture != nil {
			return "button " + n.Gesture.Button + ": " + n.Gesture.Kind
		}
	case TurnOver:
		if n.Record != nil {
			return "turn ended: " + string(n.Record.Result)
		}
	case Reached:
		return n.Link + " is " + n.Text
	case Announcing:
		return "announcement started"
	case Announced:
		if n.Text == "" {
			return "announcement ended"
		}
	case GotDisplay:
		return "display: " + printable.Clip(n.Text, maxShown)
	case Refused:
		return "refused: " + n.Text
	}
	return string(n.What) + ": " + n.Text
}

// Bus hands notices to whoever listens. A listener that does not keep up, in number or
// in bytes, loses its oldest notices, and they are counted.
type Bus struct {
	mu   sync.Mutex
	subs map[*Subscription]struct{}
}

// Subscription is one listener.
type Subscription struct {
	C       chan Notice
	dropped atomic.Int64
	bus     *Bus
	sizes   []int // of the notices in C, oldest first; also of some that have been read
}

// Subscribe starts listening, with room for n notices.
func (b *Bus) Subscribe(n int) *Subscription {
	s := &Subscription{C: make(chan Notice, n), bus: b}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.subs == nil {
		b.subs = map[*Subscription]struct{}{}
	}
	b.subs[s] = struct{}{}
	return s
}

// Dropped counts the notices that this listener was too slow for.
func (s *Subscription) Dropped() int64 { return s.dropped.Load() }

// Close ends the subscription. C is not closed.
func (s *Subscription) Close() {
	s.bus.mu.Lock()
	defer s.bus.mu.Unlock()
	delete(s.bus.subs, s)
}

// Publish never blocks.
func (b *Bus) Publish(n Notice) {
	if excess := len(n.Text) - maxNoticeText; excess > 0 {
		n.Text, n.Cut = printable.Cut(n.Text, maxNoticeText), excess
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for s := range b.subs {
		s.push(n)
	}
}

// push runs under the bus's lock, so there is one sender.
func (s *Subscription) push(n Notice) {
	for {
		s.sizes = s.sizes[len(s.sizes)-len(s.C):]
		waiting := len(n.Text)
		for _, size := range s.sizes {
			waiting += size
		}
		if waiting <= maxNoticeQueue {
			select {
			case s.C <- n:
				s.sizes = append(s.sizes, len(n.Text))
				return
			default:
			}
		}
		select {
		case <-s.C:
			s.dropped.Add(1)
		default:
		}
	}
}
