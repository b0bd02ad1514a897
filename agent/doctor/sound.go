package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"lintod/agent/base/alsa"
	"lintod/audio"
	"lintod/audio/cardtest"
	"lintod/audio/filecard"
	"lintod/audio/native"
	"lintod/audio/silero"
)

// silence is how long nothing is played instead of a tone: long enough for a card
// to start.
const silence = 200 * time.Millisecond

// sound records, plays a tone, and measures.
func (x *exam) sound(ctx context.Context) {
	c := x.cfg.Audio
	realIn, realOut := filecard.Card(c.Input...) == nil, filecard.Card(c.Output...) == nil
	if !realIn {
		x.virtualMicrophone(ctx, c.Input[0])
	}
	if !realOut {
		x.virtualLoudspeaker(c.Output[0])
	}
	if !realIn && !realOut {
		return
	}
	x.cards(ctx, c, realIn, realOut)
	if realIn && c.VoiceDetection == audio.NeuralDetection {
		x.voiceDetection()
	}
}

// voiceDetection checks for the files that turns need.
func (x *exam) voiceDetection() {
	if _, err := silero.Load(silero.Find()); err != nil {
		x.add("voice detection", Warn, "the simple voice detection is used, which mistakes music for speech: "+err.Error(),
			`reinstall the lintod package, or set voice_detection = "simple" in [audio]`)
	}
}

func (x *exam) virtualMicrophone(ctx context.Context, name string) {
	input, err := filecard.Card(name).OpenInput(ctx)
	if err != nil {
		x.add("microphone", Fail, err.Error(), "correct [audio] input")
		return
	}
	input.Close()
	x.add("microphone", OK, fmt.Sprintf("the microphone is %q: nothing to test", name), "")
}

// virtualLoudspeaker does not open the file, because the running daemon writes it.
func (x *exam) virtualLoudspeaker(name string) {
	if path, isFile := strings.CutPrefix(name, "file:"); isFile {
		if _, err := os.Stat(filepath.Dir(path)); err != nil {
			x.add("loudspeaker", Fail, fmt.Sprintf("%s is not writable: %v", path, err), "correct [audio] output")
			return
		}
	}
	x.add("loudspeaker", OK, fmt.Sprintf("the speaker is %q: nothing to test", name), "")
}

// cards tests real devices, with a sound process of its own.
func (x *exam) cards(ctx context.Context, c audio.Config, in, out bool) {
	p := &native.Process{Input: c.Input, Output: c.Output, Channel: c.InputChannel, Gain: c.InputGain, Log: slog.New(slog.DiscardHandler)}
	var r cardtest.Result
	died := p.Use(ctx, func(ctx context.Context) error {
		if in && out && !x.Quiet {
			r = cardtest.Try(ctx, p, p, c.OutputRate)
			return nil
		}
		if in {
			r.Room, r.In = cardtest.Record(ctx, p, time.Second)
		}
		if out {
			tone := cardtest.Tone(c.OutputRate)
			if x.Quiet {
				tone = make([]int16, int(silence.Seconds()*float64(c.OutputRate)))
			}
			r.Out = cardtest.Play(ctx, p, tone, c.OutputRate)
		}
		return nil
	})
	switch {
	case errors.Is(died, fs.ErrNotExist):
		x.add("sound", Fail, died.Error(), "install lintod-audio in the directory of lintod")
		return
	case died != nil:
		x.add("sound", Fail, died.Error(), "check the card's plug and power; lintod-audio -list must work")
		return
	}
	if in {
		x.microphone(ctx, r)
	}
	if out {
		x.loudspeaker(r, in)
	}
}

func (x *exam) microphone(ctx context.Context, r cardtest.Result) {
	if r.In != nil {
		x.microphoneFault(ctx, r.In)
		return
	}
	grade, text, do := r.Room.Judge()
	x.add("microphone", map[cardtest.Grade]Level{cardtest.Plausible: OK, cardtest.Doubtful: Warn, cardtest.Dead: Fail}[grade], text, do)
}

// microphoneFault reports a microphone that cannot be opened. If the
// daemon has it open and receives sound, that is not a failure.
func (x *exam) microphoneFault(ctx context.Context, fault error) {
	if x.daemon != nil && x.daemon.Mic.Open {
		before := x.daemon.Mic.Frames
		if now, err := x.ask(context.WithoutCancel(ctx)); err == nil && now.Mic.Frames > before && now.Mic.Fault(time.Now()) == "" {
			x.add("microphone", OK, fmt.Sprintf("the running daemon uses the microphone: %d frames since the check began, %d samples lost since it started",
				now.Mic.Frames-before, now.Mic.Lost), "to measure the level, run sudo systemctl stop lintod, and then this command again")
			return
		}
	}
	x.cardFault("microphone", "input", fault)
}

func (x *exam) loudspeaker(r cardtest.Result, in bool) {
	switch {
	case r.Out != nil && x.daemon != nil && x.daemon.Speaker.Frames > 0 && x.daemon.Speaker.Failures == 0:
		x.add("loudspeaker", OK, fmt.Sprintf("the running daemon uses the speaker: %d frames without errors", x.daemon.Speaker.Frames),
			"to test it, run sudo systemctl stop lintod, and then this command again")
	case r.Out != nil:
		x.cardFault("loudspeaker", "output", r.Out)
	case x.Quiet:
		x.add("loudspeaker", OK, "the speaker accepts sound; whether it is audible was not tested", "")
	case !in || r.In != nil:
		x.add("loudspeaker", OK, "a tone was played", "if you did not hear it, increase the volume (alsamixer), or select another [audio] output")
	case r.Hears():
		x.add("loudspeaker", OK, "a tone was played, and the microphone recorded it", "")
	default:
		x.add("loudspeaker", Warn, "a tone was played, but the microphone did not hear it", "if you did not hear it either, increase the volume (alsamixer), or select another [audio] output")
	}
}

func (x *exam) cardFault(subject, key string, fault error) {
	text, do, _ := strings.Cut(fault.Error(), "; ")
	x.add(subject, Fail, text+x.holders(), strings.TrimSpace(do+" `lintod devices` lists the values for [audio] "+key))
}

// holders names the programs that have sound cards open, according to the kernel.
func (x *exam) holders() string {
	var list []string
	for _, card := range alsa.Cards(x.Root) {
		for _, pcm := range card.PCMs {
			if o, busy := pcm.Owner(x.Root); busy {
				list = append(list, o.String())
			}
		}
	}
	if len(list) == 0 {
		return ""
	}
	return "; sound cards are in use by " + strings.Join(list, ", ")
}
