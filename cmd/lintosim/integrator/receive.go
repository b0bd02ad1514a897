package integrator

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"lintod/agent/broker"
)

// received is an event of a device, or an acknowledgement.
type received struct {
	MsgID      json.RawMessage
	Identifier string
	Result     *int
	Params     struct {
		RecordingID   int64
		RecordingText *string
		VoiceText     *string
		Order         int
	} `json:"inputParams"`
}

// receive handles a message of a device: it checks the rules, and answers a transcript.
func (i *Integrator) receive(m broker.Message) {
	serial, _, _ := strings.Cut(strings.TrimPrefix(m.Topic, i.opts.Prefix+"/folotoy/"), "/")
	topic := below(m.Topic)
	if topic == m.Topic {
		serial = ""
	}
	i.tell(Event{Kind: Exchanged, Serial: serial, FromDevice: true, Topic: topic, Payload: m.Payload})
	if m.Retain {
		i.rule(serial, "%s is retained", topic)
	}
	var r received
	if err := json.Unmarshal(m.Payload, &r); err != nil {
		i.rule(serial, "%s: %v", topic, err)
		return
	}
	switch topic {
	case "command/callAck":
		i.acknowledged(serial, r)
	case "event/post":
		i.posted(serial, r)
	}
}

func (i *Integrator) acknowledged(serial string, r received) {
	if r.Result == nil || *r.Result != 0 && *r.Result != 1 {
		i.rule(serial, "an acknowledgement without a result of 0 or 1")
	}
	id := "<nil>" // as printed by fmt if a command has no number
	if r.MsgID != nil {
		id = string(r.MsgID)
	}
	key := fmt.Sprint(serial, " ", r.Identifier, " ", id)
	i.mu.Lock()
	if i.devices[serial] == nil {
		i.devices[serial] = &device{}
	}
	expected, known := i.waiting[key]
	if expected > 0 {
		i.waiting[key]--
	}
	i.mu.Unlock()
	if known && expected == 0 {
		i.rule(serial, "%s %s is acknowledged more often than it was sent", r.Identifier, id)
	}
}

func (i *Integrator) posted(serial string, r received) {
	var number int64
	if json.Unmarshal(r.MsgID, &number) != nil {
		i.rule(serial, "an event without a number")
	}
	i.mu.Lock()
	d := i.devices[serial]
	if d == nil {
		d = &device{}
		i.devices[serial] = d
	}
	last := *d
	d.message = number
	if r.Params.RecordingID != d.recording {
		d.recording, d.order = r.Params.RecordingID, 0
	}
	if r.Identifier == "voice_generated" {
		d.order = r.Params.Order
	}
	answers, delay := i.opts.Answers, i.opts.Delay
	i.mu.Unlock()
	if number <= last.message {
		i.rule(serial, "event %d follows %d", number, last.message)
	}
	switch r.Identifier {
	case "recording_transcribed":
		if r.Params.RecordingText == nil {
			i.rule(serial, "recordingText is not a string")
			return
		}
		if answers != None {
			i.tasks.Go(func() { i.answer(serial, *r.Params.RecordingText, answers, delay) })
		}
	case "voice_generated":
		if text := r.Params.VoiceText; text != nil && *text == "" {
			i.rule(serial, "voiceText is empty")
		}
		before := last.order
		if r.Params.RecordingID != last.recording {
			before = 0
		}
		if last.message > 0 && r.Params.Order != before+1 { // otherwise the integration started later
			i.rule(serial, "order %d follows %d", r.Params.Order, before)
		}
	default:
		i.rule(serial, "unknown event %q", r.Identifier)
	}
}

// answer answers a transcript, after Delay.
func (i *Integrator) answer(serial, said string, how Answers, delay time.Duration) {
	select {
	case <-i.ctx.Done():
		return
	case <-time.After(delay):
	}
	do := func() error { return i.Say(serial, "You said: "+said) }
	if how == Sound {
		do = func() error { return i.Play(serial, i.path()) }
	}
	if err := do(); err != nil {
		i.tell(Event{Kind: Noted, Serial: serial, Text: err.Error()})
	}
}
