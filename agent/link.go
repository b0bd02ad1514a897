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

// Link is a live connection to one platform. A link that talks is a turn.Talker,
// too. One that does not talk follows what happens (link.Device.Follow, and
// settingsFollower), and has done what its table of words names
// (link.Device.Registry).
type Link interface {
	// Name is what the configuration calls the link.
	Name() string
	// Run keeps the connection until ctx ends.
	Run(ctx context.Context) error
	// Probe returns nil when the loop that obeys the platform has turned once, or
	// with ctx's cause.
	Probe(ctx context.Context) error
	// Status may be called at any time, and does not block.
	Status() link.Status
}

// What some links can do besides.
type (
	// dictator sends the microphone to its platform until it is stopped.
	dictator interface {
		// StartDictation returns when the platform listens, or with ctx's cause.
		StartDictation(ctx context.Context) error
		// StopDictation does not block; done is closed when all has been sent.
		StopDictation() (done <-chan struct{}, err error)
		Dictating() bool
	}
	// settingsFollower is told, without blocking it, that a setting has changed, which
	// its platform may want to know.
	settingsFollower interface{ StatusChanged() }
	// meetingTeller tells its platform of a recording that ended without its asking.
	meetingTeller interface {
		TellMeeting(ctx context.Context, session string, why error)
	}
	// answerWaiter is told, without blocking it, that an answer waits for it whose request
	// came before the agent began.
	answerWaiter interface{ AnswersWait() }
	// withdrawer removes what it has left at its platform, because the owner has turned the
	// link off. It returns when that is done or cannot be, or when ctx ends.
	withdrawer interface{ Withdraw(ctx context.Context) }
	// tunnelTeller tells its platform that a tunnel broke, or is back when problem is
	// nil. It fails while the platform cannot be reached.
	tunnelTeller interface {
		TellTunnel(ctx context.Context, problem error) error
	}
)

// protocol is what the package of a link offers.
type protocol struct {
	setup   link.Setup
	enabled bool
	table   table
	make    func(link.Device) Link // closed
}

// table is the table of a link in the configuration, completed for the device.
type table interface {
	// Validate reports values that cannot be right; none while the link is not enabled.
	Validate() config.Problems
	// Warnings are what is allowed and probably not meant.
	Warnings(at link.Place) []string
	// Examine has what the link needs looked at. running is how the daemon's link is,
	// nil when none runs. It takes half a minute for each server that does not answer.
	Examine(ctx context.Context, at link.Place, running *link.Status, tell func(link.Finding))
	// Try connects as the device will, beside a running daemon, and returns why that
	// fails, in one sentence.
	Try(ctx context.Context, at link.Place) error
}

// enabled are the protocols whose links the configuration enables.
func (c Config) enabled() (list []protocol) {
	for _, p := range c.protocols() {
		if p.enabled {
			list = append(list, p)
		}
	}
	return list
}

// linkNames are those of the links that are enabled.
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

// linkWarnings are what is probably not meant in the tables of the links.
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

// ExamineLinks has each link that is enabled look at what it needs. running is what a
// daemon says of its links, nil when none runs.
func (c Config) ExamineLinks(ctx context.Context, running map[string]link.Status, tell func(link.Finding)) {
	for _, p := range c.enabled() {
		var now *link.Status
		if s, known := running[p.setup.Name]; known {
			now = &s
		}
		p.table.Examine(ctx, c.place(), now, tell)
	}
}

// Platforms are what `lintod setup` can set up, the usual one first; Beside what it can set up
// beside one of them.
func Platforms() []link.Setup { return setups(false) }

// Beside is described with Platforms.
func Beside() []link.Setup { return setups(true) }

func setups(beside bool) (list []link.Setup) {
	for _, p := range Defaults().protocols() {
		if p.setup.Beside == beside {
			list = append(list, p.setup)
		}
	}
	return list
}

// TryLink connects a link that is enabled as the device will, and returns why that fails, in
// one sentence.
func (c Config) TryLink(ctx context.Context, name string) error {
	for _, p := range c.enabled() {
		if p.setup.Name == name {
			return p.table.Try(ctx, c.place())
		}
	}
	return nil
}

// features are what the device has, for links that describe it.
func (a *Agent) features() link.Features {
	f := link.Features{Model: gpio.Model("/"), Languages: a.cfg.TTS.Languages(), Wake: a.cfg.Wake.Enabled()}
	buttons, _ := a.cfg.Effective()
	for _, b := range buttons {
		f.Buttons = append(f.Buttons, link.Button{Name: b.Label(), Gestures: b.Gestures()})
	}
	return f
}

// newLinks makes the links that are enabled, closed.
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
			Tell:      func(w turn.What, text string) { a.turns.Tell(name, w, text) },
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
