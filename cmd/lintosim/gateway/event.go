package gateway

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"lintod/cmd/lintosim/speech"
)

// Kind is what an Event is about.
type Kind string

// The kinds of events.
const (
	Exchanged    Kind = "message"      // Name and Payload passed, as JSON
	Sounded      Kind = "audio"        // one Opus packet of Bytes passed
	Provisioned  Kind = "ota"          // a device asked for its settings: Text
	Connected    Kind = "connected"    // from the address in Text
	Disconnected Kind = "disconnected" // because of Text
	Refused      Kind = "refused"      // by a server that behaves as real ones do: Text
	Broken       Kind = "rule"         // the device broke Rule: Text. A test fails
	Listed       Kind = "tools"        // Tools of the device are known
	Opened       Kind = "session"      // a session is open
	Listening    Kind = "listening"    // the chat listens, in the mode of Text
	Understood   Kind = "heard"        // what the device's user said was understood as Heard
	Answered     Kind = "answered"     // the answer in Text has been sent as sound
	Closed       Kind = "closed"       // the session is over: Text
	Noted        Kind = "note"         // anything else, in words
)

// Wire is what an event came over.
type Wire string

// The wires.
const (
	OTA       Wire = "ota"
	MQTT      Wire = "mqtt"
	UDP       Wire = "udp"
	WebSocket Wire = "websocket"
)

// Event is one thing that happened.
type Event struct {
	At     time.Time
	Kind   Kind
	Device string // MAC address, aa:bb:cc:dd:ee:ff; empty while unknown
	Wire   Wire
	// FromDevice tells the direction of messages and sound.
	FromDevice bool
	Name       string // type of a message and what tells it apart: "listen start", "mcp tools/list"
	Payload    []byte // must not be changed
	Bytes      int
	Tools      []string
	Heard      speech.Heard
	Rule       string // "G5"
	Text       string
}

const keptEvents = 50000 // an hour of sound both ways

// history keeps events for tests, and wakes those who wait for one.
type history struct {
	mu      sync.Mutex
	events  []Event
	lost    int           // events forgotten
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

// from returns the events after the first n, how many there were in all, and a
// channel that is closed when there is more.
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

// last names the latest events but sound, for the one who waited in vain.
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
