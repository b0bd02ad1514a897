// Package virtual holds the cards that are not hardware: "file:PATH", whose
// microphone speaks a WAV file and whose loudspeaker writes one, and "null",
// silence and a hole. They keep time like a real card, so that everything above
// behaves as with one.
//
// They serve tests, the demo and devices without sound. What must not live here:
// anything that needs a real card, or C.
package virtual

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"lintod/audio"
	"lintod/audio/resample"
	"lintod/audio/wav"
)

// queueTime is how far Write may be ahead of what was played.
const queueTime = 60 * time.Millisecond

// Card returns the card that a configuration value names, or nil when it names
// hardware.
func Card(name string) audio.Card {
	if path, ok := strings.CutPrefix(name, "file:"); ok {
		return &card{path: path}
	}
	if name == "null" {
		return &card{}
	}
	return nil
}

type card struct {
	path string // empty for null

	mu     sync.Mutex
	played bool // the loudspeaker's file was begun by this card
}

// OpenInput implements audio.Card. The file is read whole, so that a turn hears
// it without waiting for a disk.
func (c *card) OpenInput(context.Context) (audio.Input, error) {
	var pcm []int16
	if c.path != "" {
		var err error
		if pcm, err = read(c.path); err != nil {
			return nil, fmt.Errorf("microphone file: %w", err)
		}
	}
	return newMicrophone(pcm), nil
}

func read(path string) ([]int16, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	pcm, rate, err := wav.Read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	r := resample.New(rate, audio.CaptureRate)
	return r.Flush(r.Process(nil, pcm)), nil
}

// OpenOutput implements audio.Card. The first opening begins the file anew,
// later ones go on.
func (c *card) OpenOutput(_ context.Context, rate int) (audio.Output, error) {
	l := &loudspeaker{rate: rate, began: time.Now(), closed: make(chan struct{})}
	if c.path == "" {
		return l, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	tape, err := openTape(c.path, rate, c.played)
	if err != nil {
		return nil, fmt.Errorf("loudspeaker file: %w", err)
	}
	c.played = true
	l.tape = tape
	return l, nil
}

// pause blocks until a moment, or fails with the cause.
func pause(ctx context.Context, until time.Time, closed <-chan struct{}) error {
	wait := time.Until(until)
	if wait <= 0 {
		wait = 0
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-closed:
		return audio.ErrClosed
	case <-t.C:
		return nil
	}
}
