package agent

import (
	"context"
	"strings"

	"lintod/agent/base/config"
	"lintod/agent/link"
	"lintod/agent/link/linto"
	"lintod/agent/network"
	"lintod/agent/turn"
)

// This file alone knows which links there are. It makes those that the
// configuration enables; all else sees what they can do.

// Link is a live connection to one platform. A link that talks is a turn.Talker,
// too.
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
	// tunnelTeller tells its platform that a tunnel broke, or is back when problem is
	// nil. It fails while the platform cannot be reached.
	tunnelTeller interface {
		TellTunnel(ctx context.Context, problem error) error
	}
)

// LinksConfig are the tables of the links.
type LinksConfig struct {
	Linto linto.Config `toml:"linto"`
}

func linksDefaults() LinksConfig { return LinksConfig{Linto: linto.Defaults()} }

// validSerial tells whether a name can be the device's at each platform: it is a level
// of LinTO's topics.
func validSerial(name string) (ok bool, want string) { return linto.TopicLevel(name), linto.WantLevel }

// linkVerbs are what platforms can ask for, in their words and in ours.
func linkVerbs() []string { return linto.Verbs() }

// linkNames are those of the links that are enabled.
func (c Config) linkNames() []string {
	if c.Linto.Enabled {
		return []string{linto.Name}
	}
	return nil
}

func (c Config) validateLinks() (ps config.Problems) {
	ps.In("linto", c.LinkLinto().Validate())
	return ps
}

// linkWarnings are what is probably not meant in the tables of the links.
func (c Config) linkWarnings() (list []string) {
	inCredentials := func(path string) bool { return strings.HasPrefix(path, credentials) }
	return c.Linto.Warnings(Credential, inCredentials)
}

// LinkLinto is the [linto] table with what it takes from the device: the stock
// broker's ACL wants the user name to be the serial (protocol 1.2.1).
func (c Config) LinkLinto() linto.Config {
	l := c.Linto
	if l.Username == "" && l.PasswordFile != "" && !l.Login.Enabled() {
		l.Username = c.Device.Serial
	}
	return l
}

// ExamineLinks has each link that is enabled look at what it needs. running is what a
// daemon says of its links, nil when none runs. It takes half a minute for each
// platform that does not answer.
func (c Config) ExamineLinks(ctx context.Context, running map[string]link.Status, tell func(link.Finding)) {
	if !c.Linto.Enabled {
		return // which the warnings tell
	}
	x := linto.Examination{Config: c.LinkLinto(), Serial: c.Device.Serial, Tell: tell}
	x.Config.PasswordFile = Credential(x.Config.PasswordFile)
	if s, known := running[linto.Name]; known {
		x.Running = &s
	}
	x.Run(ctx)
}

// TryLinks connects as the device will, and returns why that fails, in one sentence.
func (c Config) TryLinks(ctx context.Context) error {
	return linto.Try(ctx, c.LinkLinto(), c.Device.Serial)
}

// newLinks makes the links that are enabled, closed.
func (a *Agent) newLinks() (links []Link) {
	if a.cfg.Linto.Enabled {
		links = append(links, a.newLinto())
	}
	return links
}

func (a *Agent) newLinto() *linto.Link {
	l := &linto.Link{
		Config:   a.cfg.LinkLinto(),
		Serial:   a.cfg.Device.Serial,
		StateDir: a.cfg.Device.StateDir,
		Version:  Version,
		Registry: a.registry,
		Sound: func() linto.Sound {
			s := a.settings.Get()
			return linto.Sound{Volume: s.StartVolume, Language: s.Language}
		},
		Network:   func() ([]network.Interface, error) { return network.List("/") },
		Connected: func(up bool) { a.turns.SetOnline(linto.Name, up) },
		Tell:      func(w turn.What, text string) { a.turns.Tell(linto.Name, w, text) },
		Listen:    a.turns.Hold,
		Powers:    a.powers.executor,
		Orders:    a.powers.orders,
		Log:       component(a.log, "linto"),
	}
	l.Init()
	return l
}

// LinkDetails are the counters of single links.
type LinkDetails struct {
	Linto *linto.Stats `json:"linto,omitempty"`
}

func (a *Agent) linkDetails() (d LinkDetails) {
	for _, l := range a.links {
		if l, ok := l.(*linto.Link); ok {
			stats := l.Stats()
			stats.Connected = a.linkStatus(l).Connected
			d.Linto = &stats
		}
	}
	return d
}
