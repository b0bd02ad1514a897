package agent

import (
	"context"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"lintod/agent/link/linto"
	"lintod/agent/turn"
	"lintod/audio"
	"lintod/audio/native"
	"lintod/audio/player"
	"lintod/audio/recorder"
	"lintod/audio/tts"
	"lintod/audio/wake"
	"lintod/behaviors/tunnel"
)

// healthBeat is how often the agent looks at itself.
const healthBeat = 500 * time.Millisecond

// watch raises the deaf flag when frames should arrive and do not, and tells
// systemd how the device is. Health means that frames moved, not that a process
// lives.
func (a *Agent) watch(ctx context.Context) error {
	notify("READY=1")
	beat := time.NewTicker(healthBeat)
	defer beat.Stop()
	notices := a.bus.Subscribe(16)
	defer notices.Close()
	for fault, line := "", ""; ; {
		if now := a.statusLine(); now != line {
			line = now
			notify("STATUS=" + line)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-notices.C:
		case <-beat.C:
			fault = a.listenForDeafness(fault)
		}
	}
}

func (a *Agent) listenForDeafness(was string) string {
	fault := a.hub.Health().Fault(time.Now())
	switch {
	case fault == was:
	case fault == audio.ZerosFault:
		a.log.Warn("deaf", "error", fault)
		a.turns.Post(turn.WentSilent)
	case fault != "":
		a.log.Warn("deaf; the microphone is being reopened", "error", fault)
		a.turns.Post(turn.WentDeaf)
	default:
		a.log.Info("the microphone gives sound again")
		a.turns.Post(turn.Hears)
	}
	return fault
}

// notify tells systemd; without systemd it does nothing.
func notify(state string) {
	// The error is that of a socket that systemd itself made; there is nobody to
	// tell. unsetEnvironment must stay false, or later calls do nothing.
	_, _ = daemon.SdNotify(false, state)
}

// statusLine says in one line what the device is doing.
func (a *Agent) statusLine() string {
	s := a.turns.Snapshot()
	line := s.State.String()
	if a.announcing() {
		line = turn.Speaking.String()
	}
	for _, f := range []struct {
		set  bool
		word string
	}{{s.Flags.Muted, "muted"}, {s.Flags.Meeting, "recording"}, {s.Flags.Offline, "offline"}, {s.Flags.Deaf, "deaf"}} {
		if f.set {
			line += ", " + f.word
		}
	}
	if fault := a.hub.Health().Fault(time.Now()); s.Flags.Deaf && fault != "" {
		line += ": " + fault
	}
	if away := a.away(); len(away) > 0 && !s.Flags.Offline {
		line += ", offline: " + strings.Join(away, ", ")
	}
	if s.Flags.Dictating {
		line += ", transcribing what it hears"
	}
	if a.wake != nil && a.wake.Status().State == wake.Away {
		line += ", no wake word: the engine is away"
	}
	if a.refused.Load() {
		line += "; the changed configuration is wrong and not in force, lintod check tells why"
	}
	return line
}

// away names the links that talk and do not reach their platforms.
func (a *Agent) away() []string {
	var names []string
	for _, t := range a.turns.Talkers {
		if !a.turns.Online(t.Name()) {
			names = append(names, t.Name())
		}
	}
	return names
}

// announcing tells whether the device speaks outside a turn.
func (a *Agent) announcing() bool {
	class, ok := a.player.Playing()
	return ok && class == player.Announcement
}

// LinkStatus is how a link is, whatever its protocol.
type LinkStatus struct {
	Connected bool   `json:"connected"`
	Line      string `json:"line,omitempty"` // the same for people, and why not
}

// Status is what `lintod status -json` prints.
type Status struct {
	Serial  string `json:"serial"`
	Version string `json:"version"`
	Uptime  string `json:"uptime"`
	Line    string `json:"line"` // what the device is doing, for people
	turn.Snapshot
	Turn turn.Snapshot `json:"turn"` // the same
	// Links are those that talk, by name.
	Links   map[string]LinkStatus `json:"links"`
	Volume  int                   `json:"volume"`       // percent, now
	Keep    int                   `json:"start_volume"` // percent, after a restart
	Lang    string                `json:"language"`
	Mic     audio.Health          `json:"microphone"`
	Speaker player.Stats          `json:"loudspeaker"`
	Voice   tts.Stats             `json:"voice"`
	// Sound is nil when both microphone and loudspeaker are virtual.
	Sound *native.Status `json:"sound,omitempty"`
	GPIO  []string       `json:"gpio_faults,omitempty"` // one sentence each
	Linto *linto.Stats   `json:"linto,omitempty"`
	Wake  *wake.Status   `json:"wake,omitempty"`
	// Recording and Tunnels tell what the powers are doing.
	Recording *recorder.Status `json:"recording,omitempty"`
	Tunnels   []tunnel.Status  `json:"tunnels,omitempty"`

	Parts map[string]PartStatus `json:"parts"`
	Turns []turn.Record         `json:"turns"` // the last ones, oldest first
	Self  Self                  `json:"self"`
}

func (a *Agent) status() Status {
	saved, now := a.store.Get(), a.turns.Snapshot()
	s := Status{
		Serial:   a.cfg.Device.Serial,
		Version:  Version,
		Uptime:   time.Since(a.start).Round(time.Second).String(),
		Line:     a.statusLine(),
		Snapshot: now, Turn: now, Links: map[string]LinkStatus{},
		Volume:  a.volume(),
		Keep:    saved.Volume,
		Lang:    saved.Language,
		Mic:     a.hub.Health(),
		Speaker: a.player.Stats(),
		Voice:   a.mouth.speech.Stats(),
		Parts:   a.parts.status(),
		Turns:   append([]turn.Record{}, a.turns.Records()...), // a list, never null
		Self:    measureSelf(),
	}
	for _, t := range a.turns.Talkers {
		l := LinkStatus{Connected: a.turns.Online(t.Name())}
		if teller, ok := t.(interface{ Line() string }); ok {
			l.Line = teller.Line()
		}
		s.Links[t.Name()] = l
	}
	if a.sound != nil {
		sound := a.sound.Status()
		s.Sound = &sound
	}
	if a.gpio != nil {
		s.GPIO = a.gpio.Faults()
	}
	s.Tunnels = a.powers.tunnels.Status()
	if now := a.powers.meetings.recorder.Status(); now.Recording {
		s.Recording = &now
	}
	if a.linto != nil {
		stats := a.linto.Stats()
		stats.Connected = stats.Connected && a.turns.Online(linto.Name) // a turn can be opened
		s.Linto = &stats
	}
	if a.wake != nil {
		status := a.wake.Status()
		s.Wake = &status
	}
	return s
}
