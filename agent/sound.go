package agent

import (
	"log/slog"

	"lintod/audio"
	"lintod/audio/filecard"
	"lintod/audio/native"
)

// cards are the microphone and the loudspeaker that the configuration names,
// each real or virtual on its own.
type cards struct {
	input, output audio.Card
	process       *native.Process // nil when both are virtual
}

func newCards(cfg audio.Config, log *slog.Logger) cards {
	var c cards
	hardware := func() audio.Card {
		if c.process == nil {
			c.process = &native.Process{Input: cfg.Input, Output: cfg.Output, Channel: cfg.InputChannel, Gain: cfg.InputGain, Processing: cfg.Processing, Log: log}
		}
		return c.process
	}
	if c.input = filecard.Card(cfg.Input...); c.input == nil {
		c.input = hardware()
	}
	if c.output = filecard.Card(cfg.Output...); c.output == nil {
		c.output = hardware()
	}
	return c
}
