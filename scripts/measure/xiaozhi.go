package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"lintod/agent"
	"lintod/agent/control"
	"lintod/agent/turn"
	"lintod/audio"
	"lintod/audio/audiotest"
	"lintod/audio/native"
	"lintod/audio/wav"
	"lintod/cmd/lintosim/gateway"
)

// conversation is a device in a session with a gateway that answers with a chirp of 3 s.
type conversation struct {
	terminal
	sim *gateway.Gateway
}

// converse starts both.
func (b *bench) converse(ctx context.Context, serial, audio string, env []string) (c conversation, stop func(), err error) {
	answer, err := chirp(ctx)
	if err != nil {
		return c, nil, err
	}
	c.sim = gateway.New(gateway.Options{
		Recognise: func(context.Context, []int16, int) (string, error) { return "what time is it", nil },
		Speak:     func(context.Context, string) ([][]byte, error) { return answer, nil },
	})
	if err := c.sim.Start(); err != nil {
		return c, nil, err
	}
	t, end, err := b.terminal(ctx, serial, settings{
		audio: audio + "no_speech = \"60s\"\nmax_utterance = \"60s\"\n", env: env,
		more: fmt.Sprintf("[xiaozhi]\nenabled = true\nota_url = %q\ntransport = \"mqtt\"\nlistening = \"manual\"\n", c.sim.OTA()),
	})
	if err != nil {
		return c, nil, errors.Join(err, c.sim.Close())
	}
	c.terminal = t
	stop = func() { end(); _ = c.sim.Close() }
	if err := t.wait(ctx, "connected", func(s agent.Status) bool { return s.Links["xiaozhi"].Connected }); err != nil {
		stop()
		return c, nil, err
	}
	return c, stop, nil
}

// chirp is 3 s of a chirp in Opus.
func chirp(ctx context.Context) (packets [][]byte, err error) {
	program, err := filepath.Abs("bin/lintod-audio")
	if err != nil {
		return nil, err
	}
	p := &native.Process{Path: program, Log: slog.New(slog.DiscardHandler)}
	return packets, p.Use(ctx, func(ctx context.Context) error {
		_, packets, err = encodeOpus(ctx, p, audiotest.Chirp(3*time.Second))
		return err
	})
}

// press starts an utterance, and returns the time.
func (c conversation) press(ctx context.Context) (time.Time, error) {
	began := time.Now()
	return began, control.Call(ctx, c.socket(c.serial), "talk", agent.TalkArgs{Link: "xiaozhi"}, nil)
}

// sounded returns when the first packet after a given time passed.
func (c conversation) sounded(ctx context.Context, after time.Time, fromDevice bool) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	e, err := c.sim.WaitFor(ctx, func(e gateway.Event) bool {
		return e.Kind == gateway.Sounded && e.FromDevice == fromDevice && e.At.After(after)
	})
	return e.At, err
}

// settle ends the current exchange.
func (c conversation) settle(ctx context.Context) error {
	for range 20 {
		if s, err := c.status(ctx); err != nil || s.Turn.State == turn.Idle {
			return err
		}
		if err := errors.Join(c.talk(ctx, true), pause(ctx, 200*time.Millisecond)); err != nil {
			return err
		}
	}
	return errors.New("the turn does not end")
}

// xiaozhi measures a session: the latency of a press, an answer, and an interruption, and its
// memory.
func (b *bench) xiaozhi(ctx context.Context, rounds int) (rows []row, err error) {
	err = withRig(ctx, func(_ *tb, rig *audiotest.Rig) error {
		c, stop, err := b.converse(ctx, "converses", realSound, rig.Env())
		if err != nil {
			return err
		}
		defer stop()
		var presses, firsts, quiets []float64
		for round := range rounds + 1 { // the first opens the session
			press, first, quiet, err := c.round(ctx, rig)
			if err != nil {
				return err
			}
			if round > 0 {
				presses, firsts, quiets = append(presses, ms(press)), append(firsts, ms(first)), append(quiets, ms(quiet))
			}
		}
		sound := child(c.pid, "lintod-audio")
		rows = []row{
			{"xiaozhi, session open: press → first packet at the gateway, median", "ms", quantile(presses, 0.5), nil, "", "≤ 80 ms"},
			{"xiaozhi: first packet of an answer → sound at the loudspeaker, median", "ms", quantile(firsts, 0.5), nil, "", "≤ 180 ms"},
			{"xiaozhi: press while speaking → silence, median", "ms", quantile(quiets, 0.5), nil, "", "≤ 150 ms"},
			{"xiaozhi: memory in a session, lintod + lintod-audio", "MB", resident(c.pid, sound), nil, "", "≤ 32 MB"},
		}
		rows = append(rows, composed(c.pid, sound).rows()...)
		return nil
	})
	if err != nil {
		return nil, err
	}
	streamed, err := b.xiaozhiHour(ctx, rounds)
	return append(rows, streamed...), err
}

// round is a question, its answer, and an interruption.
func (c conversation) round(ctx context.Context, rig *audiotest.Rig) (press, first, quiet time.Duration, err error) {
	began, err := c.press(ctx)
	if err != nil {
		return 0, 0, 0, err
	}
	at, err := c.sounded(ctx, began, true)
	if err != nil {
		return 0, 0, 0, err
	}
	press = at.Sub(began)
	played := rig.Hear()
	said := time.Now() // a turn of less than a second without speech counts as accidental
	if err := errors.Join(pause(ctx, 1200*time.Millisecond), c.talk(ctx, true)); err != nil {
		return 0, 0, 0, err
	}
	played.WaitFor("the answer", func(pcm []int16) bool { return len(pcm) > 8000 && audiotest.Loud(pcm[len(pcm)-8000:]) })
	if at, err = c.sounded(ctx, said, false); err != nil {
		return 0, 0, 0, err
	}
	if began, err = c.press(ctx); err != nil {
		return 0, 0, 0, err
	}
	if err := pause(ctx, 300*time.Millisecond); err != nil {
		return 0, 0, 0, err
	}
	heard := played.Stop()
	loud := func(s int16) bool { return s > 300 || s < -300 }
	for i, s := range heard {
		if loud(s) && played.At(i).After(at) {
			first = played.At(i).Sub(at)
			break
		}
	}
	for i, s := range slices.Backward(heard) {
		if loud(s) {
			quiet = played.At(i).Sub(began)
			break
		}
	}
	return press, first, quiet, c.settle(ctx)
}

// xiaozhiHour measures the cost of sending speech, without a card, for some seconds, extrapolated
// to an hour.
func (b *bench) xiaozhiHour(ctx context.Context, rounds int) (rows []row, err error) {
	var said []int16
	failed := use(ctx, func(t *tb) {
		for _, s := range audiotest.Sentences(t) {
			said = append(append(said, s.PCM...), make([]int16, audio.CaptureRate/2)...)
		}
	})
	if failed != nil {
		return nil, failed
	}
	span := min(time.Duration(2*rounds)*time.Second, 50*time.Second)
	pcm := slices.Repeat(said, int(span.Seconds()+1)*audio.CaptureRate/len(said)+1)
	file := filepath.Join(b.dir, "speaks.wav")
	if err := os.WriteFile(file, wav.Encode(pcm, audio.CaptureRate), 0o600); err != nil {
		return nil, err
	}
	c, stop, err := b.converse(ctx, "streams-opus", fmt.Sprintf("input = %q\noutput = \"null\"\n", "file:"+file), nil)
	if err != nil {
		return nil, err
	}
	defer stop()
	reference, err := liveOpusenc(ctx, pcm)
	if err != nil {
		return nil, err
	}
	defer end(reference)
	pids := []int{c.pid, child(c.pid, "lintod-audio")}
	measure := func() (ours, theirs time.Duration, err error) {
		u, r := used(pids...), used(reference.Process.Pid)
		err = pause(ctx, span)
		return used(pids...).since(u).cpu, used(reference.Process.Pid).since(r).cpu, err
	}
	hears, _, err := measure() // microphone only
	if err != nil {
		return nil, err
	}
	if _, err := c.press(ctx); err != nil {
		return nil, err
	}
	sends, theirs, err := measure()
	if err != nil {
		return nil, err
	}
	hour := float64(time.Hour / span)
	return []row{{
		"xiaozhi: CPU of an hour streamed, capture apart: both", "s", (sends - hears).Seconds() * hour, seconds(time.Duration(float64(theirs) * hour)),
		"opusenc --comp 0 --framesize 60 of the same, live", "≤ 1.5 × reference",
	}}, c.settle(ctx)
}
