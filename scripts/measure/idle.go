package main

import (
	"context"
	"errors"
	"os/exec"
	"time"

	"lintod/audio/audiotest"
)

// realSound makes a device use the cards of a rig.
const realSound = "input = \"default\"\noutput = \"default\"\noutput_rate = 16000\n"

// idle measures a device that waits for its button, with real cards, and as reference a program
// that only reads the microphone.
func (b *bench) idle(ctx context.Context, rounds int) (rows []row, err error) {
	return rows, withRig(ctx, func(t *tb, rig *audiotest.Rig) error {
		device, err := b.device(ctx, "hearing", settings{audio: realSound, env: rig.Env()})
		if err != nil {
			return err
		}
		defer end(device)
		arecord := exec.CommandContext(ctx, "arecord", "-q", "-D", "default", "-f", "S16_LE", "-r", "16000", "-c", "1", "-t", "raw", "/dev/null")
		arecord.Env = rig.Env()
		if err := arecord.Start(); err != nil {
			return err
		}
		defer end(arecord)
		if err := pause(ctx, 5*time.Second); err != nil { // by then the start-up work is done
			return err
		}
		ours := device.Process.Pid
		audio := child(ours, "lintod-audio")
		if audio == 0 {
			return errors.New("lintod has no sound process")
		}
		span := time.Duration(2*rounds) * time.Second
		u1, a1, r1 := used(ours), used(audio), used(arecord.Process.Pid)
		if err := pause(ctx, span); err != nil {
			return err
		}
		u, a, r := used(ours).since(u1), used(audio).since(a1), used(arecord.Process.Pid).since(r1)
		percent := func(u usage) float64 { return 100 * u.cpu.Seconds() / span.Seconds() }
		each := func(u usage) float64 { return float64(u.wake) / span.Seconds() }
		cpu, wake, reads := percent(r), each(r), resident(arecord.Process.Pid)
		const by = "arecord >/dev/null, the same card"
		rows = []row{
			{"CPU idle, microphone warm: both", "% core", percent(u) + percent(a), &cpu, by, "≤ 1.25 ×"},
			{"  of it lintod", "% core", percent(u), &cpu, by, ""},
			{"  of it lintod-audio", "% core", percent(a), &cpu, by, ""},
			{"wake-ups idle: lintod", "1/s", each(u), &wake, by, "≤ 8 /s"},
			{"wake-ups idle: lintod-audio", "1/s", each(a), &wake, by, "≤ 1.1 ×"},
			{"memory, lintod + lintod-audio", "MB", resident(ours, audio), nil, "", "≤ 24 MB"},
			{"  of it lintod", "MB", resident(ours), nil, "", "≤ 16 MB"},
			{"  of it lintod-audio", "MB", resident(audio), &reads, by, ""},
		}
		rows = append(rows, composed(ours, audio).rows()...)
		return nil
	})
}
