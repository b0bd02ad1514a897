package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// dictationLimit is how long the platform may take to start.
const dictationLimit = 10 * time.Second

// StreamArgs are the arguments of stream.
type StreamArgs struct {
	Stop bool `json:"stop,omitempty"`
}

var errNoTranscriber = errors.New("no enabled link supports transcription; enable one in the configuration")

// dictation sends the microphone's sound to the first link that accepts dictation.
type dictation struct{ link dictator } // nil if there is none

// command serves `lintod stream`.
func (d *dictation) command(ctx context.Context, raw json.RawMessage) (any, error) {
	var args StreamArgs
	if err := json.Unmarshal(raw, &args); err != nil {
		return nil, fmt.Errorf("arguments of stream: %w", err)
	}
	switch {
	case !args.Stop:
		return nil, d.start(ctx)
	case d.link == nil:
		return nil, errNoTranscriber
	}
	done, err := d.link.StopDictation()
	if err != nil {
		return nil, err
	}
	select {
	case <-done:
		return nil, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (d *dictation) start(ctx context.Context) error {
	if d.link == nil {
		return errNoTranscriber
	}
	ctx, cancel := context.WithTimeout(ctx, dictationLimit)
	defer cancel()
	return d.link.StartDictation(ctx)
}

// toggle is the action of a button.
func (d *dictation) toggle(ctx context.Context) error {
	if d.link != nil && d.link.Dictating() {
		_, err := d.link.StopDictation()
		return err
	}
	return d.start(ctx)
}
