package agent

import (
	"lintod/agent/base/config"
	"lintod/agent/link"
	"lintod/agent/link/automation"
	"lintod/agent/link/folotoy"
	"lintod/agent/link/linto"
	"lintod/agent/link/xiaozhi"
)

// This file alone knows which links there are.

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

// protocols are those that there are, a line for each, the usual one first.
func (c Config) protocols() []protocol {
	l, x, f, h := c.Linto.For(c.Device.Serial), c.Xiaozhi, c.Folotoy.For(c.Device.Serial), c.Automation.For(c.Device.Serial)
	return []protocol{
		{linto.Setup(), l.Enabled, l, func(d link.Device) Link { return linto.New(l, d) }},
		{xiaozhi.Setup(), x.Enabled, x, func(d link.Device) Link { return xiaozhi.New(x, d) }},
		{folotoy.Setup(), f.Enabled, f, func(d link.Device) Link { return folotoy.New(f, d) }},
		{automation.Setup(), h.Enabled, h, func(d link.Device) Link { return automation.New(h, d) }},
	}
}

// linkVerbs are what a platform can ask for by a signed command, in its words and in ours.
func linkVerbs() []string { return linto.Verbs() }

// validateTools reports verbs that a link cannot offer as tools.
func (c Config) validateTools() (ps config.Problems) {
	ps.In(xiaozhi.Name, c.Xiaozhi.ValidateTools(c.verbs()))
	return ps
}

// duplex tells whether the owner says that the microphone does not hear the loudspeaker.
func (c Config) duplex() bool { return c.Xiaozhi.Enabled && c.Xiaozhi.FullDuplex }

// unheard tells whether somebody else answers than the platform that a turn is with.
func (c Config) unheard() bool { return c.Folotoy.Unheard() }

// LinkDetails are the counters of single links.
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
