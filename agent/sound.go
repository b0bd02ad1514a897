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
	process       *native.Process // on demand when both are virtual
}

func newCards(cfg audio.Config, log *slog.Logger) cards {
	c := cards{process: &native.Process{
		Input: cfg.Input, Output: cfg.Output, Channel: cfg.InputChannel, Gain: cfg.InputGain, Processing: cfg.Processing,
		OnDemand: true, Log: log,
	}}
	hardware := func() audio.Card {
		c.process.OnDemand = false
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
