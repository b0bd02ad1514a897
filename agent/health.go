package agent

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"lintod/agent/cards"
	"lintod/agent/link"
	"lintod/agent/settings"
	"lintod/agent/status"
	"lintod/agent/turn"
	"lintod/agent/voice"
	"lintod/audio"
	"lintod/audio/wake"
	"lintod/gpio"
)

const (
	// healthBeat is how often the agent checks its health while no sound arrives,
	// and soundBeat how long it relies on arriving sound instead, because lintod is
	// awake then anyway.
	healthBeat = 500 * time.Millisecond
	soundBeat  = 2 * audio.DeafAfter
	// errorShown is how long LEDs indicate an error.
	errorShown = 2 * time.Second
)

// monitor collects what the device is doing and updates what shows it.
type monitor struct {
	turns    *turn.Runner
	bus      *turn.Bus
	voice    *voice.Voice
	hub      *audio.Hub
	wake     *wake.Listener // nil if no wake word is configured
	links    []Link
	board    *gpio.Board
	lamp     *lamp
	cards    *cards.Store
	settings *settings.Settings
	start    time.Time // of the agent
	log      *slog.Logger

	outdated atomic.Bool  // the file was changed and is invalid
	failed   atomic.Int64 // time of the last failure, in nanoseconds since start; 0 if none
}

// watch updates what shows the device's activity: LEDs and systemd. It also
// raises the deaf flag when frames should arrive and do not. The device is
// healthy when frames arrive, not merely when a process runs.
func (m *monitor) watch(ctx context.Context) error {
	notify("READY=1")
	beat := time.NewTimer(healthBeat)
	defer beat.Stop()
	moved := m.hub.Beat()
	notices := m.bus.Subscribe(noticeQueue)
	defer notices.Close()
	for fault, line, now := "", "", m.activity(); ; now = m.activity() {
		m.board.Show(now.LEDs())
		if l := now.Line(); l != line {
			line = l
			notify("STATUS=" + line)
		}
		select {
		case <-ctx.Done():
			return nil
		case n := <-notices.C:
			if n.What == turn.Problem {
				m.failed.Store(int64(time.Since(m.start)))
			}
		case <-beat.C:
			fault = m.listenForDeafness(fault)
			beat.Reset(healthBeat)
		case <-moved:
			fault = m.listenForDeafness(fault)
			wait := healthBeat
			if m.hub.Health().Open {
				wait = soundBeat
			}
			beat.Reset(wait) // once: the runtime wakes up for the earlier of two
		}
	}
}

// activity returns what the device is doing now.
func (m *monitor) activity() status.Activity {
	now := status.Activity{
		Snapshot:   m.turns.Snapshot(),
		Announcing: m.voice.Announcing(),
		Away:       m.away(),
		Inaudible:  m.settings.Get().Volume == 0,
		Outdated:   m.outdated.Load(),
		Lamp:       m.lamp.shown(),
	}
	if d := m.cards.Download(); d != nil && !d.Refresh {
		now.Download = d
	}
	if at := time.Duration(m.failed.Load()); at > 0 {
		now.Error = time.Since(m.start)-at < errorShown
	}
	if now.Flags.Deaf {
		now.Fault = m.hub.Health().Fault(time.Now())
	}
	if m.wake != nil {
		s := m.wake.Status().State
		now.Waiting, now.WakeAway = s == wake.Listening, s == wake.Away
	}
	now.Connecting = len(m.links) > 0 && now.Flags.Offline
	for _, l := range m.links {
		s := l.Status()
		if _, talks := l.(turn.Talker); talks {
			now.Connecting = now.Connecting && !s.Connected && !s.Failed
		}
		now.Activating = now.Activating || s.Refused
	}
	return now
}

func (m *monitor) listenForDeafness(was string) string {
	fault := m.hub.Health().Fault(time.Now())
	switch {
	case fault == was:
	case fault == audio.ZerosFault:
		m.log.Warn("deaf", "error", fault)
		m.turns.Post(turn.WentSilent)
	case fault != "":
		m.log.Warn("the microphone delivers no sound; reopening it", "error", fault)
		m.turns.Post(turn.WentDeaf)
	default:
		m.log.Info("the microphone delivers sound again")
		m.turns.Post(turn.Hears)
	}
	return fault
}

// notify sends a state to systemd; without systemd it does nothing.
func notify(state string) {
	// An error could only come from systemd's own socket, and could be reported
	// nowhere. unsetEnvironment must stay false, or later calls do nothing.
	_, _ = daemon.SdNotify(false, state)
}

// away names the links that talk and cannot reach their platforms.
func (m *monitor) away() []string {
	var names []string
	for _, t := range m.turns.Talkers {
		if !m.turns.Online(t.Name()) {
			names = append(names, t.Name())
		}
	}
	return names
}

// linkStatus returns the status of a link. One that talks is connected when a turn
// can be opened.
func (m *monitor) linkStatus(l Link) link.Status {
	s := l.Status()
	if _, talks := l.(turn.Talker); talks {
		s.Connected = s.Connected && m.turns.Online(l.Name())
	}
	return s
}

// Status is what `lintod status -json` prints.
type Status struct {
	status.Report
	LinkDetails
}

// status collects the status of all parts.
func (a *Agent) status() Status {
	set, now := a.settings.Get(), a.monitor.activity()
	s := status.Report{
		Serial:   a.cfg.Device.Serial,
		Version:  Version,
		Uptime:   time.Since(a.start).Round(time.Second).String(),
		Line:     now.Line(),
		Activity: now, Turn: now.Snapshot, Links: map[string]link.Status{},
		Volume:  set.Volume,
		Keep:    set.StartVolume,
		Lang:    set.Language,
		Mic:     a.hub.Health(),
		Speaker: a.player.Stats(),
		Voice:   a.voice.Speech.Stats(),
		Parts:   a.parts.status(),
		Turns:   append([]turn.Record{}, a.turns.Records()...), // a list, never null
		Self:    status.MeasureSelf(),
	}
	for _, t := range a.turns.Talkers {
		s.Links[t.Name()] = link.Status{Connected: a.turns.Online(t.Name())}
	}
	for _, l := range a.links {
		s.Links[l.Name()] = a.monitor.linkStatus(l)
	}
	if !a.sound.OnDemand {
		sound := a.sound.Status()
		s.Sound = &sound
	}
	s.GPIO = a.gpio.Faults()
	s.Tunnels = a.powers.tunnels.Status()
	if now := a.meetings.recorder.Status(); now.Recording {
		s.Recording = &now
	}
	s.Cards = status.Cards{Stats: a.taps.Store.Stats(), Playing: a.taps.Status(), Readers: a.reader.Status()}
	if a.wake != nil {
		w := a.wake.Status()
		s.Wake = &w
	}
	return Status{s, a.linkDetails()}
}
