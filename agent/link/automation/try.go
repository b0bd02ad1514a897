package automation

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"lintod/agent/broker"
	"lintod/agent/link"
)

// trial connects as the device does, and sends itself a message on a topic of its
// own that has no handler.
func (c Config) trial(at link.Place) link.Trial {
	l := New(c, link.Device{Serial: at.Serial, Log: slog.New(slog.DiscardHandler)})
	cfg := l.Config.Config
	cfg.ClientID = broker.ClientID("lintod-try-automation-" + at.Serial)
	cfg.PasswordFile = at.Readable(cfg.PasswordFile)
	echo := l.topic("check")
	unheard := fmt.Errorf("the broker accepts this device, but does not deliver messages to it; allow its user to read and write %s", l.topic("#"))
	return link.Trial{Table: Name, Config: cfg, Subscribe: append(l.filters(), echo), Echo: echo, Unheard: unheard}
}

// Try connects as the device does, and returns nil when its own message was
// delivered, or a one-sentence error.
func (c Config) Try(ctx context.Context, at link.Place) error { return c.trial(at).Run(ctx) }

// Warnings describes valid but probably mistaken settings in the table.
func (c Config) Warnings(at link.Place) []string {
	if !c.Enabled {
		return nil
	}
	return link.BrokerWarnings(Name, c.Config, at)
}

// Examine tries each broker with the device's own credentials, and checks that it
// retains the description that the daemon has published. It takes up to half a
// minute for each broker, and stops early when ctx ends.
func (c Config) Examine(ctx context.Context, at link.Place, running *link.Status, report func(link.Finding)) {
	t := c.trial(at)
	if !t.Examine(ctx, report) || c.Discovery == "" {
		return
	}
	topic := description{Prefix: c.Discovery, ID: deviceID(at.Serial)}.deviceTopic()
	if c.Form == entityForm {
		topic = description{Prefix: c.Discovery, ID: deviceID(at.Serial)}.entityTopic("sensor", "state")
	}
	switch {
	case running == nil || !running.Connected:
		report(link.Finding{Subject: "discovery", Level: link.Warn, Text: "the description can be examined only while lintod is connected", Do: "sudo systemctl start lintod"})
	case !kept(ctx, t.Config, topic):
		report(link.Finding{
			Subject: "discovery", Level: link.Fail, Text: fmt.Sprintf("the broker does not return the description at %s; home automation may not find the device", topic),
			Do: "allow the device's user to read and write that topic",
		})
	default:
		report(link.Finding{Subject: "discovery", Level: link.OK, Text: "the broker retains the description at " + topic})
	}
}

// keptLimit is how long a broker may take to deliver a retained message.
const keptLimit = 5 * time.Second

// kept reports whether the broker has a retained message for the device.
func kept(ctx context.Context, cfg broker.Config, topic string) (found bool) {
	ctx, cancel := context.WithTimeout(ctx, keptLimit)
	defer cancel()
	conn := &broker.Conn{
		Config: cfg, Subscribe: []string{topic}, Log: slog.New(slog.DiscardHandler),
		Handle: func(_ context.Context, m broker.Message) {
			if m.Topic == topic && m.Retain && len(m.Payload) > 0 {
				found = true
				cancel()
			}
		},
	}
	return conn.Run(ctx) == nil && found
}
