package agent

import (
	"lintod/agent/link"
	"lintod/agent/link/linto"
)

// This file alone knows which links there are.

// LinksConfig are the tables of the links.
type LinksConfig struct {
	Linto linto.Config `toml:"linto"`
}

func linksDefaults() LinksConfig { return LinksConfig{Linto: linto.Defaults()} }

// protocols are those that there are, a line for each, the usual one first.
func (c Config) protocols() []protocol {
	l := c.Linto.For(c.Device.Serial)
	return []protocol{
		{linto.Setup(), l.Enabled, l, func(d link.Device) Link { return linto.New(l, d) }},
	}
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
