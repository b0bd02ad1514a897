// Package filecard is the sound cards that are none: "file:PATH" plays a WAV
// file as a microphone and records the loudspeaker into one, "null" is silence
// both ways. They keep time as a real card does, so that everything behind them
// runs as it does on a box; tests, the demo and headless devices use them.
//
// What must not live here: hardware, and cgo.
package filecard

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"lintod/audio"
)

const (
	null   = "null"
	prefix = "file:"
)

// Card returns the card that a name stands for, "null" or "file:" and a path, and
// nil when names are not exactly one of this package's.
//
// The microphone of a file is an audio.Cuer: it is silent until Cue, and then
// plays the file once. The file is read at each opening. The loudspeaker of a
// file begins a new one at the first opening; a later one goes on in it, after
// silence for the time between, and is converted to the rate of the first.
func Card(names ...string) audio.Card {
	if len(names) != 1 {
		return nil
	}
	name := names[0]
	path, isFile := strings.CutPrefix(name, prefix)
	switch {
	case name == null:
		return nullCard{}
	case isFile:
		return &fileCard{path: path}
	}
	return nil
}

type nullCard struct{}

func (nullCard) OpenInput(context.Context) (audio.Input, error) { return newInput(nil), nil }

func (nullCard) OpenOutput(_ context.Context, rate int) (audio.Output, error) {
	return newOutput(rate, hole{}), nil
}

type fileCard struct {
	path string

	mu     sync.Mutex
	played *wavFile // what the loudspeaker plays, from the first OpenOutput on
	busy   bool     // an output is open
}

// OpenInput implements audio.Card.
func (c *fileCard) OpenInput(context.Context) (audio.Input, error) {
	pcm, err := load(c.path)
	if err != nil {
		return nil, fmt.Errorf("cannot open the microphone \"%s%s\": %w", prefix, c.path, err)
	}
	return newInput(pcm), nil
}

var errInUse = errors.New("in use")

// OpenOutput implements audio.Card.
func (c *fileCard) OpenOutput(_ context.Context, rate int) (audio.Output, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.busy {
		return nil, fmt.Errorf("the speaker \"%s%s\" is %w", prefix, c.path, errInUse)
	}
	if c.played == nil {
		t, err := create(c.path, rate, time.Now())
		if err != nil {
			return nil, fmt.Errorf("cannot open the speaker \"%s%s\": %w", prefix, c.path, err)
		}
		c.played = t
	}
	c.busy = true
	c.played.begin(rate, c.free)
	return newOutput(rate, c.played), nil
}

func (c *fileCard) free() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy = false
}
