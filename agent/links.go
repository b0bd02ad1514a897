package agent

import (
	"lintod/agent/base/config"
	"lintod/agent/link"
	"lintod/agent/link/automation"
	"lintod/agent/link/folotoy"
	"lintod/agent/link/linto"
	"lintod/agent/link/xiaozhi"
)

// Only this file lists the links.

// LinksConfig are the tables of the links.
type LinksConfig struct {
	Linto      linto.Config      `toml:"linto"`
	Xiaozhi    xiaozhi.Config    `toml:"xiaozhi"`
	Folotoy    folotoy.Config    `toml:"folotoy"`
	Automation automation.Config `toml:"automation"`
}

func linksDefaults() LinksConfig {
	return LinksConfig{Linto: linto.Defaults(), Xiaozhi: xiaozhi.Defaults(), Folotoy: folotoy.Defaults(), Automation: automation.Defaults()}
}

// protocols returns all protocols, the most common one first.
func (c Config) protocols() []protocol {
	l, x, f, h := c.Linto.For(c.Device.Serial), c.Xiaozhi, c.Folotoy.For(c.Device.Serial), c.Automation.For(c.Device.Serial)
	return []protocol{
		{linto.Setup(), l.Enabled, l, func(d link.Device) Link { return linto.New(l, d) }},
		{xiaozhi.Setup(), x.Enabled, x, func(d link.Device) Link { return xiaozhi.New(x, d) }},
		{folotoy.Setup(), f.Enabled, f, func(d link.Device) Link { return folotoy.New(f, d) }},
		{automation.Setup(), h.Enabled, h, func(d link.Device) Link { return automation.New(h, d) }},
	}
}

// linkVerbs returns the verbs that a platform can request by a signed command, in
// its words and in ours.
func linkVerbs() []string { return linto.Verbs() }

// validateTools reports verbs that a link cannot offer as tools.
func (c Config) validateTools() (ps config.Problems) {
	ps.In(xiaozhi.Name, c.Xiaozhi.ValidateTools(c.verbs()))
	return ps
}

// duplex reports whether the owner has declared that the microphone does not pick
// up the speaker.
func (c Config) duplex() bool { return c.Xiaozhi.Enabled && c.Xiaozhi.FullDuplex }

// unheard reports whether answers come from elsewhere than the platform of a turn.
func (c Config) unheard() bool { return c.Folotoy.Unheard() }

// LinkDetails are counters of single links.
type LinkDetails struct {
	Linto      *linto.Stats      `json:"linto,omitempty"`
	Xiaozhi    *xiaozhi.Stats    `json:"xiaozhi,omitempty"`
	Folotoy    *folotoy.Stats    `json:"folotoy,omitempty"`
	Automation *automation.Stats `json:"automation,omitempty"`
}

func (a *Agent) linkDetails() (d LinkDetails) {
	for _, l := range a.links {
		switch l := l.(type) {
		case *linto.Link:
			stats := l.Stats()
			stats.Connected = a.monitor.linkStatus(l).Connected
			d.Linto = &stats
		case *xiaozhi.Link:
			stats := l.Stats()
			stats.Connected = a.monitor.linkStatus(l).Connected
			d.Xiaozhi = &stats
		case *folotoy.Link:
			stats := l.Stats()
			d.Folotoy = &stats
		case *automation.Link:
			stats := l.Stats()
			d.Automation = &stats
		}
	}
	return d
}
