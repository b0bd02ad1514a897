package agent

import (
	"log/slog"
	"os"
	"runtime/debug"
	"sync"

	"lintod/audio"
	"lintod/audio/filecard"
	"lintod/audio/native"
	"lintod/audio/silero"
)

// soundCards are the microphone and the speaker that the configuration names.
// Each may be a device or virtual.
type soundCards struct {
	input, output audio.Card
	process       *native.Process // on demand when both are virtual
	// voiceModel loads the network that detects voices; nil if there is none.
	voiceModel func() *silero.Model
}

func newCards(cfg audio.Config, log *slog.Logger) soundCards {
	c := soundCards{process: &native.Process{
		Input: cfg.Input, Output: cfg.Output, Channel: cfg.InputChannel, Gain: cfg.InputGain, Processing: cfg.Processing,
		OnDemand: true, Log: log,
	}}
	hardware := func() audio.Card {
		c.process.OnDemand = false
		return c.process
	}
	if c.input = filecard.Card(cfg.Input...); c.input == nil {
		c.input = hardware()
		if cfg.VoiceDetection == audio.NeuralDetection {
			c.detectVoices(silero.Find(), log)
		}
	}
	if c.output = filecard.Card(cfg.Output...); c.output == nil {
		c.output = hardware()
	}
	return c
}

// detectVoices leaves voice detection to the turns, with the network whose weights
// are at path, because it is not needed between turns. Without weights the sound
// process does it, in a simple way.
func (c *soundCards) detectVoices(path string, log *slog.Logger) {
	if _, err := os.Stat(path); err != nil {
		log.Warn("using the simple voice detection", "error", err)
		c.process.Processing.VoiceDetection = audio.SimpleDetection
		return
	}
	c.process.Processing.VoiceDetection = audio.NoDetection
	c.voiceModel = sync.OnceValue(func() *silero.Model {
		model, err := silero.Load(path)
		if err != nil {
			log.Warn("detecting speech by loudness only", "error", err)
			return nil
		}
		debug.FreeOSMemory() // frees the file's 1.3 MB
		return model
	})
}
