package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"lintod/audio"
	"lintod/audio/audiotest"
	"lintod/audio/jitter"
	"lintod/audio/native"
	"lintod/audio/opus"
	"lintod/audio/wav"
)

const opusFrame = 60 * time.Millisecond

// opus measures the cost of a xiaozhi session: encoding an hour of speech, frame by frame through
// lintod-audio; and the time from the first packet of an answer to its sound.
func (b *bench) opus(ctx context.Context, rounds int) (rows []row, err error) {
	failed := use(ctx, func(t *tb) {
		var hour []int16
		for _, said := range audiotest.Sentences(t) {
			hour = append(append(hour, said.PCM...), make([]int16, audio.CaptureRate/2)...)
		}
		hour = slices.Repeat(hour, 3600*audio.CaptureRate/len(hour)+1)[:3600*audio.CaptureRate]
		program, found := filepath.Abs("bin/lintod-audio")
		if found != nil {
			err = found
			return
		}
		p := &native.Process{Path: program, Log: slog.New(slog.DiscardHandler)}
		err = p.Use(ctx, func(ctx context.Context) error {
			cpu, packets, err := encodeOpus(ctx, p, hour)
			if err != nil {
				return err
			}
			theirs, err := opusenc(ctx, b.dir, hour)
			if err != nil {
				return err
			}
			rows = append(rows, row{
				"CPU of encoding an hour of speech to Opus, both processes", "s", cpu.Seconds(), seconds(theirs),
				"opusenc --comp 0 --framesize 60 of the same hour", "",
			})
			var waits []float64
			for range rounds {
				wait, err := firstSound(ctx, p, packets[:50])
				if err != nil {
					return err
				}
				waits = append(waits, ms(wait))
			}
			rows = append(rows, row{"first packet of an answer → its first sample for the loudspeaker, median", "ms", quantile(waits, 0.5), nil, "", "≤ 180 ms"})
			return nil
		})
	})
	return rows, errors.Join(err, failed)
}

func seconds(d time.Duration) *float64 {
	s := d.Seconds()
	return &s
}

// encodeOpus returns the CPU time that this process and lintod-audio took.
func encodeOpus(ctx context.Context, p *native.Process, pcm []int16) (cpu time.Duration, packets [][]byte, err error) {
	e, err := p.OpenEncoder(ctx, native.CodecFormat{Kind: opus.Kind, Rate: audio.CaptureRate, Channels: 1, Frame: opusFrame})
	if err != nil {
		return 0, nil, err
	}
	defer e.Close()
	pids := []int{os.Getpid(), child(os.Getpid(), "lintod-audio")}
	before := used(pids...)
	packet := make([]byte, 1500)
	for frame := range slices.Chunk(pcm, audio.CaptureRate*60/1000) {
		if err := e.Write(ctx, frame); err != nil {
			return 0, nil, err
		}
		n, err := e.Read(ctx, packet)
		if err != nil {
			return 0, nil, err
		}
		packets = append(packets, slices.Clone(packet[:n]))
	}
	return used(pids...).since(before).cpu, packets, nil
}

// opusenc returns the CPU time that opusenc takes for the same.
func opusenc(ctx context.Context, dir string, pcm []int16) (time.Duration, error) {
	file := filepath.Join(dir, "hour.wav")
	if err := os.WriteFile(file, wav.Encode(pcm, audio.CaptureRate), 0o600); err != nil {
		return 0, err
	}
	defer func() { _ = os.Remove(file) }()
	cmd := exec.CommandContext(ctx, "opusenc", "--quiet", "--comp", "0", "--framesize", "60", file, os.DevNull)
	if out, err := cmd.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("opusenc: %w: %s", err, out)
	}
	u := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}

// liveOpusenc starts an opusenc that gets the same sound in real time, as from a microphone: between
// two frames, the processor does other work.
func liveOpusenc(ctx context.Context, pcm []int16) (*exec.Cmd, error) {
	cmd := exec.CommandContext(ctx, "opusenc", "--quiet", "--comp", "0", "--framesize", "60",
		"--raw", "--raw-rate", strconv.Itoa(audio.CaptureRate), "--raw-chan", "1", "-", os.DevNull)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	go func() {
		frames := time.NewTicker(opusFrame)
		defer frames.Stop()
		for {
			for frame := range slices.Chunk(pcm, int(opusFrame*audio.CaptureRate/time.Second)) {
				<-frames.C
				if binary.Write(in, binary.LittleEndian, frame) != nil {
					return // opusenc was ended
				}
			}
		}
	}()
	return cmd, cmd.Start()
}

// firstSound returns when the first samples of an answer that is sent in real time can be read.
func firstSound(ctx context.Context, p *native.Process, packets [][]byte) (time.Duration, error) {
	ctx, cancel := context.WithCancel(ctx)
	s := &jitter.Stream{Rate: 48000, Open: func(ctx context.Context) (jitter.Decoder, error) {
		return p.OpenDecoder(ctx, native.CodecFormat{Kind: opus.Kind, Rate: 48000, Channels: 1, Frame: opusFrame})
	}}
	s.Start()
	sound := s.Sound()
	defer sound.Close()
	sent := make(chan struct{})
	began := time.Now()
	go func() {
		defer close(sent)
		for i, packet := range packets {
			s.Put(uint32(i), packet)
			if pause(ctx, opusFrame) != nil {
				return
			}
		}
	}()
	_, err := sound.Read(ctx, make([]int16, 960))
	took := time.Since(began)
	cancel()
	<-sent
	return took, err
}
