package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"lintod/agent"
	"lintod/agent/control"
	"lintod/audio/audiotest"
)

const started = `{"behavior":{"streaming":{"status":"started"}}}`

// stream measures the cost of a live transcription, and as reference a shell pipe that sends the
// same sound; both for some seconds, extrapolated to an hour.
func (b *bench) stream(ctx context.Context, rounds int) (rows []row, err error) {
	span := time.Duration(2*rounds) * time.Second
	return rows, withRig(ctx, func(_ *tb, rig *audiotest.Rig) error {
		t, stop, err := b.terminal(ctx, "streams", settings{linto: "mode = \"stream\"\n", audio: realSound, env: rig.Env()})
		if err != nil {
			return err
		}
		defer stop()
		if err := t.dictate(ctx); err != nil {
			return err
		}
		pipe := exec.CommandContext(ctx, "sh", "-c", fmt.Sprintf(
			"arecord -q -D default -f S16_LE -r 16000 -c 1 -t raw | base64 -w 4268 | mosquitto_pub -p %d -t bench/pipe -l", b.port))
		pipe.Env = append(os.Environ(), rig.Env()...)
		pipe.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := pipe.Start(); err != nil {
			return err
		}
		defer end(pipe)
		if err := pause(ctx, 2*time.Second); err != nil {
			return err
		}
		var theirs []int
		for _, name := range []string{"arecord", "base64", "mosquitto_pub"} {
			theirs = append(theirs, child(pipe.Process.Pid, name))
		}
		sound := child(t.pid, "lintod-audio")
		u, a, r := used(t.pid), used(sound), used(theirs...)
		if err := pause(ctx, span); err != nil {
			return err
		}
		hour := func(u usage) float64 { return u.cpu.Seconds() * float64(time.Hour/time.Second) / span.Seconds() }
		u, a = used(t.pid).since(u), used(sound).since(a)
		reference := hour(used(theirs...).since(r))
		const by = "arecord | base64 | mosquitto_pub -l"
		rows = []row{
			{"CPU of an hour streamed live", "s", hour(u) + hour(a), &reference, by, "≤ 2 ×"},
			{"  of it lintod", "s", hour(u), &reference, by, ""},
			{"  of it lintod-audio", "s", hour(a), &reference, by, ""},
		}
		return nil
	})
}

// dictate starts a live transcription, and waits until it runs.
func (t terminal) dictate(ctx context.Context) error {
	begun := make(chan error, 1)
	go func() { begun <- control.Call(ctx, t.socket(t.serial), "stream", agent.StreamArgs{}, nil) }()
	_, err := t.next("streaming/start")
	return errors.Join(err, t.tell(ctx, "streaming/start", started), <-begun)
}
