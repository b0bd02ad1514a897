package folotoy

import (
	"context"
	"errors"
	"fmt"

	"lintod/agent/broker"
	"lintod/agent/link"
)

var errUnheard = errors.New("the broker accepts this device, but does not deliver commands; " +
	"allow its user to read and write the topics below PREFIX/folotoy/SERIAL/")

// trial connects as the device does, and sends itself a command without an
// identifier, which devices ignore.
func (c Config) trial(at link.Place) link.Trial {
	c = c.For(at.Serial)
	cfg := c.Config
	cfg.ClientID = broker.ClientID("lintod-try-folotoy-" + c.Serial)
	cfg.PasswordFile = at.Readable(cfg.PasswordFile)
	return link.Trial{Table: Name, Config: cfg, Subscribe: c.filters(), Echo: c.topic("command/call"), Unheard: errUnheard}
}

// Try connects as the device does, and returns nil when its own message was
// delivered, or a one-sentence error.
func (c Config) Try(ctx context.Context, at link.Place) error { return c.trial(at).Run(ctx) }

// Examine tries each broker with the device's own credentials, and reads the roles
// file. It takes up to half a minute for each broker, and stops early when ctx
// ends.
func (c Config) Examine(ctx context.Context, at link.Place, _ *link.Status, report func(link.Finding)) {
	c.trial(at).Examine(ctx, report)
	if roles, err := loadRoles(at.Readable(c.RolesFile)); err != nil {
		report(link.Report("roles", link.Fail, err, "correct roles_file in [folotoy]"))
	} else if c.RolesFile != "" {
		report(link.Finding{Subject: "roles", Level: link.OK, Text: fmt.Sprintf("%s has %d roles", c.RolesFile, len(roles))})
	}
}

// Warnings describes valid but probably mistaken settings in the table.
func (c Config) Warnings(at link.Place) []string {
	if !c.Enabled {
		return nil
	}
	list := link.BrokerWarnings(Name, c.Config, at)
	if _, err := loadRoles(at.Readable(c.RolesFile)); err != nil {
		list = append(list, fmt.Sprintf("%s.roles_file: %v", Name, err))
	}
	return list
}
