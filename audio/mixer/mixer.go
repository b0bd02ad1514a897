// Package mixer sets the volume with a mixer control of a sound card, if configured: with
// amixer(1), so that no native code is needed.
//
// The volume setting (agent/settings) and gain in software (player) do not belong here.
package mixer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"lintod/agent/base/loop"
	"lintod/agent/base/process"
)

const (
	// stepLimit is how long amixer may take.
	stepLimit = 5 * time.Second
	// retry is the interval for trying a missing control again: the card may have been plugged in
	// since.
	retry = 30 * time.Second
)

// Mixer sets the user's volume with a control of a card. While that is not possible, the gain in
// software is used.
type Mixer struct {
	Device  string   // ALSA's name of the card, such as "default" or "hw:CARD=Headphones"
	Control string   // such as "PCM" or "Master"
	Env     []string // of amixer; see process.Command
	// Software sets the gain of the player, in percent: 100 while the control is used. It must not
	// block.
	Software func(percent int)
	Log      *slog.Logger

	once    sync.Once
	volume  atomic.Int32
	changed loop.Signal // holds a token when the control may be outdated
}

// SetVolume sets the volume in percent. It does not block; the last of several calls is applied.
func (m *Mixer) SetVolume(percent int) {
	m.init()
	m.volume.Store(int32(max(0, min(percent, 100))))
	m.changed.Set()
}

// Volume returns the last set volume.
func (m *Mixer) Volume() int { return int(m.volume.Load()) }

func (m *Mixer) init() {
	m.once.Do(func() { m.changed = loop.NewSignal() })
}

// Run applies volume changes to the control, until ctx ends.
func (m *Mixer) Run(ctx context.Context) error {
	m.init()
	again := time.NewTimer(retry)
	defer again.Stop()
	for said := ""; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-m.changed:
		case <-again.C:
		}
		again.Stop()
		err := m.apply(ctx, m.Volume())
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			m.Software(100)
			said = ""
			continue
		case err.Error() != said:
			m.Log.Warn("setting the volume in software: the card's control cannot be set", "control", m.Control, "device", m.Device, "error", err)
			said = err.Error()
		}
		m.Software(m.Volume())
		again.Reset(retry)
	}
}

// apply sets the control, on the perceptual scale (-M, as in alsamixer).
func (m *Mixer) apply(ctx context.Context, percent int) error {
	ctx, cancel := context.WithTimeoutCause(ctx, stepLimit, fmt.Errorf("amixer took more than %v", stepLimit))
	defer cancel()
	sound := "unmute"
	if percent == 0 {
		sound = "mute" // the lowest step of many cards is still audible
	}
	child, err := process.Start(ctx, process.Command{
		Argv:    []string{"amixer", "-q", "-M", "-D", m.Device, "sset", m.Control, fmt.Sprintf("%d%%", percent), sound},
		Env:     m.Env,
		Stdin:   strings.NewReader(""),
		Devices: process.Sound,
	})
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("amixer is not installed (apt install alsa-utils)")
	}
	if err != nil {
		return err
	}
	return child.Wait()
}
