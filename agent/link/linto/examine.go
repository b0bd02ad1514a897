package linto

import (
	"context"
	"errors"

	"lintod/agent/link"
)

// Examine tries each broker with the device's own credentials. running is the
// status of the daemon's link, nil if none runs. It takes up to half a minute for
// each broker, and stops early when ctx ends.
func (c Config) Examine(ctx context.Context, at link.Place, running *link.Status, report func(link.Finding)) {
	if c.Login.Enabled() {
		report(c.examineLogin(running))
		return
	}
	c.trial(at).Examine(ctx, report)
}

// examineLogin relies on the daemon: a second login would end the daemon's
// session.
func (c Config) examineLogin(running *link.Status) link.Finding {
	switch {
	case running == nil:
		return link.Finding{
			Subject: "broker", Level: link.Warn, Text: "the login to " + c.Login.URL + " can only be checked while lintod is running",
			Do: "sudo systemctl start lintod",
		}
	case !running.Connected:
		return link.Report("broker", link.Fail, errors.New(running.Line), "correct [linto.login]")
	}
	return link.Finding{Subject: "broker", Level: link.OK, Text: running.Line}
}
