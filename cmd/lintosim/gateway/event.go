package gateway

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"lintod/cmd/lintosim/speech"
)

// Kind is the kind of an Event.
type Kind string

// The kinds of events.
const (
	Exchanged    Kind = "message"      // the JSON message Name with Payload
	Sounded      Kind = "audio"        // one Opus packet of Bytes
	Provisioned  Kind = "ota"          // a device requested its settings: Text
	Connected    Kind = "connected"    // from the address in Text
	Disconnected Kind = "disconnected" // because of Text
	Refused      Kind = "refused"      // refused, like by a real server: Text
	Broken       Kind = "rule"         // the device violated Rule: Text. A test fails
	Listed       Kind = "tools"        // the device's Tools are known
	Opened       Kind = "session"      // a session is open
	Listening    Kind = "listening"    // the chat listens, in the mode of Text
	Understood   Kind = "heard"        // an utterance was recognised as Heard
	Answered     Kind = "answered"     // the answer Text has been sent as sound
	Closed       Kind = "closed"       // the session is over: Text
	Noted        Kind = "note"         // anything else, as text
)

// Wire is the transport of an event.
type Wire string

// The transports.
const (
	OTA       Wire = "ota"
	MQTT      Wire = "mqtt"
	UDP       Wire = "udp"
	WebSocket Wire = "websocket"
)

// Event is an event of the gateway.
type Event struct {
	At     time.Time
	Kind   Kind
	Device string // MAC address, aa:bb:cc:dd:ee:ff; empty while unknown
	Wire   Wire
	// FromDevice is the direction of messages and sound.
	FromDevice bool
	Name       string // type and subtype of a message: "listen start", "mcp tools/list"
	Payload    []byte // must not be changed
	Bytes      int
	Tools      []string
	Heard      speech.Heard
	Rule       string // "G5"
	Text       string
}

const keptEvents = 50000 // an hour of sound both ways

// history stores events for tests, and wakes goroutines that wait for one.
type history struct {
	mu      sync.Mutex
	events  []Event
	lost    int           // discarded events
	changed chan struct{} // closed and replaced at each event
}

func (h *history) add(e Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, e)
	if len(h.events) > keptEvents {
		h.events[0] = Event{}
		h.events, h.lost = h.events[1:], h.lost+1
	}
	if h.changed != nil {
		close(h.changed)
		h.changed = nil
	}
}

// from returns the events after the first n, their total number, and a channel that is closed when
// there are more.
func (h *history) from(n int) ([]Event, int, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.changed == nil {
		h.changed = make(chan struct{})
	}
	all := h.lost + len(h.events)
	return append([]Event(nil), h.events[max(0, n-h.lost):]...), all, h.changed
}

// waitFor returns the first event that matches, past or to come.
func (h *history) waitFor(ctx context.Context, match func(Event) bool) (Event, error) {
	seen := 0
	for {
		events, all, more := h.from(seen)
		for _, e := range events {
			if match(e) {
				return e, nil
			}
		}
		seen = all
		select {
		case <-more:
		case <-ctx.Done():
			return Event{}, fmt.Errorf("no such event: %w; there were %s", context.Cause(ctx), h.last(12))
		}
	}
}

// last lists the latest events except sound, for error messages.
func (h *history) last(n int) string {
	events, _, _ := h.from(0)
	var names []string
	for _, e := range events {
		if e.Kind != Sounded {
			names = append(names, strings.TrimSpace(fmt.Sprintf("%s %s%s %s", e.Kind, e.Name, e.Rule, e.Text)))
		}
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names[max(0, len(names)-n):], "; ")
}
