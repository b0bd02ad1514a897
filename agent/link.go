package agent

import (
	"context"
	"strings"

	"lintod/agent/base/config"
	"lintod/agent/link"
	"lintod/agent/network"
	"lintod/agent/turn"
	"lintod/behaviors"
	"lintod/gpio"
)

// Link is a live connection to one platform. A link that talks is also a
// turn.Talker. One that does not talk follows events (link.Device.Follow and
// settingsFollower) and performs the verbs in its table of words
// (link.Device.Registry).
type Link interface {
	// Name is the link's name in the configuration.
	Name() string
	// Run keeps the connection until ctx ends.
	Run(ctx context.Context) error
	// Probe returns nil when the loop that handles the platform's requests has
	// run once, or ctx's cause.
	Probe(ctx context.Context) error
	// Status may be called at any time, and does not block.
	Status() link.Status
}

// Optional abilities of links.
type (
	// dictator sends the microphone to its platform until it is stopped.
	dictator interface {
		// StartDictation returns when the platform is ready, or with ctx's cause.
		StartDictation(ctx context.Context) error
		// StopDictation does not block; done is closed when everything has been sent.
		StopDictation() (done <-chan struct{}, err error)
		Dictating() bool
	}
	// settingsFollower is notified when a setting has changed. StatusChanged must not
	// block.
	settingsFollower interface{ StatusChanged() }
	// meetingReporter reports to its platform a recording that ended without a request.
	meetingReporter interface {
		ReportMeeting(ctx context.Context, session string, why error)
	}
	// answerWaiter is notified when an answer is waiting whose request was made before
	// the agent started. AnswersWait must not block.
	answerWaiter interface{ AnswersWait() }
	// withdrawer removes what it has left on its platform, because the owner has
	// disabled the link. It returns when that is done or impossible, or when ctx ends.
	withdrawer interface{ Withdraw(ctx context.Context) }
	// tunnelReporter reports to its platform that a tunnel broke, or works again if
	// problem is nil. It fails while the platform cannot be reached.
	tunnelReporter interface {
		ReportTunnel(ctx context.Context, problem error) error
	}
)

// protocol is what a link's package provides.
type protocol struct {
	setup   link.Setup
	enabled bool
	table   table
	make    func(link.Device) Link // not running
}

// table is the table of a link in the configuration, completed for the device.
type table interface {
	// Validate reports invalid values; none while the link is disabled.
	Validate() config.Problems
	// Warnings describes valid settings that are probably mistakes.
	Warnings(at link.Place) []string
	// Examine checks what the link needs. running is the status of the daemon's link,
	// nil if none runs. Each server that does not answer takes half a minute.
	Examine(ctx context.Context, at link.Place, running *link.Status, report func(link.Finding))
	// Try connects as the device does, also while a daemon runs, and returns a
	// one-sentence error if that fails, or link.ErrActivate.
	Try(ctx context.Context, at link.Place) error
}

// enabled returns the protocols of the enabled links.
func (c Config) enabled() (list []protocol) {
	for _, p := range c.protocols() {
		if p.enabled {
			list = append(list, p)
		}
	}
	return list
}

// linkNames returns the names of the enabled links.
func (c Config) linkNames() (names []string) {
	for _, p := range c.enabled() {
		names = append(names, p.setup.Name)
	}
	return names
}

func (c Config) validateLinks() (ps config.Problems) {
	for _, p := range c.protocols() {
		ps.In(p.setup.Name, p.table.Validate())
	}
	return ps
}

// linkWarnings returns the warnings about the tables of the links.
func (c Config) linkWarnings() (list []string) {
	for _, p := range c.protocols() {
		list = append(list, p.table.Warnings(c.place())...)
	}
	return list
}

func (c Config) place() link.Place {
	return link.Place{
		Serial:    c.Device.Serial,
		StateDir:  c.Device.StateDir,
		Version:   Version,
		Readable:  Credential,
		Protected: func(path string) bool { return strings.HasPrefix(path, credentials) },
	}
}

// ExamineLinks examines each enabled link. running is the daemon's status of its
// links, nil if no daemon runs.
func (c Config) ExamineLinks(ctx context.Context, running map[string]link.Status, report func(link.Finding)) {
	for _, p := range c.enabled() {
		var now *link.Status
		if s, known := running[p.setup.Name]; known {
			now = &s
		}
		p.table.Examine(ctx, c.place(), now, report)
	}
}

// Platforms returns what `lintod setup` can set up, the most common one first;
// Additional returns what it can set up in addition to one of them.
func Platforms() []link.Setup { return setups(false) }

// Additional is described at Platforms.
func Additional() []link.Setup { return setups(true) }

func setups(beside bool) (list []link.Setup) {
	for _, p := range Defaults().protocols() {
		if p.setup.Additional == beside {
			list = append(list, p.setup)
		}
	}
	return list
}

// TryLink connects an enabled link as the device does, and returns a one-sentence
// error if that fails.
func (c Config) TryLink(ctx context.Context, name string) error {
	for _, p := range c.enabled() {
		if p.setup.Name == name {
			return p.table.Try(ctx, c.place())
		}
	}
	return nil
}

// features returns what the device has, for links that describe it.
func (a *Agent) features() link.Features {
	f := link.Features{Model: gpio.Model("/"), Languages: a.cfg.TTS.Languages(), Wake: a.cfg.Wake.Enabled(), LEDs: a.lamp.there}
	buttons, _ := a.cfg.Effective()
	for _, b := range buttons {
		f.Buttons = append(f.Buttons, link.Button{Name: b.Label(), Gestures: b.Gestures()})
	}
	return f
}

// newLinks makes the enabled links without starting them.
func (a *Agent) newLinks() (links []Link) {
	for _, p := range a.cfg.enabled() {
		name := p.setup.Name
		links = append(links, p.make(link.Device{
			Serial:    a.cfg.Device.Serial,
			StateDir:  a.cfg.Device.StateDir,
			Version:   Version,
			Registry:  a.registry,
			Powers:    a.powers.executor,
			Orders:    a.powers.orders,
			Settings:  a.store.Get,
			Network:   func() ([]network.Interface, error) { return network.List("/") },
			Connected: func(up bool) { a.turns.SetOnline(name, up) },
			Notify:    func(w turn.What, text string) { a.turns.Notify(name, w, text) },
			Follow:    func() *turn.Subscription { return a.bus.Subscribe(noticeQueue) },
			Listen:    a.turns.Hold,
			Call:      a.turns.Call,
			MakeRoom:  a.turns.MakeRoom,
			Announce:  func(text string) error { return a.voice.Announce(name, text, behaviors.Progress{}) },
			Volume:    func() int { return a.settings.Get().Volume },
			Cards:     a.taps,
			Shown:     func() turn.Snapshot { return a.monitor.activity().Shown() },
			Meeting:   a.meetings.recorder.Active,
			Turns:     a.turns.Records,
			Features:  a.features(),
			Codecs:    a.sound, OutputRate: a.cfg.Audio.OutputRate,
			Log: component(a.log, name),
		}))
	}
	return links
}
