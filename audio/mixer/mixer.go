// Package mixer sets the loudness at a sound card's own control, for those who
// want it there: with amixer(1), so that no native code is needed.
//
// What must not live here: the user's wish (agent/settings), and gain in software (player).
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
	// retry is how soon a control that was not there is looked for again: the card
	// may have been plugged in since.
	retry = 30 * time.Second
)

// Mixer follows the user's volume with a control of a card. While that is not
// possible, the gain in software does instead.
type Mixer struct {
	Device  string   // ALSA's name of the card, such as "default" or "hw:CARD=Headphones"
	Control string   // such as "PCM" or "Master"
	Env     []string // of amixer; see process.Command
	// Software sets the gain of the player, in percent: 100 while the control
	// does it all. It must not block.
	Software func(percent int)
	Log      *slog.Logger

	once    sync.Once
	volume  atomic.Int32
	changed loop.Signal // holds a token when the control may be behind
}

// SetVolume tells the volume in percent. It does not block; of several in a row the
// last one counts.
func (m *Mixer) SetVolume(percent int) {
	m.init()
	m.volume.Store(int32(max(0, min(percent, 100))))
	m.changed.Set()
}

// Volume is what was last set.
func (m *Mixer) Volume() int { return int(m.volume.Load()) }

func (m *Mixer) init() {
	m.once.Do(func() { m.changed = loop.NewSignal() })
}

// Run makes the control follow, until ctx ends.
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

// apply sets the control, on the scale that sounds even (-M, as alsamixer has it).
func (m *Mixer) apply(ctx context.Context, percent int) error {
	ctx, cancel := context.WithTimeoutCause(ctx, stepLimit, fmt.Errorf("amixer took more than %v", stepLimit))
	defer cancel()
	sound := "unmute"
	if percent == 0 {
		sound = "mute" // the lowest step of many cards can still be heard
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
