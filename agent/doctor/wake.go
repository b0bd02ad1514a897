package doctor

import (
	"context"
	"time"

	"lintod/audio/wake"
)

const wakeLimit = 45 * time.Second

// wake lets the engine begin to listen, to nothing.
func (x *exam) wake(ctx context.Context) {
	c := x.cfg.Wake
	if !c.Enabled() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, wakeLimit)
	defer cancel()
	if err := wake.Try(ctx, c); err != nil {
		do := "sudo apt install pocketsphinx pocketsphinx-en-us, or say the phrase with other words"
		switch c.Engine {
		case wake.EngineMicroWakeWord:
			do = "get the model of each word: sudo lintod wake get NAME; `lintod wake list` lists those that there are"
		case wake.EngineWyoming:
			do = "start the Wyoming service, or correct [wake] address and the names of the words"
		}
		x.tell("wake word", Fail, err.Error(), do)
		return
	}
	x.tell("wake word", OK, c.Engine+" can listen", "")
	if x.daemon != nil && x.daemon.Wake != nil && x.daemon.Wake.Dropped > 0 {
		x.tell("wake word", Warn, x.daemon.Wake.Line(), "the box is too slow for the engine: fewer words, a lighter engine, or one on another box")
	}
}
