// Package meeting is the behaviour that records meetings.
//
// Writing sound to files (audio/recorder), and the messages of platforms (agent/link), do not
// belong here.
package meeting

import (
	"context"
	"errors"
	"fmt"
	"time"

	"lintod/agent/base/config"
	"lintod/audio/recorder"
	"lintod/behaviors"
)

// Verb is the name of the behaviour in the owner's configuration.
const Verb = "managemeeting"

// The actions.
const (
	Start = "start"
	Stop  = "stop"
)

// MaxSession is the maximum length of a session's name, in bytes.
const MaxSession = 1024

const (
	// diskLimit is how long the disk may take before the request fails.
	diskLimit = 20 * time.Second
	// A stop must not be refused because a start still waits for the disk.
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

// Validate reports invalid values, if the behaviour is enabled.
func (c Config) Validate() config.Problems {
	if !c.Enabled {
		return nil
	}
	return c.Config.Validate()
}

// Recorder is the interface to audio/recorder.
type Recorder interface {
	Start(ctx context.Context, session string) error
	Stop(ctx context.Context, session string) (recorder.File, error)
}

// Result repeats the request. It is the result of the verb, also in case of an error.
type Result struct {
	Action  string `json:"action"`
	Session string `json:"session"`
}

// New returns the behaviour. r is used only if the owner has enabled it.
func New(c Config, r Recorder) behaviors.Verb {
	return behaviors.Verb{
		Name:  Verb,
		About: "Start or stop recording the microphone to a file on the device.",
		Power: behaviors.Recording,
		Params: []behaviors.Param{
			{Name: "action", About: "what to do", Kind: behaviors.OneOf, Values: []string{Start, Stop}, Required: true},
			{Name: "session", About: "name of the session; without one, stop ends the current one", Kind: behaviors.Text, Max: MaxSession},
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

func do(ctx context.Context, r Recorder, args behaviors.Args) (Result, error) {
	asked := Result{Action: args.Text("action"), Session: args.Text("session")}
	ctx, cancel := context.WithTimeout(ctx, diskLimit)
	defer cancel()
	switch {
	case asked.Action == Stop:
		_, err := r.Stop(ctx, asked.Session)
		if errors.Is(err, recorder.ErrNotRecording) {
			err = behaviors.Fail(behaviors.NotFound, "%v", err)
		}
		return asked, err
	case asked.Session == "":
		return asked, &behaviors.ArgumentError{Field: "session", Want: fmt.Sprintf("1 to %d bytes", MaxSession)}
	}
	return asked, r.Start(ctx, asked.Session)
}
