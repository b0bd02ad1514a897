// Package meeting is the behaviour that records meetings: the arguments of
// managemeeting, and the words in which a platform hears how it went.
//
// What must not live here: how sound becomes a file (audio/recorder), and on
// which topics the words travel (agent/link).
package meeting

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"lintod/agent/base/config"
	"lintod/audio/recorder"
	"lintod/behaviors"
)

// Verb is the name of the behaviour.
const Verb = "managemeeting"

// The commands of the protocol (1.8).
const (
	Start = "startlocalrecording"
	Stop  = "stoplocalrecording"
)

const (
	ok         = "ok"
	maxSession = 1024 // bytes of a session's name
	maxCommand = 64
	maxStatus  = 300
	// diskLimit is how long a card may take before the platform hears that it
	// does not answer.
	diskLimit = 20 * time.Second
	// A stop must never be refused because a start is still at the disk.
	atOnce    = 8
	perMinute = 60
)

// Config is the [behaviors.managemeeting] table.
type Config struct {
	// Enabled offers the behaviour to the platform.
	Enabled bool `toml:"enabled"`
	recorder.Config
}

// Defaults returns the configuration of an empty table.
func Defaults() Config { return Config{Config: recorder.Defaults()} }

// Validate reports values that cannot work. What is off is not checked.
func (c Config) Validate() config.Problems {
	if !c.Enabled {
		return nil
	}
	return c.Config.Validate()
}

// Recorder is what the behaviour needs of audio/recorder.
type Recorder interface {
	Start(ctx context.Context, session string) error
	Stop(ctx context.Context, session string) (recorder.File, error)
}

// Message is the payload by which a LinTO platform hears of a recording
// (protocol 1.9, decision L1). It is the result of the verb, also beside an error.
type Message struct {
	Command string `json:"command"`
	Session string `json:"sessionname"`
	Status  string `json:"status"` // "ok" or what went wrong
}

// New returns the behaviour. r is only used when the owner has turned it on.
func New(c Config, r Recorder) behaviors.Verb {
	return behaviors.Verb{
		Name:  Verb,
		About: "Record the microphone to a file on the device: " + Start + " or " + Stop + ".",
		Power: behaviors.Recording,
		Params: []behaviors.Param{
			{Name: "command", About: Start + " or " + Stop, Kind: behaviors.Text, Max: maxCommand, Required: true},
			{Name: "sessionname", About: "name of the session", Kind: behaviors.Text, Max: maxSession},
		},
		Limits: behaviors.Limits{
			Enabled:   c.Enabled,
			Key:       "enabled = true in [behaviors.managemeeting]",
			PerMinute: perMinute,
			AtOnce:    atOnce,
		},
		Do: func(ctx context.Context, call behaviors.Call) (any, error) { return do(ctx, r, call.Args) },
	}
}

func do(ctx context.Context, r Recorder, args behaviors.Args) (Message, error) {
	m := Message{Command: args.Text("command"), Session: args.Text("sessionname"), Status: ok}
	ctx, cancel := context.WithTimeout(ctx, diskLimit)
	defer cancel()
	err := perform(ctx, r, m)
	if err != nil {
		m.Status = clip(err.Error())
	}
	return m, err
}

func perform(ctx context.Context, r Recorder, m Message) error {
	switch {
	case m.Command != Start && m.Command != Stop:
		return &behaviors.ArgumentError{Field: "command", Got: fmt.Sprintf("%q", m.Command), Want: Start + " or " + Stop}
	case m.Command == Stop: // without a name: whichever runs
		_, err := r.Stop(ctx, m.Session)
		if errors.Is(err, recorder.ErrNotRecording) {
			return behaviors.Fail(behaviors.NotFound, "%v", err)
		}
		return err
	case m.Session == "":
		return &behaviors.ArgumentError{Field: "sessionname", Want: fmt.Sprintf("1 to %d bytes", maxSession)}
	}
	return r.Start(ctx, m.Session)
}

// Refused is what a LinTO platform hears of a request that was not even tried.
// It repeats a hostile payload as far as it is one of this behaviour's.
func Refused(payload []byte, why string) Message {
	var raw struct {
		Command json.RawMessage `json:"command"`
		Session json.RawMessage `json:"sessionname"`
	}
	_ = json.Unmarshal(payload, &raw) // what cannot be read is not repeated
	text := func(raw json.RawMessage, most int) (s string) {
		if len(raw) > 6*most || json.Unmarshal(raw, &s) != nil || len(s) > most {
			return ""
		}
		return s
	}
	return Message{text(raw.Command, maxCommand), text(raw.Session, maxSession), clip(why)}
}

// Ended is what a LinTO platform hears of a recording that ended, or was not
// resumed, without having been asked to; tell is false for any other event.
func Ended(e recorder.Event) (m Message, tell bool) {
	if e.Recording || e.Err == nil {
		return Message{}, false
	}
	return Message{Command: Stop, Session: e.Session, Status: clip(e.Err.Error())}, true
}
