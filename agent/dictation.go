package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// dictation is what a button calls it: behavior stream. It is no behaviour of
// the registry, which platforms may ask for: only who stands before the device
// may turn its microphone on for good.
const dictation = "stream"

// dictationLimit is how long the platform may take to begin.
const dictationLimit = 10 * time.Second

// StreamArgs are the arguments of stream.
type StreamArgs struct {
	Stop bool `json:"stop,omitempty"`
}

func (a *Agent) stream(ctx context.Context, raw json.RawMessage) (any, error) {
	var args StreamArgs
	if err := json.Unmarshal(raw, &args); err != nil {
		return nil, fmt.Errorf("arguments of stream: %w", err)
	}
	if !args.Stop {
		return nil, a.startDictation(ctx)
	}
	d := a.dictator()
	if d == nil {
		return nil, errNoTranscriber
	}
	done, err := d.StopDictation()
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

var errNoTranscriber = errors.New("no link transcribes; enable one in the configuration")

func (a *Agent) startDictation(ctx context.Context) error {
	d := a.dictator()
	if d == nil {
		return errNoTranscriber
	}
	ctx, cancel := context.WithTimeout(ctx, dictationLimit)
	defer cancel()
	return d.StartDictation(ctx)
}

// dictator is the first link that takes dictations, or nil.
func (a *Agent) dictator() dictator {
	for _, l := range a.links {
		if d, ok := l.(dictator); ok {
			return d
		}
	}
	return nil
}

// toggleDictation is what a button does.
func (a *Agent) toggleDictation(ctx context.Context) error {
	if d := a.dictator(); d != nil && d.Dictating() {
		_, err := d.StopDictation()
		return err
	}
	return a.startDictation(ctx)
}
