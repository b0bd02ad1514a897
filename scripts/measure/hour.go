package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"lintod/agent/base/config"
	"lintod/agent/base/state"
	"lintod/agent/link"
	"lintod/agent/link/linto"
	"lintod/agent/network"
	"lintod/agent/turn"
	"lintod/audio"
	"lintod/audio/audiotest"
	"lintod/audio/recorder"
	"lintod/behaviors"
)

// haste is the speed of the sound of hour, relative to real time.
const haste = 100

// hour sends an hour of sound through a recording and a live transcription at the same time, faster
// than real time, and measures the growth of this process's memory, in which they run.
func (b *bench) hour(ctx context.Context, _ int) ([]row, error) {
	ctx, cancel := context.WithCancel(ctx)
	var parts sync.WaitGroup
	defer parts.Wait()
	defer cancel()
	quiet := slog.New(slog.DiscardHandler)
	hub := &audio.Hub{Open: func(context.Context) (audio.Input, error) { return &hurry{start: time.Now()}, nil }, Log: quiet}
	cfg := recorder.Defaults()
	cfg.Directory = filepath.Join(b.dir, "recordings")
	rec := &recorder.Recorder{Config: cfg, Listen: func() recorder.Stream { return hub.Listen(false) }, Log: quiet}
	link, online := b.pushed(hub)
	for _, run := range []func(context.Context) error{hub.Run, rec.Run, link.Run} {
		parts.Go(func() { _ = run(ctx) })
	}
	<-online
	t := terminal{bench: b, serial: link.Serial}
	begun := make(chan error, 1)
	go func() { begun <- link.StartDictation(ctx) }()
	_, err := t.next("streaming/start")
	if err := errors.Join(err, t.tell(ctx, "streaming/start", started), <-begun, rec.Start(ctx, "hour")); err != nil {
		return nil, err
	}
	self := func() float64 {
		debug.FreeOSMemory()
		return resident(os.Getpid())
	}
	if err := pause(ctx, time.Hour/12/haste); err != nil {
		return nil, err
	}
	before, pushed := self(), hub.Health().Frames
	if err := pause(ctx, time.Hour/haste); err != nil {
		return nil, err
	}
	after, health := self(), hub.Health()
	minutes := (time.Duration(health.Frames-pushed) * audio.FrameTime).Minutes()
	return []row{{
		fmt.Sprintf("memory after %.0f min of sound in a stream and a recording", minutes), "MB", after, &before,
		fmt.Sprintf("itself after 5 min; %d frames were dropped", health.Dropped), "± 1 MB",
	}}, nil
}

// pushed is a link whose microphone runs faster than real time.
func (b *bench) pushed(hub *audio.Hub) (l *linto.Link, online <-chan struct{}) {
	up := make(chan struct{})
	var once sync.Once
	cfg := linto.Defaults()
	cfg.Enabled, cfg.Broker, cfg.Scope = true, config.Strings{b.url()}, "bench"
	l = linto.New(cfg, link.Device{
		Serial: "pushed", Registry: &behaviors.Registry{},
		Settings: func() state.Saved { return state.Saved{} },
		Network:  func() ([]network.Interface, error) { return nil, nil },
		Connected: func(yes bool) {
			if yes {
				once.Do(func() { close(up) })
			}
		},
		Listen: func(context.Context, func()) (turn.Stream, error) { return hub.Listen(false), nil },
		Log:    slog.New(slog.DiscardHandler),
	})
	return l, up
}

// hurry is a microphone that runs haste times as fast as real time and produces a hum.
type hurry struct {
	start time.Time
	n     time.Duration // frames
	hum   []int16
}

func (h *hurry) Read(ctx context.Context, frames []audio.Frame) (int, error) {
	if h.hum == nil {
		h.hum = audiotest.Chirp(time.Second)
	}
	if err := pause(ctx, time.Until(h.start.Add(h.n*audio.FrameTime/haste))); err != nil {
		return 0, err
	}
	f := &frames[0]
	*f = audio.Frame{At: h.start.Add(h.n * audio.FrameTime)}
	copy(f.PCM[:], h.hum[int(h.n)%50*audio.FrameSamples:])
	h.n++
	return 1, nil
}

func (h *hurry) Close() error { return nil }
