package main

import (
	"fmt"

	"lintod/agent/base/printable"
	"lintod/cmd/lintosim/integrator"
)

// folotoyTale prints the events of an integration as text.
type folotoyTale struct{ tale }

func (t *folotoyTale) ready(mqtt, sounds string) {
	t.line(t.begun, t.colour.bold("FoloToy integration ready at "+mqtt))
	t.line(t.begun, t.colour.dim(`sounds are at `+sounds+`/, which must be listed in [behaviors.play] allow`))
	t.line(t.begun, t.colour.dim("waiting for devices; help lists commands, Ctrl-C exits"))
}

func (t *folotoyTale) event(e integrator.Event) {
	c := t.colour
	switch e.Kind {
	case integrator.Broken:
		t.line(e.At, c.heard("✗ "+printable.Line(e.Serial+": "+e.Text)))
	case integrator.Noted:
		t.line(e.At, c.warn("! "+printable.Line(e.Text)))
	case integrator.Exchanged:
		paint, arrow := c.toDev, "→ "
		if e.FromDevice {
			paint, arrow = c.fromDev, "← "
		}
		head := fmt.Sprintf("%-12s %-16s ", printable.Line(e.Serial), printable.Line(e.Topic))
		t.line(e.At, paint(arrow+head)+pretty(e.Payload, c))
	}
}

// folotoyLines prints them as JSON.
type folotoyLines struct{ jsonLines }

// folotoyEvent is one line.
type folotoyEvent struct {
	T         float64 `json:"t"` // seconds since the start
	Kind      string  `json:"kind"`
	URL       string  `json:"url,omitempty"`
	Sounds    string  `json:"sounds,omitempty"`
	Direction string  `json:"direction,omitempty"` // "from" or "to" a device
	Serial    string  `json:"serial,omitempty"`
	Topic     string  `json:"topic,omitempty"`
	Payload   any     `json:"payload,omitempty"`
	Text      string  `json:"text,omitempty"`
}

func (j *folotoyLines) ready(mqtt, sounds string) {
	j.write(folotoyEvent{Kind: "ready", URL: mqtt, Sounds: sounds})
}

func (j *folotoyLines) event(e integrator.Event) {
	out := folotoyEvent{T: e.At.Sub(j.begun).Seconds(), Kind: string(e.Kind), Serial: e.Serial, Topic: e.Topic, Text: e.Text}
	if e.Kind == integrator.Exchanged {
		out.Direction, out.Payload = "to", redacted(e.Payload)
		if e.FromDevice {
			out.Direction = "from"
		}
	}
	j.write(out)
}
