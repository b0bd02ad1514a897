package turn

import (
	"sync"
	"sync/atomic"
	"time"

	"lintod/agent/base/printable"
)

// Notice is one event of the device, published to `lintod talk -wait`, the
// demo and the LEDs. Notices report what a turn does and never control it.
type Notice struct {
	At    time.Time     `json:"at"`
	Turn  int           `json:"turn"`           // counts from 1 since the start; 0 outside a turn
	Since time.Duration `json:"since_trigger"`  // in nanoseconds; 0 outside a turn
	Link  string        `json:"link,omitempty"` // the link of the turn, or the link that publishes the notice
	What  What          `json:"what"`
	State State         `json:"state"`
	Flags Flags         `json:"flags"`
	Text  string        `json:"text,omitempty"`
	// Cut is how many bytes were cut off the end of Text.
	Cut int `json:"text_cut_bytes,omitempty"`
	// Order is the position of a GotSentence in its turn, from 1.
	Order    int       `json:"order,omitempty"`
	WakeWord *WakeWord `json:"wake_word,omitempty"` // of Woken
	Gesture  *Gesture  `json:"gesture,omitempty"`   // of Pressed
	Record   *Record   `json:"record,omitempty"`    // of TurnOver: trigger, times and result
}

// Gesture is what a user did with a button.
type Gesture struct {
	Button string        `json:"button"`            // name of the button
	Kind   string        `json:"kind"`              // as the configuration writes it: "double_tap"
	Held   time.Duration `json:"held_ns,omitempty"` // of a release: how long it was down
}

// Texts of platforms have no length limit of their own. These are the limits in
// bytes for one text, and for all texts that wait for one subscriber.
const (
	maxNoticeText  = 64 << 10
	maxNoticeQueue = 512 << 10
)

// maxShown is how many bytes of a display text a sentence includes. The text may be
// a page of HTML.
const maxShown = 200

// What is the kind of a Notice.
type What string

const (
	StateChanged  What = "state"      // State or Flags have changed
	SpeechBegan   What = "speech"     // the detector has found speech
	SpeechEnded   What = "end"        // the user has finished
	RequestOut    What = "request"    // the question, or its first piece, has been sent to the platform
	GotAnswer     What = "answer"     // Text: the platform's answer
	GotSentence   What = "sentence"   // Text: the part of the answer that starts to play
	GotEmotion    What = "emotion"    // Text: the emotion that the device should show
	GotTranscript What = "transcript" // Text: what the platform understood
	GotPartial    What = "partial"    // Text: what it has understood so far
	GotAction     What = "action"     // Text: a JSON object with the requested action
	GotDisplay    What = "display"    // Text: what the device should show: text, or "URL" or "DOCSTRING" (HTML), a space, and the value
	Transcribing  What = "streaming"  // Text: the live transcription so far
	FirstSound    What = "sound"      // the first sample of the answer was sent to the speaker
	Announcing    What = "announcing" // a sound outside of a turn starts
	Announced     What = "announced"  // the sound has ended; Text: the reason, if it was cut short
	Woken         What = "wake"       // WakeWord was detected, for Link; followed by the turn that it opens, or by Refused
	Pressed       What = "button"     // Gesture was completed
	TurnOver      What = "over"       // Record of the turn; followed by the notice of the next state
	Reached       What = "link"       // Text: the new status of Link, "online" or "offline"
	Problem       What = "problem"    // Text: the error
	Refused       What = "refused"    // Text: why a trigger was refused
)

// Sentence describes a notice for people.
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

// Bus delivers notices to its subscribers. A subscriber that is too slow, in number
// or in bytes of notices, loses its oldest ones, which are counted.
type Bus struct {
	mu   sync.Mutex
	subs map[*Subscription]struct{}
}

// Subscription is one subscriber.
type Subscription struct {
	C       chan Notice
	dropped atomic.Int64
	bus     *Bus
	sizes   []int // of the notices in C, oldest first; may include some that have been read
}

// Subscribe adds a subscriber with room for n notices.
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

// Dropped counts the notices that this subscriber lost.
func (s *Subscription) Dropped() int64 { return s.dropped.Load() }

// Close ends the subscription. C is not closed.
func (s *Subscription) Close() {
	s.bus.mu.Lock()
	defer s.bus.mu.Unlock()
	delete(s.bus.subs, s)
}

// Publish delivers n to all subscribers. It never blocks.
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
