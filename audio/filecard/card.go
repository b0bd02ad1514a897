// Package filecard implements virtual sound cards: "file:PATH" uses a WAV file as microphone or
// records the speaker to one, "null" is silence in both directions. They run in real time like a
// real card, so that everything else behaves as on a device; tests, the demo, and headless devices
// use them.
//
// Hardware and cgo do not belong here.
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

// Card returns the card for a name, "null" or "file:" and a path, and nil if names are not exactly
// one of these.
//
// A file microphone is an audio.Cuer: it is silent until Cue, and then plays the file once. The
// file is read at each opening. A file speaker creates a new file at the first opening; later
// openings append to it, after silence for the time between, converted to the rate of the first.
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
	played *wavFile // what the speaker plays, from the first OpenOutput on
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
