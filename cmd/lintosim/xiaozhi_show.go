package main

import (
	"fmt"
	"strings"

	"lintod/agent/base/printable"
	"lintod/cmd/lintosim/gateway"
)

// xiaozhiTale prints the events of a gateway as text.
type xiaozhiTale struct {
	tale
	sound sounds
}

// sounds counts packets of sound, which are too many to print.
type sounds struct {
	e     gateway.Event // the first of them
	n     int
	bytes int
}

const soundsShown = 50 // one line every 3 seconds

func (t *xiaozhiTale) ready(ota, mqtt, udp, websocket string) {
	t.line(t.begun, t.colour.bold("xiaozhi platform ready; ota_url = "+ota))
	t.line(t.begun, t.colour.dim("MQTT at "+mqtt+", UDP at "+udp+", WebSocket at "+websocket))
	t.line(t.begun, t.colour.dim("waiting for devices; help lists commands, Ctrl-C exits"))
}

func (t *xiaozhiTale) event(e gateway.Event) {
	if e.Kind == gateway.Sounded && t.count(e) {
		return
	}
	t.flush()
	c := t.colour
	switch e.Kind {
	case gateway.Exchanged:
		body := printable.Line(e.Text)
		if e.Payload != nil {
			body = pretty(e.Payload, c)
		}
		t.message(e, body)
	case gateway.Broken:
		t.mark(e, c.heard("✗ rule "+e.Rule+": "+e.Text))
	case gateway.Refused:
		t.mark(e, c.warn("✗ refused: "+e.Text))
	case gateway.Noted:
		t.mark(e, c.warn("! "+e.Text))
	case gateway.Understood:
		t.heard(e.At, e.Heard)
	case gateway.Listed:
		t.mark(e, c.bold(fmt.Sprintf("● %d tools: %s", len(e.Tools), strings.Join(e.Tools, ", "))))
	case gateway.Disconnected:
		t.mark(e, c.dim("○ "+string(e.Wire)+" disconnected: "+e.Text))
	case gateway.Closed:
		t.mark(e, c.dim("○ session over: "+e.Text))
	case gateway.Answered:
		t.mark(e, c.sound("answered   ")+c.bold("“"+e.Text+"”"))
	default:
		t.mark(e, c.dim(strings.TrimSpace(fmt.Sprintf("● %s %s %s", e.Wire, e.Kind, e.Text))))
	}
}

// mark prints text after the device's address.
func (t *xiaozhiTale) mark(e gateway.Event, text string) {
	t.line(e.At, lastDigits(e.Device)+" "+printable.Line(text))
}

// lastDigits distinguishes devices on one screen.
func lastDigits(mac string) string {
	if len(mac) > 8 {
		mac = mac[len(mac)-8:]
	}
	return fmt.Sprintf("%-8s", printable.Line(mac))
}

func (t *xiaozhiTale) message(e gateway.Event, body string) {
	paint, arrow := t.colour.toDev, "→ "
	if e.FromDevice {
		paint, arrow = t.colour.fromDev, "← "
	}
	head := fmt.Sprintf("%-9s %-24s ", e.Wire, printable.Line(e.Name))
	t.line(e.At, lastDigits(e.Device)+" "+paint(arrow+head)+body)
}

// count counts a packet of sound.
func (t *xiaozhiTale) count(e gateway.Event) bool {
	if t.sound.n > 0 && (t.sound.e.FromDevice != e.FromDevice || t.sound.e.Device != e.Device || t.sound.n >= soundsShown) {
		t.flush()
	}
	if t.sound.n == 0 {
		t.sound.e = e
	}
	t.sound.n++
	t.sound.bytes += e.Bytes
	return true
}

// flush prints the packets counted so far.
func (t *xiaozhiTale) flush() {
	s := t.sound
	t.sound = sounds{}
	if s.n == 0 {
		return
	}
	s.e.Name = "sound"
	t.message(s.e, t.colour.sound(fmt.Sprintf("%d × Opus, %d bytes", s.n, s.bytes)))
}

// xiaozhiLines prints the events of a gateway as JSON.
type xiaozhiLines struct{ jsonLines }

// xiaozhiEvent is one line.
type xiaozhiEvent struct {
	T         float64  `json:"t"` // seconds since the start
	Kind      string   `json:"kind"`
	OTA       string   `json:"ota,omitempty"`
	MQTT      string   `json:"mqtt,omitempty"`
	UDP       string   `json:"udp,omitempty"`
	WebSocket string   `json:"websocket,omitempty"`
	Device    string   `json:"device,omitempty"`
	Wire      string   `json:"wire,omitempty"`
	Direction string   `json:"direction,omitempty"` // "from" or "to" a device
	Name      string   `json:"name,omitempty"`
	Payload   any      `json:"payload,omitempty"`
	Bytes     int      `json:"bytes,omitempty"`
	Tools     []string `json:"tools,omitempty"`
	Heard     *string  `json:"heard,omitempty"`
	By        string   `json:"by,omitempty"`
	Seconds   float64  `json:"seconds,omitempty"`
	Rule      string   `json:"rule,omitempty"`
	Text      string   `json:"text,omitempty"`
}

func (j *xiaozhiLines) ready(ota, mqtt, udp, websocket string) {
	j.write(xiaozhiEvent{Kind: "ready", OTA: ota, MQTT: mqtt, UDP: udp, WebSocket: websocket})
}

func (j *xiaozhiLines) event(e gateway.Event) {
	out := xiaozhiEvent{
		T: e.At.Sub(j.begun).Seconds(), Kind: string(e.Kind), Device: e.Device, Wire: string(e.Wire),
		Name: e.Name, Bytes: e.Bytes, Tools: e.Tools, Rule: e.Rule, Text: e.Text,
	}
	switch e.Kind {
	case gateway.Exchanged, gateway.Sounded:
		out.Direction = "to"
		if e.FromDevice {
			out.Direction = "from"
		}
		out.Payload = redacted(e.Payload)
	case gateway.Understood:
		out.Heard, out.By, out.Seconds = &e.Heard.Text, string(e.Heard.By), e.Heard.Length.Seconds()
	}
	j.write(out)
}
