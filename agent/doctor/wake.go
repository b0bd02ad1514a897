package doctor

import (
	"context"
	"time"

	"lintod/audio/wake"
)

const wakeLimit = 45 * time.Second

// wake starts the engine, without sound.
func (x *exam) wake(ctx context.Context) {
	c := x.cfg.Wake
	if !c.Enabled() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, wakeLimit)
	defer cancel()
	if err := wake.Try(ctx, c); err != nil {
		do := "sudo apt install pocketsphinx pocketsphinx-en-us, or choose a phrase with other words"
		switch c.Engine {
		case wake.EngineMicroWakeWord:
			do = "download the model of each word: sudo lintod wake get NAME; `lintod wake list` lists the available models; or correct the model that [[wake.word]] names"
		case wake.EngineWyoming:
			do = "start the Wyoming service, or correct [wake] address and the word names"
		}
		x.add("wake word", Fail, err.Error(), do)
		return
	}
	x.add("wake word", OK, c.Engine+" is ready", "")
	if x.daemon != nil && x.daemon.Wake != nil && x.daemon.Wake.Dropped > 0 {
		x.add("wake word", Warn, x.daemon.Wake.Line(), "this machine is too slow for the engine: use fewer words, a lighter engine, or one on another machine")
	}
}
